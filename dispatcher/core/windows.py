"""Budget windows: hours, days, weeks and months of a time zone, as half-open intervals of instants.

Decides where a window begins and ends. Knows nothing of money. A local day has 23, 24 or 25 hours; a window is reckoned
from its local calendar, so that each falls as the calendar of its time zone has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from dispatcher.core.units import UTC

_HOUR = timedelta(hours=1)


class WindowKind(StrEnum):
    """How long a budget's window is."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    """Monday to Sunday."""
    MONTH = "month"


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """The instants from ``start`` up to but not including ``end``, both in UTC."""

    start: datetime
    end: datetime

    def overlap(self, start: datetime, end: datetime) -> timedelta:
        """How much of [start, end) lies inside; never negative."""
        return max(timedelta(0), min(self.end, end) - max(self.start, start))


def window_at(kind: WindowKind, zone: ZoneInfo, instant: datetime) -> Window:
    """The window of that kind that holds the instant."""
    if kind is WindowKind.HOUR:
        # Hours are counted in instants from midnight on: the hour that a clock change repeats is two hours, as it is on
        # the bill, and after a change by half an hour the day's last hour has half an hour.
        day = window_at(WindowKind.DAY, zone, instant)
        start = day.start + (instant - day.start) // _HOUR * _HOUR
        return Window(start, min(start + _HOUR, day.end))
    # A midnight that comes twice begins the day the first time (fold=0), whichever of the two the instant is near.
    midnight = instant.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0, tzinfo=None)
    if kind is WindowKind.DAY:
        first, following = midnight, midnight + timedelta(days=1)
    elif kind is WindowKind.WEEK:
        first = midnight - timedelta(days=midnight.weekday())
        following = first + timedelta(days=7)
    else:
        first = midnight.replace(day=1)
        following = (first + timedelta(days=32)).replace(day=1)
    return Window(first.replace(tzinfo=zone).astimezone(UTC), following.replace(tzinfo=zone).astimezone(UTC))


def windows_touching(kind: WindowKind, zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[Window]:
    """All windows of that kind that [start, end) touches, in order; the one that holds ``start`` if it is empty."""
    window = window_at(kind, zone, start)
    yield window
    while window.end < end:
        window = window_at(kind, zone, window.end)
        yield window
