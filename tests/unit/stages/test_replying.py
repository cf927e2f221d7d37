"""When an outcome is handed over, handed over again, and given up; and that nothing else waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from dispatcher.core.attempts import Attempt
from dispatcher.core.ledger import Draft
from dispatcher.core.outcomes import WAIT_MAX, Outcome, OutcomeKind, ReplyLine
from dispatcher.core.records import Ruling, RulingKind, RunSeen
from dispatcher.core.work import Placement
from dispatcher.errors import BadMessage
from dispatcher.memory import Memory, Tallies
from dispatcher.ports import Answer, Message, OutcomeAnswer, Ports
from dispatcher.stages.replying import PROBE_MAX, UNDER_WAY_MAX, owe_for_poison, reply
from tests.builders import MINUTE, NOW, SECOND, a_ledger, a_policy, a_record, a_task, an_attempt, an_entry, items

POLICY = a_policy(a_task(result_ref="store/{id}"), reply_hold_max=10 * MINUTE)
DONE = Ruling(RulingKind.DONE, run=RunSeen(NOW, NOW - SECOND, NOW, placement=Placement.NODE_POOL))


class World:
    """A clock that is moved by hand, reply queues that answer as they are told, and what was said of it."""

    def __init__(self) -> None:
        self.at = NOW
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.handed: list[list[Outcome]] = []
        self.answer: dict[str, Answer] = {}
        self._answers: list[OutcomeAnswer] = []

    def now(self) -> datetime:
        return self.at

    def emit(self, event: str, **facts: Any) -> None:
        self.events.append((event, facts))

    async def send(self, outcomes: Sequence[Outcome]) -> None:
        self.handed.append(list(outcomes))
        for outcome in outcomes:
            answer = self.answer.get(outcome.reply_to, Answer.DONE)
            self._answers.append(OutcomeAnswer(outcome.event_id, answer, "full"))

    async def answers(self) -> Sequence[OutcomeAnswer]:
        answers, self._answers = self._answers, []
        return answers

    def names(self) -> list[str]:
        return [event for event, _ in self.events]


def ports_of(world: World) -> Ports:
    nothing: Any = None
    outcomes: Any = world
    return Ports({}, nothing, nothing, nothing, world, nothing, world, nothing, outcomes)


def a_settled_attempt(count: int = 1, reply_to: str | None = "outcomes", first: int = 1) -> Attempt:
    record = a_record(
        count,
        items=tuple(items(count, first, reply_to=reply_to)),
        rulings=dict.fromkeys(range(count), DONE),
        batch=f"b{first}",
    )
    return an_attempt(record, settled=set(range(count)))


def memory_of(*attempts: Attempt) -> Memory:
    ledger = a_ledger(an_entry())
    memory = Memory(ledger, "1", Draft(ledger, (), timedelta(0)), NOW)
    memory.attempts = {attempt.name: attempt for attempt in attempts}
    memory.dirty = set(memory.attempts)
    return memory


async def test_an_item_whose_sender_asked_is_told_once_and_its_attempt_is_over() -> None:
    attempt, world, tallies = a_settled_attempt(), World(), Tallies()
    memory = memory_of(attempt)
    assert not attempt.over
    await reply(memory, ports_of(world), POLICY, tallies)
    await reply(memory, ports_of(world), POLICY, tallies)
    [[outcome]] = world.handed
    assert (outcome.kind, outcome.message_id, outcome.result_ref) == (OutcomeKind.DONE, "message-1", "store/message-1")
    assert (outcome.placement, outcome.finished_at) == (Placement.NODE_POOL, NOW)
    assert world.names() == ["outcome.sent"]
    assert attempt.over
    assert (tallies.replied, memory.owed) == (1, {})


async def test_nobody_is_told_who_did_not_ask() -> None:
    attempt, world = a_settled_attempt(reply_to=None), World()
    assert attempt.over
    await reply(memory_of(attempt), ports_of(world), POLICY, Tallies())
    assert world.handed == []


async def test_what_is_not_settled_yet_is_not_told() -> None:
    attempt, world = a_settled_attempt(2), World()
    attempt.settled = {1}
    await reply(memory_of(attempt), ports_of(world), POLICY, Tallies())
    assert [[outcome.message_id for outcome in handed] for handed in world.handed] == [["message-2"]]


@pytest.mark.parametrize("answer", [Answer.REFUSED, Answer.UNKNOWN])
async def test_what_was_not_taken_is_handed_over_again_after_a_growing_pause(answer: Answer) -> None:
    attempt, world = a_settled_attempt(), World()
    memory, ports = memory_of(attempt), ports_of(world)
    world.answer["outcomes"] = answer
    times = []
    while world.at < NOW + 5 * MINUTE:
        before = len(world.handed)
        await reply(memory, ports, POLICY, Tallies())
        if len(world.handed) > before:
            times.append(world.at)
        world.at += SECOND
    gaps = [(later - earlier) // SECOND for earlier, later in pairwise(times)]
    assert gaps[:6] == [1, 2, 4, 8, 16, 32]
    assert set(gaps[6:]) == {WAIT_MAX // SECOND}
    assert not attempt.over
    world.answer.clear()
    world.at += WAIT_MAX
    await reply(memory, ports, POLICY, Tallies())
    assert attempt.over
    assert {outcome.event_id for handed in world.handed for outcome in handed} == {world.handed[0][0].event_id}


async def test_after_so_long_an_outcome_is_given_up_told_and_counted() -> None:
    attempt, world, tallies = a_settled_attempt(), World(), Tallies()
    memory, ports = memory_of(attempt), ports_of(world)
    world.answer["outcomes"] = Answer.REFUSED
    while not attempt.over:
        await reply(memory, ports, POLICY, tallies)
        world.at += SECOND
    assert 10 * MINUTE <= world.at - NOW <= 10 * MINUTE + 2 * SECOND
    [(event, facts)] = world.events
    assert event == "outcome.given_up"
    assert (facts["item"], facts["reply_to"], facts["error"]) == ("message-1", "outcomes", "full")
    assert tallies.replies_given_up == 1


async def test_a_queue_that_was_given_up_gets_one_try_for_each_outcome_until_it_takes_one() -> None:
    world, tallies = World(), Tallies()
    memory, ports = memory_of(a_settled_attempt()), ports_of(world)
    memory.reply_lines["outcomes"] = ReplyLine(5, NOW, given_up=True)
    world.answer["outcomes"] = Answer.REFUSED
    await reply(memory, ports, POLICY, tallies)
    assert tallies.replies_given_up == 1
    world.answer.clear()
    later = a_settled_attempt(first=2)
    memory.attempts[later.name] = later
    memory.dirty = {later.name}
    world.at += WAIT_MAX
    await reply(memory, ports, POLICY, tallies)
    assert tallies.replied == 1
    assert memory.reply_lines["outcomes"] == ReplyLine()


async def test_why_a_queue_takes_none_is_remembered_until_it_does() -> None:
    attempt, world = a_settled_attempt(), World()
    memory = memory_of(attempt)
    world.answer["outcomes"] = Answer.REFUSED
    await reply(memory, ports_of(world), POLICY, Tallies())
    assert memory.reply_lines["outcomes"] == ReplyLine(1, NOW + SECOND, why="full")


async def test_a_queue_that_takes_none_holds_up_no_other() -> None:
    good, bad, world = a_settled_attempt(first=1), a_settled_attempt(first=2, reply_to="broken"), World()
    world.answer["broken"] = Answer.REFUSED
    await reply(memory_of(good, bad), ports_of(world), POLICY, Tallies())
    assert good.over
    assert not bad.over


async def test_no_more_is_under_way_than_is_allowed_and_less_while_a_queue_fails() -> None:
    attempt, world = a_settled_attempt(UNDER_WAY_MAX + 50), World()
    memory, ports = memory_of(attempt), ports_of(world)
    world.answer["outcomes"] = Answer.REFUSED
    await reply(memory, ports, POLICY, Tallies())
    world.at += WAIT_MAX
    await reply(memory, ports, POLICY, Tallies())
    assert [len(handed) for handed in world.handed] == [UNDER_WAY_MAX, PROBE_MAX]
    world.answer.clear()
    for _ in range(3):
        world.at += WAIT_MAX
        await reply(memory, ports, POLICY, Tallies())
    assert attempt.over


async def test_an_answer_that_nobody_waits_for_changes_nothing() -> None:
    attempt, world = a_settled_attempt(), World()
    await world.send([Outcome("outcomes", OutcomeKind.DONE, "work", 99, "m", None, None, NOW, NOW, 1)])
    world.handed.clear()
    memory = memory_of(attempt)
    await reply(memory, ports_of(world), POLICY, Tallies())
    assert attempt.over


async def test_poison_is_told_where_its_sender_can_be_told() -> None:
    world, memory = World(), memory_of()
    message = Message(7, "m-7", b"{}", NOW)
    owe_for_poison(memory, "work", message, BadMessage("bad_params", "width is no number"), NOW)
    assert memory.owed == {}
    owe_for_poison(memory, "work", message, BadMessage("bad_params", "width is no number", "outcomes"), NOW)
    await reply(memory, ports_of(world), POLICY, Tallies())
    [[outcome]] = world.handed
    assert (outcome.kind, outcome.reason, outcome.task) == (OutcomeKind.DEAD_LETTERED, "bad_params", None)
    assert (outcome.attempts, outcome.placement) == (0, None)
    assert memory.owed == {}
