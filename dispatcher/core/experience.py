"""What the dispatcher has seen so far and what it concludes: run and start times, the load, the baseline, steady work.

Puts together what `learning`, `baseline` and `steadiness` know, and samples it. Decides what counts as load and as
stuck. Kept in memory alone: whoever leads next begins anew, with the nodes that are there and what the task's settings
say, until it has seen enough of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dispatcher.core.baseline import MILLI, SAMPLE, Baseline, Load, Wanted
from dispatcher.core.learning import Learned
from dispatcher.core.policy import GuardAction, Policy
from dispatcher.core.pricing import NodePrice, group_rate
from dispatcher.core.steadiness import Advice, Steadiness
from dispatcher.core.units import NO_MONEY, Money
from dispatcher.core.work import Placement, Task

ADVISE_EVERY = timedelta(minutes=5)
"""How often it is asked what is steady: it takes hours to change."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a sample is made from."""

    on_nodes: Mapping[str, int] = field(default_factory=dict)
    """Pods on nodes, or about to be, by task."""
    on_virtual_node: Mapping[str, int] = field(default_factory=dict)
    waiting: Mapping[str, int] = field(default_factory=dict)
    """Items that could run now, by task."""
    stuck: Mapping[str, int] = field(default_factory=dict)
    """Of these, what the virtual node has not taken for longer than a node takes to start."""
    kept_off: Mapping[str, int] = field(default_factory=dict)
    """Of these, what the guard keeps off the virtual node."""


class Experience:
    """Everything learned, for as long as this process lives."""

    def __init__(self, policy: Policy) -> None:
        self.learned = Learned()
        self.baseline: Baseline | None = None
        self._policy = policy
        self._steadiness = Steadiness(policy.guard.window)
        self._sampled_at: datetime | None = None
        self._advised_at: datetime | None = None
        self.advice: tuple[Advice, ...] = ()
        """Of every task whose work on the virtual node is steady."""
        self.adopt(policy)

    def adopt(self, policy: Policy) -> None:
        """From now on under another policy; what was learned stays, but for what it was concluded with."""
        pool, price = policy.node_pool.autoscaling, policy.node_pool.price
        if pool is None or price is None:
            self.baseline = None
        elif self.baseline is None or (self.baseline.pool, self.baseline.price) != (pool, price):
            self.baseline = Baseline(pool, price)
        if policy.guard.window != self._policy.guard.window:
            self._steadiness = Steadiness(policy.guard.window)
        self._policy = policy

    @property
    def wanted(self) -> Wanted | None:
        """How many nodes the work deserves; None where nobody asked, or before the first sample."""
        return self.baseline.wanted if self.baseline is not None else None

    @property
    def kept_off(self) -> frozenset[str]:
        """Tasks that spill no more, since operators want steady work to wait for nodes."""
        if self._policy.guard.action is not GuardAction.STOP:
            return frozenset()
        return frozenset(advice.task for advice in self.advice if advice.is_steady)

    def due(self, now: datetime) -> bool:
        """Whether a sample is due."""
        return self._sampled_at is None or now - self._sampled_at >= SAMPLE

    def sample(self, seen: Seen, now: datetime) -> bool:
        """Takes one; whether the advice, or the number of nodes that are wanted, is another now."""
        self._sampled_at = now
        before = self._told()
        tasks = self._policy.tasks
        if self.baseline is not None:
            price = self.baseline.price
            whole = _total(seen.on_nodes, seen.on_virtual_node, seen.waiting)
            whole = {name: min(count, tasks[name].parallelism_max) for name, count in whole.items() if name in tasks}
            elsewhere = sum(self.pod_rate(tasks[name]).picos * count for name, count in whole.items())
            stuck = milli_nodes(seen.stuck, tasks, price)
            must = stuck + milli_nodes(seen.on_nodes, tasks, price) if stuck else 0
            self.baseline.sample(Load(milli_nodes(whole, tasks, price), Money(elsewhere)), must, now)
        self._steadiness.sample(_total(seen.on_virtual_node, seen.kept_off), now)
        if self._advised_at is None or now - self._advised_at >= ADVISE_EVERY:
            self._advised_at = now
            self.advice = tuple(self._steady(now))
        return before != self._told()

    def _told(self) -> tuple[int | None, tuple[tuple[str, int], ...]]:
        """What is worth telling when it changes."""
        advice = tuple((each.task, each.nodes) for each in self.advice)
        return (self.wanted.nodes if self.wanted else None, advice)

    def _steady(self, now: datetime) -> Iterable[Advice]:
        node = self._policy.node_pool.price
        for name in self._steadiness.tasks():
            task = self._policy.tasks.get(name)
            if task is None or Placement.NODE_POOL not in task.placements:
                continue  # there is no other place for it
            pods = node.pods(task.requests) if node is not None else 0
            advice = self._steadiness.advice(name, self._policy.guard, self.pod_rate(task), node, pods, now)
            if advice is not None and (advice.is_steady or advice.nodes):
                yield advice

    def pod_rate(self, task: Task) -> Money:
        """What a pod of the task costs a second on the virtual node; nothing where there is none."""
        place = self._policy.virtual_node
        return group_rate(place.of_group(task.requests), place.rates) if place is not None else NO_MONEY


def milli_nodes(pods: Mapping[str, int], tasks: Mapping[str, Task], node: NodePrice) -> int:
    """How many thousandths of a node these pods would fill. What does not fit on a node fills none."""
    filled = 0
    for name, count in pods.items():
        slots = node.pods(tasks[name].requests) if name in tasks else 0
        if slots:
            filled += count * MILLI // slots
    return filled


def _total(*counts: Mapping[str, int]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)
