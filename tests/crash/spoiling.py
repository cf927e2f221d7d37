"""Which faults of the API server a seed switches on.

Decides kinds and chances. Writes that are done and answered with a time-out always have one chance in twenty; of the
others each seed takes some.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from testbed.api_proxy import ApiProxy, Fault

_WRITES = "POST|PUT|PATCH|DELETE"
_LOST_CHANCE = 0.05
_OF_REQUESTS = (Fault.NOT_SENT, Fault.TOO_MANY, Fault.UNAVAILABLE, Fault.BROKEN, Fault.CONFLICT, Fault.SLOW)
_OF_WATCHES = (
    Fault.WATCH_DELAYED,
    Fault.WATCH_REORDERED,
    Fault.WATCH_DROPPED,
    Fault.WATCH_EXPIRED,
    Fault.WATCH_STALLED,
)


@dataclass(frozen=True)
class Spoiling:
    """What one seed spoils."""

    seed: int
    faults: tuple[tuple[Fault, float, float], ...]
    """Fault, chance, seconds."""

    @property
    def has_silent_watch(self) -> bool:
        """Whether it may take as long as a silent watch is believed to be alive."""
        return any(fault is Fault.WATCH_STALLED for fault, *_ in self.faults)

    def inject(self, proxy: ApiProxy) -> None:
        """From now on it spoils what passes. Chances of conflict hit writes alone: no read can conflict."""
        for fault, chance, seconds in self.faults:
            writes_only = fault in (Fault.LOST_ANSWER, Fault.TIMED_OUT, Fault.CONFLICT)
            proxy.inject(
                fault, method=_WRITES if writes_only else ".*", path=_NOT_REVIEWS, chance=chance, seconds=seconds
            )


_NOT_REVIEWS = r"(?<!accessreviews)$"


def drawn(seed: int, *, silent: bool | None = None) -> Spoiling:
    """What the seed spoils. ``silent`` says whether a watch may fall silent; None leaves it to the seed."""
    random = Random(f"spoiling {seed}")
    faults: list[tuple[Fault, float, float]] = [
        (Fault.TIMED_OUT, _LOST_CHANCE / 2, 1.0),
        (Fault.LOST_ANSWER, _LOST_CHANCE / 2, 1.0),
    ]
    for fault in _OF_REQUESTS:
        chance, seconds, is_on = random.uniform(0.01, 0.08), random.uniform(0.2, 1.5), random.random() < 0.6
        if is_on:
            faults.append((fault, chance, seconds))
    chances = {
        Fault.WATCH_DELAYED: random.uniform(0.2, 1.0),
        Fault.WATCH_REORDERED: random.uniform(0.2, 1.0),
        Fault.WATCH_DROPPED: random.uniform(0.2, 0.8),
        Fault.WATCH_EXPIRED: random.uniform(0.1, 0.4),
        Fault.WATCH_STALLED: random.uniform(0.1, 0.3),
    }
    for fault in _OF_WATCHES:
        seconds, is_on = random.uniform(0.05, 0.5), random.random() < 0.4
        if fault is Fault.WATCH_STALLED and silent is not None:
            is_on = silent
        if is_on:
            faults.append((fault, chances[fault], seconds))
    return Spoiling(seed, tuple(faults))
