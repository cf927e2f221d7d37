"""What happens with time: duplicates within a window, messages that live or start late; also across a restart."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.servicebus import ServiceBusMessage, ServiceBusReceiveMode, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.exceptions import MessageNotFoundError, ServiceBusQuotaExceededError
from broker_sdk import receive, receiver_of, until

from dispatcher.embedded.broker import Broker, BrokerConfig, QueueConfig


def broker_of(journal: Path | None = None, **queue: Any) -> Broker:
    return Broker(BrokerConfig(queues=(QueueConfig("jobs", **queue),), journal_path=journal))


def connect(broker: Broker) -> ServiceBusClient:
    return ServiceBusClient.from_connection_string(broker.connection_string, retry_total=0)


def message(body: str, message_id: str | None = None, **more: Any) -> ServiceBusMessage:
    return ServiceBusMessage(body, message_id=message_id, **more)


async def send(client: ServiceBusClient, *messages: ServiceBusMessage) -> None:
    async with client.get_queue_sender("jobs", socket_timeout=0.02) as sender:
        await sender.send_messages(list(messages))


async def schedule(client: ServiceBusClient, delay: float, *messages: ServiceBusMessage) -> list[int]:
    async with client.get_queue_sender("jobs", socket_timeout=0.02) as sender:
        return list(await sender.schedule_messages(list(messages), datetime.now(UTC) + timedelta(seconds=delay)))


async def bodies(client: ServiceBusClient, count: int) -> list[str]:
    mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
    async with receiver_of(client, "jobs", receive_mode=mode) as receiver:
        return [str(found) for found in await receive(receiver, count)]


async def test_a_message_id_within_the_window_is_accepted_without_a_word_and_kept_once() -> None:
    async with broker_of(duplicate_detection_window=timedelta(minutes=1)) as broker, connect(broker) as client:
        await send(client, message("first", "a"), message("again in the same batch", "a"), message("other", "b"))
        await send(client, message("again later", "a"))
        await send(client, message("no id"), message("no id"))
        assert broker.counts("jobs").active == 4
        assert await bodies(client, 4) == ["first", "other", "no id", "no id"]
        await send(client, message("again, though it is gone", "a"))
        assert broker.counts("jobs").active == 0


async def test_copies_sent_by_a_sender_that_is_used_concurrently_are_kept_once() -> None:
    async with broker_of(duplicate_detection_window=timedelta(minutes=1)) as broker, connect(broker) as client:
        async with client.get_queue_sender("jobs") as sender:
            # The SDK sends many copies of each of these.
            await asyncio.gather(*(sender.send_messages(message(str(n), f"id-{n}")) for n in range(20)))
        assert broker.counts("jobs").active == 20


async def test_a_message_id_is_welcome_again_after_the_window() -> None:
    window = timedelta(seconds=1)
    async with (
        broker_of(duplicate_detection_window=window) as broker,
        connect(broker) as client,
        client.get_queue_sender("jobs", socket_timeout=0.02) as sender,
    ):
        await sender.send_messages(message("first", "a"))
        await sender.send_messages(message("second", "a"))
        assert broker.counts("jobs").active == 1
        await asyncio.sleep(window.total_seconds())
        await sender.send_messages(message("third", "a"))
        assert broker.counts("jobs").active == 2


async def test_the_window_survives_a_restart(tmp_path: Path) -> None:
    journal = tmp_path / "broker.db"
    window = timedelta(minutes=1)
    async with broker_of(journal, duplicate_detection_window=window) as broker, connect(broker) as client:
        await send(client, message("first", "a"))
        assert await bodies(client, 1) == ["first"]
    async with broker_of(journal, duplicate_detection_window=window) as broker, connect(broker) as client:
        await send(client, message("again", "a"), message("other", "b"))
        assert broker.counts("jobs").active == 1
        assert await bodies(client, 1) == ["other"]


async def test_a_refused_message_does_not_count_as_known(tmp_path: Path) -> None:
    journal = tmp_path / "broker.db"
    queue = QueueConfig("jobs", duplicate_detection_window=timedelta(minutes=1))
    config = BrokerConfig(queues=(queue,), journal_path=journal, journal_pages_max=40)
    async with Broker(config) as broker, connect(broker) as client:
        big = message("x" * 200_000, "a")
        async with client.get_queue_sender("jobs", socket_timeout=0.02) as sender:
            with pytest.raises(ServiceBusQuotaExceededError):
                await sender.send_messages(big)
            await sender.send_messages(message("small", "a"))
        assert await bodies(client, 1) == ["small"]


async def test_a_scheduled_copy_gets_the_number_of_the_first() -> None:
    async with broker_of(duplicate_detection_window=timedelta(minutes=1)) as broker, connect(broker) as client:
        first = await schedule(client, 3600, message("first", "a"))
        assert await schedule(client, 3600, message("copy", "a"), message("other", "b")) == [first[0], first[0] + 1]
        assert broker.counts("jobs").scheduled == 2


async def test_what_was_scheduled_before_a_restart_comes_when_it_is_due(tmp_path: Path) -> None:
    journal = tmp_path / "broker.db"
    due = datetime.now(UTC) + timedelta(seconds=4)
    hour = timedelta(hours=1)
    async with broker_of(journal) as broker, connect(broker) as client:
        async with client.get_queue_sender("jobs", socket_timeout=0.02) as sender:
            (soon,) = await sender.schedule_messages(message("soon"), due)
            cancelled, _later = await sender.schedule_messages([message("cancelled"), message("later")], due + hour)
            await sender.cancel_scheduled_messages(cancelled)
        assert broker.counts("jobs").scheduled == 2
    async with broker_of(journal) as broker, connect(broker) as client:
        async with receiver_of(client, "jobs") as receiver:
            (found,) = await receive(receiver, 1, within=10)
            assert datetime.now(UTC) >= due
            assert str(found) == "soon"
            assert (found.sequence_number or 0) > soon
        assert broker.counts("jobs").scheduled == 1


async def test_a_due_time_survives_a_restart_when_it_was_in_the_message_itself(tmp_path: Path) -> None:
    journal = tmp_path / "broker.db"
    due = datetime.now(UTC) + timedelta(seconds=2)
    async with broker_of(journal) as broker, connect(broker) as client:
        await send(client, message("later", scheduled_enqueue_time_utc=due))
    async with broker_of(journal) as broker, connect(broker) as client:
        assert await bodies(client, 1) == ["later"]
        assert datetime.now(UTC) >= due


@pytest.mark.parametrize("bury", [True, False])
async def test_what_outlives_its_time_is_dropped_or_buried_even_if_the_broker_was_not_there(
    tmp_path: Path, bury: bool
) -> None:
    journal = tmp_path / "broker.db"
    life = timedelta(seconds=3)
    async with broker_of(journal, dead_letter_expired=bury) as broker, connect(broker) as client:
        await send(client, message("short", time_to_live=life), message("long"))
        over = datetime.now(UTC) + life
    await asyncio.sleep(max(0.0, (over - datetime.now(UTC)).total_seconds()))
    async with broker_of(journal, dead_letter_expired=bury) as broker, connect(broker) as client:
        expected = (1, 1 if bury else 0)
        await until(lambda: (broker.counts("jobs").active, broker.counts("jobs").dead_lettered) == expected)
        assert await bodies(client, 1) == ["long"]
        if bury:
            async with receiver_of(client, "jobs", sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
                (dead,) = await receive(receiver, 1)
                assert dead.dead_letter_reason == "TTLExpiredException"


async def test_the_queue_shortens_a_life_and_never_prolongs_it() -> None:
    async with broker_of(time_to_live=timedelta(seconds=0.5)) as broker, connect(broker) as client:
        await send(client, message("own", time_to_live=timedelta(hours=1)), message("none"))
        await until(lambda: broker.counts("jobs").active == 0)


async def test_a_locked_message_outlives_its_time_and_expires_when_it_is_given_back() -> None:
    async with broker_of(dead_letter_expired=True) as broker, connect(broker) as client:
        async with receiver_of(client, "jobs") as receiver:
            life = timedelta(seconds=1)
            await send(client, message("held", time_to_live=life), message("given back", time_to_live=life))
            held, given_back = await receive(receiver, 2)
            await asyncio.sleep(1.1)
            await receiver.complete_message(held)
            await receiver.abandon_message(given_back)
        await until(lambda: broker.counts("jobs").dead_lettered == 1)
        counts = broker.counts("jobs")
        assert (counts.active, counts.locked) == (0, 0)


async def test_a_deferred_message_expires_when_it_is_touched_and_not_before(tmp_path: Path) -> None:
    journal = tmp_path / "broker.db"
    bury = {"dead_letter_expired": True}
    async with broker_of(journal, **bury) as broker, connect(broker) as client, receiver_of(client, "jobs") as receiver:
        await send(client, message("deferred", time_to_live=timedelta(seconds=2)))
        (found,) = await receive(receiver, 1)
        await receiver.defer_message(found)
        assert broker.counts("jobs").deferred == 1
    await asyncio.sleep(2)
    async with broker_of(journal, **bury) as broker, connect(broker) as client, receiver_of(client, "jobs") as receiver:
        assert [str(peeked) for peeked in await receiver.peek_messages(10, sequence_number=1)] == ["deferred"]
        assert broker.counts("jobs").deferred == 1
        with pytest.raises(MessageNotFoundError):
            await receiver.receive_deferred_messages([found.sequence_number])
        await until(lambda: broker.counts("jobs").dead_lettered == 1)
        assert broker.counts("jobs").deferred == 0


async def test_a_queue_that_is_full_refuses_until_there_is_room_again(tmp_path: Path) -> None:
    journal = tmp_path / "broker.db"
    async with broker_of(journal, max_size=25_000) as broker, connect(broker) as client:
        await send(client, message("x" * 10_000), message("x" * 10_000))
    async with broker_of(journal, max_size=25_000) as broker, connect(broker) as client:
        with pytest.raises(ServiceBusQuotaExceededError):
            await send(client, message("x" * 10_000))
        with pytest.raises(ServiceBusQuotaExceededError):
            await schedule(client, 60, message("x" * 10_000))
        await bodies(client, 1)
        await send(client, message("x" * 10_000))
        assert broker.counts("jobs").active == 2
