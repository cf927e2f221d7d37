"""What every Outcomes port does. One suite, held against every world in `outcome_worlds.WORLDS`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from outcome_worlds import ALL_QUEUES_AT_ONCE, OTHERS, REPLIES, WORLDS, World

from dispatcher.core.outcomes import Outcome, OutcomeKind
from dispatcher.core.units import Money
from dispatcher.core.work import Placement
from dispatcher.ports import Answer

NOW = datetime(2026, 3, 4, 9, 20, 0, 123456, tzinfo=UTC)


def an_outcome(number: int, reply_to: str = REPLIES, **changes: Any) -> Outcome:
    outcome = Outcome(
        reply_to=reply_to,
        kind=OutcomeKind.DONE,
        queue="work",
        sequence_number=number,
        message_id=f"m-{number}",
        task="report",
        tenant="acme",
        enqueued_at=NOW,
        ruled_at=NOW + timedelta(seconds=9),
        attempts=1,
        placement=Placement.VIRTUAL_NODE,
        started_at=NOW + timedelta(seconds=2),
        finished_at=NOW + timedelta(seconds=8),
        cost=Money.from_usd("0.0000146"),
        result_ref=f"store/m-{number}",
    )
    return replace(outcome, **changes)


@pytest.fixture(params=WORLDS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with WORLDS[request.param]() as made:
        yield made


async def test_nothing_is_answered_where_nothing_was_sent(world: World) -> None:
    assert list(await world.port.answers()) == []
    await world.port.send([])
    assert list(await world.port.answers()) == []


async def test_outcomes_are_on_the_queues_that_they_name_before_they_are_answered_done(world: World) -> None:
    ours = [an_outcome(number) for number in range(1, 13)]
    theirs = [an_outcome(number, OTHERS) for number in range(21, 24)]
    await world.port.send([*ours, *theirs])
    answers = await world.answers(15)
    assert {each.event_id for each in answers} == {outcome.event_id for outcome in (*ours, *theirs)}
    assert {each.answer for each in answers} == {Answer.DONE}
    assert list(await world.on_queue(REPLIES)) == ours
    assert list(await world.on_queue(OTHERS)) == theirs


async def test_each_is_answered_once(world: World) -> None:
    await world.port.send([an_outcome(1), an_outcome(2)])
    assert len(await world.answers(2)) == 2
    assert list(await world.port.answers()) == []


async def test_what_a_dead_letter_says_arrives_word_for_word(world: World) -> None:
    dead = an_outcome(
        1,
        kind=OutcomeKind.DEAD_LETTERED,
        placement=None,
        started_at=None,
        finished_at=None,
        cost=None,
        result_ref=None,
        reason="application",
        description="Gave up.\nEnd of the log:\n\N{SNOWMAN} 'quoted' \"twice\"\tand more",
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )
    poison = replace(dead, sequence_number=2, task=None, tenant=None, attempts=0, traceparent=None)
    await world.port.send([dead, poison])
    await world.answers(2)
    assert list(await world.on_queue(REPLIES)) == [dead, poison]


async def test_sending_again_is_another_telling_under_the_same_id(world: World) -> None:
    await world.port.send([an_outcome(1)])
    await world.answers(1)
    await world.port.send([an_outcome(1)])
    await world.answers(1)
    assert {outcome.event_id for outcome in await world.on_queue(REPLIES)} == {an_outcome(1).event_id}


async def test_a_queue_that_takes_none_refuses_all_and_says_why(world: World) -> None:
    await world.break_replies()
    before = time.perf_counter()
    await world.port.send([an_outcome(number) for number in range(1, 21)])
    assert time.perf_counter() - before < 0.5  # nobody waits for it
    answers = await world.answers(20)
    assert len(answers) == 20
    assert {each.answer for each in answers} == {Answer.REFUSED}
    assert all(each.text for each in answers)
    assert list(await world.on_queue(REPLIES)) == []


async def test_however_many_a_broken_queue_was_handed_each_is_answered_once(world: World) -> None:
    await world.break_replies()
    handed = [an_outcome(number) for number in range(1, 1201)]
    await world.port.send(handed)
    answers = list(await world.answers(1200))
    await world.mend_replies()
    await world.port.send([an_outcome(9000)])
    answers += await world.answers(1)
    assert sorted(each.event_id for each in answers) == sorted(
        outcome.event_id for outcome in (*handed, an_outcome(9000))
    )
    assert list(await world.on_queue(REPLIES)) == [an_outcome(9000)]


async def test_a_queue_that_was_mended_takes_what_is_sent_again(world: World) -> None:
    await world.break_replies()
    await world.port.send([an_outcome(1)])
    await world.answers(1)
    await world.mend_replies()
    await world.port.send([an_outcome(1)])
    assert [each.answer for each in await world.answers(1)] == [Answer.DONE]
    assert list(await world.on_queue(REPLIES)) == [an_outcome(1)]


@pytest.mark.parametrize("name", [name for name in WORLDS if name not in ALL_QUEUES_AT_ONCE])
async def test_a_queue_that_takes_none_holds_up_no_other(name: str) -> None:
    async with WORLDS[name]() as world:
        await world.break_replies()
        await world.port.send([*(an_outcome(number) for number in range(1, 6)), an_outcome(9, OTHERS)])
        answers = {each.event_id: each.answer for each in await world.answers(6)}
        assert answers[an_outcome(9, OTHERS).event_id] is Answer.DONE
        assert list(await world.on_queue(OTHERS)) == [an_outcome(9, OTHERS)]


@pytest.mark.parametrize("name", [name for name in WORLDS if name not in ALL_QUEUES_AT_ONCE])
async def test_a_queue_that_is_not_there_refuses_and_says_so(name: str) -> None:
    async with WORLDS[name]() as world:
        await world.port.send([an_outcome(1, "nowhere")])
        [answer] = await world.answers(1)
        assert answer.answer is Answer.REFUSED
        assert "there is no such queue" in answer.text
