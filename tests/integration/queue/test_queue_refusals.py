"""What an operator is told when the broker will not have us."""

import pytest
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.exceptions import ServiceBusError

from dispatcher.embedded.broker import Broker, BrokerConfig, QueueConfig
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
