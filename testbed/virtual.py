"""The virtual node of a testbed: the real azure-aci connector on Virtual Kubelet, and a stand-in for ACI behind it.

    async with VirtualNode.started(plane, Options(subnet="10.240.0.0/27")) as virtual:
        ...  # pods with the virtual node's selector and toleration become container groups
        await virtual.aci.add_fault("no_capacity", times=3)
        bill = await virtual.aci.bill()

Decides how the two are put together and told of each other. Knows nothing of what either does. The control plane must
not have KWOK's virtual node, whose name this one takes. Both programs end with their starter.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from testbed.aci.options import Options
from testbed.api import ApiError
from testbed.binary import VIRTUAL_NODE, ensure_binary
from testbed.control_plane import ControlPlane
from testbed.nodes import VIRTUAL_NODE_NAME
from testbed.programs import DidNotStart, ParentPipe, Program, free_ports

READY_SECONDS_MAX = 90.0
LOOK_EVERY_SECONDS = 0.05
REQUEST_SECONDS_MAX = 30.0
RESOURCE_GROUP = "burst"
ACCOUNT = "aci-connector-linux"
TOKEN_SECONDS = 24 * 3600
ROOT = Path(__file__).parents[1]


class Refused(RuntimeError):
    """The stand-in did not do what it was told to; the text is its own."""


@dataclass(frozen=True, slots=True)
class Aci:
    """The stand-in, as whoever steers it and reads its books sees it."""

    url: str
    options: Options

    @property
    def groups_path(self) -> str:
        """The path of the connector's container groups in Azure's API."""
        subscription = f"/subscriptions/{self.options.subscription}/resourceGroups/{RESOURCE_GROUP}"
        return f"{subscription}/providers/Microsoft.ContainerInstance/containerGroups"

    async def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer's JSON. Raises Refused where it is an error; Azure's paths are asked as a reader."""
        headers = {}
        if path.startswith("/subscriptions/"):
            headers["Authorization"] = f"Bearer {self.options.reader_token}"
            path += "?api-version=2023-05-01"
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, self.url + path, json=body, headers=headers) as response,
        ):
            if response.status >= 400:
                raise Refused(f"{response.status}: {(await response.text())[:2000]}")
            return await response.json() if response.content_type == "application/json" else None

    async def bill(self) -> dict[str, Any]:
        """What every group has cost until now."""
        answer: dict[str, Any] = await self.request("GET", "/bill")
        return answer

    async def statistics(self) -> dict[str, Any]:
        """What is used, the most that ever was, what was asked and refused."""
        answer: dict[str, Any] = await self.request("GET", "/statistics")
        return answer

    async def requests(self) -> list[dict[str, Any]]:
        """The last creates and deletes."""
        answer: list[dict[str, Any]] = (await self.request("GET", "/requests"))["requests"]
        return answer

    async def groups(self) -> list[dict[str, Any]]:
        """All groups, as Azure lists them."""
        answer: list[dict[str, Any]] = (await self.request("GET", self.groups_path))["value"]
        return answer

    async def look(self) -> dict[str, Any]:
        """Every group and how far it is, and how often each name was asked for: in words of the stand-in's own."""
        answer: dict[str, Any] = await self.request("GET", "/groups")
        return answer

    async def reset(self, **changes: Any) -> None:
        """Everything as at the start: no groups, books or faults; with these options in place of those of the start."""
        await self.request("POST", "/reset", changes)

    async def add_fault(self, kind: str, **how: Any) -> None:
        """A fault from now on: see testbed/aci/faults.py."""
        await self.request("POST", "/faults", {"kind": kind, **how})

    async def faults(self) -> list[dict[str, Any]]:
        """All that were asked for, with how often each fired."""
        answer: list[dict[str, Any]] = (await self.request("GET", "/faults"))["faults"]
        return answer

    async def clear_faults(self) -> None:
        """No faults from now on."""
        await self.request("DELETE", "/faults")

    async def change_options(self, **changes: Any) -> None:
        """New limits and times from now on: see testbed/aci/options.py."""
        await self.request("PATCH", "/options", changes)

    async def steer(self, group: str, what: str, **how: Any) -> None:
        """Makes one group suffer ``maintenance``, ``vanish`` or ``finish``."""
        await self.request("POST", f"/groups/{group}/{what}", how)


class VirtualNode:
    """A running virtual node. Made by :meth:`started`, or by :meth:`start` and ended by :meth:`close`."""

    name = VIRTUAL_NODE_NAME

    def __init__(self, plane: ControlPlane, options: Options, binary: Path, cwd: Path) -> None:
        self.plane = plane
        self.folder = plane.folder / "virtual-node"
        self._options = options
        self._binary = binary
        self._cwd = cwd
        self._pipe = ParentPipe.opened()
        self.programs: dict[str, Program] = {}
        (self._kubelet_port,) = free_ports(1)
        self.aci = Aci("", options)

    @classmethod
    @asynccontextmanager
    async def started(
        cls, plane: ControlPlane, options: Options | None = None, *, cwd: Path = ROOT
    ) -> AsyncIterator[VirtualNode]:
        """A virtual node that is ready, and gone afterwards. Where ``options.executes``, containers run as processes
        that start in ``cwd``. Raises CannotBuild, DidNotStart."""
        virtual = await cls.start(plane, options, cwd=cwd)
        try:
            yield virtual
        finally:
            await virtual.remove()

    @classmethod
    async def start(cls, plane: ControlPlane, options: Options | None = None, *, cwd: Path = ROOT) -> VirtualNode:
        """As :meth:`started`, but whoever calls it closes it."""
        binary = await asyncio.to_thread(ensure_binary, VIRTUAL_NODE)
        virtual = cls(plane, options or Options(), binary, cwd)
        try:
            await virtual._start()
        except BaseException:
            virtual.close()
            raise
        return virtual

    async def _start(self) -> None:
        ends = time.monotonic() + READY_SECONDS_MAX
        if await self._node() is not None:
            raise DidNotStart(
                f"The control plane has a node {self.name} already: start it without KWOK's virtual node."
            )
        self.folder.mkdir(exist_ok=True)
        self.aci = Aci(await self._start_aci(ends), self._options)
        await self._start_connector()
        await self._until(ends, "connector", self._ready)

    async def _start_aci(self, ends: float) -> str:
        ready = self.folder / "aci-port"
        ready.unlink(missing_ok=True)
        arguments = [f"--options={self._options.to_json()}", f"--ready={ready}"]
        arguments += [f"--folder={self.folder}", f"--cwd={self._cwd}"]
        # Containers find the programs of this environment, and of the system.
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
        self.programs["aci"] = Program(
            Path(sys.executable),
            "aci",
            arguments,
            chosen_by=("-m", "testbed.aci"),
            log=self.folder / "aci.log",
            pipe=self._pipe,
            env={"PYTHONPATH": str(ROOT), "PATH": path},
        )
        await self._until(ends, "aci", lambda: asyncio.to_thread(ready.exists))
        return f"http://127.0.0.1:{int(ready.read_text(encoding='utf-8'))}"

    async def _start_connector(self) -> None:
        token = await self.plane.create_token("kube-system", ACCOUNT, seconds=TOKEN_SECONDS)
        await self._allow()
        kubeconfig = self.plane.write_kubeconfig(ACCOUNT, token)
        env = {
            "ACI_URL": self.aci.url,
            "ACI_TOKEN": self._options.writer_token,
            "ACI_SUBSCRIPTION": self._options.subscription,
            "ACI_RESOURCE_GROUP": RESOURCE_GROUP,
            "ACI_REGION": self._options.location,
            # Without a subnet's name the connector asks nothing of Azure's network API, which has no stand-in here.
            "ACI_VNET_NAME": "vnet",
            "ACI_VNET_RESOURCE_GROUP": RESOURCE_GROUP,
            "NODE_NAME": self.name,
            "KUBECONFIG": str(kubeconfig),
            "KUBELET_PORT": str(self._kubelet_port),
            "TLS_CERT_FILE": str(self.plane.folder / "serving.crt"),
            "TLS_KEY_FILE": str(self.plane.folder / "serving.key"),
            "HOME": str(self.folder),
        }
        self.programs["connector"] = Program(
            self._binary, "connector", (), chosen_by=(), log=self.folder / "connector.log", pipe=self._pipe, env=env
        )

    async def _allow(self) -> None:
        """The connector is an administrator, as its chart makes it."""
        binding = {
            "metadata": {"name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": "kube-system"}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        }
        try:
            await self.plane.api.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
        except ApiError as error:
            if error.status != 409:
                raise

    async def _until(self, ends: float, program: str, condition: Callable[[], Awaitable[bool]]) -> None:
        while not await condition():
            self.programs[program].check()
            if time.monotonic() > ends:
                tail = self.programs[program].tail()
                raise DidNotStart(f"{program} is not ready after {READY_SECONDS_MAX:.0f} s:\n{tail}")
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def _node(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = await self.plane.api.get(f"/api/v1/nodes/{self.name}")
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return found

    async def _ready(self) -> bool:
        node = await self._node()
        if node is None:
            return False
        taints = node["spec"].get("taints") or []
        ready = any(each["type"] == "Ready" and each["status"] == "True" for each in node["status"]["conditions"])
        return ready and not any(taint["key"].startswith("node.kubernetes.io/") for taint in taints)

    def stop_connector(self) -> None:
        """The connector dies: nothing is created, deleted or told any more, and groups run on."""
        self.programs["connector"].kill()

    async def start_connector(self) -> None:
        """It is back."""
        self.programs["connector"].restart()
        await self._until(time.monotonic() + READY_SECONDS_MAX, "connector", self._ready)

    async def remove(self) -> None:
        """Closes it and removes its node, so that another can take its place."""
        self.close()
        try:
            await self.plane.api.delete(f"/api/v1/nodes/{self.name}")
        except ApiError as error:
            if error.status != 404:
                raise

    def close(self) -> None:
        """Ends both programs, and what runs in exec mode."""
        for program in reversed(self.programs.values()):
            program.kill()
        self._pipe.close()
        shutil.rmtree(self.folder, ignore_errors=True)
