"""The worlds that the JobCluster contract is held against: each is a cluster, with a store for the records it mounts.

To hold another implementation to the contract, write a world for it and name it in WORLDS. What the pods of a Job do is
said as an Act, which each world puts into practice with what it has: a shell, an annotation, or the dice's own hand.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from simulated import Surroundings

from dispatcher.core.failures import FailureCause
from dispatcher.core.jobs import JobShape, manifest, ready_to_create
from dispatcher.core.observations import ClusterSeen, JobSeen, NodeRoom, Placement, PodSeen
from dispatcher.core.pricing import Rates
from dispatcher.core.units import Resources
from dispatcher.core.work import Task
from dispatcher.embedded.ledger_store import EmbeddedLedgerStore
from dispatcher.embedded.objects import ObjectStore
from dispatcher.embedded.processes import NodeConfig, ProcessCluster, ProcessClusterConfig, VirtualNodeConfig
from dispatcher.embedded.processes.controller import Backoff
from dispatcher.ports import JobCluster, LedgerStore
from dispatcher.simulator.cluster import Cluster, Run, WorkFile
from dispatcher.simulator.meter import Meter
from dispatcher.simulator.ports import ClusterPort
from dispatcher.simulator.store import Store, StorePort
from dispatcher.simulator.watch import Watch

T = TypeVar("T")
REQUESTS = Resources(100, 10**7)


@dataclass(frozen=True, slots=True)
class Act:
    """What the pods of a Job do, one after the other: read their item, print, wait for the gate, end."""

    reads: bool = False
    """Fails unless it finds its own item, that of its index."""
    prints: str = ""
    waits: bool = False
    """Until the world's gate is opened."""
    fails: bool = False
    fails_at: int | None = None
    """This index fails, the others do not."""

    def shell(self, gate: str) -> str:
        """The same as a command of a shell; ``gate`` is a condition in it."""
        steps = []
        if self.reads:
            item = "$BURST_ITEMS_DIR/$JOB_COMPLETION_INDEX.json"
            steps.append(f'grep -q "\\"sequence_number\\": $JOB_COMPLETION_INDEX," {item}')
        if self.prints:
            steps.append(f"printf '{self.prints}'")
        if self.waits:
            steps.append(f"until {gate}; do sleep 0.05; done")
        if self.fails_at is not None:
            steps.append(f"test $JOB_COMPLETION_INDEX != {self.fails_at}")
        steps.append("exit 1" if self.fails else "exit 0")
        return " && ".join(steps)


SUCCEEDS = Act()
FAILS = Act(fails=True)
WAITS = Act(waits=True)
"""Runs until the gate is opened, and succeeds then."""


class World(ABC):
    """A cluster under contract, and its gate."""

    cluster: JobCluster
    records: LedgerStore
    patience = timedelta(seconds=20)
    """How long, by the world's own time, anything that must come to pass may take."""
    retry_delay = timedelta(seconds=10)
    """The wait before an index's first retry; Kubernetes waits this long."""

    @abstractmethod
    def now(self) -> datetime:
        """The world's time."""

    @abstractmethod
    async def news(self) -> None:
        """Waits until something may have changed, for a second at most."""

    @abstractmethod
    def open_gate(self) -> None:
        """What waits goes on."""

    @abstractmethod
    def command(self, act: Act) -> tuple[str, ...]:
        """The command of a container that does it."""

    def told(self, job: dict[str, Any], act: Act) -> dict[str, Any]:
        """The manifest, after the world has heard what its pods are to do."""
        return job

    def job(
        self,
        act: Act,
        *,
        batch: str = "b",
        placement: Placement = Placement.NODE_POOL,
        completions: int = 1,
        parallelism: int | None = None,
        retries: int = 0,
        deadline: timedelta = timedelta(seconds=60),
    ) -> dict[str, Any]:
        """A manifest as the dispatcher makes them."""
        task = Task("task", "busybox:1.37", self.command(act), REQUESTS)
        shape = JobShape(completions, parallelism or completions, retries, deadline)
        numbers = tuple(range(completions))
        made = manifest(task, shape, placement=placement, batch_id=batch, attempt=1, sequence_numbers=numbers)
        stop_at = self.now() + timedelta(minutes=10)
        return self.told(ready_to_create(made, record_uid="r", items_digest="d", epoch=1, stop_at=stop_at), act)

    async def launch(self, job: dict[str, Any]) -> JobSeen:
        """Creates the record, then the Job."""
        name = job["metadata"]["name"]
        data = {f"{index}.json": _item(name, index) for index in range(job["spec"]["completions"])}
        await self.records.create_records([(name, data, {})])
        (created,) = await self.cluster.create_jobs([job])
        assert created.job is not None, created.text
        return created.job

    async def until(self, look: Callable[[ClusterSeen], T | None]) -> T:
        """What ``look`` finds, looking again at all news."""
        last = self.now() + self.patience
        while True:
            seen = await self.cluster.list_all()
            if found := look(seen):
                return found
            assert self.now() < last, f"it did not come to pass; there is {seen}"
            await self.news()

    async def ended(self, job: JobSeen) -> JobSeen:
        """The Job with its condition."""
        return await self.until(lambda seen: next((j for j in seen.jobs if j.uid == job.uid and j.condition), None))

    async def pods(self, count: int, phase: str) -> list[PodSeen]:
        """So many pods in that phase, by index."""

        def look(seen: ClusterSeen) -> list[PodSeen] | None:
            pods = sorted((pod for pod in seen.pods if pod.phase == phase), key=lambda pod: pod.index)
            return pods if len(pods) >= count else None

        return await self.until(look)


def _item(name: str, index: int) -> str:
    """An item's file with the facts that a pod looks at."""
    facts = {"id": f"{name}/{index}", "sequence_number": index, "task": "task", "tenant": "default", "digest": "d"}
    return json.dumps({**facts, "params": {}})


# --- Jobs as processes of this machine --------------------------------------------------------------------------------


class WallClock:
    """This machine's clock."""

    def now(self) -> datetime:
        """The present instant."""
        return datetime.now(UTC)


async def rung(bell: asyncio.Event) -> None:
    """Waits for the bell, but not for long."""
    try:
        async with asyncio.timeout(1):
            await bell.wait()
    except TimeoutError:
        return
    bell.clear()


class EmbeddedWorld(World):
    """The embedded cluster: containers are shells, the gate is a file."""

    retry_delay = timedelta(milliseconds=50)

    def __init__(self, cluster: JobCluster, records: LedgerStore, gate: Path, bell: asyncio.Event) -> None:
        self.cluster = cluster
        self.records = records
        self._gate = gate
        self._bell = bell

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def news(self) -> None:
        await rung(self._bell)

    def open_gate(self) -> None:
        self._gate.touch()

    def command(self, act: Act) -> tuple[str, ...]:
        return ("/bin/sh", "-c", act.shell(f"[ -e {self._gate} ]"))


@asynccontextmanager
async def embedded() -> AsyncIterator[World]:
    """Jobs as processes of this machine."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = ProcessClusterConfig(
            folder / "cluster",
            nodes=(NodeConfig("node-a", Resources(4000, 10**10)),),
            virtual_node=VirtualNodeConfig(start_delay=timedelta(milliseconds=50), pull_begins_after=timedelta(0)),
            backoff_first=EmbeddedWorld.retry_delay,
            kill_grace=timedelta(seconds=0.3),
        )
        store = ObjectStore(folder / "objects.db")
        await store.open()
        bell = asyncio.Event()
        cluster = ProcessCluster(config, store, WallClock(), bell.set)
        await cluster.start()
        try:
            yield EmbeddedWorld(cluster, EmbeddedLedgerStore(store), folder / "gate", bell)
        finally:
            await cluster.shut_down()
            await store.close()


# --- the simulator's cluster ------------------------------------------------------------------------------------------


def _carries_one(*_: object) -> Run:
    raise AssertionError("a pod of this contract carries one item")


def _reports_nothing(message_id: str, body: bytes) -> None:
    raise AssertionError(f"a pod of this contract reports nothing, and {message_id} was sent")


class SimulatedWorld(World):
    """The simulator's cluster without faults: no code runs, pods do as they were told, time moves on when asked."""

    patience = timedelta(minutes=10)

    def __init__(self) -> None:
        self._around = Surroundings()
        store = Store()
        self._cluster = Cluster(
            self._around.clock,
            self._around,
            store,
            Meter(Rates(), (), timedelta(minutes=3), timedelta(0)),
            self._behave,
            _carries_one,
            _reports_nothing,
            (NodeRoom("node-a", Resources(4000, 10**10), 110),),
            Backoff(self.retry_delay, timedelta(minutes=10)),
        )
        self._around.on_time = self._cluster.step
        watch = Watch(self._around, self._around.random)
        self._cluster.watches.append(watch)
        self.cluster = ClusterPort(self._cluster, self._around.wire(), watch, self._around, self._around.random)
        self.records = StorePort(store, self._around.wire())
        self._acts: dict[str, Act] = {}
        self._gate_open = False
        self._read: set[str] = set()

    def now(self) -> datetime:
        return self._around.clock.now()

    async def news(self) -> None:
        self._around.let_pass(timedelta(milliseconds=200))

    def command(self, act: Act) -> tuple[str, ...]:
        return ("true",)

    def told(self, job: dict[str, Any], act: Act) -> dict[str, Any]:
        self._acts[job["metadata"]["name"]] = act
        return job

    def open_gate(self) -> None:
        self._gate_open = True
        for job in self._cluster.jobs.values():
            for pod in job.pods.values():
                if pod.started_at is not None and not pod.ended:
                    pod.run = replace(pod.run, run_time=self.now() - pod.started_at)
            job.next_at = self.now()

    def _behave(self, item: WorkFile, placement: Placement) -> Run:
        name, _, index = item.message_id.rpartition("/")
        act = self._acts[name]
        fails = act.fails or act.fails_at == int(index)
        if act.reads:  # each item is handed to one pod alone, under the number of its index
            fails |= item.message_id in self._read or item.number != int(index)
            self._read.add(item.message_id)
        run_time = timedelta(days=1) if act.waits and not self._gate_open else timedelta(seconds=2)
        return Run(
            timedelta(seconds=1),
            run_time,
            FailureCause.APPLICATION if fails else None,
            log=act.prints.replace("\\n", "\n"),
        )


@asynccontextmanager
async def simulated() -> AsyncIterator[World]:
    """Jobs of the simulator."""
    yield SimulatedWorld()


WORLDS: dict[str, Callable[[], AbstractAsyncContextManager[World]]] = {"embedded": embedded, "simulated": simulated}
