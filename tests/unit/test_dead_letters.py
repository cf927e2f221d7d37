"""Dead letters as people ask for them: what is known of each, and which are wanted."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.work import WorkItem
from dispatcher.dead_letters import Found, Letter, Selection, find, read
from dispatcher.dead_letters.acting import Result, replay
from dispatcher.errors import BadMessage
from dispatcher.ports import Answer, DeadLetter, Message
from dispatcher.queue.dead_letters import DeadMessage
from dispatcher.queue.moving import Became

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


async def looked_through(*shelves: Shelf, selection: Selection | None = None, **bounds: Any) -> Found:
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


few = st.sampled_from(["a", "b", "c"])
sets = st.frozensets(few, max_size=2)
ages = st.one_of(st.none(), st.timedeltas(timedelta(0), 4 * HOUR))
selections = st.builds(
    Selection,
    tasks=sets, tenants=sets, reasons=sets, older_than=ages, newer_than=ages, ids=sets,
    numbers=st.frozensets(st.integers(1, 3), max_size=2),
)  # fmt: skip
some_letters = st.builds(
    lambda **known: a_letter(**known),
    task=st.one_of(st.none(), few), tenant=st.one_of(st.none(), few), reason=few, message_id=few, original_id=few,
    sequence_number=st.integers(1, 3), enqueued_at=st.timedeltas(timedelta(0), 4 * HOUR).map(lambda age: NOON - age),
)  # fmt: skip


@given(selections, some_letters)
def test_a_selection_takes_what_each_of_its_parts_alone_would_take(selection: Selection, letter: Letter) -> None:
    parts = [
        Selection(tasks=selection.tasks), Selection(tenants=selection.tenants), Selection(reasons=selection.reasons),
        Selection(older_than=selection.older_than), Selection(newer_than=selection.newer_than),
        Selection(ids=selection.ids), Selection(numbers=selection.numbers),
    ]  # fmt: skip
    assert selection.takes(letter, NOON) == all(part.takes(letter, NOON) for part in parts)


@given(some_letters, sets, few)
def test_more_ids_take_more_and_a_replay_is_found_by_both_of_its_ids(
    letter: Letter, ids: frozenset[str], other: str
) -> None:
    assert Selection(ids=frozenset({letter.message_id})).takes(letter, NOON)
    assert Selection(ids=frozenset({letter.original_id})).takes(letter, NOON)
    if ids and Selection(ids=ids).takes(letter, NOON):
        assert Selection(ids=ids | {other}).takes(letter, NOON)


@given(selections)
def test_a_selection_restricts_unless_it_says_nothing(selection: Selection) -> None:
    assert selection.restricts == (selection != Selection())


def test_what_the_configuration_of_today_says_of_a_letter_is_known_where_it_is_asked() -> None:
    def reader(queue: str, message: Message) -> WorkItem:
        if b"acme" not in message.body:
            raise BadMessage("tenant_not_allowed", "no")
        return WorkItem(queue, 1, "m-1", "", "as-read", "acme", 0, "{}", NOON, NOON)

    taken, refused = (
        read("work", a_dead_message(body=body), None, reader) for body in (b'{"tenant":"acme"}', b'{"task":"report"}')
    )
    assert (taken.task, taken.tenant, taken.refused) == ("as-read", "acme", None)
    assert (refused.task, refused.refused) == ("report", "tenant_not_allowed")


# --- acting: whatever the broker does, each letter is told of once, and none is removed before its copy is sent -------


@dataclass(frozen=True)
class Held:
    """A letter under lock, without a broker."""

    dead: DeadMessage

    def copy(self, queue: str, now: datetime) -> tuple[str, int]:
        return f"copy-{self.dead.message.sequence_number}", self.dead.message.sequence_number


class Desk:
    """A dead-letter queue and the queue that copies go to, which answer as they are told."""

    name = "work"

    def __init__(self, there: set[int], removals: dict[int, Answer], unhappy: set[int], group: int) -> None:
        self.there, self.removals, self.unhappy, self.group = set(there), removals, unhappy, group
        self.acts: list[tuple[str, int]] = []

    async def take(self, numbers: Any, deferred: Any = (), *, at_once: int) -> AsyncGenerator[Any, None]:
        wanted = [number for number in (*deferred, *numbers) if number in self.there]
        for start in range(0, len(wanted), self.group):
            yield [Held(a_dead_message(number)) for number in wanted[start : start + self.group]]

    async def send(self, copy: Any) -> Answer:
        self.acts.append(("send", copy))
        return Answer.REFUSED if copy in self.unhappy else Answer.DONE

    async def remove(self, held: Any) -> Answer:
        number = held.dead.message.sequence_number
        self.acts.append(("remove", number))
        answer = self.removals.get(number, Answer.DONE)
        if answer in (Answer.DONE, Answer.UNKNOWN):  # of what gave no answer, every second has happened
            self.there -= {number} if answer is Answer.DONE or number % 2 else set()
        return answer

    def has_time(self, held: Any) -> bool:
        return bool(held.dead.message.sequence_number % 3)

    async def remaining(self, numbers: Sequence[int]) -> set[int]:
        return self.there & set(numbers)


@given(
    st.lists(st.integers(1, 15), unique=True, max_size=15),
    st.sets(st.integers(1, 15)),
    st.dictionaries(st.integers(1, 15), st.sampled_from([Answer.DONE, Answer.CONFLICT, Answer.UNKNOWN])),
    st.sets(st.integers(1, 15)),
    st.integers(1, 5),
    st.integers(0, 25),
)
async def test_each_letter_is_told_of_once_and_as_it_is(
    wanted: list[int], there: set[int], removals: dict[int, Answer], unhappy: set[int], group: int, patience: int
) -> None:
    desk = Desk(there, removals, unhappy, group)
    letters = [a_letter(sequence_number=number, deferred=number % 5 == 0) for number in wanted]
    results: list[Result] = []
    asked = iter([False] * patience + [True] * 100)
    await replay(
        desk, desk, letters, per_second=10, turn=nullcontext, now=lambda: NOON, tell=results.append,
        stopped=lambda: next(asked),
    )  # fmt: skip
    told = {result.letter.sequence_number: result.became for result in results}
    assert len(told) == len(results)
    if len([number for number in wanted if number in there]) <= patience:
        assert set(told) == set(wanted)
    for number, became in told.items():
        assert (number in desk.there) == (became in (Became.LOCKED, Became.TOO_LARGE, Became.NOT_REMOVED))
        assert (number in there) == (became is not Became.GONE)
        sent = ("send", number) in desk.acts and number not in unhappy
        assert sent == (became in (Became.REPLAYED, Became.NOT_REMOVED))
    for position, (act, number) in enumerate(desk.acts):
        if act == "remove":
            assert desk.acts[position - 1] == ("send", number)
            assert number not in unhappy
    assert all(number % 3 for _, number in desk.acts), "nothing is done under a lock that is nearly over"
    assert desk.there >= there - set(wanted)


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
