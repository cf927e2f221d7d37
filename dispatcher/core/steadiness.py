"""The steady-state guard: which part of a task's work on the virtual node is steady, and what nodes would cost instead.

The first pod of a task is busy whenever the task has any pod there, the second whenever it has two, and so on; each of
these has a duty: the share of the window in which it was busy. Two lines are drawn through them: the rule of thumb
("more than 50 % of the time belongs on nodes"), and the computed break-even of a node, which is another number for
every price and pod. Advice follows the second and shows both.

Decides from counts that it is given. Knows nothing of who is told.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from dispatcher.core.policy import GuardPolicy
from dispatcher.core.pricing import SECONDS_AN_HOUR, NodePrice
from dispatcher.core.units import NO_MONEY, Money, whole_seconds

_SLICES = 48
_PERMILLE = 1000
_HOURS_A_DAY = 24


@dataclass(frozen=True, slots=True)
class Advice:
    """What is said of one task."""

    task: str
    seen: timedelta
    """Over how long it was measured."""
    duty_permille: int
    """The share of that time in which it had any pod on the virtual node."""
    duty_percent_max: int
    """The rule of thumb."""
    steady_pods: int
    """So many of its pods are busy for longer than the rule of thumb allows."""
    break_even_permille: int | None
    """The use above which a node is cheaper, above 1000: never; None: no price of a node, or no pod fits on one."""
    node_size: str
    nodes: int
    """So many nodes would be cheaper than the virtual node."""
    on_virtual_node: Money
    """What their part of the work costs on the virtual node in a day."""
    on_nodes: Money
    """What these nodes cost in a day."""

    @property
    def is_steady(self) -> bool:
        """Whether the rule of thumb says that it belongs on nodes."""
        return self.steady_pods > 0

    @property
    def sentence(self) -> str:
        """The advice in plain words."""
        hours = whole_seconds(self.seen) // SECONDS_AN_HOUR
        duty = (
            f"{self.task} ran on the virtual node {self.duty_permille // 10} % of the last {hours} h"
            f" (rule of thumb: at most {self.duty_percent_max} %; {self.steady_pods} pods are above it)"
        )
        if self.break_even_permille is None:
            return f"{duty}; no price of a node that takes it is known"
        even = f"a {self.node_size} pays from {self.break_even_permille // 10} % use on"
        if not self.nodes:
            return f"{duty}; {even}, so no node would be cheaper: leave it there"
        saved = self.on_virtual_node - self.on_nodes
        return (
            f"{duty}; {even}: {self.nodes} of them (${_cents(self.on_nodes)} a day) would replace "
            f"${_cents(self.on_virtual_node)} a day on the virtual node and save ${_cents(saved)}"
        )


def _cents(money: Money) -> str:
    return f"{money.usd:.2f}"


class Steadiness:
    """How many pods each task had on the virtual node, over a window that moves on."""

    def __init__(self, window: timedelta) -> None:
        self._span = window / _SLICES
        self._slices: deque[tuple[datetime, int, dict[str, Counter[int]]]] = deque(maxlen=_SLICES)

    def sample(self, pods: Mapping[str, int], now: datetime) -> None:
        """So many pods of each task are on the virtual node now, or would be but for the guard. Evenly spaced."""
        if not self._slices or now - self._slices[-1][0] >= self._span:
            self._slices.append((now, 0, {}))
        begun, samples, counts = self._slices[-1]
        for task, count in pods.items():
            if count > 0:
                counts.setdefault(task, Counter())[count] += 1
        self._slices[-1] = (begun, samples + 1, counts)

    def seen(self, now: datetime) -> timedelta:
        """How much of the window was looked at."""
        return now - self._slices[0][0] if self._slices else timedelta(0)

    def busy(self, task: str) -> tuple[list[int], int]:
        """How many samples its first pod was busy in, its second, and so on; and of how many samples."""
        counts: Counter[int] = Counter()
        for _begun, _samples, tasks in self._slices:
            counts.update(tasks.get(task, {}))
        busy: list[int] = []
        at_least = sum(counts.values())
        for pods in range(1, max(counts, default=0) + 1):
            busy.append(at_least)
            at_least -= counts.get(pods, 0)
        return busy, sum(samples for _begun, samples, _tasks in self._slices)

    def tasks(self) -> list[str]:
        """Those that had any pod there."""
        return sorted({task for _begun, _samples, tasks in self._slices for task in tasks})

    def advice(
        self, task: str, policy: GuardPolicy, pod_rate: Money, node: NodePrice | None, pods_a_node: int, now: datetime
    ) -> Advice | None:
        """What is to be said of a task; None where too little was seen, or nothing.

        ``pod_rate``: of its group, for one second. ``pods_a_node``: how many of its pods one node takes.
        """
        seen = self.seen(now)
        busy, samples = self.busy(task)
        if seen < policy.seen_at_least or not busy:
            return None
        steady = sum(1 for count in busy if count * 100 > policy.duty_percent * samples)
        pod_day = pod_rate * (SECONDS_AN_HOUR * _HOURS_A_DAY)
        nodes, replaced, node_day, even = 0, NO_MONEY, NO_MONEY, None
        if node is not None and pods_a_node > 0 and pod_day:
            node_day = node.per_hour * _HOURS_A_DAY
            even = node_day.picos * _PERMILLE // (pod_day.picos * pods_a_node)
            for first in range(0, len(busy), pods_a_node):
                part = Money(pod_day.picos * sum(busy[first : first + pods_a_node]) // samples)
                if part <= node_day:
                    break
                nodes, replaced = nodes + 1, replaced + part
        return Advice(
            task=task,
            seen=seen,
            duty_permille=busy[0] * _PERMILLE // samples,
            duty_percent_max=policy.duty_percent,
            steady_pods=steady,
            break_even_permille=even,
            node_size=node.size if node is not None else "",
            nodes=nodes,
            on_virtual_node=replaced,
            on_nodes=node_day * nodes,
        )
