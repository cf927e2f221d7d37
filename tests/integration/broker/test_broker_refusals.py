"""What the broker refuses, and what the SDK makes of it."""

from __future__ import annotations

import asyncio

import pytest
from azure.servicebus import ServiceBusClient as BlockingClient
from azure.servicebus import ServiceBusMessage, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.exceptions import (
    MessageSizeExceededError,
    MessagingEntityNotFoundError,
    ServiceBusAuthenticationError,
    ServiceBusError,
)
from broker_sdk import receive, receiver_of, send

from dispatcher.embedded.broker import Broker, BrokerConfig, BrokerError, QueueConfig


async def test_a_wrong_key_is_refused(broker: Broker) -> None:
    text = broker.connection_string.replace("SharedAccessKey=", "SharedAccessKey=not-")
    async with ServiceBusClient.from_connection_string(text, retry_total=0) as client:
        with pytest.raises(ServiceBusAuthenticationError):
            await client.get_queue_sender("jobs").__aenter__()


async def test_an_unknown_key_name_is_refused(broker: Broker) -> None:
    text = broker.connection_string.replace("SharedAccessKeyName=", "SharedAccessKeyName=Other")
    async with ServiceBusClient.from_connection_string(text, retry_total=0) as client:
        with pytest.raises(ServiceBusAuthenticationError):
            await client.get_queue_receiver("jobs").__aenter__()


async def test_an_unknown_queue_is_not_found(client: ServiceBusClient) -> None:
    with pytest.raises(MessagingEntityNotFoundError):
        await client.get_queue_sender("nowhere").__aenter__()
    with pytest.raises(MessagingEntityNotFoundError):
        await client.get_queue_receiver("nowhere").__aenter__()


async def test_an_unknown_queue_can_be_refused_as_the_real_service_does_it() -> None:
    config = BrokerConfig(queues=(QueueConfig("jobs"),), unknown_queue_refuses_token=True)
    async with (
        Broker(config) as broker,
        ServiceBusClient.from_connection_string(broker.connection_string, retry_total=0) as client,
    ):
        await send(client, "jobs", "one")
        with pytest.raises(ServiceBusAuthenticationError) as refusal:
            await client.get_queue_sender("nowhere").__aenter__()
        assert "Status code: 404" in str(refusal.value.inner_exception)
        assert "could not be found" in str(refusal.value.inner_exception)


async def test_queue_names_ignore_case(broker: Broker, client: ServiceBusClient) -> None:
    await send(client, "JOBS", "one")
    assert broker.counts("Jobs").active == 1


async def test_an_oversized_message_is_refused_and_the_link_goes_on(broker: Broker, client: ServiceBusClient) -> None:
    async with client.get_queue_sender("jobs") as sender:
        with pytest.raises(MessageSizeExceededError):
            await sender.send_messages(ServiceBusMessage("x" * 300_000))
        await sender.send_messages(ServiceBusMessage("small"))
    assert broker.counts("jobs").active == 1


async def test_nobody_sends_to_a_dead_letter_queue(client: ServiceBusClient) -> None:
    with pytest.raises(ServiceBusError):
        await client.get_queue_sender("jobs/$DeadLetterQueue").__aenter__()


async def test_a_dead_letter_queue_keeps_what_is_dead_lettered_again(client: ServiceBusClient) -> None:
    await send(client, "jobs", "one")
    async with receiver_of(client, "jobs") as receiver:
        (message,) = await receive(receiver, 1)
        await receiver.dead_letter_message(message, reason="first")
    async with receiver_of(client, "jobs", sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
        (dead,) = await receive(receiver, 1)
        await receiver.dead_letter_message(dead, reason="second")
        (again,) = await receive(receiver, 1)
        assert again.dead_letter_reason == "first"


async def test_large_messages_cross_small_frames_in_both_directions() -> None:
    config = BrokerConfig(queues=(QueueConfig("jobs", max_message_size=4_000_000),), max_frame_size=4096)
    body = bytes(range(256)) * 8000
    async with Broker(config) as broker:
        async with ServiceBusClient.from_connection_string(broker.connection_string) as client:
            async with client.get_queue_sender("jobs") as sender:
                await sender.send_messages(ServiceBusMessage(body))
            async with receiver_of(client, "jobs") as receiver:
                (message,) = await receive(receiver, 1)
                assert b"".join(message.body) == body
                await receiver.complete_message(message)
        assert broker.counts("jobs").locked == 0


async def test_a_taken_port_is_told_in_one_line(broker: Broker) -> None:
    second = Broker(BrokerConfig(queues=(QueueConfig("jobs"),), port=broker.port))
    with pytest.raises(BrokerError, match=f"cannot listen on 127.0.0.1:{broker.port}"):
        await second.start()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.1", "example.org", ""])
def test_only_loopback_is_listened_on(host: str) -> None:
    with pytest.raises(BrokerError, match="loopback"):
        BrokerConfig(queues=(QueueConfig("jobs"),), host=host)


def test_a_key_is_not_part_of_what_a_configuration_prints() -> None:
    config = BrokerConfig(queues=(QueueConfig("jobs"),), shared_access_keys={"name": "s3cret"})
    assert "s3cret" not in repr(config)


async def test_the_synchronous_sdk_is_served_as_well(broker: Broker) -> None:
    def round_trip() -> list[str]:
        with BlockingClient.from_connection_string(broker.connection_string) as client:
            with client.get_queue_sender("jobs") as sender:
                sender.send_messages([ServiceBusMessage(str(number)) for number in range(3)])
            with client.get_queue_receiver("jobs") as receiver:
                messages = receiver.receive_messages(3, max_wait_time=2)
                for message in messages:
                    receiver.complete_message(message)
                return [str(message) for message in messages]

    assert await asyncio.to_thread(round_trip) == ["0", "1", "2"]
    assert broker.counts("jobs").locked == 0
