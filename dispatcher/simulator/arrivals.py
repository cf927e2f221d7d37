"""Workloads: when messages come, drawn from a seed."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from math import cos, pi
from random import Random


class Arrivals(StrEnum):
    """The shape of a workload."""

    STEADY = "steady"
    BURSTY = "bursty"
    DIURNAL = "diurnal"
    HEAVY_TAILED = "heavy-tailed"


def arrival_times(kind: Arrivals, count: int, span: timedelta, random: Random) -> list[timedelta]:
    """When each of ``count`` messages comes, in order, within the span."""
    seconds = span.total_seconds()
    times: list[float] = []
    match kind:
        case Arrivals.STEADY:
            times = [seconds * (number + random.random()) / count for number in range(count)]
        case Arrivals.BURSTY:
            bursts = [random.uniform(0.0, seconds * 0.8) for _ in range(random.randint(1, 3))]
            times = [random.choice(bursts) + random.uniform(0.0, 2.0) for _ in range(count)]
        case Arrivals.DIURNAL:
            times = [_daytime(random) * seconds for _ in range(count)]
        case Arrivals.HEAVY_TAILED:
            at = 0.0
            for _ in range(count):
                at += random.paretovariate(1.2) - 1.0
                times.append(at)
            stretch = min(1.0, seconds / at) if at else 1.0
            times = [time * stretch for time in times]
    return [timedelta(seconds=round(time, 3)) for time in sorted(times)]


def _daytime(random: Random) -> float:
    """A moment of a day that is busiest in its middle."""
    while True:
        moment = random.random()
        if random.random() < (1.0 - cos(2 * pi * moment)) / 2:
            return moment
