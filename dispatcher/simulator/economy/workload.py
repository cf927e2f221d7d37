"""What arrives, when, and how long it runs, drawn from a seed.

Decides how bursts look. A shape is a rate over time; arrivals are a Poisson process of it, run times are drawn apart,
so that the same work meets every policy.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

VIRTUAL_START_MEDIAN_SECONDS = 25.0
VIRTUAL_START_SPREAD = 0.3
"""A container group in a virtual network takes 20 to 60 s to start; the logarithm is normal with this deviation."""
VIRTUAL_START_LONGEST_SECONDS = 110.0


@dataclass(slots=True)
class Workload:
    """Items in the order of their arrival, as columns: there may be millions."""

    name: str
    at: array[float]
    """Seconds from the beginning."""
    run: array[float]
    """Seconds that it runs."""
    start: array[float]
    """Seconds that its container group would take to start."""
    task: array[int]
    """Position in :attr:`tasks`."""
    tenant: array[int]
    tasks: tuple[str, ...]
    tenants: tuple[str, ...] = ("default",)

    def __len__(self) -> int:
        return len(self.at)

    @property
    def seconds(self) -> float:
        """When the last one comes."""
        return self.at[-1] if self.at else 0.0


@dataclass(frozen=True, slots=True)
class Runs:
    """How long items run: a median, and how far they spread (the deviation of the logarithm)."""

    median_seconds: float
    spread: float = 0.3
    longest_seconds: float = 3600.0

    def draw(self, random: Random) -> float:
        """One run, rounded to a tenth of a second."""
        drawn = self.median_seconds * math.exp(random.gauss(0.0, self.spread))
        return round(min(self.longest_seconds, max(0.1, drawn)), 1)


Rate = Callable[[float], float]
"""Arrivals a second at an instant (seconds from the beginning)."""


def steady(per_second: float) -> Rate:
    """The same all the time."""
    return lambda _at: per_second


def diurnal(low: float, high: float, period: float = 86_400.0, peak_at: float = 0.5) -> Rate:
    """A day: lowest half a period away from its peak."""
    return lambda at: low + (high - low) * (1 + math.cos(2 * math.pi * (at / period - peak_at))) / 2


def windows(inside: float, outside: float, spans: Sequence[tuple[float, float]]) -> Rate:
    """One rate within the spans (beginning, end), another outside of them."""
    return lambda at: inside if any(begin <= at < end for begin, end in spans) else outside


def both(*rates: Rate) -> Rate:
    """All of them together."""
    return lambda at: sum(rate(at) for rate in rates)


def spikes(seed: str, seconds: float, every: float, length: tuple[float, float], height: tuple[float, float]) -> Rate:
    """Spikes that nobody can predict, drawn from the seed: so far apart on the mean, so long, so many a second."""
    random = Random(seed)
    drawn: list[tuple[float, float, float]] = []
    at = random.expovariate(1 / every)
    while at < seconds:
        drawn.append((at, at + random.uniform(*length), random.uniform(*height)))
        at += random.expovariate(1 / every)
    return lambda now: sum(rate for begin, end, rate in drawn if begin <= now < end)


def arrivals(random: Random, rate: Rate, seconds: float, step: float = 5.0) -> Iterator[float]:
    """A Poisson process of that rate, held constant within each step."""
    at = 0.0
    while at < seconds:
        expected = rate(at) * step
        count = _poisson(random, expected)
        yield from sorted(at + random.random() * step for _ in range(count))
        at += step


def _poisson(random: Random, mean: float) -> int:
    if mean > 200:
        return max(0, round(random.gauss(mean, math.sqrt(mean))))
    limit, product, count = math.exp(-mean), random.random(), 0
    while product > limit:
        product *= random.random()
        count += 1
    return count


def drawn(name: str, parts: Iterable[tuple[str, Rate, Runs]], seconds: float, seed: int) -> Workload:
    """The workload of these tasks over that time."""
    parts = list(parts)
    tasks = tuple(dict.fromkeys(task for task, _rate, _runs in parts))
    rows: list[tuple[float, float, int]] = []
    for number, (task, rate, runs) in enumerate(parts):
        random = Random(f"{name} {seed} {number}")
        rows += [(at, runs.draw(random), tasks.index(task)) for at in arrivals(random, rate, seconds)]
    return from_rows(name, [(at, run, task, 0) for at, run, task in rows], tasks, ("default",), seed)


def from_rows(
    name: str,
    rows: list[tuple[float, float, int, int]],
    tasks: tuple[str, ...],
    tenants: tuple[str, ...],
    seed: int,
) -> Workload:
    """The workload of (arrival, run, task, tenant); how long groups take to start is drawn for it."""
    rows.sort()
    random = Random(f"starts {seed}")
    start = array("d", (_start(random) for _ in rows))
    return Workload(
        name,
        array("d", (row[0] for row in rows)),
        array("d", (row[1] for row in rows)),
        start,
        array("l", (row[2] for row in rows)),
        array("l", (row[3] for row in rows)),
        tasks,
        tenants,
    )


def _start(random: Random) -> float:
    drawn = VIRTUAL_START_MEDIAN_SECONDS * math.exp(random.gauss(0.0, VIRTUAL_START_SPREAD))
    return round(min(VIRTUAL_START_LONGEST_SECONDS, drawn), 1)
