"""One dispatcher process: the production reconciler on ports of its own, and the coroutine that it is in the middle of.

A process runs a cycle to its end, dies in it, or stalls between two acts and goes on later with the memory it had.
Needs no event loop: nothing in the simulated world waits.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from random import Random
from typing import Any

from dispatcher.core.policy import Policy
from dispatcher.core.work import WorkItem
from dispatcher.memory import Memory
from dispatcher.ports import Message, Ports
from dispatcher.reconciler import Reconciler
from dispatcher.simulator.clock import HostClock
from dispatcher.simulator.cluster import Cluster
from dispatcher.simulator.faults import FaultPlan, Killed
from dispatcher.simulator.ports import AccountPort, ClusterPort
from dispatcher.simulator.queue import Broker, QueuePort, ReportsPort
from dispatcher.simulator.replies import OutcomesPort, ReplyQueues
from dispatcher.simulator.store import Lease, LeasePort, Store, StorePort
from dispatcher.simulator.watch import Watch
from dispatcher.simulator.wire import Surroundings, Wire

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


class Turn(Enum):
    """How a turn of a process went."""

    SLEEPS = "sleeps"
    STALLED = "stalled"
    DIED = "died"


class SeededIds:
    """New names from the seed."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def batch_id(self) -> str:
        """Ten letters and digits."""
        return "".join(self._random.choices(_LETTERS, k=10))


@dataclass(slots=True)
class Heard:
    """The Events port of one process."""

    who: str
    told: Callable[[str, str, Mapping[str, Any]], None]

    def emit(self, event: str, **facts: Any) -> None:
        """Passes it on to the trace and to the laws."""
        self.told(self.who, event, facts)


@dataclass(frozen=True, slots=True)
class Places:
    """What all processes share: the world behind the ports."""

    broker: Broker
    cluster: Cluster
    store: Store
    lease: Lease
    replies: ReplyQueues
    reports: Broker
    world: Surroundings


class Process:
    """One dispatcher process."""

    def __init__(
        self,
        who: str,
        places: Places,
        wire: Wire,
        clock: HostClock,
        policy: Policy,
        ids: SeededIds,
        random: Random,
        told: Callable[[str, str, Mapping[str, Any]], None],
        reader: Callable[[str, Message, datetime], WorkItem],
        *,
        with_account: bool,
    ) -> None:
        self.who = who
        self.wire = wire
        self.clock = clock
        self.watch = Watch(places.world, random)
        self.lease = LeasePort(places.lease, who)
        self.cluster_port = ClusterPort(places.cluster, wire, self.watch, places.world, random)
        self.sleep = timedelta(0)
        self.cycles = 0
        self._places = places
        self._running: Coroutine[Any, Any, timedelta] | None = None
        places.cluster.watches.append(self.watch)
        queue = QueuePort(places.broker, wire, clock)
        ports = Ports(
            {queue.name: queue},
            self.cluster_port,
            StorePort(places.store, wire),
            self.lease,
            clock,
            ids,
            Heard(who, told),
            lambda name, message: reader(name, message, clock.now()),
            OutcomesPort(places.replies, wire),
            ReportsPort(places.reports, wire, clock) if any(task.reports for task in policy.tasks.values()) else None,
            AccountPort(places.cluster, wire, clock) if with_account else None,
            clock_fault=clock.fault,
        )
        self.reconciler = Reconciler(policy, ports)

    def set_faults(self, plan: FaultPlan) -> None:
        """From now on these faults strike this process."""
        self.wire.set_faults(plan)
        self.watch.faults = self.cluster_port.faults = plan

    @property
    def memory(self) -> Memory | None:
        """What the reconciler has in mind while it leads."""
        return self.reconciler._memory

    def turn(self) -> Turn:
        """Runs on to the end of the cycle, to its death, or to where it stalls."""
        if self._running is None:
            self._running = self.reconciler.cycle()
        try:
            self._running.send(None)
        except StopIteration as end:
            self._running = None
            self.sleep = end.value
            self.cycles += 1
            return Turn.SLEEPS
        except Killed:
            self._running = None
            self.end()
            return Turn.DIED
        return Turn.STALLED

    def end(self) -> None:
        """The process is no more."""
        if self._running is not None:
            self._running.close()
            self._running = None
        if self.watch in self._places.cluster.watches:
            self._places.cluster.watches.remove(self.watch)
