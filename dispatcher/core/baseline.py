"""How many nodes the work deserves: the baseline that a node autoscaler is asked for.

A node that runs is cheaper a pod than the virtual node as long as it is busy enough; a node that is started costs its
start-up and, when it is not needed any more, the autoscaler's delay before it goes. So the question is which part of
the load is steady. Nobody knows beforehand, so several rules are kept beside each other (a percentile, or the mean, of
the load over the last minutes or hours; no nodes at all), each with what it would have cost so far, start-ups, delays
and virtual node included. The one that would have been cheapest is followed, and left only for one that is cheaper by
:data:`HYSTERESIS_PERCENT`, and by half of what it costs to start and to let go the most nodes that it wanted lately:
while nodes start every rule that wants them looks worse than none, and changing one's mind then pays for both.

Decides a number of nodes from loads and prices. Knows nothing of who starts nodes, nor of queues, Jobs and tasks: loads
come in thousandths of a node.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dispatcher.core.policy import Autoscaling
from dispatcher.core.pricing import SECONDS_AN_HOUR, NodePrice
from dispatcher.core.units import Money, whole_seconds

SAMPLE = timedelta(seconds=15)
"""How often the load is looked at."""
HYSTERESIS_PERCENT = 1
_FORGET_SHIFT = 11
"""Of what a rule has cost, 1/2048 is forgotten with each sample: after six hours half of it."""
MILLI = 1000
_MOST_FORGETS = 2000
"""Of the most nodes wanted lately, one part in so many is forgotten with each sample: half in six hours."""
_FIRST_LOOKBACK = timedelta(minutes=5)
_FIRST_FROM = 2
"""Where the virtual node costs so many times what a full node does, the mean of the last minutes is followed until
something was seen; elsewhere nodes must earn their start-up first."""

LOOKBACKS = (
    timedelta(minutes=2), timedelta(minutes=5), timedelta(minutes=10), timedelta(minutes=20), timedelta(minutes=40),
    timedelta(minutes=90), timedelta(hours=3), timedelta(hours=6),
)  # fmt: skip
PERCENTILES = (0, 10, 20, 35, 50, 65, 80, 90, 100)


@dataclass(frozen=True, slots=True)
class Load:
    """What there was to do at an instant."""

    milli_nodes: int
    """Pods that run, start, or could run now, as thousandths of nodes that they would fill."""
    elsewhere: Money
    """What all of it would cost on the virtual node for one second."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The answer, with what it was concluded from."""

    nodes: int
    rule: str
    """The rule that is followed, in words."""
    load_milli_nodes: int
    since: datetime
    """When this number was first wanted."""


class _Window:
    """The loads of the last so many samples, in order of size."""

    def __init__(self, samples: int) -> None:
        self._recent: deque[int] = deque()
        self._sorted: list[int] = []
        self._samples = samples
        self._total = 0

    def add(self, load: int) -> None:
        self._recent.append(load)
        insort(self._sorted, load)
        self._total += load
        if len(self._recent) > self._samples:
            oldest = self._recent.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]
            self._total -= oldest

    def percentile(self, percent: int) -> int:
        return self._sorted[(len(self._sorted) - 1) * percent // 100]

    @property
    def mean(self) -> int:
        return self._total // len(self._sorted)


class _Extreme:
    """The greatest (or, of negative numbers, the least) of the last so many, at a constant price each."""

    def __init__(self, samples: int) -> None:
        self._samples = max(1, samples)
        self._kept: deque[tuple[int, int]] = deque()
        self._count = 0

    def add(self, value: int) -> int:
        while self._kept and self._kept[-1][1] <= value:
            self._kept.pop()
        self._kept.append((self._count, value))
        self._count += 1
        if self._kept[0][0] <= self._count - 1 - self._samples:
            self._kept.popleft()
        return self._kept[0][1]


class _Rule:
    """One rule: what it wants, and what following it would have cost."""

    def __init__(self, name: str, window: int, percent: int | None, pool: Autoscaling, rate: Money) -> None:
        """``percent``: None for the mean; ``rate``: of a node, for one second."""
        self.name = name
        self.window = window
        self.percent = percent
        self.target = 0
        self.cost = 0
        self._pool = pool
        self._rate = rate
        self._paid = _Extreme(whole_seconds(pool.scale_down_after) // whole_seconds(SAMPLE) + 1)
        self._up = _Extreme(-(-whole_seconds(pool.start_up) // whole_seconds(SAMPLE)))
        self._up.add(0)  # none is there before the first one was asked for and has started

    def live(self, load: Load) -> None:
        """One more sample under the target of before it."""
        # Billed from the request until the delay after it was last wanted; of use once it has been there long enough.
        paid = self._paid.add(self.target)
        up = -self._up.add(-paid)
        usable = min(up, self.target) * MILLI
        over = max(0, load.milli_nodes - usable)
        spilled = load.elsewhere.picos * over // load.milli_nodes if load.milli_nodes else 0
        self.cost += (paid * self._rate.picos + spilled) * whole_seconds(SAMPLE)
        self.cost -= self.cost >> _FORGET_SHIFT

    def aim(self, windows: Sequence[_Window]) -> None:
        """What it wants from now on."""
        if self.window < 0:
            self.target = 0
            return
        seen = windows[self.window]
        load = seen.mean if self.percent is None else seen.percentile(self.percent)
        self.target = min(self._pool.nodes_max, (load + MILLI // 2) // MILLI)


class Baseline:
    """The load of the last hours, the rules, and the number of nodes that is wanted now."""

    def __init__(self, pool: Autoscaling, price: NodePrice) -> None:
        rate = Money(price.per_hour.picos // SECONDS_AN_HOUR)
        self.pool = pool
        self.price = price
        self._windows = [_Window(whole_seconds(span) // whole_seconds(SAMPLE)) for span in LOOKBACKS]
        self._rules = [_Rule("no nodes: all of it on the virtual node", -1, None, pool, rate)]
        for number, span in enumerate(LOOKBACKS):
            text = f"{whole_seconds(span) // 60} minutes"
            self._rules.append(_Rule(f"the mean of the last {text}", number, None, pool, rate))
            self._rules += [
                _Rule(f"the {percent}th percentile of the last {text}", number, percent, pool, rate)
                for percent in PERCENTILES
            ]
        self._leader = self._rules[0]
        self._first = self._rules[1 + LOOKBACKS.index(_FIRST_LOOKBACK) * (1 + len(PERCENTILES))]
        self._begun = False
        self._followed = 0
        """The most nodes that the leader has wanted lately, in thousandths."""
        self._sampled_at: datetime | None = None
        self.wanted: Wanted | None = None

    def _change_picos(self) -> int:
        """Half of what it costs to start and to let go what the leader wanted."""
        idle = whole_seconds(self.pool.start_up + self.pool.scale_down_after)
        return self._followed * self.price.per_hour.picos // SECONDS_AN_HOUR * idle // MILLI // 2

    def due(self, now: datetime) -> bool:
        """Whether a sample is due."""
        return self._sampled_at is None or now - self._sampled_at >= SAMPLE

    def sample(self, load: Load, stuck_milli_nodes: int, now: datetime) -> Wanted:
        """Takes a sample, also for the time since the last one, and decides anew.

        ``stuck_milli_nodes``: of the load, what the virtual node will not take (its quotas, a budget, a task that may
        not go there): only nodes can run it.
        """
        if not self._begun and load.milli_nodes:
            self._begun = True
            elsewhere = load.elsewhere.picos * MILLI // load.milli_nodes
            if elsewhere >= _FIRST_FROM * self.price.per_hour.picos // SECONDS_AN_HOUR:
                self._leader = self._first
        missed = 1 if self._sampled_at is None else max(1, (now - self._sampled_at) // SAMPLE)
        for _ in range(min(missed, whole_seconds(LOOKBACKS[-1]) // whole_seconds(SAMPLE))):
            for rule in self._rules:
                rule.live(load)
            for window in self._windows:
                window.add(load.milli_nodes)
            for rule in self._rules:
                rule.aim(self._windows)
        self._sampled_at = now if self._sampled_at is None else max(now - SAMPLE, self._sampled_at + missed * SAMPLE)
        self._followed = max(self._followed - self._followed // _MOST_FORGETS, self._leader.target * MILLI)
        best = min(self._rules, key=lambda rule: rule.cost)
        if best.cost * (100 + HYSTERESIS_PERCENT) + 100 * self._change_picos() < self._leader.cost * 100:
            self._leader, self._followed = best, 0
        must = -(-stuck_milli_nodes // MILLI)
        nodes, words = self._leader.target, self._leader.name
        if must > nodes:
            nodes, words = must, "the virtual node does not take the rest"
        nodes = max(self.pool.nodes_min, min(self.pool.nodes_max, nodes))
        same = self.wanted is not None and self.wanted.nodes == nodes
        since = self.wanted.since if self.wanted is not None and same else now
        self.wanted = Wanted(nodes, words, load.milli_nodes, since)
        return self.wanted
