"""The real control plane, for those who run the dispatcher as in a cluster, and a broker on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest_asyncio

from dispatcher.embedded.broker import Broker, BrokerConfig, QueueConfig
from testbed.fixtures import control_plane
from tests.e2e.local_service import QUEUE

__all__ = ["broker", "control_plane"]


@pytest_asyncio.fixture
async def broker() -> AsyncIterator[Broker]:
    """A broker with one queue, whose locks last as long as the services of these tests think."""
    queue = QueueConfig(QUEUE, lock_duration=timedelta(seconds=10), max_delivery_count=100)
    async with Broker(BrokerConfig(queues=(queue,))) as made:
        yield made
