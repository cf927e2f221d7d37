"""Windows partition time, in every zone, whatever its clocks do."""

import itertools
from datetime import timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.windows import WindowKind, window_at, windows_touching
from tests.property import strategies as some

MICROSECOND = timedelta(microseconds=1)
LENGTHS = {
    WindowKind.HOUR: (timedelta(minutes=30), timedelta(hours=1)),
    WindowKind.DAY: (timedelta(hours=22), timedelta(hours=26)),
    WindowKind.WEEK: (timedelta(days=6), timedelta(days=8)),
    WindowKind.MONTH: (timedelta(days=27), timedelta(days=32)),
}


@given(st.data(), some.window_kinds, some.zones)
def test_every_instant_is_in_exactly_one_window(data: st.DataObject, kind: WindowKind, zone: ZoneInfo) -> None:
    instant = data.draw(some.instants_near_clock_changes(zone))
    window = window_at(kind, zone, instant)
    assert window.start <= instant < window.end
    offset = data.draw(st.integers(0, int((window.end - window.start) / MICROSECOND) - 1))
    assert window_at(kind, zone, window.start + offset * MICROSECOND) == window
    assert window_at(kind, zone, window.start) == window
    assert window_at(kind, zone, window.end - MICROSECOND) == window
    assert window_at(kind, zone, window.end).start == window.end


@given(st.data(), some.window_kinds, some.zones)
def test_windows_are_as_long_as_their_name_says_but_for_clock_changes(
    data: st.DataObject, kind: WindowKind, zone: ZoneInfo
) -> None:
    instant = data.draw(some.instants_near_clock_changes(zone))
    window = window_at(kind, zone, instant)
    shortest, longest = LENGTHS[kind]
    assert shortest <= window.end - window.start <= longest


@given(st.data(), some.zones, st.sampled_from([WindowKind.DAY, WindowKind.WEEK, WindowKind.MONTH]))
def test_days_weeks_and_months_begin_with_the_first_instant_of_a_local_date(
    data: st.DataObject, zone: ZoneInfo, kind: WindowKind
) -> None:
    start = window_at(kind, zone, data.draw(some.instants_near_clock_changes(zone))).start
    assert (start - MICROSECOND).astimezone(zone).date() < start.astimezone(zone).date()


@given(st.data(), some.window_kinds, some.zones, st.timedeltas(timedelta(0), timedelta(days=5)))
def test_the_windows_that_a_span_touches_cover_it_without_gap_or_overlap(
    data: st.DataObject, kind: WindowKind, zone: ZoneInfo, span: timedelta
) -> None:
    start = data.draw(some.instants_near_clock_changes(zone))
    end = start + span
    touched = list(windows_touching(kind, zone, start, end))
    assert sum((window.overlap(start, end) for window in touched), timedelta(0)) == span
    assert all(one.end == following.start for one, following in itertools.pairwise(touched))
    assert all(window.start < end or window.start <= start for window in touched)
