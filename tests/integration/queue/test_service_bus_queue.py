"""The adapter when the broker, the wire or the key fails it: bounded answers, honest ones, and nothing lost."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from queue_kit import a_broker, a_queue, deferred, deliveries, send, until
from queue_wire import Wire, a_broker_process, a_wire, through

from dispatcher.embedded.broker import Broker, Fault
from dispatcher.errors import LookFailed, OutcomeUnknown
from dispatcher.ports import Answer, DeadLetter, MessageState
from dispatcher.queue import Producer, ServiceBusConfig, ServiceBusQueue, links

LETTER = DeadLetter("r", "d")


# --- timing ---------------------------------------------------------------------------------------------------------


async def test_a_waiting_receive_keeps_no_disposition_waiting() -> None:
    async with a_broker() as broker, a_queue(broker.connection_string) as (queue, bell):
        await send(broker.connection_string, 12)
        got = await deliveries(queue, bell, 12)
        await queue.receive(100)  # from here on a receive is always waiting
        await asyncio.sleep(0.2)
        waits = []
        for each in got[:-1]:  # one stays held
            before = time.perf_counter()
            assert set((await queue.defer([each.lock_token])).values()) == {Answer.DONE}
            waits.append(time.perf_counter() - before)
        assert sum(waits) / len(waits) < 0.1, waits


async def test_the_credit_of_a_receiver_without_room_is_taken_back() -> None:
    async with (
        a_broker() as broker,
        a_queue(broker.connection_string, pause_after_seconds=0.2) as (first, bell),
        a_queue(broker.connection_string) as (second, other_bell),
    ):
        await send(broker.connection_string, 1)
        await deliveries(first, bell, 1)
        await first.receive(50)
        await asyncio.sleep(0.3)  # a receive for 50 is out
        await first.receive(0)
        await asyncio.sleep(0.6)
        await send(broker.connection_string, 30)
        before = time.perf_counter()
        assert len(await deliveries(second, other_bell, 30)) == 30
        assert time.perf_counter() - before < 1.5
        assert first.health().buffered == 0


async def test_a_delivery_with_too_little_of_its_lock_left_is_given_back_and_not_handed_over() -> None:
    async with a_broker(lock_seconds=6) as broker:
        await send(broker.connection_string, 1)
        async with a_queue(broker.connection_string, lock_margin=timedelta(seconds=4)) as (queue, bell):
            await queue.receive(1)
            await until(lambda: queue.health().buffered == 1)
            await asyncio.sleep(2.5)
            (delivery,) = await deliveries(queue, bell, 1, seconds=3)
            assert delivery.message.delivery_count == 1
            assert delivery.locked_until - datetime.now(UTC) > timedelta(seconds=4)


async def test_calls_to_the_broker_are_paced() -> None:
    async with a_broker() as broker, a_queue(broker.connection_string, operations_per_second=40) as (queue, bell):
        await send(broker.connection_string, 60)
        got = await deliveries(queue, bell, 60)
        before = time.perf_counter()
        await queue.defer([each.lock_token for each in got])
        assert time.perf_counter() - before > 0.5


# --- silence --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def behind_a_wire(**changes) -> AsyncIterator[tuple[Broker, Wire, ServiceBusQueue, asyncio.Event]]:
    async with a_broker() as broker, a_wire(broker.port) as wire:
        changes = {
            "operation_timeout_seconds": 1.5,
            "look_timeout_seconds": 2.0,
            "close_timeout_seconds": 1.0,
            **changes,
        }
        async with a_queue(through(wire, broker.connection_string), **changes) as (queue, bell):
            yield broker, wire, queue, bell
            wire.speak()


async def test_without_an_answer_every_act_is_unknown_and_every_look_fails_in_bounded_time() -> None:
    async with behind_a_wire() as (broker, wire, queue, bell):
        await send(broker.connection_string, 8)
        numbers = await deferred(queue, bell, 4)
        held = await deliveries(queue, bell, 4)
        assert dict(await queue.look_up(numbers)) == dict.fromkeys(numbers, MessageState.DEFERRED)
        assert await queue.remove_deferred([numbers[3]]) == Answer.DONE
        wire.silence()
        before = time.perf_counter()
        results = await asyncio.gather(
            queue.remove_deferred(numbers[:2]),
            queue.dead_letter_deferred(numbers[2], LETTER),
            queue.defer([held[0].lock_token]),
            queue.dead_letter({held[1].lock_token: LETTER}),
            queue.look_up(numbers),
            queue.peek(1, 10),
            return_exceptions=True,
        )
        assert time.perf_counter() - before < 8
        assert results[0] == results[1] == Answer.UNKNOWN
        assert results[2] == {held[0].lock_token: Answer.UNKNOWN}
        assert results[3] == {held[1].lock_token: Answer.UNKNOWN}
        assert isinstance(results[4], LookFailed)
        assert isinstance(results[5], LookFailed)


async def test_what_was_unknown_is_found_out_by_looking_once_the_broker_answers_again() -> None:
    async with behind_a_wire() as (broker, wire, queue, bell):
        await send(broker.connection_string, 3)
        numbers = await deferred(queue, bell, 2)
        assert await queue.remove_deferred([numbers[1]]) == Answer.DONE  # the link is open
        wire.silence()
        assert await queue.remove_deferred([numbers[0]]) == Answer.UNKNOWN
        wire.speak()
        assert dict(await queue.look_up(numbers)) == dict.fromkeys(numbers)  # the request had arrived
        assert await queue.remove_deferred([numbers[0]]) == Answer.NOT_FOUND
        await deliveries(queue, bell, 1)


async def test_a_defer_that_got_no_answer_is_never_called_a_conflict_afterwards() -> None:
    async with behind_a_wire() as (broker, wire, queue, bell):
        await send(broker.connection_string, 1)
        (delivery,) = await deliveries(queue, bell, 1)
        wire.silence()
        token = delivery.lock_token
        assert dict(await queue.defer([token])) == {token: Answer.UNKNOWN}
        wire.speak()
        assert dict(await queue.defer([token])) == {token: Answer.UNKNOWN}
        number = delivery.message.sequence_number
        assert dict(await queue.look_up([number])) == {number: MessageState.DEFERRED}


# --- loss -----------------------------------------------------------------------------------------------------------


async def test_after_a_cut_wire_receiving_goes_on_and_held_messages_can_still_be_settled() -> None:
    async with behind_a_wire(operation_timeout_seconds=5.0, check_seconds=0.5) as (broker, wire, queue, bell):
        await send(broker.connection_string, 120)
        held = await deliveries(queue, bell, 100)
        wire.cut()
        await until(lambda: queue.health().receivers_rebuilt >= 1)
        answers = await queue.defer([each.lock_token for each in held])
        assert set(answers.values()) == {Answer.DONE}  # this broker keeps locks when a connection is lost
        assert len(await deliveries(queue, bell, 20)) == 20
        assert broker.counts("work").deferred == 100


async def test_a_wire_cut_among_many_dispositions_brings_no_storm_of_connections() -> None:
    async with behind_a_wire(operation_timeout_seconds=5.0) as (broker, wire, queue, bell):
        await send(broker.connection_string, 400)
        held = await deliveries(queue, bell, 400)
        before = wire.connections
        deferring = asyncio.create_task(queue.defer([each.lock_token for each in held]))
        await until(lambda: broker.counts("work").deferred > 20)
        wire.cut()
        answers = await deferring
        assert set(answers.values()) <= {Answer.DONE, Answer.UNKNOWN, Answer.CONFLICT}
        states = await queue.look_up([each.message.sequence_number for each in held])
        for each in held:
            if answers[each.lock_token] == Answer.DONE:
                assert states[each.message.sequence_number] == MessageState.DEFERRED
            if answers[each.lock_token] == Answer.CONFLICT:
                assert states[each.message.sequence_number] == MessageState.ACTIVE
        assert wire.connections - before <= 8


async def test_a_broker_that_is_killed_and_started_again_loses_nothing(tmp_path: Path) -> None:
    async with a_broker_process(tmp_path / "journal.db", lock_seconds=5) as broker:
        await send(broker.connection_string, 60)
        async with a_queue(broker.connection_string) as (queue, bell):
            numbers = await deferred(queue, bell, 20)
            held = await deliveries(queue, bell, 20)
            await queue.receive(1)
            await broker.kill()
            await until(lambda: queue.health().last_error is not None)
            assert await queue.remove_deferred(numbers) == Answer.UNKNOWN
            with pytest.raises(LookFailed):
                await queue.look_up(numbers)
            assert queue.health().alive
            await broker.start()
            await until(lambda: queue.health().last_error is None)
            assert dict(await queue.look_up(numbers)) == dict.fromkeys(numbers, MessageState.DEFERRED)
            assert await queue.remove_deferred(numbers) == Answer.DONE
            await queue.abandon([each.lock_token for each in held])
            again = await deferred(queue, bell, 40)
            assert {each.message.sequence_number for each in held} < set(again)
            assert not set(numbers) & set(again)
            assert await queue.remove_deferred(again) == Answer.DONE
            assert list(await queue.peek(1, 10)) == []


async def test_a_producer_whose_broker_is_gone_says_how_much_was_confirmed(tmp_path: Path) -> None:
    async with a_broker_process(tmp_path / "journal.db", lock_seconds=5) as broker:
        config = ServiceBusConfig(
            queue="work", connection_string=lambda: broker.connection_string, operation_timeout_seconds=2
        )
        async with Producer(config) as producer:
            assert await producer.send([("a", b"{}")]) == 1
            await broker.kill()
            with pytest.raises(OutcomeUnknown, match="0 of 1 messages were confirmed"):
                await producer.send([("b", b"{}")])
            await broker.start()
            assert await producer.send([("b", b"{}")]) == 1
            with pytest.raises(ValueError, match="larger than the queue takes"):
                await producer.send([("c", b"x" * 2_000_000)])


async def test_many_small_messages_travel_in_batches_that_the_broker_takes() -> None:
    async with a_broker() as broker:
        await send(broker.connection_string, 6000)
        assert broker.counts("work").active == 6000


async def test_an_idle_receiver_whose_connection_is_half_open_notices_and_receives_again() -> None:
    """A receive on such a connection comes back empty, as if the queue were empty."""
    async with (
        a_broker(lock_seconds=6) as broker,  # what was sent into the dead connection comes back then
        a_queue(broker.connection_string, check_seconds=0.5, operation_timeout_seconds=3.0) as (queue, bell),
    ):
        await queue.receive(10)
        await until(lambda: queue.health().last_receive_age_seconds is not None)
        assert broker.faults.strike(Fault.FREEZE_CONNECTIONS) == 1
        await until(lambda: queue.health().receivers_rebuilt >= 1)
        await send(broker.connection_string, 3)
        assert len(await deliveries(queue, bell, 3)) == 3
        assert queue.health().last_error is None


async def test_when_one_connection_is_found_dead_the_others_are_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        a_broker(lock_seconds=6) as broker,
        a_queue(broker.connection_string, check_seconds=60.0, operation_timeout_seconds=3.0) as (queue, bell),
    ):
        await send(broker.connection_string, 2)
        numbers = await deferred(queue, bell, 2)
        assert dict(await queue.look_up(numbers)) == dict.fromkeys(numbers, MessageState.DEFERRED)
        assert await queue.remove_deferred(numbers[:1]) == Answer.DONE
        broker.faults.strike(Fault.FREEZE_CONNECTIONS)
        assert await queue.remove_deferred(numbers[1:]) == Answer.UNKNOWN  # it took its time to notice
        silenced: list[float] = []
        bounded = links.bounded

        async def watched(work, seconds: float):
            try:
                return await bounded(work, seconds)
            except TimeoutError:
                silenced.append(seconds)
                raise

        monkeypatch.setattr(links, "bounded", watched)
        assert dict(await queue.look_up(numbers)) == {numbers[0]: None, numbers[1]: MessageState.DEFERRED}
        assert silenced == []
        assert await queue.remove_deferred(numbers[1:]) == Answer.DONE


async def test_a_receiver_without_room_whose_connection_is_half_open_notices_too() -> None:
    async with (
        a_broker(lock_seconds=6) as broker,  # what was sent into the dead connection comes back then
        a_queue(broker.connection_string, check_seconds=0.5, operation_timeout_seconds=3.0) as (queue, bell),
    ):
        await send(broker.connection_string, 1)
        await deliveries(queue, bell, 1)
        broker.faults.strike(Fault.FREEZE_CONNECTIONS)
        await until(lambda: queue.health().receivers_rebuilt >= 1)


async def test_a_broker_that_says_nothing_at_all_makes_the_adapter_not_alive_until_it_speaks_again() -> None:
    """Every connection is frozen, new ones too: calls of the SDK hang, and only the watchdog's time tells."""
    async with (
        a_broker(lock_seconds=6) as broker,  # what was sent into the dead connection comes back then
        a_queue(broker.connection_string, check_seconds=0.5, operation_timeout_seconds=2.0, watchdog_seconds=5.0) as (
            queue,
            bell,
        ),
    ):
        await queue.receive(10)
        await until(lambda: queue.health().last_receive_age_seconds is not None)
        async with asyncio.timeout(40):
            while queue.health().alive or not queue.health().clients_rebuilt:
                broker.faults.strike(Fault.FREEZE_CONNECTIONS)
                await asyncio.sleep(0.02)
        assert queue.health().faults == (f"nothing is received any more ({queue.health().last_error})",)
        await until(lambda: queue.health().alive)
        await send(broker.connection_string, 3)
        assert len(await deliveries(queue, bell, 3)) == 3
        assert queue.health().faults == ()


async def test_a_closed_port_and_a_refusal_are_plain_and_leave_the_adapter_alive() -> None:
    async with a_broker() as broker:
        connection_string = broker.connection_string
        broker.faults.arm(Fault.DENY_TOKENS)
        async with a_queue(connection_string, watchdog_seconds=4.0, operation_timeout_seconds=3.0) as (queue, _):
            await until(lambda: queue.health().refused is not None)
            await asyncio.sleep(4.5)  # longer than the watchdog's time
            assert queue.health().alive
            assert len(queue.health().faults) == 1
    async with a_queue(connection_string, watchdog_seconds=4.0, operation_timeout_seconds=3.0) as (queue, _):
        await until(lambda: queue.health().last_error is not None)
        await asyncio.sleep(4.5)
        assert queue.health().alive


# --- refusal --------------------------------------------------------------------------------------------------------


async def test_a_wrong_key_is_told_in_health_and_tried_again_slowly() -> None:
    async with a_broker() as broker:
        wrong = re.sub(r"SharedAccessKey=[^;]+", "SharedAccessKey=d3Jvbmc=", broker.connection_string)
        keys = [wrong]
        config = ServiceBusConfig(
            queue="work", connection_string=lambda: keys[-1], backoff_min_seconds=0.05, operation_timeout_seconds=3
        )
        queue = ServiceBusQueue(config)
        await queue.start()
        try:
            await until(lambda: queue.health().refused is not None)
            health = queue.health()
            assert health.refused is not None
            assert "the key or token was not accepted" in health.refused
            assert "d3Jvbmc" not in repr(health)
            assert health.alive
            with pytest.raises(LookFailed, match="the key or token was not accepted"):
                await queue.peek(1, 1)
            keys.append(broker.connection_string)
            await until(lambda: queue.health().last_receive_age_seconds is not None and queue.health().refused is None)
        finally:
            await queue.stop()


async def test_a_missing_queue_is_told_in_health() -> None:
    async with a_broker() as broker:
        queue = ServiceBusQueue(ServiceBusConfig(queue="nowhere", connection_string=lambda: broker.connection_string))
        await queue.start()
        try:
            await until(lambda: queue.health().refused is not None)
            assert "there is no such queue" in str(queue.health().refused)
            assert await queue.remove_deferred([1]) == Answer.REFUSED
        finally:
            await queue.stop()


# --- wear -----------------------------------------------------------------------------------------------------------


async def test_a_management_link_is_replaced_before_its_credit_runs_out() -> None:
    async with a_broker() as broker, a_queue(broker.connection_string, link_uses_max=5) as (queue, bell):
        await send(broker.connection_string, 12)
        numbers = await deferred(queue, bell, 12)
        for number in numbers:
            assert await queue.remove_deferred([number]) == Answer.DONE
        assert queue.health().receivers_rebuilt == 2


async def test_a_pump_that_hangs_is_left_behind_and_receiving_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_broker() as broker, a_queue(broker.connection_string, watchdog_seconds=1.5) as (queue, bell):
        await send(broker.connection_string, 3)
        held = await deliveries(queue, bell, 1)

        async def hang(*_) -> None:
            while True:
                try:
                    await asyncio.sleep(30)
                except asyncio.CancelledError:
                    if asyncio.get_running_loop().is_closed():
                        raise
                    monkeypatch.undo()
                    raise

        monkeypatch.setattr(queue._pump, "_receive", hang)
        await queue.receive(2)
        await until(lambda: not queue.health().alive)
        await until(lambda: queue.health().alive)
        assert len(await deliveries(queue, bell, 2)) == 2
        answers = await queue.defer([held[0].lock_token])
        assert set(answers.values()) == {Answer.DONE}
