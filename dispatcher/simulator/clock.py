"""Time: the world's own, which moves only when told, and each host's view of it, which may be off and may step."""

from __future__ import annotations

from datetime import datetime, timedelta


class WorldClock:
    """The world's time: that of the cluster, of the broker and of the bill."""

    __slots__ = ("_now",)

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        """The present instant of the world."""
        return self._now

    def move_to(self, instant: datetime) -> None:
        """Lets time pass until then; never back."""
        if instant > self._now:
            self._now = instant


class HostClock:
    """What a dispatcher's host takes for the time. The product allows it to be off by up to five seconds.

    ``apart`` says that the host and the cluster were found further apart than that: then it may still be right, but the
    dispatcher cannot know.
    """

    __slots__ = ("_world", "apart", "offset")

    def __init__(self, world: WorldClock, offset: timedelta = timedelta(0)) -> None:
        self._world = world
        self.offset = offset
        self.apart = False

    def fault(self) -> str | None:
        """What the dispatcher is told about the clocks; None where they agree."""
        return "the clocks are far apart" if self.apart else None

    def now(self) -> datetime:
        """The present instant, as far as this host knows."""
        return self._world.now() + self.offset
