"""What a running attempt can cost no more is given back, and not a second of what it still can."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from dispatcher.core.budgets import CLOCK_ERROR
from dispatcher.core.ledger import Draft, PodNote
from dispatcher.core.units import Money
from dispatcher.core.windows import WindowKind
from tests.builders import MINUTE, NOW, SECOND, a_budget, a_draft, a_shape, an_entry

RATE = Money.from_usd("0.0000146")
WEEK = a_budget("100", window=WindowKind.WEEK)
"""Far from its end, so that all seconds fall into one window."""
ERROR = CLOCK_ERROR // SECOND
DEADLINE, TAIL = 600, 120


def running(pods: int, **notes: PodNote) -> Draft:
    """A Job of so many pods at once, made a minute ago; these are noted."""
    entry = an_entry(shape=a_shape(pods), written=NOW - MINUTE)
    draft = a_draft(entry, budgets=(WEEK,))
    noted = replace(draft.entries[entry.name], pods=notes, noted=len(notes), may_come=pods - len(notes))
    draft._entries[entry.name] = noted
    return draft


def seconds_left(draft: Draft, finished: int) -> int:
    draft.lower("burst-b1-1", finished, NOW - MINUTE, NOW)
    (left,) = draft.entries["burst-b1-1"].reserved.values()
    assert left.picos % RATE.picos == 0
    return left.picos // RATE.picos


def ended(charged: bool) -> PodNote:
    return PodNote(NOW - 50 * SECOND, NOW - 10 * SECOND, charged=charged)


def test_what_has_ended_and_is_charged_holds_nothing_and_the_others_what_they_may_still_cost() -> None:
    draft = running(4, a=ended(True), b=ended(True), c=ended(True), d=PodNote(NOW - 50 * SECOND))
    # One pod runs: what it has billed, what is left until the deadline, and one tail; with the clocks' error each time.
    ahead = DEADLINE - (60 - ERROR)
    assert seconds_left(draft, 3) == (50 + 2 * ERROR) + ahead + TAIL


def test_what_has_ended_and_is_not_charged_holds_what_it_billed_and_its_tail() -> None:
    draft = running(4, a=ended(True), b=ended(True), c=ended(False), d=ended(False))
    assert seconds_left(draft, 4) == 2 * (40 + 2 * ERROR) + 2 * TAIL


def test_a_pod_that_was_never_seen_may_have_billed_all_the_time() -> None:
    draft = running(2, a=ended(True))
    ahead = DEADLINE - (60 - ERROR)
    unseen = 2 * (60 + ERROR) - 40
    assert seconds_left(draft, 1) == unseen + ahead + TAIL


def test_a_pod_that_came_and_vanished_unseen_keeps_what_it_may_have_cost_when_its_job_has_stopped() -> None:
    """Found by the simulator under stalled leaders: nobody watched, the Job ended, and nothing was left set aside."""
    draft = running(1)
    draft.no_more_pods("burst-b1-1")
    before = draft.entries["burst-b1-1"].reserved
    draft.lower("burst-b1-1", 0, NOW - timedelta(seconds=DEADLINE), NOW)
    (left,) = draft.entries["burst-b1-1"].reserved.values()
    assert left == min(RATE * (DEADLINE + TAIL), *before.values())


def test_a_job_that_has_only_just_begun_keeps_all() -> None:
    draft = running(2, a=PodNote(NOW - 50 * SECOND), b=PodNote(NOW - 50 * SECOND))
    assert seconds_left(draft, 0) == 2 * DEADLINE + 2 * TAIL


def test_small_change_is_left_where_it_is() -> None:
    notes = {f"p{number}": PodNote(NOW - 50 * SECOND) for number in range(20)}
    draft = running(20, **{**notes, "p0": ended(True)})
    before = draft.entries["burst-b1-1"].reserved
    draft.lower("burst-b1-1", 1, NOW - MINUTE, NOW)
    assert draft.entries["burst-b1-1"].reserved == before


def test_after_the_deadline_only_what_was_billed_and_tails_stay() -> None:
    draft = running(2, a=ended(True), b=ended(False))
    draft.lower("burst-b1-1", 2, NOW - timedelta(hours=1), NOW)
    (left,) = draft.entries["burst-b1-1"].reserved.values()
    assert left == RATE * (40 + 2 * ERROR + TAIL)


@pytest.mark.parametrize("window", [WindowKind.HOUR, WindowKind.DAY])
def test_in_a_window_only_its_own_seconds_stay(window: WindowKind) -> None:
    budget = a_budget("100", window=window)
    # 09:20 is 40 minutes from the hour's end: nothing of this Job reaches it, however it is split.
    entry = an_entry(shape=a_shape(4), written=NOW - MINUTE)
    draft = a_draft(entry, budgets=(budget,))
    notes = {"a": ended(True), "b": ended(True), "c": ended(True), "d": ended(False)}
    draft._entries[entry.name] = replace(draft.entries[entry.name], pods=notes, noted=4, may_come=0)
    assert seconds_left(draft, 4) == 40 + 2 * ERROR + TAIL
