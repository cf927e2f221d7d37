"""What runs have taught: how long pods of a task take to start and to run, on each placement, as quantiles.

Decides how durations are remembered: in buckets that grow by a fifth, older ones counting less and less, so that what
is kept stays small and follows a change. Knows nothing of what is concluded from it. All of it may be lost: until it is
learned anew, whoever asks gets what they named instead.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from datetime import timedelta

from dispatcher.core.work import Placement

_FIRST = timedelta(milliseconds=100)
_LAST = timedelta(days=8)
_GROWTH_PERCENT = 119
_WEIGHT_MAX = 2000
"""When so many are counted all counts are halved: the last thousand or two decide."""
KNOWN_FROM = 8
"""So many make a quantile worth believing."""


def _bounds() -> Iterator[int]:
    bound, last = _FIRST // timedelta(milliseconds=1), _LAST // timedelta(milliseconds=1)
    while bound < last:
        yield bound
        bound = max(bound + 1, bound * _GROWTH_PERCENT // 100)
    yield last


_BOUNDS = tuple(_bounds())
"""Upper ends of the buckets, in milliseconds."""


class Spans:
    """Durations of one kind, of which quantiles and the mean are asked."""

    def __init__(self) -> None:
        self._counts = [0] * len(_BOUNDS)
        self._weight = 0
        self._total = 0

    def add(self, span: timedelta) -> None:
        """One more. What is negative (two clocks) counts as nothing."""
        millis = max(0, span // timedelta(milliseconds=1))
        bucket = min(bisect_left(_BOUNDS, millis), len(_BOUNDS) - 1)
        self._counts[bucket] += 1
        self._weight += 1
        self._total += millis
        if self._weight > _WEIGHT_MAX:
            self._total = self._total // 2
            self._counts = [count // 2 for count in self._counts]
            self._weight = sum(self._counts)

    @property
    def count(self) -> int:
        """How many it is concluded from; older ones were halved away."""
        return self._weight

    @property
    def known(self) -> bool:
        """Whether there were enough of them to conclude from."""
        return self._weight >= KNOWN_FROM

    def quantile(self, percent: int) -> timedelta:
        """Within so many percent of them were this or shorter: the upper end of a bucket, at most a fifth too long."""
        needed = -(-self._weight * percent // 100)
        seen = 0
        for bound, count in zip(_BOUNDS, self._counts, strict=True):
            seen += count
            if count and seen >= needed:
                return timedelta(milliseconds=bound)
        return timedelta(0)

    @property
    def mean(self) -> timedelta:
        """Their mean, nothing where there were none."""
        return timedelta(milliseconds=self._total // self._weight) if self._weight else timedelta(0)


class Learned:
    """How long pods take to start and to run, by task and placement."""

    def __init__(self) -> None:
        self._starts: dict[tuple[str, Placement], Spans] = {}
        self._runs: dict[tuple[str, Placement], Spans] = {}

    def started(self, task: str, placement: Placement, span: timedelta) -> None:
        """A pod began to run so long after it was made."""
        self._starts.setdefault((task, placement), Spans()).add(span)

    def ran(self, task: str, placement: Placement, span: timedelta) -> None:
        """A pod that succeeded ran so long."""
        self._runs.setdefault((task, placement), Spans()).add(span)

    def start(self, task: str, placement: Placement, percent: int, otherwise: timedelta) -> timedelta:
        """Within how long so many percent of pods have started; ``otherwise`` until enough were seen."""
        spans = self._starts.get((task, placement))
        return spans.quantile(percent) if spans is not None and spans.known else otherwise

    def run(self, task: str, placement: Placement, percent: int) -> timedelta | None:
        """Within how long so many percent of pods have run; None until enough were seen."""
        spans = self._runs.get((task, placement))
        return spans.quantile(percent) if spans is not None and spans.known else None

    def mean_run(self, task: str) -> timedelta | None:
        """How long a pod runs on the mean, on nodes if known there, else anywhere; None until enough were seen."""
        for placement in (Placement.NODE_POOL, Placement.VIRTUAL_NODE):
            spans = self._runs.get((task, placement))
            if spans is not None and spans.known:
                return spans.mean
        return None

    def rows(self) -> Iterator[tuple[str, Placement, timedelta, timedelta, int]]:
        """For people: task, placement, median and 95th percentile of the run, and of how many that is concluded."""
        for (task, placement), spans in sorted(self._runs.items()):
            yield task, placement, spans.quantile(50), spans.quantile(95), spans.count
