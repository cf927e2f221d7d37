"""Peeking and scheduling, through the SDK."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from azure.servicebus import ServiceBusMessage, ServiceBusMessageState
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.exceptions import ServiceBusError
from broker_sdk import receive, receiver_of, send, until

from dispatcher.embedded.broker import Broker


async def test_a_peek_shows_messages_in_every_state_and_takes_none(broker: Broker, client: ServiceBusClient) -> None:
    await send(client, "jobs", "locked", "deferred", "active")
    async with client.get_queue_sender("jobs") as sender, receiver_of(client, "jobs") as receiver:
        await sender.schedule_messages(ServiceBusMessage("scheduled"), datetime.now(UTC) + timedelta(hours=1))
        _locked, deferred = await receive(receiver, 2)
        await receiver.defer_message(deferred)
        peeked = await receiver.peek_messages(10, sequence_number=1)
        assert [(str(message), message.state) for message in peeked] == [
            ("locked", ServiceBusMessageState.ACTIVE),
            ("deferred", ServiceBusMessageState.DEFERRED),
            ("active", ServiceBusMessageState.ACTIVE),
            ("scheduled", ServiceBusMessageState.SCHEDULED),
        ]
    counts = broker.counts("jobs")
    assert (counts.locked, counts.deferred, counts.active, counts.scheduled) == (1, 1, 1, 1)


async def test_a_peek_pages_until_it_returns_nothing(client: ServiceBusClient) -> None:
    await send(client, "jobs", *(f"m{number}" for number in range(600)))
    found: list[int] = []
    async with receiver_of(client, "jobs") as receiver:
        while page := await receiver.peek_messages(1000, sequence_number=found[-1] + 1 if found else 1):
            found += [message.sequence_number or 0 for message in page]
    assert found == list(range(1, 601))


async def test_a_scheduled_message_comes_when_it_is_due(broker: Broker, client: ServiceBusClient) -> None:
    due = datetime.now(UTC) + timedelta(seconds=1)
    async with client.get_queue_sender("jobs") as sender:
        (number,) = await sender.schedule_messages(ServiceBusMessage("later"), due)
        assert broker.counts("jobs").scheduled == 1
    async with receiver_of(client, "jobs") as receiver:
        (message,) = await receive(receiver, 1)
        assert str(message) == "later"
        assert message.enqueued_time_utc is not None
        assert message.enqueued_time_utc >= due - timedelta(milliseconds=1)
        assert (message.sequence_number or 0) > number


async def test_a_schedule_can_be_cancelled_once(broker: Broker, client: ServiceBusClient) -> None:
    async with client.get_queue_sender("jobs") as sender:
        numbers = await sender.schedule_messages(
            [ServiceBusMessage("a"), ServiceBusMessage("b")], datetime.now(UTC) + timedelta(hours=1)
        )
        await sender.cancel_scheduled_messages(numbers)
        assert broker.counts("jobs").scheduled == 0
        with pytest.raises(ServiceBusError):
            await sender.cancel_scheduled_messages(numbers)


async def test_a_message_sent_with_a_due_time_is_scheduled(broker: Broker, client: ServiceBusClient) -> None:
    due = datetime.now(UTC) + timedelta(seconds=0.5)
    async with client.get_queue_sender("jobs") as sender:
        await sender.send_messages(ServiceBusMessage("later", scheduled_enqueue_time_utc=due))
    await until(lambda: broker.counts("jobs").active == 1)
    assert datetime.now(UTC) >= due
