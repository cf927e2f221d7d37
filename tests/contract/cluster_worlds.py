"""The worlds that the JobCluster contract is held against: each is a cluster, with a store for the records it mounts.

To hold another implementation to the contract, write a world for it and name it in WORLDS.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from dispatcher.core.jobs import JobShape, manifest, ready_to_create
from dispatcher.core.observations import ClusterSeen, JobSeen, Placement, PodSeen
from dispatcher.core.units import Resources
from dispatcher.core.work import Task
from dispatcher.embedded.ledger_store import EmbeddedLedgerStore
from dispatcher.embedded.objects import ObjectStore
from dispatcher.embedded.processes import NodeConfig, ProcessCluster, ProcessClusterConfig, VirtualNodeConfig
from dispatcher.ports import JobCluster, LedgerStore

T = TypeVar("T")
PATIENCE_SECONDS = 20.0
REQUESTS = Resources(100, 10**7)


@dataclass
class World:
    """A cluster under contract. Commands are a shell's; ``gate`` is a condition in it that ``open_gate`` makes true."""

    cluster: JobCluster
    records: LedgerStore
    gate: str
    open_gate: Callable[[], object]
    bell: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def until_told(self) -> str:
        """A command that runs until the gate is opened, and succeeds then."""
        return f"until {self.gate}; do sleep 0.05; done"

    def job(
        self,
        command: str,
        *,
        batch: str = "b",
        placement: Placement = Placement.NODE_POOL,
        completions: int = 1,
        parallelism: int | None = None,
        retries: int = 0,
        deadline: timedelta = timedelta(seconds=60),
    ) -> dict[str, Any]:
        """A manifest as the dispatcher makes them."""
        task = Task("task", "busybox:1.37", ("/bin/sh", "-c", command), REQUESTS)
        shape = JobShape(completions, parallelism or completions, retries, deadline)
        numbers = tuple(range(completions))
        made = manifest(task, shape, placement=placement, batch_id=batch, attempt=1, sequence_numbers=numbers)
        stop_at = datetime.now(UTC) + timedelta(minutes=10)
        return ready_to_create(made, record_uid="r", items_digest="d", epoch=1, stop_at=stop_at)

    async def launch(self, job: dict[str, Any]) -> JobSeen:
        """Creates the record, then the Job."""
        data = {f"{index}.json": f'{{"index":{index}}}' for index in range(job["spec"]["completions"])}
        await self.records.create_records([(job["metadata"]["name"], data, {})])
        (created,) = await self.cluster.create_jobs([job])
        assert created.job is not None, created.text
        return created.job

    async def until(self, look: Callable[[ClusterSeen], T | None]) -> T:
        """What ``look`` finds, looking again when the bell rings."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                self.bell.clear()
                if found := look(await self.cluster.list_all()):
                    return found
                try:
                    async with asyncio.timeout(1):
                        await self.bell.wait()
                except TimeoutError:
                    continue

    async def ended(self, job: JobSeen) -> JobSeen:
        """The Job with its condition."""
        return await self.until(lambda seen: next((j for j in seen.jobs if j.uid == job.uid and j.condition), None))

    async def pods(self, count: int, phase: str) -> list[PodSeen]:
        """So many pods in that phase, by index."""

        def look(seen: ClusterSeen) -> list[PodSeen] | None:
            pods = sorted((pod for pod in seen.pods if pod.phase == phase), key=lambda pod: pod.index)
            return pods if len(pods) >= count else None

        return await self.until(look)


@asynccontextmanager
async def embedded() -> AsyncIterator[World]:
    """Jobs as processes of this machine."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = ProcessClusterConfig(
            folder / "cluster",
            nodes=(NodeConfig("node-a", Resources(4000, 10**10)),),
            virtual_node=VirtualNodeConfig(start_delay=timedelta(milliseconds=50), pull_begins_after=timedelta(0)),
            backoff_first=timedelta(milliseconds=50),
            kill_grace=timedelta(seconds=0.3),
        )
        store = ObjectStore(folder / "objects.db")
        await store.open()
        bell = asyncio.Event()
        cluster = ProcessCluster(config, store, WallClock(), bell.set)
        await cluster.start()
        gate = folder / "gate"
        try:
            yield World(cluster, EmbeddedLedgerStore(store), f"[ -e {gate} ]", gate.touch, bell)
        finally:
            await cluster.shut_down()
            await store.close()


class WallClock:
    """This machine's clock."""

    def now(self) -> datetime:
        """The present instant."""
        return datetime.now(UTC)


WORLDS: dict[str, Callable[[], AbstractAsyncContextManager[World]]] = {"embedded": embedded}
