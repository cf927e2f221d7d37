"""The referee sees everything that can go wrong with an item."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.faults.referee import Evidence, judge

CLEAN = Evidence(
    sent=["a", "b", "c", "dead"],
    must_die=["dead"],
    ran={"a": 1, "b": 1, "c": 1, "dead": 1},
    entered=4,
    removed=3,
    buried=1,
    left=0,
    in_dead_letter_queue=["dead"],
    told_done=["a", "b", "c"],
    told_dead=["dead"],
)


def test_a_run_in_which_every_item_ended_once_is_clean() -> None:
    verdict = judge(CLEAN)
    assert (verdict.lost, verdict.duplicated, verdict.lines) == (0, 0, ())
    assert verdict.is_clean


@pytest.mark.parametrize(
    ("changes", "lost", "duplicated", "says"),
    [
        ({"ran": {"a": 1, "b": 1, "dead": 1}}, 1, 0, "1 never ran: c"),
        ({"left": 1, "removed": 2}, 1, 0, "1 messages are left, not 0"),
        ({"in_dead_letter_queue": []}, 1, 0, "1 failed and are not in the dead-letter queue: dead"),
        ({"in_dead_letter_queue": ["dead", "a"]}, 1, 1, "1 are in the dead-letter queue and had not failed: a"),
        ({"ran": {"a": 2, "b": 1, "c": 1, "dead": 1}}, 0, 1, "1 ran more than once: a"),
        ({"told_done": ["a", "b", "c", "c"]}, 0, 1, "1 were told done more than once: c"),
        ({"in_dead_letter_queue": ["dead", "dead"]}, 0, 1, "1 are in the dead-letter queue twice: dead"),
        ({"entered": 5}, 0, 0, "5 messages entered, not 4"),
        ({"removed": 4}, 0, 0, "4 messages were removed, not 3"),
        ({"buried": 2}, 0, 0, "2 messages were buried, not 1"),
        ({"told_dead": []}, 0, 0, "0 items were told dead-lettered, not 1"),
        ({"told_done": ["a", "b"]}, 0, 0, "2 items were told done, not 3"),
    ],
)
def test_whatever_differs_is_told(changes: dict, lost: int, duplicated: int, says: str) -> None:
    verdict = judge(replace(CLEAN, **changes))
    assert (verdict.lost, verdict.duplicated) == (lost, duplicated)
    assert says in verdict.lines
    assert not verdict.is_clean
