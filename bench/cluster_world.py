"""What bench/cluster.py measures in: a real control plane, a broker in a process of its own, the dispatcher as shipped.

Decides how these are started and how their processor time is read. Measures nothing itself.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import re
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import structlog
import yaml
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient, ServiceBusSender

from dispatcher.cluster.rights import Where, rules
from dispatcher.embedded.broker import Broker, BrokerConfig, QueueConfig
from dispatcher.running import get_json
from testbed.behaviour import told
from testbed.control_plane import ControlPlane, Options, real_node

QUEUE = "work"
REPORTS = "reports"
REPORTS_SECRET, REPORTS_KEY = "burst-reports", "connection-string"
"""What pods that carry several items mount: KWOK lets none run without."""
ACCOUNT = "dispatcher"
INSTANCE = "burst-dispatcher"
NODES, PODS_ON_NODE = 10, 110
TASKS = {"five": 5.0, "zero": 0.0}
"""The tasks, and for how many seconds their pods run."""
PACKED = "packed"
"""The task whose pods carry several items, where that is asked for; they run for 0 s."""
REQUESTS = {"cpu": "100m", "memory": "100M"}
PATIENCE_SECONDS = 60.0
LOOK_EVERY_SECONDS = 0.2
_STARTED = re.compile(r"The dispatcher runs at (http://\S+?)\.?\s")
_RBAC = "/apis/rbac.authorization.k8s.io/v1"


@dataclass
class World:
    """Everything that runs."""

    plane: ControlPlane
    own: str
    """The dispatcher's namespace."""
    tasks: str
    """Where its Jobs are."""
    bare: str
    """Where others make Jobs."""
    sender: ServiceBusSender
    reports: ServiceBusSender
    service: psutil.Process
    url: str
    broker: psutil.Process

    def processor_seconds(self) -> dict[str, float]:
        """User and system time so far, by process."""
        found = {"dispatcher": self.service, "broker": self.broker}
        found |= {name: psutil.Process(program.pid) for name, program in self.plane.programs.items()}
        return {name: sum(process.cpu_times()[:2]) for name, process in found.items()}

    async def leads(self) -> bool:
        """Whether the service has taken over."""
        return bool((await self.status()).get("leading"))

    async def status(self) -> dict[str, Any]:
        """What the service says of itself."""
        return await get_json(self.url, "/api/status")

    async def send(self, task: str, count: int) -> None:
        """Puts so many items on the queue, a hundred in one go."""
        for first in range(0, count, 100):
            body = json.dumps({"task": task, "params": {}})
            bodies = [
                ServiceBusMessage(body, message_id=str(uuid.uuid4()), content_type="application/json")
                for _ in range(min(100, count - first))
            ]
            await self.sender.send_messages(bodies)


@asynccontextmanager
async def a_world(
    folder: Path,
    parallelism: int,
    gogc: int,
    controller_qps: int | None = 2000,
    profile: Path | None = None,
    items_per_pod: int = 1,
) -> AsyncIterator[World]:
    """Starts it all; ends it all. ``controller_qps``: as in the testbed; None is Kubernetes' own.

    ``items_per_pod``: more than one adds the task ``packed``.

    ``profile``: where the service's profile goes when it has ended; it takes about twice its time then.
    """
    async with ControlPlane.started(Options(gogc=gogc, controller_qps=controller_qps)) as plane:
        nodes = [
            real_node(f"node-{number}", cpu="64", memory="256Gi", pods=PODS_ON_NODE) for number in range(1, NODES + 1)
        ]
        await plane.create_nodes(*nodes)
        own, tasks, bare = [await plane.create_namespace(name) for name in ("dispatcher", "tasks", "bare")]
        async with a_broker() as (connection_string, broker):
            await grant(plane, own, tasks)
            kubeconfig = plane.write_kubeconfig("dispatcher", await plane.create_token(own, ACCOUNT), own)
            secret = {"metadata": {"name": REPORTS_SECRET}, "stringData": {REPORTS_KEY: connection_string}}
            await plane.api.post(f"/api/v1/namespaces/{tasks}/secrets", secret)
            write_config(folder, connection_string, kubeconfig, own, tasks, parallelism, items_per_pod)
            client = ServiceBusClient.from_connection_string(connection_string)
            async with (
                a_service(folder, profile) as (service, url),
                client,
                client.get_queue_sender(QUEUE, socket_timeout=0.02) as sender,
                client.get_queue_sender(REPORTS, socket_timeout=0.02) as reports,
            ):
                world = World(plane, own, tasks, bare, sender, reports, service, url, broker)
                await until(world.leads, "the dispatcher leads")
                yield world


@asynccontextmanager
async def a_broker() -> AsyncIterator[tuple[str, psutil.Process]]:
    """A broker without a journal, in a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve_broker, args=(theirs,), daemon=True)
    process.start()
    theirs.close()  # so that a broker that dies at its start is noticed
    try:
        connection_string = await asyncio.get_running_loop().run_in_executor(None, ours.recv)
        yield connection_string, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.join(10)


def serve_broker(pipe: Connection) -> None:
    """Serves for as long as the process lives."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))

    async def run() -> None:
        queues = (QueueConfig(QUEUE, max_delivery_count=100), QueueConfig(REPORTS, max_delivery_count=100))
        async with Broker(BrokerConfig(queues=queues)) as broker:
            pipe.send(broker.connection_string)
            await asyncio.Event().wait()

    asyncio.run(run())


@asynccontextmanager
async def a_service(folder: Path, profile: Path | None = None) -> AsyncIterator[tuple[psutil.Process, str]]:
    """The dispatcher, as it runs in a cluster; where it answers."""
    profiled = [] if profile is None else ["-m", "cProfile", "-o", str(profile)]
    command = [sys.executable, *profiled, "-m", "dispatcher", "run", "--config", str(folder / "config")]
    log = folder / "service.log"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=file, stderr=file, stdin=asyncio.subprocess.DEVNULL
        )

    async def started() -> bool:
        if process.returncode is not None:
            raise RuntimeError(f"the service has ended:\n{log.read_text(errors='replace')[-3000:]}")
        return _STARTED.search(log.read_text(errors="replace")) is not None

    try:
        await until(started, "the service has started")
        found = _STARTED.search(log.read_text(errors="replace"))
        if found is None:
            raise RuntimeError("the service does not say where it is any more")
        yield psutil.Process(process.pid), found[1]
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Returns when it holds. Raises TimeoutError where it does not in time."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while not await condition():
        if time.monotonic() > ends:
            raise TimeoutError(f"not within {PATIENCE_SECONDS:.0f} s: {what}")
        await asyncio.sleep(LOOK_EVERY_SECONDS)


async def grant(plane: ControlPlane, own: str, tasks: str) -> None:
    """The account may do what the package says that it needs."""
    await plane.create_token(own, ACCOUNT)
    for where, namespace in ((Where.OWN, own), (Where.TASKS, tasks), (Where.CLUSTER, "")):
        kind = "ClusterRole" if where is Where.CLUSTER else "Role"
        folder = f"{_RBAC}/namespaces/{namespace}" if namespace else _RBAC
        name = f"bench-{where}"
        given = rules(where, records_too=where is Where.OWN)
        await plane.api.post(f"{folder}/{kind.lower()}s", {"metadata": {"name": name}, "rules": given})
        binding = {
            "metadata": {"name": name},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": own}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
        }
        await plane.api.post(f"{folder}/{kind.lower()}bindings", binding)


def write_config(
    folder: Path,
    connection_string: str,
    kubeconfig: Path,
    own: str,
    tasks: str,
    parallelism: int,
    items_per_pod: int,
) -> None:
    """Default settings, and for each task what it must say; how many pods of it may run is each task's own matter."""
    (folder / "config").mkdir(parents=True)
    (folder / "config" / "connection-string").write_text(connection_string)
    seconds_of, packing = dict(TASKS), {}
    if items_per_pod > 1:
        seconds_of[PACKED], packing[PACKED] = 0.0, {"items_per_pod": items_per_pod}
    settings: dict[str, Any] = {
        "service": {"web_host": "127.0.0.1", "web_port": 0},
        "queues": [{"name": QUEUE, "tasks": list(seconds_of)}],
        "service_bus": {"connection_string_file": "connection-string"},
        "kubernetes": {"namespace": own, "instance": INSTANCE, "kubeconfig": str(kubeconfig)},
        **({"reports": {"queue": REPORTS, "secret": REPORTS_SECRET}} if packing else {}),
    }
    kinds = [
        {
            "name": name,
            "image": "bench/none:1",
            "command": ["work"],
            "namespace": tasks,
            "labels": told(run_seconds=seconds),
            "resources": REQUESTS,
            "parallelism_max": parallelism,
            **packing.get(name, {}),
        }
        for name, seconds in seconds_of.items()
    ]
    for file, content in (("dispatcher.yaml", settings), ("tasks.yaml", {"tasks": kinds})):
        (folder / "config" / file).write_text(yaml.safe_dump(content))


def bare_job(name: str, seconds: float, completions: int, parallelism: int, mounts: str | None) -> Mapping[str, Any]:
    """What a person would write for the same work, as one Job; ``mounts``: the ConfigMap that its items are in."""
    items = {"volumes": [{"name": "items", "configMap": {"name": mounts}}]} if mounts else {}
    resources = {"requests": REQUESTS, "limits": REQUESTS}
    container = {"name": "worker", "image": "bench/none:1", "command": ["work"], "resources": resources}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "completionMode": "Indexed",
            "completions": completions,
            "parallelism": parallelism,
            "backoffLimitPerIndex": 3,
            "template": {
                "metadata": {"annotations": told(run_seconds=seconds)},
                "spec": {"restartPolicy": "Never", "enableServiceLinks": False, "containers": [container], **items},
            },
        },
    }
