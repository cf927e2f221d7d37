"""Time that is left out is never more than has passed, and none where the kernel does not tell."""

from __future__ import annotations

import os
import time

import pytest

from tests.faults import fair_clock
from tests.faults.fair_clock import FairClock


def test_the_fair_clock_goes_on_and_never_faster_than_time() -> None:
    clock = FairClock(os.getpid())
    began, fair_before = clock.read()
    until = time.monotonic() + 0.2
    while time.monotonic() < until:
        pass
    ended, fair_after = clock.read()
    assert 0 < fair_after - fair_before <= ended - began


def test_the_time_that_was_kept_by_others_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = iter([(0.0, 0.0), (0.0, 0.0), (3.0, 2.0), (4.0, 9.0)])  # ours, theirs; before, after
    times = iter([100.0, 110.0])
    monkeypatch.setattr(fair_clock, "_spent", lambda path: fair_clock._Spent(*next(spent)))
    monkeypatch.setattr(fair_clock.time, "monotonic", lambda: next(times))
    clock = FairClock(1)
    # Of 10 s it ran for 3 and had no core for 2; for the 5 in which it waited the broker may have had none.
    assert clock.read() == (110.0, 3.0)


def test_where_nothing_is_told_all_time_counts() -> None:
    clock = FairClock(2**22 + 1)  # no such process
    clock._paths = (clock._paths[1], clock._paths[1])
    clock._ours = fair_clock._spent(clock._paths[0])
    began, fair_before = clock.read()
    ended, fair_after = clock.read()
    assert fair_after - fair_before == pytest.approx(ended - began)
