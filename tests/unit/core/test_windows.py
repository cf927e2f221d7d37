"""Where budget windows begin and end."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from dispatcher.core.units import UTC
from dispatcher.core.windows import Window, WindowKind, window_at, windows_touching
from tests.builders import HOUR, MINUTE, NOW


def utc(*when: int) -> datetime:
    return datetime(*when, tzinfo=UTC)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("kind", "start", "end"),
    [
        (WindowKind.HOUR, utc(2026, 3, 4, 9), utc(2026, 3, 4, 10)),
        (WindowKind.DAY, utc(2026, 3, 4), utc(2026, 3, 5)),
        (WindowKind.WEEK, utc(2026, 3, 2), utc(2026, 3, 9)),
        (WindowKind.MONTH, utc(2026, 3, 1), utc(2026, 4, 1)),
    ],
)
def test_windows_follow_the_calendar(kind: WindowKind, start: datetime, end: datetime) -> None:
    assert window_at(kind, ZoneInfo("UTC"), NOW) == Window(start, end)


def test_a_window_holds_its_first_instant_and_not_its_last() -> None:
    utc_zone = ZoneInfo("UTC")
    assert window_at(WindowKind.DAY, utc_zone, utc(2026, 3, 4)).start == utc(2026, 3, 4)
    assert window_at(WindowKind.DAY, utc_zone, utc(2026, 3, 5)).start == utc(2026, 3, 5)


@pytest.mark.parametrize(
    ("day", "hours"), [(utc(2026, 3, 29, 12), 23), (utc(2026, 10, 25, 12), 25), (utc(2026, 7, 1, 12), 24)]
)
def test_a_day_with_a_clock_change_has_23_or_25_hours(day: datetime, hours: int) -> None:
    window = window_at(WindowKind.DAY, ZoneInfo("Europe/Berlin"), day)
    assert window.end - window.start == timedelta(hours=hours)


def test_the_hour_that_a_clock_change_repeats_is_two_hours() -> None:
    zone = ZoneInfo("Europe/Berlin")
    first = window_at(WindowKind.HOUR, zone, utc(2026, 10, 25, 0, 30))
    second = window_at(WindowKind.HOUR, zone, utc(2026, 10, 25, 1, 30))
    assert first.end == second.start
    assert second.end - second.start == HOUR


def test_hours_of_a_zone_with_a_half_hour_offset_begin_at_half_past() -> None:
    window = window_at(WindowKind.HOUR, ZoneInfo("Asia/Kolkata"), NOW)
    assert window == Window(utc(2026, 3, 4, 8, 30), utc(2026, 3, 4, 9, 30))


def test_a_day_that_begins_in_a_skipped_hour_begins_with_the_clock_change() -> None:
    santiago = ZoneInfo("America/Santiago")
    window = window_at(WindowKind.DAY, santiago, utc(2026, 9, 6, 12))
    assert window == Window(utc(2026, 9, 6, 4), utc(2026, 9, 7, 3))


def test_a_midnight_that_comes_twice_begins_the_day_once() -> None:
    havana = ZoneInfo("America/Havana")
    first, second = utc(2026, 11, 1, 4, 30), utc(2026, 11, 1, 5, 30)
    day = Window(utc(2026, 11, 1, 4), utc(2026, 11, 2, 5))
    assert window_at(WindowKind.DAY, havana, first) == window_at(WindowKind.DAY, havana, second) == day


def test_a_clock_change_of_half_an_hour_leaves_no_instant_in_two_hours() -> None:
    lord_howe, change = ZoneInfo("Australia/Lord_Howe"), utc(2026, 4, 4, 15)
    before = window_at(WindowKind.HOUR, lord_howe, change - MINUTE)
    after = window_at(WindowKind.HOUR, lord_howe, change + MINUTE)
    assert before.end <= after.start


def test_after_a_clock_change_of_half_an_hour_the_days_last_hour_has_half_an_hour() -> None:
    lord_howe = ZoneInfo("Australia/Lord_Howe")
    last = window_at(WindowKind.HOUR, lord_howe, utc(2026, 4, 5, 13, 15))
    assert last == Window(utc(2026, 4, 5, 13), utc(2026, 4, 5, 13, 30))
    assert window_at(WindowKind.DAY, lord_howe, last.start).end == last.end


def test_a_span_touches_every_window_from_its_first_instant_to_its_last() -> None:
    days = list(windows_touching(WindowKind.DAY, ZoneInfo("UTC"), utc(2026, 3, 4, 23), utc(2026, 3, 6, 1)))
    assert [window.start.day for window in days] == [4, 5, 6]


def test_a_span_that_ends_with_a_window_does_not_touch_the_next() -> None:
    days = list(windows_touching(WindowKind.DAY, ZoneInfo("UTC"), utc(2026, 3, 4, 23), utc(2026, 3, 5)))
    assert [window.start.day for window in days] == [4]


def test_an_empty_span_touches_the_window_that_holds_it() -> None:
    assert len(list(windows_touching(WindowKind.HOUR, ZoneInfo("UTC"), NOW, NOW))) == 1


def test_overlap_is_what_lies_inside_and_never_negative() -> None:
    window = Window(NOW, NOW + HOUR)
    assert window.overlap(NOW - HOUR, NOW + MINUTE) == MINUTE
    assert window.overlap(NOW + HOUR, NOW + 2 * HOUR) == timedelta(0)
    assert window.overlap(NOW + 2 * HOUR, NOW + 3 * HOUR) == timedelta(0)
