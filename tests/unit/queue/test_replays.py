"""What a message that is sent anew carries: whatever stood there before, and however often it happens."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.units import Resources
from dispatcher.core.work import Task
from dispatcher.ports import Message
from dispatcher.queue import QueueRules, TaskTable, to_item
from dispatcher.queue.replays import (
    HISTORY_CHARS_MAX,
    carried_id,
    copy_id,
    history,
    original_enqueued_at,
    original_id,
    released_properties,
    replay_count,
    replayed_properties,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAMES = ("original_message_id", "original_enqueued_at", "replay_count", "replay_reason", "replay_history")

anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.binary(max_size=20), st.text(max_size=200),
    st.sampled_from(["[]", "{}", "[1]", '[{"reason":7}]', '[{"dead_letter":true}]', "[" * 5000, "null"]),
)  # fmt: skip


def a_message(number: int = 7, message_id: str = "order-17", **properties: Any) -> Message:
    return Message(number, message_id, b'{"task":"report","params":{}}', NOON, properties=properties)


def again(message: Message, reason: str, count: int) -> Message:
    """The dead letter that the copy of this one has become."""
    properties = {**message.properties, **replayed_properties(message, reason, NOON + timedelta(minutes=count))}
    return Message(
        message.sequence_number + 1, copy_id("replay", "work", message), message.body, NOON, properties=properties
    )


def test_the_first_replay_says_where_the_item_comes_from() -> None:
    properties = replayed_properties(a_message(), "bad_params", NOON)
    assert {name: properties[name] for name in NAMES[:4]} == {
        "original_message_id": "order-17", "original_enqueued_at": "2026-03-01T12:00:00.000000Z",
        "replay_count": 1, "replay_reason": "bad_params",
    }  # fmt: skip
    assert json.loads(str(properties["replay_history"])) == [
        {
            "reason": "bad_params",
            "dead_letter": 7,
            "message_id": "order-17",
            "replayed_at": "2026-03-01T12:00:00.000000Z",
        }
    ]


def test_one_entry_always_fits_and_can_be_sent() -> None:
    longest = a_message(message_id="\N{GRINNING FACE}" * 128)
    text = replayed_properties(longest, "\ud83d" * 500, NOON)["replay_history"]
    assert isinstance(text, str)
    assert len(text) <= HISTORY_CHARS_MAX
    assert len(text.encode()) < 8_192


def test_a_release_is_no_replay() -> None:
    assert set(released_properties(a_message())) == {"original_message_id", "original_enqueued_at"}


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=300), min_size=1, max_size=40))
def test_however_often_the_history_is_bounded_the_newest_stand_in_it_and_the_count_and_the_id_hold(
    reasons: list[str],
) -> None:
    message = a_message()
    for count, reason in enumerate(reasons):
        message = again(message, reason, count)
    assert len(message.properties["replay_history"]) <= HISTORY_CHARS_MAX
    assert (original_id(message), original_enqueued_at(message)) == ("order-17", "2026-03-01T12:00:00.000000Z")
    assert replay_count(message.properties) == len(reasons)
    kept = [each.reason for each in history(message.properties)]
    assert kept
    assert kept == [reason[:128] for reason in reasons[-len(kept) :]]


@given(st.dictionaries(st.sampled_from(NAMES), anything))
def test_what_another_program_wrote_under_these_names_keeps_nothing_from_being_replayed(found: dict[str, Any]) -> None:
    message = a_message(**found)
    properties = replayed_properties(message, "x", NOON)
    assert properties["replay_count"] >= 1  # type: ignore[operator]
    assert 0 < len(original_id(message)) <= 128
    assert json.loads(str(properties["replay_history"]))[-1]["reason"] == "x"
    assert len(json.dumps(properties)) < 5_000


@given(st.integers(1, 2**60), st.text(max_size=128), st.datetimes(timezones=st.just(UTC)), st.integers(1, 5))
def test_the_same_dead_letter_gives_the_same_copy_id_and_any_other_another(
    number: int, message_id: str, enqueued_at: datetime, other: int
) -> None:
    letter = Message(number, message_id, b"", enqueued_at)
    same = copy_id("replay", "work", letter)
    assert same == copy_id("replay", "WORK", Message(number, message_id, b"other", enqueued_at, delivery_count=9))
    assert len(same) <= 128
    others = [
        copy_id("replay", "work", Message(number + other, message_id, b"", enqueued_at)),
        copy_id("replay", "other", letter),
        copy_id("release", "work", letter),
        copy_id("replay", "work", Message(number, message_id + "x", b"", enqueued_at)),
    ]
    assert len({same, *others}) == 5


TABLE = TaskTable.of([Task("report", "img", ("x",), Resources(100, 1))])
RULES = QueueRules(tasks=frozenset({"report"}))


def test_the_item_of_a_copy_is_the_item_that_it_was() -> None:
    letter = a_message()
    copy = again(again(letter, "x", 1), "y", 2)
    first, second = (to_item(each, "work", TABLE, RULES, NOON) for each in (letter, copy))
    assert (second.message_id, second.digest) == (first.message_id, first.digest) == ("order-17", first.digest)
    assert second.sequence_number != first.sequence_number


@pytest.mark.parametrize("foreign", ["", 7, None, b"x", "x" * 129, True])
def test_an_original_id_that_is_none_does_not_count(foreign: Any) -> None:
    message = a_message(original_message_id=foreign)
    assert carried_id(message) is None
    assert to_item(message, "work", TABLE, RULES, NOON).message_id == "order-17"


def test_an_item_without_a_message_id_keeps_what_it_was_called_instead() -> None:
    attributes: dict[str, Any] = {
        "cloudEvents:specversion": "1.0",
        "cloudEvents:id": "e-1",
        "cloudEvents:type": "report",
        "cloudEvents:source": "/shop",
    }
    event = a_message(message_id="", **attributes)
    plain = a_message(message_id="")
    for letter in (plain, event):
        before = to_item(letter, "work", TABLE, RULES, NOON)
        after = to_item(again(letter, "x", 1), "work", TABLE, RULES, NOON)
        assert after.message_id == before.message_id == original_id(letter)
    assert original_id(event) == "e-1"
