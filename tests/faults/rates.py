"""Throughput from counts: how fast items left the broker, and when they did so again as fast as before. Pure.

A rate is always that of a window, since items leave in requests of a hundred. Windows begin and end by a monotonic
clock, and are as long as the fair clock says.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

WINDOW_SECONDS = 2.0
RELAPSED = 0.5
"""A window with less than this share means that it was not back before."""
_FAIR_MIN = 0.05
"""A window in which there was hardly any time to run says nothing."""
RECOVERED = 0.95
"""The share of the rate before that counts as recovered."""


class Sample(NamedTuple):
    """How many items had left the broker by a moment, in seconds of the two clocks."""

    at: float
    fair: float
    count: int


@dataclass(frozen=True, slots=True)
class Recovery:
    """How it went on after the last fault."""

    seconds: float | None
    """From the end of the fault to the beginning of the first window that was as fast as before and was followed by no
    standstill; None: none was."""
    ratio: float | None
    """The median rate from there on, by the rate before."""


def rates(samples: Sequence[Sample], begin: float, end: float) -> list[tuple[float, float]]:
    """Of every window that lies between the two: when it began, and the items a second in it."""
    found = []
    last = 0
    for number, first in enumerate(samples):
        if first.at < begin:
            continue
        last = max(last, number)
        while last < len(samples) and samples[last].at - first.at < WINDOW_SECONDS:
            last += 1
        if last == len(samples) or samples[last].at > end:
            break
        seconds = samples[last].fair - first.fair
        if seconds >= _FAIR_MIN * WINDOW_SECONDS:
            found.append((first.at, (samples[last].count - first.count) / seconds))
    return found


def steady_rate(samples: Sequence[Sample], begin: float, end: float) -> float:
    """The median rate of all windows between the two; 0 if there is none."""
    return statistics.median([rate for _, rate in rates(samples, begin, end)] or [0.0])


def recovery(
    samples: Sequence[Sample], before: float, ended_at: float, within_seconds: float = math.inf, full_at: float = 0.0
) -> Recovery:
    """When the rate was back after ``ended_at``, and what it was from there on.

    While items that had been turned away are sent, the rate is not steady: the ratio is of the time after ``full_at``.
    """
    windows = rates(samples, ended_at, samples[-1].at) if samples else []
    latest = ended_at + within_seconds
    relapsed_at = max((at for at, rate in windows if rate < RELAPSED * before), default=ended_at)
    back_at = next((at for at, rate in windows if rate >= RECOVERED * before and relapsed_at <= at <= latest), None)
    if back_at is None or before <= 0:
        return Recovery(None, None)
    steady = [rate for at, rate in windows if at >= max(back_at, full_at)]
    return Recovery(back_at - ended_at, statistics.median(steady) / before if steady else None)
