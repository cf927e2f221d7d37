"""The API server's time: what its replies said, and a monotonic clock since.

Decides the present instant of windows and entries, so that all replicas and all Jobs are reckoned by one clock whatever
the hosts' clocks say. A reply's Date header names a second; the reply was made between our sending and our receiving.
That bounds the difference between the server's clock and ours from both sides, and several replies narrow it. Knows
nothing of requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dispatcher.ports import Clock

CLOCKS_APART_MAX = timedelta(seconds=5)
"""How far the host's clock may be from the API server's before a person should know."""
_DRIFT = 2e-4
"""How much a monotonic clock may run fast or slow, per second."""
_STEP_BACK_MAX_S = 1.0
"""The server's clock is never followed backwards by less: time stands still until it has caught up."""


def boottime() -> float:
    """Seconds on a clock that never steps and that counts the time a machine was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class ServerClock:
    """Time as the API server has it. ``heard`` is told every reply; before the first the host's clock must do."""

    def __init__(
        self,
        monotonic: Callable[[], float] = boottime,
        host: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._monotonic = monotonic
        self._host = host
        self._bounds: tuple[float, float] | None = None
        """Least and most of (server's clock - monotonic clock), in seconds."""
        self._bounds_at = 0.0
        self._last = 0.0
        """The latest instant that was told, as a timestamp."""

    def heard(self, date: str | None, sent: float, received: float) -> None:
        """A reply carried that Date; ``sent`` and ``received`` are on the monotonic clock."""
        if date is None:
            return
        try:
            second = parsedate_to_datetime(date).timestamp()
        except ValueError:
            return
        lowest, highest = second - received, second + 1.0 - sent
        if self._bounds is not None:
            slack = _DRIFT * max(0.0, received - self._bounds_at)
            lower, higher = max(lowest, self._bounds[0] - slack), min(highest, self._bounds[1] + slack)
            if lower <= higher:  # else the server's clock has stepped: only this reply tells
                lowest, highest = lower, higher
        self._bounds, self._bounds_at = (lowest, highest), received

    def now(self) -> datetime:
        """The present instant; never before one that was told, unless the server's clock was set back."""
        if self._bounds is None:
            return self._host()
        present = self._monotonic() + sum(self._bounds) / 2
        if present < self._last <= present + _STEP_BACK_MAX_S:
            present = self._last
        self._last = present
        return datetime.fromtimestamp(present, UTC)

    def fault(self) -> str | None:
        """What is wrong with the clocks; None where they agree."""
        if self._bounds is None:
            return None
        apart = self._host().timestamp() - self.now().timestamp()
        if abs(apart) <= CLOCKS_APART_MAX.total_seconds():
            return None
        direction = "ahead of" if apart > 0 else "behind"
        return f"this machine's clock is {abs(apart):.0f} s {direction} the API server's: set one of them right"


if TYPE_CHECKING:

    def _is_a_clock(clock: ServerClock) -> Clock:
        return clock
