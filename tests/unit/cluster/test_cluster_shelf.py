"""What a reflector keeps: only whole lists replace it, nothing old comes back, each change is told once."""

from __future__ import annotations

from typing import Any

from dispatcher.cluster.reflector import Shelf

Told = list[tuple[str, str | None, str | None]]


def thing(uid: str, version: int, value: str = "a") -> dict[str, Any]:
    return {"metadata": {"uid": uid, "resourceVersion": str(version)}, "value": value}


def shelf() -> tuple[Shelf[str], Told]:
    told: Told = []
    return Shelf(lambda raw: raw["value"] or None, lambda uid, before, after: told.append((uid, before, after))), told


def lists(kept: Shelf[str], *things: dict[str, Any]) -> None:
    kept.replace_all([kept.read(each) for each in things])


def test_a_list_replaces_everything_and_tells_the_difference() -> None:
    kept, told = shelf()
    lists(kept, thing("1", 1), thing("2", 1))
    told.clear()
    lists(kept, thing("2", 5, "b"), thing("3", 4))
    assert told == [("2", "a", "b"), ("3", None, "a"), ("1", "a", None)]
    assert sorted(kept.values()) == ["a", "b"]


def test_what_stays_the_same_is_not_told() -> None:
    kept, told = shelf()
    lists(kept, thing("1", 1))
    told.clear()
    kept.take("MODIFIED", thing("1", 2))
    lists(kept, thing("1", 3))
    assert told == []


def test_an_event_that_is_older_than_what_is_known_is_passed_over() -> None:
    kept, _ = shelf()
    lists(kept, thing("1", 10, "new"))
    kept.take("MODIFIED", thing("1", 9, "old"))
    assert kept.values() == ["new"]
    kept.take("MODIFIED", thing("1", 100, "newest"))
    assert kept.values() == ["newest"]


def test_what_was_deleted_does_not_come_back_with_a_late_event() -> None:
    kept, told = shelf()
    kept.take("ADDED", thing("1", 1))
    kept.take("DELETED", thing("1", 3))
    kept.take("MODIFIED", thing("1", 2))
    assert len(kept) == 0
    assert told == [("1", None, "a"), ("1", "a", None)]


def test_the_last_state_of_what_is_deleted_is_told_first() -> None:
    kept, told = shelf()
    kept.take("ADDED", thing("1", 1, "running"))
    told.clear()
    kept.take("DELETED", thing("1", 2, "succeeded"))
    assert told == [("1", "running", "succeeded"), ("1", "succeeded", None)]


def test_a_delete_of_something_unknown_is_no_news() -> None:
    kept, told = shelf()
    kept.take("DELETED", thing("1", 1))
    assert told == []


def test_what_is_none_of_ours_is_not_kept_and_goes_when_it_becomes_so() -> None:
    kept, told = shelf()
    kept.take("ADDED", thing("1", 1, ""))
    assert told == []
    kept.take("ADDED", thing("2", 2))
    kept.take("MODIFIED", thing("2", 3, ""))
    assert len(kept) == 0
    assert told == [("2", None, "a"), ("2", "a", None)]
