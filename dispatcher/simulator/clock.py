"""Virtual time. Moves only when told."""

from __future__ import annotations

from datetime import datetime, timedelta

from dispatcher.core.units import UTC

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


class VirtualClock:
    """The world's time."""

    def __init__(self, start: datetime = START) -> None:
        self._now = start

    def now(self) -> datetime:
        """The present instant of the world."""
        return self._now

    def advance(self, span: timedelta) -> None:
        """Lets time pass."""
        self._now += span
