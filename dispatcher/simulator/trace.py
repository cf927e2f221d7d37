"""The trace: one line for every act, event and fault, in order, with a digest that tells two runs apart.

Decides how a line is written. The same seed gives the same trace, byte for byte.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from dispatcher.simulator.clock import WorldClock

LINES_KEPT = 30
_LONG = frozenset({"accounts"})


class Trace:
    """Takes lines; keeps the last few and a digest of all."""

    def __init__(self, clock: WorldClock, tell: Callable[[str], None] | None = None) -> None:
        self._clock = clock
        self._tell = tell
        self._hash = hashlib.blake2b(digest_size=16)
        self.last: deque[str] = deque(maxlen=LINES_KEPT)
        self.count = 0

    def line(self, text: str) -> None:
        """Adds one line, with the world's time."""
        self.count += 1
        line = f"{self._clock.now():%d %H:%M:%S.%f} {text}"
        self._hash.update(line.encode())
        self.last.append(line)
        if self._tell is not None:
            self._tell(line)

    def event(self, who: str, event: str, facts: Mapping[str, Any]) -> None:
        """Adds an event of the product."""
        told = " ".join(f"{key}={value}" for key, value in facts.items() if key not in _LONG)
        self.line(f"{who}   {event} {told}")

    @property
    def digest(self) -> str:
        """What all lines so far amount to."""
        return self._hash.hexdigest()
