"""The world of money and waits: a clock in seconds, work that waits, pods that run, and what it costs.

Decides what happens to a pod once somebody has launched it. Who launches what where, and how many nodes are wanted, is
a :class:`Decider`'s: the product's, or one of the rules that it is compared with.
"""

from __future__ import annotations

import heapq
from array import array
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Protocol

from dispatcher.core.policy import Autoscaling, Policy
from dispatcher.core.pricing import SECONDS_AN_HOUR, NodePrice, group_rate
from dispatcher.core.units import PICOS_PER_USD, Money
from dispatcher.core.work import Placement, Task
from dispatcher.simulator.economy.nodes import Node, NodePool
from dispatcher.simulator.economy.workload import Workload

NODE_POD_START_SECONDS = 1.5
"""From the launch to a running pod on a node that is there and has its image."""
TICK_SECONDS = 1.0
SPOT_LOST_EVERY_SECONDS = 6 * 3600.0
"""A Spot node is taken away after so long on the mean."""
_LATE = 10_000_000.0


class Decider(Protocol):
    """Who decides."""

    name: str
    node_price_percent: int
    """What it pays of a node's price: less than 100 on Spot nodes."""
    spot: bool

    def begin(self, world: World) -> None:
        """Before the first second."""
        ...

    def act(self, world: World) -> float | None:
        """Launches what it wants to, asks for nodes; when it wants to be asked again at the latest."""
        ...


@dataclass(slots=True)
class Pod:
    """An item that was launched."""

    item: int
    place: Placement
    launched_at: float
    started_at: float
    ends_at: float
    node: Node | None = None
    batch: str = ""
    lost: bool = False


@dataclass(slots=True)
class Outcome:
    """What a run came to."""

    decider: str
    items: int
    waits: array[float] = field(default_factory=lambda: array("d"))
    missed: int = 0
    """Items whose pod had not started by their task's objective."""
    with_objective: int = 0
    nodes_cost: Money = Money(0)
    virtual_cost: Money = Money(0)
    node_seconds: float = 0.0
    virtual_seconds: float = 0.0
    virtual_items: int = 0
    node_starts: int = 0
    nodes_most: int = 0
    addresses_most: int = 0
    lost_pods: int = 0
    seconds: float = 0.0
    spent_by_hour: Counter[int] = field(default_factory=Counter)
    """Picodollars on the virtual node, by hour from the beginning."""
    not_run: int = 0
    """Items that still waited when the patience of the simulation was over."""

    @property
    def cost(self) -> Money:
        """All of it."""
        return self.nodes_cost + self.virtual_cost

    def wait(self, percent: float) -> float:
        """Within how many seconds so many percent of items had started."""
        if not self.waits:
            return 0.0
        ordered = sorted(self.waits)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]

    @property
    def missed_percent(self) -> float:
        """The share of items with an objective that missed it."""
        return 100.0 * self.missed / self.with_objective if self.with_objective else 0.0


class World:
    """One run of a workload under one decider."""

    def __init__(
        self, workload: Workload, policy: Policy, seed: int = 0, node_percent: int = 100, *, spot: bool = False
    ) -> None:
        price, pool = policy.node_pool.price, policy.node_pool.autoscaling
        if price is None or pool is None:
            raise ValueError("a policy without a node price and an autoscaled pool cannot be compared in money")
        self.workload = workload
        self.policy = policy
        self.price: NodePrice = price
        self.scaling: Autoscaling = pool
        self.tasks: Sequence[Task] = [policy.tasks[name] for name in workload.tasks]
        self.node_second_picos = Decimal(price.per_hour.picos) / SECONDS_AN_HOUR * node_percent / 100
        self.now = 0.0
        self.waiting: list[deque[int]] = [deque() for _ in self.tasks]
        self.on_nodes = [0] * len(self.tasks)
        self.on_virtual = [0] * len(self.tasks)
        self.pool = NodePool(
            price,
            pool.start_up.total_seconds(),
            pool.scale_down_after.total_seconds(),
            pool.nodes_max,
            Random(f"nodes {seed}"),
            SPOT_LOST_EVERY_SECONDS if spot else None,
        )
        self.arrived: list[int] = []
        """Since the decider was last asked."""
        self.started: list[Pod] = []
        self.ended: list[Pod] = []
        self.outcome = Outcome("", len(workload))
        self._next = 0
        self._ends: list[tuple[float, int, Pod]] = []
        self._starts: list[tuple[float, int, Pod]] = []
        self._pods_of: dict[int, set[int]] = {}
        self._live: dict[int, Pod] = {}
        self._launches = 0
        virtual = policy.virtual_node
        self.virtual_rates = [
            group_rate(virtual.of_group(task.requests), virtual.rates).picos if virtual is not None else 0
            for task in self.tasks
        ]
        self._objectives = [t.start_by.total_seconds() if t.start_by is not None else None for t in self.tasks]
        self._held: deque[tuple[float, int]] = deque()
        self._release = virtual.release_hold.total_seconds() if virtual is not None else 0.0

    # --- what deciders see and do -----------------------------------------------------------------------------------

    def slots(self, task: int) -> int:
        """How many pods of the task one empty node takes."""
        return self.price.pods(self.tasks[task].requests)

    def free(self, task: int) -> int:
        """How many of its pods nodes would start at once."""
        return self.pool.free(self.tasks[task].requests, self.now)

    def want(self, nodes: int) -> None:
        """Asks the autoscaler for so many nodes."""
        self.pool.want(nodes, self.now)

    def launch(self, item: int, place: Placement, batch: str = "") -> bool:
        """Starts the item there; False: no node has room."""
        task = self.workload.task[item]
        if place is Placement.NODE_POOL:
            node = self.pool.take(self.tasks[task].requests, self.now)
            if node is None:
                return False
            start = self.now + NODE_POD_START_SECONDS
            self.on_nodes[task] += 1
        else:
            node, start = None, self.now + self.workload.start[item]
            self.on_virtual[task] += 1
            self.outcome.virtual_items += 1
        pod = Pod(item, place, self.now, start, start + self.workload.run[item], node, batch)
        self._launches += 1
        number = self._launches
        heapq.heappush(self._starts, (pod.started_at, number, pod))
        heapq.heappush(self._ends, (pod.ends_at, number, pod))
        if node is not None:
            self._pods_of.setdefault(node.number, set()).add(number)
            self._live[number] = pod
        self._count_addresses()
        return True

    def launch_waiting(self, task: int, place: Placement, count: int) -> int:
        """Starts so many of the task that wait longest; how many it were."""
        done = 0
        queue = self.waiting[task]
        while queue and done < count:
            if not self.launch(queue[0], place):
                break
            queue.popleft()
            done += 1
        return done

    # --- the clock --------------------------------------------------------------------------------------------------

    def run(self, decider: Decider, patience_seconds: float = 6 * 3600.0) -> Outcome:
        """Runs it to its end: all done, and all nodes removed that are not kept."""
        self.outcome.decider = decider.name
        decider.begin(self)
        wake: float | None = 0.0
        end = self.workload.seconds + patience_seconds
        while self.now < end:
            at = self._next_at(wake)
            if at is None:
                break
            self.now = max(self.now, -(-at // TICK_SECONDS) * TICK_SECONDS)
            self._happen()
            wake = decider.act(self)
        self._close()
        return self.outcome

    def _next_at(self, wake: float | None) -> float | None:
        busy = bool(self._ends) or any(self.waiting) or self._next < len(self.workload)
        if not busy:
            return None
        times = [self.pool.next_at(self.now), wake]
        if self._next < len(self.workload):
            times.append(self.workload.at[self._next])
        if self._ends:
            times.append(self._ends[0][0])
        if self._starts:
            times.append(self._starts[0][0])
        return min((time for time in times if time is not None), default=self.now + TICK_SECONDS)

    def _happen(self) -> None:
        work, now = self.workload, self.now
        self.arrived, self.started, self.ended = [], [], []
        while self._next < len(work) and work.at[self._next] <= now:
            self.arrived.append(self._next)
            self.waiting[work.task[self._next]].append(self._next)
            self._next += 1
        while self._starts and self._starts[0][0] <= now:
            pod = heapq.heappop(self._starts)[2]
            if not pod.lost:
                self.started.append(pod)
        while self._ends and self._ends[0][0] <= now:
            _, number, pod = heapq.heappop(self._ends)
            if not pod.lost:
                self._end(number, pod)
        for node in self.pool.tend(now):
            self._lose(node)

    def _end(self, number: int, pod: Pod) -> None:
        item, task = pod.item, self.workload.task[pod.item]
        self.ended.append(pod)
        if pod.node is not None:
            self.on_nodes[task] -= 1
            self.pool.give_back(pod.node, self.tasks[task].requests, pod.ends_at)
            self._pods_of[pod.node.number].discard(number)
            del self._live[number]
        else:
            self.on_virtual[task] -= 1
            seconds = -(-(pod.ends_at - pod.launched_at) // 1)
            self.outcome.virtual_seconds += seconds
            picos = int(seconds) * self.virtual_rates[task]
            self.outcome.virtual_cost += Money(picos)
            self.outcome.spent_by_hour[int(pod.launched_at // 3600)] += picos
            self._held.append((pod.ends_at + self._release, 1))
        wait = pod.started_at - self.workload.at[item]
        self.outcome.waits.append(wait)
        objective = self._objectives[task]
        if objective is not None:
            self.outcome.with_objective += 1
            self.outcome.missed += wait > objective + TICK_SECONDS

    def _lose(self, node: Node) -> None:
        """A Spot node is taken away: its pods begin again, from the front of the line."""
        for number in sorted(self._pods_of.pop(node.number, ()), reverse=True):
            pod = self._live.pop(number)
            pod.lost = True
            task = self.workload.task[pod.item]
            self.on_nodes[task] -= 1
            self.outcome.lost_pods += 1
            self.waiting[task].appendleft(pod.item)

    def _count_addresses(self) -> None:
        while self._held and self._held[0][0] <= self.now:
            self._held.popleft()
        self.outcome.addresses_most = max(self.outcome.addresses_most, sum(self.on_virtual) + len(self._held))

    def _close(self) -> None:
        outcome = self.outcome
        outcome.not_run = sum(map(len, self.waiting)) + len(self.workload) - self._next
        outcome.waits.extend([_LATE] * outcome.not_run)
        objective = [i for queue in self.waiting for i in queue if self._objectives[self.workload.task[i]] is not None]
        outcome.missed += len(objective)
        outcome.with_objective += len(objective)
        outcome.node_seconds = self.pool.close(self.now)
        outcome.nodes_cost = Money(int(self.node_second_picos * Decimal(outcome.node_seconds)))
        outcome.node_starts, outcome.nodes_most = self.pool.starts, self.pool.most
        outcome.seconds = self.now


def usd(money: Money) -> float:
    """Dollars, for tables and charts."""
    return money.picos / PICOS_PER_USD
