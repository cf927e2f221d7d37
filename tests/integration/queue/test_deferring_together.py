"""Many deferrals in one go: each gets the answer that is its own."""

from __future__ import annotations

from collections import Counter

from queue_kit import a_broker, a_queue, deliveries, send, until

from dispatcher.embedded.broker.faults import Fault
from dispatcher.ports import Answer, DeadLetter, MessageState


async def test_a_lock_that_was_lost_among_many_is_a_conflict_and_the_others_are_deferred() -> None:
    async with a_broker() as broker, a_queue(broker.connection_string) as (queue, bell):
        await send(broker.connection_string, 60)
        got = await deliveries(queue, bell, 60)
        assert broker.faults.strike(Fault.REVOKE_LOCKS, queue="work", count=3) == 3
        answers = await queue.defer([each.lock_token for each in got])
        assert Counter(answers.values()) == {Answer.DONE: 57, Answer.CONFLICT: 3}
        lost = {each.message.sequence_number for each in got if answers[each.lock_token] is Answer.CONFLICT}
        again = await deliveries(queue, bell, 3)
        assert {each.message.sequence_number for each in again} == lost


async def test_deferrals_that_are_no_neighbours_go_together_too() -> None:
    async with a_broker() as broker, a_queue(broker.connection_string) as (queue, bell):
        await send(broker.connection_string, 40)
        got = await deliveries(queue, bell, 40)
        assert set((await queue.defer([each.lock_token for each in got[1::2]])).values()) == {Answer.DONE}
        letter = DeadLetter("bad", "for a test")
        letters = await queue.dead_letter({each.lock_token: letter for each in got[::4]})
        assert set(letters.values()) == {Answer.DONE}
        assert set((await queue.defer([each.lock_token for each in got[2::4]])).values()) == {Answer.DONE}
        places = await queue.look_up([each.message.sequence_number for each in got])
        assert Counter(places.values()) == {MessageState.DEFERRED: 30, None: 10}


async def test_answers_that_come_in_one_frame_reach_every_deferral() -> None:
    async with a_broker() as broker, a_queue(broker.connection_string) as (queue, bell):
        broker.faults.arm(Fault.COALESCE_DISPOSITIONS)
        await send(broker.connection_string, 100)
        got = await deliveries(queue, bell, 100)
        assert set((await queue.defer([each.lock_token for each in got])).values()) == {Answer.DONE}
        assert broker.faults.fired[Fault.COALESCE_DISPOSITIONS] >= 1


async def test_an_answer_that_was_lost_leaves_only_its_own_deferral_to_be_asked_for_again() -> None:
    async with a_broker() as broker, a_queue(broker.connection_string, operation_timeout_seconds=2) as (queue, bell):
        await send(broker.connection_string, 30)
        got = await deliveries(queue, bell, 30)
        broker.faults.arm(Fault.LOSE_SETTLEMENT_REPLY, times=1)
        answers = await queue.defer([each.lock_token for each in got])
        assert Counter(answers.values())[Answer.DONE] >= 29
        assert broker.faults.fired[Fault.LOSE_SETTLEMENT_REPLY] == 1
        numbers = [each.message.sequence_number for each in got]
        assert set((await queue.look_up(numbers)).values()) == {MessageState.DEFERRED}


async def test_after_a_connection_was_lost_among_deferrals_each_message_is_deferred_or_comes_again() -> None:
    async with a_broker() as broker, a_queue(broker.connection_string, operation_timeout_seconds=2) as (queue, bell):
        await send(broker.connection_string, 50)
        got = await deliveries(queue, bell, 50)
        broker.faults.arm(Fault.DELAY_SETTLEMENT_REPLY, value=0.5)
        deferring = queue.defer([each.lock_token for each in got])
        broker.faults.strike(Fault.RESET_CONNECTIONS)
        answers = await deferring
        broker.faults.disarm()
        await until(lambda: queue.health().last_error is None)
        numbers = {each.lock_token: each.message.sequence_number for each in got}
        places = await queue.look_up(list(numbers.values()))
        for token, answer in answers.items():
            if answer is Answer.DONE:
                assert places[numbers[token]] is MessageState.DEFERRED
            else:
                assert places[numbers[token]] in (MessageState.DEFERRED, MessageState.ACTIVE)
