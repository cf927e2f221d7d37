"""The dispatcher under fire: the real reconciler, its loop and the real adapter, over a cluster that is never slow.

Listens for what is told, for the referee. The health is that of the running service, over HTTP.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from dispatcher.core.policy import Policy
from dispatcher.core.units import Resources
from dispatcher.core.work import Placement, Task
from dispatcher.ports import Ports
from dispatcher.queue import QueueRules, ServiceBusConfig, ServiceBusQueue, TaskTable, to_item
from dispatcher.queue.replies import ServiceBusOutcomes
from dispatcher.reconciler import Reconciler
from dispatcher.service.loop import CycleLoop
from dispatcher.web import Health, Sources, WebServer, make_app

from .broker_process import QUEUE
from .instant import InstantCluster, InstantStore, OnlyOne

FAILS_EVERY = 50
"""One item of so many fails, and belongs into the dead-letter queue."""
LOOKAHEAD = 2_000
_TASK = Task(
    name="report",
    image="registry.example/report:1",
    command=("run",),
    requests=Resources(1000, 10**9),
    backoff_limit=0,
    batch_size_max=100,
    linger=timedelta(0),
    parallelism_max=1_000_000,
    placements=(Placement.NODE_POOL,),
)
_TABLE = TaskTable.of([_TASK])
_STOPS_WITHIN_SECONDS = 15.0


class _Clock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class _Ids:
    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def batch_id(self) -> str:
        return f"b{next(self._numbers):09}"


def fails(sequence_number: int) -> bool:
    """Whether the work of that message fails."""
    return sequence_number % FAILS_EVERY == 0


@dataclass(slots=True)
class Told:
    """What the dispatcher said of items. An Events port."""

    ids: dict[int, str] = field(default_factory=dict)
    """Message ids by sequence number."""
    done: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    """What must not happen here, in words."""

    def emit(self, event: str, **facts: Any) -> None:
        """Keeps what is about the end of an item."""
        match event:
            case "item.received" | "orphan.found":
                self.ids[facts["sequence_number"]] = facts["item"]
            case "item.done":
                self.done.append(facts["item"])
            case "item.dead_lettered":
                self.dead.append(facts["item"])
            case "item.rejected" | "alarm.raised":
                self.alarms.append(f"{event}: {facts}")
            case "leader.stood_down" if facts["why"] != "stopped":
                self.alarms.append(f"{event}: {facts}")


@dataclass(slots=True)
class Burst:
    """The running dispatcher."""

    queue: ServiceBusQueue
    cluster: InstantCluster
    told: Told
    url: str
    """Where /healthz is."""
    cycle_faults: Callable[[], tuple[str, ...]]


def queue_config(connection_string: str, **changes: Any) -> ServiceBusConfig:
    """As the service reaches its queue, but for the changes."""
    return ServiceBusConfig(queue=QUEUE, connection_string=lambda: connection_string, **changes)


@asynccontextmanager
async def a_dispatcher(
    config: ServiceBusConfig, lock_seconds: float, *, lookahead: int = LOOKAHEAD, holding: bool = False
) -> AsyncIterator[Burst]:
    """Receives, runs and settles as long as the block lasts. ``holding``: no Job ends until the cluster lets go."""
    told = Told()
    loop: CycleLoop | None = None

    def ring() -> None:
        if loop is not None:
            loop.ring()

    queue = ServiceBusQueue(config, ring)
    cluster = InstantCluster(fails, ring)
    cluster.is_holding = holding
    rules = QueueRules()
    clock = _Clock()
    ports = Ports(
        queues={queue.name: queue},
        cluster=cluster,
        store=InstantStore(),
        lease=OnlyOne(),
        clock=clock,
        ids=_Ids(),
        events=told,
        read_message=lambda name, message: to_item(message, name, _TABLE, rules, clock.now()),
        outcomes=ServiceBusOutcomes(lambda name: replace(config, queue=name)),
    )
    lock_duration = timedelta(seconds=lock_seconds)
    policy = Policy(tasks={_TASK.name: _TASK}, lookahead_max=lookahead, lock_duration=lock_duration)
    reconciler = Reconciler(policy, ports)
    loop = CycleLoop(reconciler, pause_min=timedelta(milliseconds=20), stuck_after=timedelta(minutes=2))
    cycles = loop

    def health() -> Health:
        return Health((*cycles.faults(), *(f"queue {queue.name}: {fault}" for fault in queue.health().faults)))

    sources = Sources(reconciler.status, health, health, health, _no_metrics)
    async with WebServer(make_app(sources), host="127.0.0.1", port=0) as web:
        await queue.start()
        running = asyncio.create_task(loop.run(), name="cycles")
        try:
            yield Burst(queue, cluster, told, web.url, cycles.faults)
        finally:
            loop.stop()
            await asyncio.wait({running}, timeout=_STOPS_WITHIN_SECONDS)
            running.cancel()
            await reconciler.close()
            await queue.stop()


def _no_metrics() -> tuple[bytes, str]:
    return b"", "text/plain"
