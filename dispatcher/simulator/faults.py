"""Faults: what can go wrong with an act or a read, drawn from a seed.

Decides for each act whether the process dies before or after it, whether its answer is lost, and whether it happened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from dispatcher.errors import LookFailed

T = TypeVar("T")


class Killed(BaseException):
    """The dispatcher's process has died here. Not an Exception: nothing in the product may catch it."""


@dataclass(frozen=True, slots=True)
class FaultRates:
    """How often each fault strikes, per act or read."""

    crash_before: float = 0.0
    crash_after: float = 0.0
    lost_answer: float = 0.0
    """The act happened, and reported that nobody knows."""
    lost_act: float = 0.0
    """The act never happened, and reported that nobody knows."""
    failed_read: float = 0.0


class Faults:
    """Draws faults, and counts what struck."""

    def __init__(self, random: Random, rates: FaultRates) -> None:
        self._random = random
        self.rates = rates
        self.struck: Counter[str] = Counter()
        self.acts = 0

    def _strikes(self, name: str, rate: float) -> bool:
        if rate and self._random.random() < rate:
            self.struck[name] += 1
            return True
        return False

    def act(self, name: str, perform: Callable[[], T], unknown: Callable[[], T]) -> T:
        """Performs an act, or not; answers, or not; ``unknown`` gives the answer that nobody knows."""
        self.acts += 1
        rates = self.rates
        if self._strikes(f"crash before {name}", rates.crash_before):
            raise Killed(name)
        if self._strikes(f"lost {name}", rates.lost_act):
            return unknown()
        answer = perform()
        if self._strikes(f"crash after {name}", rates.crash_after):
            raise Killed(name)
        if self._strikes(f"lost answer to {name}", rates.lost_answer):
            return unknown()
        return answer

    def read(self, name: str) -> None:
        """A read that may fail. Raises LookFailed."""
        if self._strikes(f"failed {name}", self.rates.failed_read):
            raise LookFailed(name)
