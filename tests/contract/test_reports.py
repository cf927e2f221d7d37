"""What every Reports does. One suite, held against every world in `report_worlds.WORLDS`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from report_worlds import WORLDS, ReportWorld, port_of

from dispatcher.ports import Answer, DeadLetter


@pytest.fixture(params=WORLDS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[ReportWorld]:
    async with WORLDS[request.param](timedelta(seconds=60)) as made:
        yield made


@pytest.fixture(params=WORLDS)
async def hasty(request: pytest.FixtureRequest) -> AsyncIterator[ReportWorld]:
    """A world whose locks end soon."""
    async with WORLDS[request.param](timedelta(seconds=2)) as made:
        yield made


def reports(count: int) -> list[tuple[str, bytes]]:
    return [(f"r-{n}", f'{{"n":{n}}}'.encode()) for n in range(count)]


async def test_a_queue_that_nothing_was_sent_to_is_empty(world: ReportWorld) -> None:
    assert await port_of(await world.user()).oldest(()) is None


async def test_what_is_completed_is_gone(world: ReportWorld) -> None:
    user = await world.user()
    port = port_of(user)
    await world.send(reports(5))
    got = await user.deliveries(5)
    answers = await port.complete([each.lock_token for each in got])
    assert set(answers.values()) == {Answer.DONE}
    assert await port.oldest(()) is None


async def test_what_is_delivered_and_not_completed_still_counts(world: ReportWorld) -> None:
    user = await world.user()
    await world.send(reports(1))
    [got] = await user.deliveries(1)
    assert await port_of(user).oldest(()) == got.message.enqueued_at
    assert await port_of(await world.user()).oldest(()) == got.message.enqueued_at


async def test_the_oldest_is_told_besides_those_that_do_not_count(world: ReportWorld) -> None:
    user = await world.user()
    port = port_of(user)
    await world.send(reports(1))
    await world.let_pass(timedelta(milliseconds=50))
    await world.send([("later", b"{}")])
    first, second = sorted(await user.deliveries(2), key=lambda each: each.message.sequence_number)
    assert await port.oldest({first.message.sequence_number}) == second.message.enqueued_at
    assert await port.oldest({each.message.sequence_number for each in (first, second)}) is None


async def test_more_than_a_page_of_those_that_do_not_count_hides_nothing(world: ReportWorld) -> None:
    user = await world.user()
    await world.send(reports(120))
    got = sorted(await user.deliveries(120), key=lambda each: each.message.sequence_number)
    besides = {each.message.sequence_number for each in got[:-1]}
    assert await port_of(user).oldest(besides) == got[-1].message.enqueued_at


async def test_a_lock_that_was_lost_completes_nothing(hasty: ReportWorld) -> None:
    user = await hasty.user()
    port = port_of(user)
    await hasty.send(reports(1))
    [got] = await user.deliveries(1)
    await hasty.let_pass(hasty.lock_duration + timedelta(seconds=1))
    answers = await port.complete([got.lock_token])
    assert answers[got.lock_token] is not Answer.DONE
    [again] = await user.deliveries(1)
    assert again.message.sequence_number == got.message.sequence_number
    assert (await port.complete([again.lock_token]))[again.lock_token] is Answer.DONE


async def test_what_is_no_report_is_put_aside_with_its_reason(world: ReportWorld) -> None:
    user = await world.user()
    port = port_of(user)
    await world.send(reports(1))
    [got] = await user.deliveries(1)
    letter = DeadLetter("bad_report", "format: None; this version reads 1")
    assert (await port.dead_letter({got.lock_token: letter}))[got.lock_token] is Answer.DONE
    assert await world.dead_letters() == [("r-0", letter)]
    assert await port.oldest(()) is None
