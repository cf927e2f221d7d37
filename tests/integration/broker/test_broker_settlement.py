"""Sending, receiving and the four outcomes, through the SDK."""

from __future__ import annotations

import asyncio

import pytest
from azure.servicebus import (
    ServiceBusMessage,
    ServiceBusMessageState,
    ServiceBusReceiveMode,
    ServiceBusSubQueue,
)
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.exceptions import MessageLockLostError, MessageNotFoundError
from broker_sdk import receive, receiver_of, send, until

from dispatcher.embedded.broker import Broker


async def test_a_message_arrives_with_all_its_sender_gave_it(client: ServiceBusClient) -> None:
    sent = ServiceBusMessage(
        b"\x00body",
        message_id="id-1",
        correlation_id="c-1",
        subject="subject",
        content_type="application/json",
        to="to",
        reply_to="reply-to",
        partition_key="p",
        application_properties={"text": "t", "number": 7, "flag": True, "real": 1.5},
    )
    async with client.get_queue_sender("jobs") as sender:
        await sender.send_messages(sent)
    async with receiver_of(client, "jobs") as receiver:
        (got,) = await receive(receiver, 1)
        assert b"".join(got.body) == b"\x00body"
        assert (got.message_id, got.correlation_id, got.subject) == ("id-1", "c-1", "subject")
        assert (got.content_type, got.to, got.reply_to) == ("application/json", "to", "reply-to")
        assert got.partition_key == "p"
        assert got.application_properties == {b"text": b"t", b"number": 7, b"flag": True, b"real": 1.5}
        assert (got.sequence_number, got.delivery_count) == (1, 0)
        assert got.enqueued_time_utc is not None
        assert got.locked_until_utc is not None
        assert got.locked_until_utc > got.enqueued_time_utc
        assert got.raw_amqp_message.delivery_annotations[b"x-opt-lock-token"] == got.lock_token


async def test_a_batch_arrives_as_single_messages_in_order(broker: Broker, client: ServiceBusClient) -> None:
    bodies = [f"m{number}" for number in range(100)]
    await send(client, "jobs", *bodies)
    assert broker.counts("jobs").active == 100
    async with receiver_of(client, "jobs") as receiver:
        assert [str(message) for message in await receive(receiver, 100)] == bodies


async def test_completing_removes(broker: Broker, client: ServiceBusClient) -> None:
    await send(client, "jobs", "one")
    async with receiver_of(client, "jobs") as receiver:
        (message,) = await receive(receiver, 1)
        assert broker.counts("jobs").locked == 1
        await receiver.complete_message(message)
    counts = broker.counts("jobs")
    assert (counts.active, counts.locked) == (0, 0)


async def test_abandoning_brings_the_message_back_with_its_delivery_counted(client: ServiceBusClient) -> None:
    await send(client, "jobs", "one")
    async with receiver_of(client, "jobs") as receiver:
        (message,) = await receive(receiver, 1)
        await receiver.abandon_message(message)
        (again,) = await receive(receiver, 1)
        assert (again.sequence_number, again.delivery_count) == (message.sequence_number, 1)


async def test_dead_lettering_moves_the_message_with_its_reason(broker: Broker, client: ServiceBusClient) -> None:
    async with client.get_queue_sender("jobs") as sender:
        await sender.send_messages(ServiceBusMessage("bad", application_properties={"mine": "kept"}))
    async with receiver_of(client, "jobs") as receiver:
        (message,) = await receive(receiver, 1)
        await receiver.dead_letter_message(message, reason="unreadable", error_description="no such task")
    assert broker.counts("jobs").dead_lettered == 1
    async with receiver_of(client, "jobs", sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
        (dead,) = await receive(receiver, 1)
        assert str(dead) == "bad"
        assert (dead.dead_letter_reason, dead.dead_letter_error_description) == ("unreadable", "no such task")
        assert dead.application_properties[b"mine"] == b"kept"
        await receiver.complete_message(dead)
    assert broker.counts("jobs").dead_lettered == 0


async def test_a_lock_that_expires_brings_the_message_back_with_its_delivery_counted(
    broker: Broker, client: ServiceBusClient
) -> None:
    await send(client, "brief", "one")
    async with receiver_of(client, "brief") as receiver:
        (message,) = await receive(receiver, 1)
        await until(lambda: broker.counts("brief").active == 1)
        (again,) = await receive(receiver, 1)
        assert (again.sequence_number, again.delivery_count) == (message.sequence_number, 1)
        with pytest.raises(MessageLockLostError):
            await receiver.complete_message(message)
        await receiver.complete_message(again)


async def test_one_delivery_too_many_dead_letters(broker: Broker, client: ServiceBusClient) -> None:
    await send(client, "brief", "poison")
    async with receiver_of(client, "brief") as receiver:
        for _ in range(2):
            (message,) = await receive(receiver, 1)
            await receiver.abandon_message(message)
    assert broker.counts("brief").dead_lettered == 1
    async with receiver_of(client, "brief", sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
        (dead,) = await receive(receiver, 1)
        assert dead.dead_letter_reason == "MaxDeliveryCountExceeded"


async def test_renewing_keeps_the_lock_beyond_its_first_duration(broker: Broker, client: ServiceBusClient) -> None:
    await send(client, "brief", "one")
    async with receiver_of(client, "brief") as receiver:
        (message,) = await receive(receiver, 1)
        first = message.locked_until_utc
        await asyncio.sleep(0.6)
        renewed = await receiver.renew_message_lock(message)
        assert first is not None
        assert renewed > first
        await asyncio.sleep(0.6)
        await receiver.complete_message(message)
    counts = broker.counts("brief")
    assert (counts.active, counts.locked, counts.dead_lettered) == (0, 0, 0)


async def test_a_lost_lock_cannot_be_renewed(broker: Broker, client: ServiceBusClient) -> None:
    await send(client, "brief", "one")
    async with receiver_of(client, "brief") as receiver:
        (message,) = await receive(receiver, 1)
        await until(lambda: broker.counts("brief").active == 1)
        with pytest.raises(MessageLockLostError):
            await receiver._renew_locks(message.lock_token)


async def test_a_deferred_message_comes_by_number_only(broker: Broker, client: ServiceBusClient) -> None:
    await send(client, "jobs", "one", "two")
    async with receiver_of(client, "jobs") as receiver:
        first, second = await receive(receiver, 2)
        await receiver.defer_message(first)
        await receiver.complete_message(second)
        assert broker.counts("jobs").deferred == 1
        assert await receiver.receive_messages(1, max_wait_time=0.2) == []
        (again,) = await receiver.receive_deferred_messages([first.sequence_number])
        assert str(again) == "one"
        assert again.state is ServiceBusMessageState.DEFERRED
        await receiver.complete_message(again)
    assert broker.counts("jobs").deferred == 0


async def test_a_deferred_message_that_is_abandoned_stays_deferred(broker: Broker, client: ServiceBusClient) -> None:
    await send(client, "jobs", "one")
    async with receiver_of(client, "jobs") as receiver:
        (message,) = await receive(receiver, 1)
        await receiver.defer_message(message)
        (again,) = await receiver.receive_deferred_messages([message.sequence_number])
        await receiver.abandon_message(again)
        assert broker.counts("jobs").deferred == 1


async def test_deferred_messages_taken_in_receive_and_delete_are_settled(
    broker: Broker, client: ServiceBusClient
) -> None:
    await send(client, "jobs", *(f"m{number}" for number in range(20)))
    async with receiver_of(client, "jobs") as receiver:
        messages = await receive(receiver, 20)
        await asyncio.gather(*(receiver.defer_message(message) for message in messages))
    numbers = [message.sequence_number for message in messages]
    async with receiver_of(client, "jobs", receive_mode=ServiceBusReceiveMode.RECEIVE_AND_DELETE) as receiver:
        taken = await receiver.receive_deferred_messages(numbers)
        assert [str(message) for message in taken] == [f"m{number}" for number in range(20)]
    assert broker.counts("jobs").deferred == 0


@pytest.mark.parametrize("mode", list(ServiceBusReceiveMode))
async def test_one_missing_number_fails_the_request_and_removes_nothing(
    broker: Broker, client: ServiceBusClient, mode: ServiceBusReceiveMode
) -> None:
    await send(client, "jobs", "one", "two", "active")
    async with receiver_of(client, "jobs") as receiver:
        first, second = await receive(receiver, 2)
        await receiver.defer_message(first)
        await receiver.defer_message(second)
    numbers = [first.sequence_number, second.sequence_number]
    async with receiver_of(client, "jobs", receive_mode=mode) as receiver:
        for missing in (999, 3):
            with pytest.raises(MessageNotFoundError):
                await receiver.receive_deferred_messages([*numbers, missing])
        counts = broker.counts("jobs")
        assert (counts.deferred, counts.locked, counts.active) == (2, 0, 1)
        assert len(await receiver.receive_deferred_messages(numbers)) == 2


async def test_a_deferred_message_that_is_locked_is_not_found(client: ServiceBusClient) -> None:
    await send(client, "jobs", "one")
    async with receiver_of(client, "jobs") as receiver:
        (message,) = await receive(receiver, 1)
        await receiver.defer_message(message)
        await receiver.receive_deferred_messages([message.sequence_number])
        with pytest.raises(MessageNotFoundError):
            await receiver.receive_deferred_messages([message.sequence_number])


async def test_receive_and_delete_leaves_nothing_behind(broker: Broker, client: ServiceBusClient) -> None:
    await send(client, "jobs", "one", "two")
    async with receiver_of(client, "jobs", receive_mode=ServiceBusReceiveMode.RECEIVE_AND_DELETE) as receiver:
        assert [str(message) for message in await receive(receiver, 2)] == ["one", "two"]
    counts = broker.counts("jobs")
    assert (counts.active, counts.locked) == (0, 0)


async def test_a_lock_survives_its_link_and_is_settled_by_token(broker: Broker, client: ServiceBusClient) -> None:
    await send(client, "jobs", "one")
    receiver = receiver_of(client, "jobs")
    async with receiver:
        (message,) = await receive(receiver, 1)
        await receiver._handler._link.detach()
        await receiver.complete_message(message)
    counts = broker.counts("jobs")
    assert (counts.active, counts.locked) == (0, 0)


async def test_closing_a_receiver_gives_back_what_it_had_not_read(broker: Broker, client: ServiceBusClient) -> None:
    await send(client, "jobs", *(f"m{number}" for number in range(10)))
    async with receiver_of(client, "jobs", prefetch_count=20) as receiver:
        await receive(receiver, 1)
        await until(lambda: broker.counts("jobs").locked == 10)
    await until(lambda: broker.counts("jobs").active == 9)
    async with receiver_of(client, "jobs") as receiver:
        assert {message.delivery_count for message in await receive(receiver, 9)} == {0}


async def test_a_receiver_that_waits_gets_what_comes_later(client: ServiceBusClient) -> None:
    async with receiver_of(client, "jobs") as receiver:
        waiting = asyncio.create_task(receive(receiver, 1))
        await asyncio.sleep(0.1)
        await send(client, "jobs", "late")
        assert [str(message) for message in await waiting] == ["late"]


async def test_concurrent_consumers_get_disjoint_messages(broker: Broker, client: ServiceBusClient) -> None:
    await send(client, "jobs", *(f"m{number}" for number in range(300)))
    seen: list[str] = []

    async def consume() -> None:
        async with receiver_of(client, "jobs") as receiver:
            while messages := await receiver.receive_messages(20, max_wait_time=0.3):
                seen.extend(str(message) for message in messages)
                await asyncio.gather(*(receiver.complete_message(message) for message in messages))

    await asyncio.gather(*(consume() for _ in range(4)))
    assert len(seen) == 300
    assert set(seen) == {f"m{number}" for number in range(300)}
    assert broker.counts("jobs").active == 0
