"""What an operator is told when the broker will not have us."""

import asyncio
from datetime import timedelta

import pytest
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.exceptions import ServiceBusError

from dispatcher.embedded.broker import Broker, BrokerConfig, QueueConfig
from dispatcher.queue import Producer, ServiceBusConfig, ServiceBusQueue
from dispatcher.queue.translate import refusal


@pytest.mark.parametrize("at_the_token", [True, False], ids=["as the real service", "as the protocol allows"])
async def test_a_queue_that_is_not_there_is_told_as_that_and_not_as_a_wrong_key(at_the_token: bool) -> None:
    config = BrokerConfig(queues=(QueueConfig("work"),), unknown_queue_refuses_token=at_the_token)
    async with (
        Broker(config) as broker,
        ServiceBusClient.from_connection_string(broker.connection_string, retry_total=0) as client,
    ):
        with pytest.raises(ServiceBusError) as refused:
            await client.get_queue_receiver("absent").__aenter__()
    told = refusal(refused.value)
    assert told is not None
    assert told.startswith("there is no such queue")


@pytest.mark.parametrize("partition", [0, 5])
async def test_a_running_adapter_notices_how_long_locks_last_and_partitions(partition: int) -> None:
    queues = (QueueConfig("work", lock_duration=timedelta(seconds=30)),)
    async with Broker(BrokerConfig(queues=queues)) as broker:
        broker._entities["work"].queue.last_sequence = partition << 48
        config = ServiceBusConfig(queue="work", connection_string=lambda: broker.connection_string)
        queue = ServiceBusQueue(config)
        await queue.start()
        assert (queue.health().lock_seen, queue.health().is_partitioned) == (None, False)
        async with Producer(config) as producer:
            await producer.send([("m-1", b"{}")])
        async with asyncio.timeout(30):
            while not await queue.receive(1):  # noqa: ASYNC110 - no bell was given
                await asyncio.sleep(0.02)
        health = queue.health()
        assert health.lock_seen is not None
        assert timedelta(seconds=25) < health.lock_seen <= timedelta(seconds=30)
        assert health.is_partitioned is (partition > 0)
        await queue.stop()
