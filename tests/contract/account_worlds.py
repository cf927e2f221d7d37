"""The worlds that the AciAccount contract is held against: each has groups of pods, an account, and a referee.

To hold another implementation to the contract, write a world for it and name it in WORLDS.
"""

from __future__ import annotations

import asyncio
import tempfile
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cluster_worlds
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from cluster_worlds import WAITS

from dispatcher.azure import AccountConfig, ContainerGroups
from dispatcher.core.observations import AccountSeen, GroupSeen, Placement
from dispatcher.embedded.processes import ProcessCluster
from dispatcher.ports import AciAccount, ObjectRef
from dispatcher.simulator.clock import HostClock
from dispatcher.simulator.ports import AccountPort
from testbed.aci.execution import Execution
from testbed.aci.options import Options
from testbed.aci.region import Region
from testbed.aci.server import Server

Times = tuple[datetime | None, datetime | None]


class World(ABC):
    """Groups under contract. ``patience`` is by the world's own time."""

    account: AciAccount
    patience = timedelta(seconds=60)

    @abstractmethod
    def now(self) -> datetime:
        """The world's time."""

    @abstractmethod
    async def news(self) -> None:
        """Waits until something may have changed, for a second at most."""

    @abstractmethod
    async def begin(self) -> str:
        """A group that runs; the uid of its pod."""

    @abstractmethod
    async def end(self, uid: str) -> None:
        """What runs in it ends, and with it the group."""

    @abstractmethod
    async def remove(self, uid: str) -> None:
        """Its pod is deleted, and it goes."""

    @abstractmethod
    async def times(self, uid: str) -> Times:
        """When it began to bill and when it stopped, as the referee has it."""

    async def until(self, uid: str, holds: Callable[[GroupSeen | None], bool]) -> AccountSeen:
        """The first look in which that holds of the group; its times are wanted in each."""
        last = self.now() + self.patience
        while True:
            seen = await self.account.look({uid})
            if holds(seen.groups.get(uid)):
                return seen
            assert self.now() < last, f"it did not come to pass; there is {seen}"
            await self.news()


class WithJobs(World):
    """Groups are pods of Jobs of a cluster under contract."""

    def __init__(self, jobs: cluster_worlds.World, account: AciAccount, referee: Callable[[str], Times]) -> None:
        self._jobs = jobs
        self.account = account
        self._referee = referee
        self._refs: dict[str, ObjectRef] = {}

    def now(self) -> datetime:
        return self._jobs.now()

    async def news(self) -> None:
        await self._jobs.news()

    async def begin(self) -> str:
        batch = f"b{len(self._refs)}"
        job = await self._jobs.launch(self._jobs.job(WAITS, batch=batch, placement=Placement.VIRTUAL_NODE))
        running = await self._jobs.pods(len(self._refs) + 1, "Running")
        (pod,) = [pod for pod in running if pod.job == job.name]
        self._refs[pod.uid] = ObjectRef(job.name, job.uid)
        return pod.uid

    async def end(self, uid: str) -> None:
        self._jobs.open_gate()
        await self._jobs.until(lambda seen: any(pod.uid == uid and pod.finished for pod in seen.pods) or None)

    async def remove(self, uid: str) -> None:
        await self._jobs.cluster.release_jobs([self._refs[uid]])
        await self._jobs.until(lambda seen: all(pod.uid != uid for pod in seen.pods) or None)

    async def times(self, uid: str) -> Times:
        return self._referee(uid)


@asynccontextmanager
async def embedded() -> AsyncIterator[World]:
    """The embedded cluster's virtual node."""
    async with cluster_worlds.embedded() as jobs:
        cluster = jobs.cluster
        assert isinstance(cluster, ProcessCluster)

        def referee(uid: str) -> Times:
            group = cluster._world.meter.groups[uid]
            return group.billed_from, group.stopped_at

        yield WithJobs(jobs, cluster, referee)


@asynccontextmanager
async def simulated() -> AsyncIterator[World]:
    """The simulator's."""
    jobs = cluster_worlds.SimulatedWorld()

    def referee(uid: str) -> Times:
        group = jobs._cluster.meter.groups[uid]
        return group.starts_at, group.stopped_at

    port = AccountPort(jobs._cluster, jobs._around.wire(), HostClock(jobs._around.clock))
    world = WithJobs(jobs, port, referee)
    world.patience = timedelta(minutes=10)
    yield world


class StandIn(World):
    """Azure's API, as the stand-in for it answers."""

    def __init__(self, url: str, session: ClientSession, options: Options, account: AciAccount) -> None:
        self.account = account
        self._url = url
        self._session = session
        self._options = options
        self._count = 0

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def news(self) -> None:
        await asyncio.sleep(0.02)

    def _name(self, uid: str) -> str:
        return f"work-burst-{uid}-1-0-abcde"

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self._options.writer_token}"}
        async with self._session.request(method, self._url + path, json=body, headers=headers) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json() if answer.content_type == "application/json" else None

    def _path(self, uid: str) -> str:
        groups = f"/subscriptions/{self._options.subscription}/resourceGroups/burst/providers"
        return f"{groups}/Microsoft.ContainerInstance/containerGroups/{self._name(uid)}?api-version=2023-05-01"

    async def begin(self) -> str:
        self._count += 1
        uid = f"uid{self._count}"
        container = {
            "name": "worker",
            "properties": {
                "image": "work:1",
                "command": ["work"],
                "environmentVariables": [{"name": "STANDIN_RUN_SECONDS", "value": "never"}],
                "resources": {"requests": {"cpu": 1, "memoryInGB": 1}},
            },
        }
        tags = {"UID": uid, "Namespace": "work", "PodName": self._name(uid).removeprefix("work-")}
        properties = {"osType": "Linux", "restartPolicy": "Never", "containers": [container]}
        await self._ask("PUT", self._path(uid), {"location": "eastus", "tags": tags, "properties": properties})
        last = self.now() + self.patience
        while not any(
            group["name"] == self._name(uid) and group["state"] == "Running"
            for group in (await self._ask("GET", "/groups"))["groups"]
        ):
            assert self.now() < last
            await self.news()
        return uid

    async def end(self, uid: str) -> None:
        await self._ask("POST", f"/groups/{self._name(uid)}/finish")

    async def remove(self, uid: str) -> None:
        await self._ask("DELETE", self._path(uid))

    async def times(self, uid: str) -> Times:
        lines = (await self._ask("GET", "/bill"))["groups"]
        (span,) = next(line["spans"] for line in lines if line["uid"] == uid)
        start, stop = (at and datetime.fromisoformat(at) for at in span)
        return start, stop


@asynccontextmanager
async def stand_in() -> AsyncIterator[World]:
    """The reader of Azure Resource Manager in front of the stand-in for ACI."""
    options = Options(prepare_seconds=0.02, image_mb=1, stop_seconds=0.05, delete_seconds=0.1)
    with tempfile.TemporaryDirectory() as name:
        server = Server(Region(options), lambda it: Execution(Path(name), Path(name), it.exited))
        async with TestServer(server.application(), host="127.0.0.1") as listening, ClientSession() as session:
            url = str(listening.make_url("/")).rstrip("/")
            config = AccountConfig(
                options.subscription, "burst", frozenset({"work"}), endpoint=url, requests_per_second=200,
                look_every=timedelta(milliseconds=100), list_again_after=timedelta(milliseconds=50),
                pause_min=timedelta(milliseconds=20),
            )  # fmt: skip

            async def token() -> str:
                return options.reader_token

            groups = ContainerGroups(config, token, lambda: datetime.now(UTC))
            world = StandIn(url, session, options, groups)
            await groups.start()
            try:
                while [*groups.faults()] or groups._seen is None:  # as a service waits for its first look
                    await world.news()
                yield world
            finally:
                await groups.stop()


WORLDS: dict[str, Callable[[], AbstractAsyncContextManager[World]]] = {
    "embedded": embedded,
    "simulated": simulated,
    "stand-in": stand_in,
}
