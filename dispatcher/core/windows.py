"""Budget windows: hours, days, weeks and months of a time zone, as half-open intervals of instants.

Decides where a window begins and ends. Knows nothing of money. A local day has 23, 24 or 25 hours; a window is reckoned
from its local calendar, so that each falls as the calendar of its time zone has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
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


Interval = tuple[datetime, datetime]
"""The instants from the first up to but not including the second, both in UTC."""


@dataclass(frozen=True, slots=True)
class BusinessHours:
    """The hours that a budget counts, by the calendar of its time zone."""

    days: frozenset[int] = frozenset(range(5))
    """Days of the week on which they begin; 0 is Monday."""
    opens: time = time(8)
    closes: time = time(18)
    """Not after ``opens``: they end on the following day."""

    def within(self, zone: ZoneInfo, window: Window) -> tuple[Interval, ...]:
        """The intervals of the window that are business hours, in order, touching ones joined."""
        day = window.start.astimezone(zone).date() - timedelta(days=1)
        last = window.end.astimezone(zone).date()
        found: list[Interval] = []
        while day <= last:
            if day.weekday() in self.days:
                closing = day if self.closes > self.opens else day + timedelta(days=1)
                start = datetime.combine(day, self.opens, zone).astimezone(UTC)
                end = datetime.combine(closing, self.closes, zone).astimezone(UTC)
                start, end = max(start, window.start), min(end, window.end)
                if found and start <= found[-1][1]:
                    found[-1] = (found[-1][0], max(end, found[-1][1]))
                elif start < end:
                    found.append((start, end))
            day += timedelta(days=1)
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Window:
    """The instants from ``start`` up to but not including ``end``, both in UTC; of these the ``hours`` only if any."""

    start: datetime
    end: datetime
    hours: tuple[Interval, ...] | None = None
    """The parts of it that count; None: all of it."""

    def overlap(self, start: datetime, end: datetime) -> timedelta:
        """How much of [start, end) lies inside; never negative."""
        parts = ((self.start, self.end),) if self.hours is None else self.hours
        return sum((max(timedelta(0), min(b, end) - max(a, start)) for a, b in parts), start=timedelta(0))


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


def windows_touching(
    kind: WindowKind, zone: ZoneInfo, start: datetime, end: datetime, hours: BusinessHours | None = None
) -> Iterator[Window]:
    """All windows of that kind that [start, end) touches, in order; the one that holds ``start`` if it is empty."""
    window = window_at(kind, zone, start)
    while True:
        yield window if hours is None else replace(window, hours=hours.within(zone, window))
        if window.end >= end:
            return
        window = window_at(kind, zone, window.end)
