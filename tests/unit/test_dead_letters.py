"""Dead letters as people ask for them: what is known of each, and which are wanted."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.dead_letters import Found, Letter, Selection, find, read
from dispatcher.ports import DeadLetter, Message
from dispatcher.queue.dead_letters import DeadMessage

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def a_dead_message(
    number: int = 1, body: bytes = b'{"task":"report","tenant":"acme"}', reason: str = ""
) -> DeadMessage:
    return DeadMessage(Message(number, f"m-{number}", body, NOON), DeadLetter(reason, ""))


def a_letter(**changes: Any) -> Letter:
    known = {
        "queue": "work", "sequence_number": 7, "message_id": "m-7", "task": "report", "tenant": "acme",
        "reason": "application_error", "description": "Gave up.\nCause: x", "enqueued_at": NOON, "delivery_count": 2,
    }  # fmt: skip
    return Letter(**{**known, **changes})


class Shelf:
    """The dead letters of one queue, so many on a page; counts the pages that were asked for."""

    def __init__(self, letters: Sequence[DeadMessage], name: str = "work", page: int = 10) -> None:
        self.name = name
        self.asked = 0
        self._pages = [letters[start : start + page] for start in range(0, len(letters), page)]

    async def pages(self) -> AsyncIterator[Sequence[DeadMessage]]:
        for page in self._pages:
            self.asked += 1
            yield page


async def looked_through(*shelves: Shelf, selection: Selection | None = None, **bounds: int) -> Found:
    queues = [(shelf, None) for shelf in shelves]
    return await find(queues, selection or Selection(), NOON, **{"limit": 1000, **bounds})


def numbers(found: Found) -> list[int]:
    return [letter.sequence_number for letter in found.letters]


# --- what is known --------------------------------------------------------------------------------------------------


def test_task_and_tenant_are_read_from_the_body() -> None:
    letter = read("work", a_dead_message(reason="unknown_task"))
    assert (letter.task, letter.tenant, letter.reason) == ("report", "acme", "unknown_task")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"hello", b"\xff\xfe", b"[]", b"7", b"null", b"{}", b'{"task":7,"tenant":["x"]}', b'{"task":""}',
        b"[" * 100_000, b'{"task":"report","pad":"' + b"x" * 300_000 + b'"}', b"1" * 10_000,
    ],
)  # fmt: skip
def test_a_body_that_is_not_ours_names_no_task_and_no_tenant(body: bytes) -> None:
    letter = read("work", a_dead_message(body=body), "acme")
    assert (letter.task, letter.tenant, letter.message_id) == (None, None, "m-1")


def test_an_item_without_a_tenant_belongs_to_the_only_one_of_its_queue() -> None:
    assert read("work", a_dead_message(body=b'{"task":"report"}'), "acme").tenant == "acme"
    assert read("work", a_dead_message(body=b'{"task":"report"}'), None).tenant is None
    assert read("work", a_dead_message(body=b'{"task":"report","tenant":7}'), "acme").tenant is None


@given(st.binary(max_size=60))
def test_no_body_keeps_a_dead_letter_from_being_shown(body: bytes) -> None:
    assert read("work", a_dead_message(body=body)).sequence_number == 1


def test_the_age_counts_from_when_it_was_sent_and_is_never_negative() -> None:
    assert a_letter().age(NOON + HOUR) == HOUR
    assert a_letter().age(NOON - HOUR) == timedelta(0)


def test_as_json_a_letter_carries_everything_and_is_plain() -> None:
    content = json.loads(json.dumps(a_letter(task=None).to_json(NOON + HOUR)))
    assert content == {
        "queue": "work", "sequence_number": 7, "message_id": "m-7", "original_message_id": "m-7", "task": None,
        "tenant": "acme", "reason": "application_error", "description": "Gave up.\nCause: x",
        "enqueued_at": "2026-03-01T12:00:00.000000Z", "age_seconds": 3600.0, "delivery_count": 2, "replays": 0,
    }  # fmt: skip


# --- which are wanted -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        (Selection(), True),
        (Selection(tasks=frozenset({"report"})), True),
        (Selection(tasks=frozenset({"thumbnail", "report"})), True),
        (Selection(tasks=frozenset({"thumbnail"})), False),
        (Selection(tenants=frozenset({"globex"})), False),
        (Selection(reasons=frozenset({"application_error"})), True),
        (Selection(reasons=frozenset({"application"})), False),
        (Selection(tasks=frozenset({"report"}), tenants=frozenset({"globex"})), False),
        (Selection(older_than=2 * HOUR), False),
        (Selection(older_than=HOUR / 2), True),
        (Selection(newer_than=2 * HOUR), True),
        (Selection(newer_than=HOUR / 2), False),
        (Selection(older_than=HOUR / 2, newer_than=2 * HOUR), True),
    ],
)
def test_a_letter_is_taken_where_everything_that_was_asked_for_holds(selection: Selection, taken: bool) -> None:
    assert selection.takes(a_letter(), NOON + HOUR) is taken


def test_a_letter_that_names_no_task_is_of_no_task_that_is_asked_for() -> None:
    assert not Selection(tasks=frozenset({"report"})).takes(a_letter(task=None), NOON)


@given(st.timedeltas(timedelta(0), 4 * HOUR), st.timedeltas(timedelta(0), 4 * HOUR))
def test_a_letter_is_never_both_older_and_newer_than_an_age(age: timedelta, bound: timedelta) -> None:
    older, newer = Selection(older_than=bound), Selection(newer_than=bound)
    taken = [each.takes(a_letter(), NOON + age) for each in (older, newer)]
    assert taken.count(True) == (0 if age == bound else 1)


# --- how much is looked at ------------------------------------------------------------------------------------------


async def test_every_page_of_every_queue_is_looked_at() -> None:
    shelves = [Shelf([a_dead_message(n) for n in range(1, 26)]), Shelf([a_dead_message(5)], name="other")]
    found = await looked_through(*shelves)
    assert numbers(found) == [*range(1, 26), 5]
    assert [letter.queue for letter in found.letters][-2:] == ["work", "other"]
    assert (found.looked_at, found.cut) == (26, None)


async def test_a_limit_that_is_just_reached_cuts_nothing() -> None:
    found = await looked_through(Shelf([a_dead_message(n) for n in range(1, 26)]), limit=25)
    assert (len(found.letters), found.cut) == (25, None)


async def test_what_lies_beyond_the_limit_is_told_and_its_pages_are_not_asked_for() -> None:
    shelf = Shelf([a_dead_message(n) for n in range(1, 100)])
    found = await looked_through(shelf, limit=3)
    assert numbers(found) == [1, 2, 3]
    assert found.cut == "there are more than 3; --limit shows more of them"
    assert shelf.asked == 1


async def test_letters_that_are_not_wanted_do_not_count_against_the_limit() -> None:
    letters = [a_dead_message(n, reason="rare" if n % 20 == 0 else "often") for n in range(1, 61)]
    found = await looked_through(Shelf(letters), selection=Selection(reasons=frozenset({"rare"})), limit=3)
    assert (numbers(found), found.cut) == ([20, 40, 60], None)


async def test_a_queue_without_end_is_left_after_so_many_messages_and_that_is_told() -> None:
    shelf = Shelf([a_dead_message(n) for n in range(1, 100)])
    found = await looked_through(shelf, selection=Selection(tasks=frozenset({"x"})), looked_at_max=30)
    assert (found.letters, found.looked_at) == ([], 30)
    assert found.cut is not None
    assert "only 30 were looked at" in found.cut
