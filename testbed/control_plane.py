"""A Kubernetes control plane on loopback, with RBAC on and nodes played by KWOK: up in seconds, gone without a trace.

Decides how the programs are put together: flags, certificates, identities, order of start. Knows nothing of what runs
on it. Everything is in one folder, in memory where the system has room there, and goes when the control plane is
closed. Should its starter be killed, the programs end themselves and the next one that starts removes the folder.

No value here belongs to an event loop: a fixture may start it in one and tests use it in others.
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import json
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

import aiohttp

from testbed import behaviour, nodes
from testbed.api import Api, ApiError
from testbed.binary import ensure_binary
from testbed.nodes import Node, real_node, virtual_node
from testbed.programs import DidNotStart, ParentPipe, Program, free_ports

__all__ = ["ControlPlane", "DidNotStart", "Node", "Options", "User", "real_node", "virtual_node"]

READY_SECONDS_MAX = 90.0
"""Alone on a machine it takes three; a busy one may need more."""
STARTS_MAX = 3
LOOK_EVERY_SECONDS = 0.05
KUBECTL_SECONDS_MAX = 60.0
MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108 - a folder of our own with a random name is made in it
MEMORY_BYTES_MIN = 2 * 2**30
"""Free space that must be there for the folder to be kept in memory; 5,000 pods write about 200 MB."""
FOLDER_PREFIX = "burst-testbed-"

CONTROLLERS = (
    "job-controller", "garbage-collector-controller", "namespace-controller", "serviceaccount-controller",
    "ttl-after-finished-controller", "pod-garbage-collector-controller", "node-lifecycle-controller",
    "taint-eviction-controller", "resourcequota-controller", "clusterrole-aggregation-controller",
)  # fmt: skip
"""What Jobs, their pods, nodes and namespaces need; each further one costs memory and time."""


@dataclass(frozen=True, slots=True)
class User:
    """An identity that a static token proves."""

    token: str
    name: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Options:
    """What may be asked for. The defaults are for tests: as fast as it goes, and little memory."""

    controller_qps: int | None = 2000
    """Writes a second that controller manager and scheduler may make, in bursts of twice that. None leaves Kubernetes'
    own 20 and 30, with which one-pod Jobs complete at 3.4 a second: a slow managed cluster."""
    controllers: tuple[str, ...] = CONTROLLERS
    users: tuple[User, ...] = ()
    """Further identities for the token file."""
    apiserver_flags: tuple[str, ...] = ()
    """Further flags, such as --enable-admission-plugins=... or --emulated-version=1.34."""
    manager_flags: tuple[str, ...] = ()
    scheduler_flags: tuple[str, ...] = ()
    event_ttl_seconds: int = 600
    eviction_seconds: int = 2
    """How long pods stay bound to a node that is not ready or silent, where they do not say otherwise; Kubernetes' own
    default is 300."""
    gogc: int = 100
    """The garbage collector's target in percent. 100: half a gigabyte for all; 400: a third faster, some gigabytes."""
    priority_and_fairness: bool = True
    """The API server's own rationing. Off, only --max-requests-inflight holds."""


class ControlPlane:
    """A running control plane. Made by :meth:`started`, or by :meth:`start` and ended by :meth:`close`."""

    def __init__(self, options: Options, binary: Path) -> None:
        self.options = options
        self.binary = binary
        self.folder, self._lock = _folder()
        self.ca_file = self.folder / "ca.crt"
        self.kubeconfig = self.folder / "admin.kubeconfig"
        """The administrator's, for kubectl and every client."""
        self.admin_token = secrets.token_hex(16)
        self._pipe = ParentPipe.opened()
        self.programs: dict[str, Program] = {}
        (self._etcd_port, self._peer_port, self._port, self._manager_port, self._scheduler_port, self.kubelet_port) = (
            free_ports(6)
        )
        self.url = f"https://127.0.0.1:{self._port}"
        self._namespaces = itertools.count(1)

    # --- start and end ------------------------------------------------------------------------------------------------

    @classmethod
    @asynccontextmanager
    async def started(cls, options: Options | None = None) -> AsyncIterator[ControlPlane]:
        """A control plane that is ready, and gone afterwards. Raises CannotBuild, DidNotStart."""
        plane = await cls.start(options)
        try:
            yield plane
        finally:
            plane.close()

    @classmethod
    async def start(cls, options: Options | None = None) -> ControlPlane:
        """As :meth:`started`, but whoever calls it closes it."""
        binary = await asyncio.to_thread(ensure_binary)
        cls.clear_away_the_dead()
        for tries_left in reversed(range(STARTS_MAX)):
            plane = cls(options or Options(), binary)
            try:
                await plane._start()
            except DidNotStart as error:
                plane.close()
                # Somebody else took a port between the look and the start.
                if tries_left and "address already in use" in str(error):
                    continue
                raise
            except BaseException:
                plane.close()
                raise
            return plane
        raise AssertionError("the last try returns or raises")

    async def _start(self) -> None:
        ends = time.monotonic() + READY_SECONDS_MAX
        await self._run("certificates", str(self.folder))
        tokens = self._write_identities()
        etcd = self._launch("etcd", self._etcd_flags())
        await self._until(ends, etcd, lambda: _answers(f"http://127.0.0.1:{self._etcd_port}/health"))
        self._launch("kube-apiserver", self._apiserver_flags())
        apiserver = self.programs["kube-apiserver"]
        await self._until(ends, apiserver, lambda: self._healthy(self.url))
        definition = json.loads(await self.kubectl("create", "--filename=-", "--output=json", stdin=await self._logs()))
        manager = self._launch("kube-controller-manager", self._manager_flags(tokens))
        scheduler = self._launch("kube-scheduler", self._scheduler_flags())
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{definition['metadata']['name']}"
        await self._until(ends, apiserver, lambda: self._established(path))
        kwok = self._launch("kwok", self._kwok_flags())
        await self._until(ends, scheduler, lambda: self._healthy(f"https://127.0.0.1:{self._scheduler_port}"))
        await self._until(ends, kwok, lambda: self._healthy(f"https://127.0.0.1:{self.kubelet_port}", "/healthz"))
        # Pods are refused in a namespace whose default account is not there yet.
        await self._until(ends, manager, lambda: self._exists("/api/v1/namespaces/default/serviceaccounts/default"))

    @staticmethod
    def clear_away_the_dead() -> None:
        """Removes the folders of control planes whose owner is gone; every start does it."""
        for old in _home().glob(f"{FOLDER_PREFIX}*/lock"):
            try:
                with old.open("r+") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(old.parent, ignore_errors=True)
            except OSError:
                continue  # it has an owner, or is another user's

    def close(self) -> None:
        """Ends every program and removes the folder."""
        for program in reversed(self.programs.values()):
            program.kill()
        self._pipe.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    def _launch(self, name: str, flags: Sequence[str]) -> Program:
        program = Program(
            self.binary,
            name,
            flags,
            log=self.folder / f"{name}.log",
            pipe=self._pipe,
            env={"GOGC": str(self.options.gogc), "HOME": str(self.folder)},
        )
        self.programs[name] = program
        return program

    async def _until(self, ends: float, program: Program, condition: Callable[[], Awaitable[bool]]) -> None:
        while not await condition():
            program.check()
            if time.monotonic() > ends:
                raise DidNotStart(f"{program.name} is not ready after {READY_SECONDS_MAX:.0f} s:\n{program.tail()}")
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def _healthy(self, url: str, path: str = "/readyz") -> bool:
        try:
            await Api(url, self.admin_token, self.ca_file).get(path)
        except (ApiError, aiohttp.ClientError, TimeoutError):
            return False
        return True

    async def _exists(self, path: str) -> bool:
        try:
            await self.api.get(path)
        except ApiError:
            return False
        return True

    async def _established(self, path: str) -> bool:
        definition = await self.api.get(path)
        conditions = definition.get("status", {}).get("conditions") or []
        return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)

    async def _run(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        process = await asyncio.create_subprocess_exec(
            self.binary,
            *arguments,
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "HOME": str(self.folder), "KUBECONFIG": str(self.kubeconfig)},
            start_new_session=True,
        )
        try:
            given = stdin.encode() if stdin is not None else None
            out, err = await asyncio.wait_for(process.communicate(given), KUBECTL_SECONDS_MAX)
        except BaseException:
            if process.returncode is None:
                process.kill()
            raise
        if check and process.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}: {err.decode().strip()}")
        return out.decode()

    async def _logs(self) -> str:
        return await self._run("logs-definition")

    # --- identities and flags -----------------------------------------------------------------------------------------

    def _write_identities(self) -> dict[str, str]:
        users = [
            User(self.admin_token, "admin", ("system:masters",)),
            User(secrets.token_hex(16), "system:kube-controller-manager"),
            User(secrets.token_hex(16), "system:kube-scheduler"),
            User(secrets.token_hex(16), "kwok", ("system:masters",)),
        ]
        for name, user in zip(("admin", "manager", "scheduler", "kwok"), users, strict=True):
            self.write_kubeconfig(name, user.token)
        lines = [
            f'{user.token},{user.name},{number},"{",".join(user.groups)}"'
            for number, user in enumerate([*users, *self.options.users], 1)
        ]
        (self.folder / "tokens.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (self.folder / "tokens.csv").chmod(0o600)
        return {user.name: user.token for user in users}

    def write_kubeconfig(self, name: str, token: str, namespace: str = "default", *, server: str | None = None) -> Path:
        """A kubeconfig for whoever holds that token, in the control plane's folder; ``server``: a proxy's URL."""
        path = self.folder / f"{name}.kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "testbed",
                    "cluster": {"server": server or self.url, "certificate-authority": str(self.ca_file)},
                }
            ],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": "testbed", "user": name, "namespace": namespace}}],
            "current-context": name,
        }
        path.write_text(json.dumps(config, indent=1), encoding="utf-8")  # JSON is YAML
        path.chmod(0o600)
        return path

    def _etcd_flags(self) -> list[str]:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        return [
            "--name=testbed",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=testbed={peer}",
            "--unsafe-no-fsync",  # nothing of this outlives the machine, or is meant to
            "--snapshot-count=20000",
            "--auto-compaction-mode=periodic",
            "--auto-compaction-retention=10m",
            "--quota-backend-bytes=2147483648",
            "--log-level=warn",
        ]

    def _apiserver_flags(self) -> list[str]:
        seconds = self.options.eviction_seconds
        return [
            "--bind-address=127.0.0.1",
            f"--secure-port={self._port}",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",  # a loopback address is not allowed in Endpoints
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            f"--tls-cert-file={self.folder / 'serving.crt'}",
            f"--tls-private-key-file={self.folder / 'serving.key'}",
            f"--client-ca-file={self.ca_file}",
            # Without these, controller manager and scheduler log "missing content for CA bundle" for ever.
            f"--requestheader-client-ca-file={self.ca_file}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={self.folder / 'proxy.crt'}",
            f"--proxy-client-key-file={self.folder / 'proxy.key'}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.folder / 'accounts.pub'}",
            f"--service-account-signing-key-file={self.folder / 'accounts.key'}",
            "--service-cluster-ip-range=10.96.0.0/24",
            "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-certificate-authority={self.ca_file}",
            f"--default-not-ready-toleration-seconds={seconds}",
            f"--default-unreachable-toleration-seconds={seconds}",
            f"--event-ttl={self.options.event_ttl_seconds}s",
            f"--enable-priority-and-fairness={str(self.options.priority_and_fairness).lower()}",
            "--profiling=false",
            *self.options.apiserver_flags,
        ]

    def _speed(self) -> list[str]:
        qps = self.options.controller_qps
        return [] if qps is None else [f"--kube-api-qps={qps}", f"--kube-api-burst={2 * qps}"]

    def _serving(self, port: int, kubeconfig: Path) -> list[str]:
        return [
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--tls-cert-file={self.folder / 'serving.crt'}",
            f"--tls-private-key-file={self.folder / 'serving.key'}",
            "--leader-elect=false",
            "--profiling=false",
            *self._speed(),
        ]

    def _manager_flags(self, tokens: Mapping[str, str]) -> list[str]:
        return [
            *self._serving(self._manager_port, self.folder / "manager.kubeconfig"),
            f"--controllers={','.join(self.options.controllers)}",
            "--use-service-account-credentials=true",  # the controllers' own roles are bound to those accounts
            f"--service-account-private-key-file={self.folder / 'accounts.key'}",
            # A lost node is dealt with at once, however few there are; by default small clusters only ever lose one in
            # ten seconds.
            "--node-monitor-period=1s",
            "--node-eviction-rate=100",
            "--secondary-node-eviction-rate=100",
            "--large-cluster-size-threshold=0",
            *self.options.manager_flags,
        ]

    def _scheduler_flags(self) -> list[str]:
        return [
            *self._serving(self._scheduler_port, self.folder / "scheduler.kubeconfig"),
            *self.options.scheduler_flags,
        ]

    def _kwok_flags(self) -> list[str]:
        options = {
            "cidr": "10.0.0.0/8",
            "nodeIP": "127.0.0.1",
            "nodePort": self.kubelet_port,
            "serverAddress": f"127.0.0.1:{self.kubelet_port}",
            "tlsCertFile": str(self.folder / "serving.crt"),
            "tlsPrivateKeyFile": str(self.folder / "serving.key"),
            "manageNodesWithAnnotationSelector": f"{nodes.KWOK_ANNOTATION}=fake",
            "podPlayStageParallelism": 16,
            "nodePlayStageParallelism": 4,
            "podsOnNodeSyncParallelism": 4,
            "enableCRDs": ["Logs"],
        }
        config = {"apiVersion": "config.kwok.x-k8s.io/v1alpha1", "kind": "KwokConfiguration", "options": options}
        path = self.folder / "kwok.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        return [
            f"--kubeconfig={self.folder / 'kwok.kubeconfig'}",
            f"--config={path}",
            f"--config={Path(__file__).parent / 'stages.yaml'}",
            "--v=WARN",  # else a line for each pod and phase
        ]

    # --- what tests do with it ----------------------------------------------------------------------------------------

    @property
    def api(self) -> Api:
        """Requests as the administrator."""
        return Api(self.url, self.admin_token, self.ca_file)

    async def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """What kubectl prints, run as the administrator. Raises RuntimeError with its words where it fails."""
        return await self._run("kubectl", *arguments, stdin=stdin)

    async def create_namespace(self, name: str | None = None) -> str:
        """A new namespace (named for you where you name none), with its default account already there."""
        name = name or f"test-{os.getpid()}-{next(self._namespaces)}"
        await self.api.post("/api/v1/namespaces", {"metadata": {"name": name}})
        await self._wait(
            lambda: self._exists(f"/api/v1/namespaces/{name}/serviceaccounts/default"), f"namespace {name}"
        )
        return name

    async def clear_namespace(self, name: str) -> None:
        """Removes Jobs, pods, ConfigMaps and Leases, finalizers or not. Deleting the namespace itself takes 10 s."""
        for group, kind in (
            ("/apis/batch/v1", "jobs"),
            ("/api/v1", "pods"),
            ("/api/v1", "configmaps"),
            ("/apis/coordination.k8s.io/v1", "leases"),
        ):
            path = f"{group}/namespaces/{name}/{kind}"
            for found in (await self.api.get(path))["items"]:
                one = f"{path}/{found['metadata']['name']}"
                try:
                    if found["metadata"].get("finalizers"):
                        await self.api.patch(one, {"metadata": {"finalizers": None}})
                    await self.api.delete(one, gracePeriodSeconds="0", propagationPolicy="Background")
                except ApiError as error:
                    if error.status not in (404, 409):
                        raise

    async def create_token(self, namespace: str, account: str, *, seconds: int = 3600) -> str:
        """A token of a service account, by TokenRequest; the account is created where it is not there."""
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        if not await self._exists(f"{accounts}/{account}"):
            await self.api.post(accounts, {"metadata": {"name": account}})
        asked = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        answer = await self.api.post(f"{accounts}/{account}/token", asked)
        return str(answer["status"]["token"])

    async def create_nodes(self, *wanted: Node) -> None:
        """Nodes that are ready for pods when this returns."""
        for node in wanted:
            await self.api.post("/api/v1/nodes", nodes.manifest(node, self.kubelet_port))
        for node in wanted:
            await self._wait(partial(self._schedulable, node.name), f"node {node.name}")

    async def delete_nodes(self, *names: str) -> None:
        """Removes nodes, as when they are scaled away: their pods are collected as lost."""
        for name in names:
            await self.api.delete(f"/api/v1/nodes/{name}")

    async def kill_node(self, name: str) -> None:
        """The node falls silent and stays so: its pods do nothing more, and are evicted after ``eviction_seconds``.

        It is marked as the node controller would mark it after 50 s of silence. They stay Terminating, since no kubelet
        confirms their end, until the node comes back or is deleted. With every node silent the node controller evicts
        nothing at all, so keep one alive.
        """
        pods = await self.api.get("/api/v1/pods", fieldSelector=f"spec.nodeName={name}")
        for pod in pods["items"]:
            meta = pod["metadata"]
            path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
            await self.api.patch(path, {"metadata": {"annotations": {behaviour.NODE_LOST: "1"}}})
        path = f"/api/v1/nodes/{name}"
        await self.api.patch(path, {"metadata": {"annotations": {nodes.KWOK_ANNOTATION: None}}})
        conditions = nodes.conditions("Unknown", "NodeStatusUnknown")
        await self.api.patch(f"{path}/status", {"status": {"conditions": conditions}}, patch="strategic-merge")

    async def revive_node(self, name: str) -> None:
        """The node is back: what was Terminating on it ends, what was left running goes on as it was told."""
        path = f"/api/v1/nodes/{name}"
        conditions = nodes.conditions("True", "KubeletReady")
        await self.api.patch(f"{path}/status", {"status": {"conditions": conditions}}, patch="strategic-merge")
        await self.api.patch(path, {"metadata": {"annotations": {nodes.KWOK_ANNOTATION: "fake"}}})
        await self._wait(lambda: self._schedulable(name), f"node {name}")
        pods = await self.api.get("/api/v1/pods", fieldSelector=f"spec.nodeName={name}")
        for pod in pods["items"]:
            meta = pod["metadata"]
            path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
            await self.api.patch(path, {"metadata": {"annotations": {behaviour.NODE_LOST: None}}})

    async def evict(self, namespace: str, pod: str) -> None:
        """Evicts a pod by the Eviction API, as `kubectl drain` does: DisruptionTarget, then deleted."""
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
        await self.api.post(f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction", body)

    async def write_log(self, namespace: str, pod: str, text: str) -> None:
        """What the pod shall have written so far, served by the API server as any log is."""
        path = self.folder / "pod-logs" / namespace / f"{pod}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        # The format that container runtimes write.
        lines = [f"2026-01-01T00:00:00.000000000Z stdout F {line}\n" for line in text.splitlines()]
        path.write_text("".join(lines), encoding="utf-8")
        body = {
            "apiVersion": "kwok.x-k8s.io/v1alpha1",
            "kind": "Logs",
            "metadata": {"name": pod},
            "spec": {"logs": [{"logsFile": str(path)}]},
        }
        logs = f"/apis/kwok.x-k8s.io/v1alpha1/namespaces/{namespace}/logs"
        if not await self._exists(f"{logs}/{pod}"):
            await self.api.post(logs, body)
        await self._wait(lambda: self._exists(f"/api/v1/namespaces/{namespace}/pods/{pod}/log"), f"log of {pod}")

    def signal(self, program: str, number: signal.Signals) -> None:
        """Sends a signal to a program, such as SIGSTOP to freeze the API server."""
        self.programs[program].signal(number)

    async def restart(self, program: str) -> None:
        """Kills a program and starts it again; for the API server, until it is ready. Nothing is lost but watches.

        KWOK begins anew with the API server: it never repeats a request whose answer was cut off.
        """
        self.programs[program].restart()
        if program == "kube-apiserver":
            ends = time.monotonic() + READY_SECONDS_MAX
            await self._until(ends, self.programs[program], lambda: self._healthy(self.url))
            self.programs["kwok"].restart()

    async def _schedulable(self, name: str) -> bool:
        node = await self.api.get(f"/api/v1/nodes/{name}")
        taints = node["spec"].get("taints") or []
        return not any(taint["key"].startswith("node.kubernetes.io/") for taint in taints)

    async def _wait(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        ends = time.monotonic() + READY_SECONDS_MAX
        while not await condition():
            for program in self.programs.values():
                program.check()
            if time.monotonic() > ends:
                raise TimeoutError(f"{what} is not ready after {READY_SECONDS_MAX:.0f} s")
            await asyncio.sleep(LOOK_EVERY_SECONDS)


async def _answers(url: str) -> bool:
    timeout = aiohttp.ClientTimeout(total=5)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


def _home() -> Path:
    """Where folders of control planes are made."""
    try:
        if shutil.disk_usage(MEMORY_FOLDER).free >= MEMORY_BYTES_MIN and os.access(MEMORY_FOLDER, os.W_OK):
            return MEMORY_FOLDER
    except OSError:
        pass  # this system has no such folder
    return Path(tempfile.gettempdir())


def _folder() -> tuple[Path, TextIO]:
    """A new folder with a lock that is held for as long as its owner lives."""
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=_home()))
    held = (folder / "lock").open("w")
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return folder, held
