"""A broker for each test, and the real SDK connected to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from azure.servicebus.aio import ServiceBusClient
from broker_sdk import close

from dispatcher.embedded.broker import Broker, BrokerConfig, QueueConfig


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    queues = (
        QueueConfig("jobs"),
        QueueConfig("brief", lock_duration=timedelta(seconds=1), max_delivery_count=2),
    )
    async with Broker(BrokerConfig(queues=queues)) as running:
        yield running


@pytest.fixture
async def client(broker: Broker) -> AsyncIterator[ServiceBusClient]:
    connected = ServiceBusClient.from_connection_string(broker.connection_string, retry_total=0)
    yield connected
    await close(connected)
