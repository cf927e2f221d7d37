"""How often something may be asked for: so many in every window of a length, counted exactly; and token buckets.

Decides whether one more is allowed and how long to wait otherwise. Pure. Knows nothing of what is asked. Azure
publishes the numbers ("100 in 5 minutes, 300 in an hour"), not how it counts: windows that slide are the strictest
reading.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta


@dataclass(slots=True)
class Window:
    """At most ``limit`` in any ``seconds``."""

    limit: int
    seconds: float
    peak: int = 0
    """The most that any window has had."""
    _times: deque[datetime] = field(default_factory=deque)

    def used(self, now: datetime) -> int:
        """How many count now."""
        while self._times and now - self._times[0] >= timedelta(seconds=self.seconds):
            self._times.popleft()
        return len(self._times)

    def wait(self, now: datetime) -> float:
        """Seconds until one more is allowed; 0: now."""
        if self.used(now) < self.limit:
            return 0.0
        if self.limit == 0:
            return self.seconds
        frees = self._times[len(self._times) - self.limit] + timedelta(seconds=self.seconds)
        return (frees - now).total_seconds()

    def take(self, now: datetime) -> None:
        """One more."""
        self._times.append(now)
        self.peak = max(self.peak, self.used(now))


@dataclass(slots=True)
class Bucket:
    """``size`` at once, ``per_second`` in the long run."""

    size: float
    per_second: float
    _left: float = -1.0
    _at: datetime | None = None

    def take(self, now: datetime) -> float:
        """Takes one, or says how many seconds to wait for it; 0: taken."""
        if self._at is None:
            self._left = self.size
        else:
            gained = max(0.0, (now - self._at).total_seconds()) * self.per_second
            self._left = min(self.size, self._left + gained)
        self._at = now
        if self._left < 1:
            return (1 - self._left) / self.per_second
        self._left -= 1
        return 0.0
