"""What the tests of the embedded cluster share: a Job in one line, a cluster in a folder, and ways to wait."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import psutil

from dispatcher.core.jobs import JobShape, attempt_name, manifest, ready_to_create
from dispatcher.core.observations import ClusterSeen, JobSeen, PodSeen
from dispatcher.core.units import Resources
from dispatcher.core.work import Placement, Task
from dispatcher.embedded.ledger_store import EmbeddedLedgerStore
from dispatcher.embedded.objects import ObjectStore
from dispatcher.embedded.processes import NodeConfig, ProcessCluster, ProcessClusterConfig, VirtualNodeConfig
from dispatcher.ports import Answer, ObjectRef

KERNEL_TICK = timedelta(milliseconds=10)
"""Files are stamped with the time of the kernel's last tick, so up to this much before the clock that we read."""

T = TypeVar("T")
LONG = timedelta(seconds=60)
SMALL = Resources(100, 10**7)


class WallClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


def a_config(folder: Path, **changes: Any) -> ProcessClusterConfig:
    config = ProcessClusterConfig(
        folder=folder / "cluster",
        nodes=(NodeConfig("node-a", Resources(10_000, 10**10)),),
        virtual_node=a_virtual_node(),
        backoff_first=timedelta(milliseconds=50),
        kill_grace=timedelta(seconds=0.5),
    )
    return replace(config, **changes)


def a_virtual_node(**changes: Any) -> VirtualNodeConfig:
    quick = VirtualNodeConfig(
        start_delay=timedelta(milliseconds=40),
        pull_begins_after=timedelta(milliseconds=10),
        address_release_lag=timedelta(milliseconds=300),
    )
    return replace(quick, **changes)


def a_job(
    command: str | Sequence[str],
    *,
    batch: str = "b",
    placement: Placement = Placement.NODE_POOL,
    completions: int = 1,
    parallelism: int | None = None,
    retries: int = 0,
    deadline: timedelta = LONG,
    item_timeout: timedelta = LONG,
    requests: Resources = SMALL,
    env: dict[str, str] | None = None,
    stop_at: datetime | None = None,
) -> dict[str, Any]:
    """A manifest as the core renders it; a string is a shell's command."""
    words = ("/bin/sh", "-c", command.replace("$$", "$$$$")) if isinstance(command, str) else tuple(command)
    task = Task("task", "image", words, requests, env=env or {}, item_timeout=item_timeout, start_deadline=timedelta(0))
    shape = JobShape(completions, parallelism or completions, retries, deadline)
    numbers = tuple(range(completions))
    recorded = manifest(task, shape, placement=placement, batch_id=batch, attempt=1, sequence_numbers=numbers)
    return ready_to_create(
        recorded, record_uid="r", items_digest="d", epoch=1, stop_at=stop_at or datetime.now(UTC) + LONG
    )  # fmt: skip


def items_of(job: dict[str, Any]) -> dict[str, str]:
    return {f"{index}.json": json.dumps({"index": index}) for index in range(job["spec"]["completions"])}


@dataclass
class Place:
    """A cluster that runs, with its store and its bell."""

    store: ObjectStore
    records: EmbeddedLedgerStore
    cluster: ProcessCluster
    bell: asyncio.Event = field(default_factory=asyncio.Event)

    async def launch(self, job: dict[str, Any]) -> JobSeen:
        await self.records.create_records([(job["metadata"]["name"], items_of(job), {})])
        (created,) = await self.cluster.create_jobs([job])
        assert created.answer is Answer.DONE, created.text
        assert created.job is not None
        return created.job

    async def until(self, look: Callable[[ClusterSeen], T | None], *, within_s: float = 15) -> T:
        """What ``look`` finds, looking again whenever the bell rings."""
        async with asyncio.timeout(within_s):
            while True:
                self.bell.clear()
                seen = await self.cluster.list_all()
                found = look(seen)
                if found:
                    return found
                try:
                    await asyncio.wait_for(self.bell.wait(), 2)
                except TimeoutError:
                    continue

    async def ended(self, name: str) -> JobSeen:
        return await self.until(lambda seen: next((j for j in seen.jobs if j.name == name and j.condition), None))

    async def pods(self, count: int, phase: str, job: str | None = None) -> list[PodSeen]:
        def look(seen: ClusterSeen) -> list[PodSeen] | None:
            pods = [pod for pod in seen.pods if pod.phase == phase and job in (None, pod.job)]
            return sorted(pods, key=lambda pod: pod.index) if len(pods) >= count else None

        return await self.until(look)


def ref(thing: JobSeen | PodSeen) -> ObjectRef:
    return ObjectRef(thing.name, thing.uid)


@asynccontextmanager
async def a_place(
    folder: Path, config: ProcessClusterConfig | None = None, *, ends_pods: bool = True
) -> AsyncIterator[Place]:
    store = ObjectStore(folder / "objects.db")
    await store.open()
    bell = asyncio.Event()
    cluster = ProcessCluster(config or a_config(folder), store, WallClock(), bell.set)
    await cluster.start()
    try:
        yield Place(store, EmbeddedLedgerStore(store), cluster, bell)
    finally:
        await (cluster.shut_down() if ends_pods else cluster.stop())
        await store.close()


def runs(pid: int) -> bool:
    """Whether there is a process that is more than an entry waiting to be reaped."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def comes_true(look: Callable[[], object], *, within_s: float = 10) -> None:
    """Returns when it is so: for files and foreign processes, which ring no bell."""
    async with asyncio.timeout(within_s):
        while not look():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def _line_in(path: Path) -> str:
    text = path.read_text() if path.exists() else ""
    return text if text.endswith("\n") else ""


async def pid_in(path: Path) -> int:
    """The pid that a pod writes there, once it has."""
    await comes_true(lambda: _line_in(path))
    return int(_line_in(path))


async def is_gone(pid: int) -> None:
    """Returns when the process is no more."""
    await comes_true(lambda: not runs(pid))


def name_of(batch: str) -> str:
    return attempt_name(batch, 1)
