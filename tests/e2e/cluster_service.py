"""The dispatcher as it runs in a cluster: processes of their own, under a service account's token, against a real API
server; beside it a broker that the real SDK talks to.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dispatcher.cluster.rights import Where, rules
from dispatcher.errors import DispatcherError
from dispatcher.running import get_json
from testbed.behaviour import PREFIX
from testbed.control_plane import ControlPlane
from tests.e2e.local_service import QUEUE, eventually

ACCOUNT = "dispatcher"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
STARTED = re.compile(r"The dispatcher runs at (http://\S+?)\.?\s")


@dataclass
class Replica:
    """One process of the service."""

    name: str
    folder: Path
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """All that it has said."""
        path = self.folder / f"{self.name}.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Starts it, and waits for nothing."""
        command = [sys.executable, "-m", "dispatcher", "run", "--config", str(self.folder / "config")]
        with (self.folder / f"{self.name}.log").open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=dict(self.environment)
            )

    async def ready(self, seconds: float = 60) -> str:
        """Where it answers, once it does."""

        def runs() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log[-3000:]
            return STARTED.search(self.log) is not None

        await eventually(runs, seconds, f"{self.name} has started")
        found = STARTED.search(self.log)
        assert found is not None
        return found[1]

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def stop(self) -> int:
        """SIGTERM, as Kubernetes does it; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)

    async def status(self) -> dict[str, Any]:
        """What /api/status says now; empty where nobody answers."""
        found = STARTED.search(self.log)
        if found is None:
            return {}
        try:
            return await get_json(found[1], "/api/status")
        except DispatcherError:
            return {}

    def events(self, name: str) -> list[dict[str, Any]]:
        """The decisions of that name that it has told."""
        path = self.folder / f"{self.name}-events.jsonl"
        if not path.exists():
            return []
        return [event for line in path.read_text().splitlines() if (event := json.loads(line)).get("event") == name]


@dataclass
class ClusterService:
    """Everything that replicas share: namespaces, account, rights, configuration."""

    plane: ControlPlane
    folder: Path
    own: str
    tasks: str
    kubeconfig: Path
    replicas: list[Replica] = field(default_factory=list)

    def replica(self) -> Replica:
        """One more process, not started yet."""
        name = f"replica-{len(self.replicas) + 1}"
        environment = {
            "PATH": str(Path(sys.executable).parent),
            "POD_NAME": name,
            "BURST_SERVICE__EVENT_LOG": str(self.folder / f"{name}-events.jsonl"),
        }
        made = Replica(name, self.folder, environment)
        self.replicas.append(made)
        return made

    async def leader(self) -> Replica | None:
        """The one that says that it leads."""
        for each in self.replicas:
            if (await each.status()).get("leading"):
                return each
        return None

    async def settled(self) -> int:
        """How many items the processes that answer have seen done."""
        return sum([int((await each.status()).get("items", {}).get("done", 0)) for each in self.replicas])

    def events(self, name: str) -> list[dict[str, Any]]:
        """The decisions of that name, of all replicas."""
        return [event for each in self.replicas for event in each.events(name)]

    async def left_in_cluster(self) -> dict[str, int]:
        """Jobs, pods and records that are still there, by kind."""
        left = Counter[str]()
        for namespace in (self.own, self.tasks):
            for group, kind in (("/apis/batch/v1", "jobs"), ("/api/v1", "pods"), ("/api/v1", "configmaps")):
                items = (await self.plane.api.get(f"{group}/namespaces/{namespace}/{kind}"))["items"]
                left[kind] += sum(item["metadata"]["name"].startswith("burst-") for item in items)
        return {kind: count for kind, count in left.items() if count}

    async def ledger(self) -> dict[str, Any]:
        """The ledger as it stands."""
        path = f"/api/v1/namespaces/{self.own}/configmaps/{self.own}-ledger"
        return dict(json.loads((await self.plane.api.get(path))["data"]["ledger.json"]))

    def end_all(self) -> None:
        """Ends the processes that were started here."""
        for each in self.replicas:
            each.kill()


async def grant(plane: ControlPlane, own: str, tasks: str) -> None:
    """The account may do exactly what is written down."""
    for where, namespace in ((Where.OWN, own), (Where.TASKS, tasks), (Where.CLUSTER, "")):
        name, kind = f"e2e-{where}-{own}", "ClusterRole" if where is Where.CLUSTER else "Role"
        folder = f"{RBAC}/namespaces/{namespace}" if namespace else RBAC
        role = {"metadata": {"name": name}, "rules": rules(where, records_too=where is Where.OWN)}
        await plane.api.post(f"{folder}/{kind.lower()}s", role)
        binding = {
            "metadata": {"name": name},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": own}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
        }
        await plane.api.post(f"{folder}/{kind.lower()}bindings", binding)


@asynccontextmanager
async def cluster_service(
    plane: ControlPlane,
    folder: Path,
    connection_string: str,
    *,
    settings: Mapping[str, Any] | None = None,
    task: Mapping[str, Any] | None = None,
    server: str | None = None,
) -> AsyncIterator[ClusterService]:
    """Namespaces, an account with its rights, and a configuration; everything is gone afterwards.

    ``server``: the URL of a proxy, if the service is to go through one.
    """
    own, tasks = await plane.create_namespace(), await plane.create_namespace()
    token = await plane.create_token(own, ACCOUNT)
    await grant(plane, own, tasks)
    kubeconfig = plane.write_kubeconfig(f"e2e-{own}", token, namespace=own, server=server)
    service = ClusterService(plane, folder, own, tasks, kubeconfig)
    write_config(service, connection_string, dict(settings or {}), dict(task or {}))
    try:
        yield service
    finally:
        service.end_all()
        for namespace in (own, tasks):
            await plane.clear_namespace(namespace)


def write_config(
    service: ClusterService, connection_string: str, settings: dict[str, Any], task: dict[str, Any]
) -> None:
    """A configuration in which everything is quick; pods run for a second unless they are told otherwise."""
    folder = service.folder / "config"
    folder.mkdir(parents=True)
    (folder / "connection-string").write_text(connection_string)
    sleep = {
        "name": "sleep",
        "image": "tests/sleep:1",
        "command": ["sleep"],
        "namespace": service.tasks,
        "labels": {f"{PREFIX}run-seconds": "1"},
        "resources": {"cpu": "500m", "memory": "100M"},
        "item_timeout": "30s",
        "start_deadline": "30s",
        "batch_size_max": 5,
        "spill_after": "500ms",
        "linger": "200ms",
        **task,
    }
    dispatcher = {
        "service": {"web_host": "127.0.0.1", "web_port": 0},
        "queues": [{"name": QUEUE, "tasks": ["sleep"]}],
        "service_bus": {"connection_string_file": "connection-string", "lock_duration": "10s"},
        "kubernetes": {
            "namespace": service.own,
            "instance": service.own,
            "kubeconfig": str(service.kubeconfig),
            "lease_duration": "2s",
        },
        "virtual_node": {
            "subnet": "10.240.0.0/27",
            "release_hold": "1s",
            "tail": "2s",
            "creates_per_5min": 100_000,
            "creates_per_hour": 100_000,
            "deletes_per_5min": 100_000,
            "deletes_per_hour": 100_000,
        },
        "budgets": [{"name": "all", "scope": "all", "window": "day", "limit_usd": "5"}],
        "retry": {"delay_min": "500ms", "delay_max": "2s"},
        "timing": {"lock_hold_max": "1s", "sweep_every": "5s"},
        **settings,
    }
    for name, content in (("dispatcher.yaml", dispatcher), ("tasks.yaml", {"tasks": [sleep]})):
        (folder / name).write_text(yaml.safe_dump(content))
