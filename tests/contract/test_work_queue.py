"""What every WorkQueue does. One suite, held against every world in `queue_worlds.WORLDS`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from queue_worlds import FETCHING_AHEAD, WORLDS, User, World

from dispatcher.ports import Answer, DeadLetter, MessageState

LETTER = DeadLetter(reason="bad_params", description="params.width: 0 is less than the minimum of 1")


def messages(count: int) -> list[tuple[str, bytes]]:
    return [(f"m-{n}", f'{{"n":{n}}}'.encode()) for n in range(count)]


@pytest.fixture(params=WORLDS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with WORLDS[request.param](timedelta(seconds=60)) as made:
        yield made


@pytest.fixture(params=WORLDS)
async def hasty(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A world whose locks end soon."""
    async with WORLDS[request.param](timedelta(seconds=2)) as made:
        yield made


@pytest.fixture(params=FETCHING_AHEAD)
async def fetching(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A world where messages can be under lock before anybody has called for them."""
    async with FETCHING_AHEAD[request.param](timedelta(seconds=60)) as made:
        yield made


# --- receiving ------------------------------------------------------------------------------------------------------


async def test_receive_answers_at_once_when_there_is_nothing(world: World) -> None:
    user = await world.user()
    before = time.perf_counter()
    for _ in range(10):
        assert list(await user.queue.receive(100)) == []
    assert time.perf_counter() - before < 0.1


async def test_a_message_is_delivered_with_what_it_was_sent_with(world: World) -> None:
    user = await world.user()
    await world.send([("first", b'{"task":"x"}')])
    (delivery,) = await user.deliveries(1)
    message = delivery.message
    assert (message.message_id, message.body, message.delivery_count) == ("first", b'{"task":"x"}', 0)
    assert message.sequence_number > 0
    assert abs(world.now() - message.enqueued_at) < timedelta(seconds=10)
    assert timedelta(0) < delivery.locked_until - world.now() <= world.lock_duration + timedelta(seconds=1)


async def test_receive_hands_over_no_more_than_asked_for_and_fetches_no_more_than_there_is_room_for(
    world: World,
) -> None:
    await world.send(messages(10))
    first, second = await world.user(), await world.user()
    got = await first.deliveries(4)
    assert len(got) == 4
    rest = await second.deliveries(6)
    numbers = [each.message.sequence_number for each in got + rest]
    assert len(set(numbers)) == 10


async def test_a_user_without_room_leaves_messages_to_others(world: World) -> None:
    first, second = await world.user(), await world.user()
    await first.queue.receive(100)
    await world.send(messages(1))
    await first.deliveries(1)
    await first.queue.receive(0)
    # A receiver on its way may take what comes now; one that has been without room for a while may not.
    await world.let_pass(timedelta(seconds=1))
    await world.send(messages(20))
    assert len(await second.deliveries(20)) == 20


async def test_two_users_never_hold_the_same_message(world: World) -> None:
    first, second = await world.user(), await world.user()
    await first.queue.receive(200)
    await second.queue.receive(200)
    await world.send(messages(200))
    seen: list[int] = []

    async def use_until_all_is_seen(user: User) -> None:
        while len(seen) < 200:
            got = await user.queue.receive(10)
            seen.extend(each.message.sequence_number for each in got)
            await user.queue.defer([each.lock_token for each in got])
            if not got:
                await user.news()

    async with asyncio.timeout(15):
        await asyncio.gather(use_until_all_is_seen(first), use_until_all_is_seen(second))
    assert len(seen) == len(set(seen)) == 200


async def test_stop_gives_buffered_messages_back_long_before_their_locks_end(fetching: World) -> None:
    first, second = await fetching.user(), await fetching.user()
    await fetching.send(messages(5))
    await first.queue.receive(5)
    async with asyncio.timeout(15):
        while not await first.news():
            continue
    before = time.perf_counter()
    await first.stop()
    assert len(await second.deliveries(5)) == 5
    assert time.perf_counter() - before < 5


async def test_who_asks_for_nothing_any_more_holds_nothing_back_from_others(fetching: World) -> None:
    first, second = await fetching.user(), await fetching.user()
    await fetching.send(messages(5))
    await first.queue.receive(100)
    async with asyncio.timeout(15):
        while not await first.news():
            continue
    await first.queue.receive(0)  # as a leader does that leads no more
    before = time.perf_counter()
    assert len(await second.deliveries(5)) == 5
    await fetching.send([(f"later-{n}", b"{}") for n in range(5)])
    assert len(await second.deliveries(5)) == 5
    assert time.perf_counter() - before < 15


# --- under lock -----------------------------------------------------------------------------------------------------


async def test_a_deferred_message_is_found_deferred_and_not_delivered_again(hasty: World) -> None:
    user = await hasty.user()
    await hasty.send(messages(3))
    numbers = await user.deferred(3)
    assert dict(await user.queue.look_up(numbers)) == dict.fromkeys(numbers, MessageState.DEFERRED)
    await user.queue.receive(10)
    await hasty.let_pass(hasty.lock_duration + timedelta(seconds=0.5))
    assert list(await user.queue.receive(10)) == []


async def test_an_abandoned_message_is_delivered_again_and_counted(world: World) -> None:
    user = await world.user()
    await world.send(messages(1))
    (delivery,) = await user.deliveries(1)
    await user.queue.abandon([delivery.lock_token])
    (again,) = await user.deliveries(1)
    assert again.message.sequence_number == delivery.message.sequence_number
    assert again.lock_token != delivery.lock_token
    assert again.message.delivery_count == 1


async def test_a_lost_lock_is_a_conflict_and_the_message_is_delivered_again(hasty: World) -> None:
    user = await hasty.user()
    await hasty.send(messages(2))
    first, second = await user.deliveries(2)
    await hasty.let_pass(hasty.lock_duration + timedelta(seconds=0.5))
    assert dict(await user.queue.defer([first.lock_token])) == {first.lock_token: Answer.CONFLICT}
    assert dict(await user.queue.dead_letter({second.lock_token: LETTER})) == {second.lock_token: Answer.CONFLICT}
    again = await user.deliveries(2)
    assert {each.message.sequence_number for each in again} == {
        first.message.sequence_number,
        second.message.sequence_number,
    }
    assert await hasty.dead_letters() == []


async def test_a_lock_that_nobody_holds_is_a_conflict(world: World) -> None:
    user = await world.user()
    await world.send(messages(1))
    (delivery,) = await user.deliveries(1)
    unknown = "00000000-0000-0000-0000-000000000000"
    answers = await user.queue.defer([unknown, delivery.lock_token])
    assert dict(answers) == {unknown: Answer.CONFLICT, delivery.lock_token: Answer.DONE}
    await user.queue.abandon([unknown, delivery.lock_token])
    assert dict(await user.queue.defer([delivery.lock_token])) == {delivery.lock_token: Answer.CONFLICT}


async def test_a_poison_message_is_found_in_the_dead_letter_queue_with_its_reason(world: World) -> None:
    user = await world.user()
    await world.send(messages(2))
    first, second = await user.deliveries(2)
    answers = await user.queue.dead_letter({first.lock_token: LETTER})
    assert dict(answers) == {first.lock_token: Answer.DONE}
    assert await world.dead_letters() == [(first.message.message_id, LETTER)]
    numbers = [first.message.sequence_number, second.message.sequence_number]
    assert dict(await user.queue.look_up(numbers)) == {numbers[0]: None, numbers[1]: MessageState.ACTIVE}


# --- by sequence number ---------------------------------------------------------------------------------------------


async def test_a_hundred_deferred_messages_are_removed_in_one_request(world: World) -> None:
    user = await world.user()
    await world.send(messages(150))
    numbers = await user.deferred(150)
    assert await user.queue.remove_deferred(numbers[:100]) == Answer.DONE
    states = await user.queue.look_up(numbers)
    assert [states[n] for n in numbers] == [None] * 100 + [MessageState.DEFERRED] * 50
    with pytest.raises(ValueError, match="at most 100"):
        await user.queue.remove_deferred(range(1, 102))
    assert await user.queue.remove_deferred([]) == Answer.DONE


async def test_one_missing_number_removes_none(world: World) -> None:
    user = await world.user()
    await world.send(messages(10))
    numbers = await user.deferred(9)
    assert await user.queue.remove_deferred([numbers[0]]) == Answer.DONE
    assert await user.queue.remove_deferred(numbers) == Answer.NOT_FOUND
    assert list((await user.queue.look_up(numbers)).values()) == [None] + [MessageState.DEFERRED] * 8
    active = (await user.queue.peek(max(numbers) + 1, 1))[0].message.sequence_number
    assert await user.queue.remove_deferred([numbers[1], active]) == Answer.NOT_FOUND
    assert await user.queue.remove_deferred(numbers[1:]) == Answer.DONE


async def test_removing_deferred_messages_touches_no_other_message(world: World) -> None:
    user = await world.user()
    await world.send(messages(3))
    numbers = await user.deferred(3)
    await user.queue.receive(0)
    await world.send(messages(20))
    for number in numbers:
        assert await user.queue.remove_deferred([number]) == Answer.DONE
    assert len(await user.deliveries(20)) == 20


async def test_a_deferred_message_is_dead_lettered_with_its_reason(world: World) -> None:
    user = await world.user()
    await world.send(messages(2))
    numbers = await user.deferred(2)
    assert await user.queue.dead_letter_deferred(numbers[0], LETTER) == Answer.DONE
    assert [letter for _, letter in await world.dead_letters()] == [LETTER]
    assert await user.queue.dead_letter_deferred(numbers[0], LETTER) == Answer.NOT_FOUND
    assert dict(await user.queue.look_up(numbers)) == {numbers[0]: None, numbers[1]: MessageState.DEFERRED}


async def test_look_up_tells_where_each_number_is_however_far_apart_they_are(world: World) -> None:
    user = await world.user()
    await world.send(messages(40))
    numbers = await user.deferred(30)
    await user.queue.receive(0)
    removed, deferred = numbers[5:25], numbers[:5] + numbers[25:]
    assert await user.queue.remove_deferred(removed) == Answer.DONE
    active = [each.message.sequence_number for each in await user.queue.peek(max(numbers) + 1, 100)]
    assert len(active) == 10
    never = [max(active) + 10**6, max(active) + 2 * 10**6]
    expected = {
        **dict.fromkeys(removed + never),
        **dict.fromkeys(deferred, MessageState.DEFERRED),
        **dict.fromkeys(active, MessageState.ACTIVE),
    }
    assert dict(await user.queue.look_up(list(expected))) == expected
    assert dict(await user.queue.look_up([])) == {}


async def test_a_message_under_lock_is_looked_up_as_active(world: World) -> None:
    user = await world.user()
    await world.send(messages(1))
    (delivery,) = await user.deliveries(1)
    number = delivery.message.sequence_number
    assert dict(await user.queue.look_up([number])) == {number: MessageState.ACTIVE}


async def test_peeking_on_until_nothing_comes_shows_every_message_once_and_in_order(world: World) -> None:
    user = await world.user()
    await world.send(messages(30))
    deferred = await user.deferred(10)
    await user.queue.receive(0)
    seen = []
    start = 0
    while page := await user.queue.peek(start, 7):
        assert len(page) <= 7
        seen += page
        start = page[-1].message.sequence_number + 1
    assert [each.message.sequence_number for each in seen] == sorted(each.message.sequence_number for each in seen)
    assert sorted(each.message.message_id for each in seen) == sorted(name for name, _ in messages(30))
    assert [each.message.sequence_number for each in seen if each.state == MessageState.DEFERRED] == sorted(deferred)
    assert list(await user.queue.peek(0, 0)) == []
