"""Throughput from counts, and when it was back."""

from __future__ import annotations

from itertools import pairwise

from tests.faults.rates import Sample, rates, recovery, steady_rate


def samples(*speeds: tuple[float, float], step: float = 0.25, fair: float = 1.0) -> list[Sample]:
    """Samples of a run with (seconds, items a second), one after another."""
    at, count, made = 0.0, 0.0, [Sample(0.0, 0.0, 0)]
    for seconds, speed in speeds:
        for _ in range(round(seconds / step)):
            at, count = at + step, count + speed * step
            made.append(Sample(at, at * fair, round(count)))
    return made


def test_a_steady_run_has_its_rate_in_every_window() -> None:
    found = rates(samples((10, 800)), 0, 10)
    assert {rate for _, rate in found} == {800}
    assert found[0][0] == 0
    assert found[-1][0] == 8  # the last window that lies within
    assert all(first < second for (first, _), (second, _) in pairwise(found))


def test_only_windows_between_the_two_moments_count() -> None:
    run = samples((4, 100), (4, 900))
    assert steady_rate(run, 0, 4) == 100
    assert steady_rate(run, 4, 8) == 900
    assert steady_rate(run, 7, 8) == 0  # too short for a window


def test_time_that_others_had_the_processor_for_is_left_out() -> None:
    assert steady_rate(samples((8, 200), fair=0.5), 0, 8) == 400


def test_a_rate_is_back_with_the_first_window_that_is_as_fast_as_before() -> None:
    run = samples((10, 1000), (5, 0), (10, 1000))
    back = recovery(run, 1000, 10)
    assert back.seconds == 5
    assert back.ratio == 1


def test_ninety_four_of_a_hundred_are_not_back_and_ninety_five_are() -> None:
    assert recovery(samples((4, 1000), (20, 940)), 1000, 4).seconds is None
    back = recovery(samples((4, 1000), (20, 952)), 1000, 4)
    assert back.seconds == 0
    assert back.ratio == 0.952


def test_what_stands_still_again_was_not_back() -> None:
    run = samples((4, 1000), (5, 0), (4, 1000), (6, 0), (8, 1000))
    assert recovery(run, 1000, 4).seconds == 15


def test_what_comes_back_too_late_is_not_back() -> None:
    run = samples((4, 1000), (31, 0), (8, 1000))
    assert recovery(run, 1000, 4, within_seconds=30).seconds is None
    assert recovery(run, 1000, 4, within_seconds=32).seconds == 31


def test_the_ratio_is_of_the_time_in_which_nothing_is_caught_up_with() -> None:
    run = samples((4, 1000), (2, 1000), (6, 500), (6, 1000))
    assert recovery(run, 1000, 4, full_at=12).ratio == 1
    assert recovery(run, 1000, 4).ratio < 1


def test_what_stood_still_before_cannot_recover() -> None:
    assert recovery(samples((4, 0), (4, 100)), 0, 4).seconds is None
    assert recovery([], 1000, 0).seconds is None
