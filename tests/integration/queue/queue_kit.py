"""What the tests of the adapter share: a broker, a queue on it, and ways to wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from dispatcher.embedded.broker import Broker, BrokerConfig, QueueConfig
from dispatcher.ports import Answer, Delivery
from dispatcher.queue import Producer, ServiceBusConfig, ServiceBusQueue


@asynccontextmanager
async def a_broker(lock_seconds: float = 60) -> AsyncIterator[Broker]:
    queues = (QueueConfig("work", lock_duration=timedelta(seconds=lock_seconds), max_delivery_count=50),)
    async with Broker(BrokerConfig(queues=queues)) as broker:
        yield broker


@asynccontextmanager
async def a_queue(connection_string: str, **changes) -> AsyncIterator[tuple[ServiceBusQueue, asyncio.Event]]:
    changes = {"lock_margin": timedelta(seconds=1), **changes}
    bell = asyncio.Event()
    queue = ServiceBusQueue(
        ServiceBusConfig(queue="work", connection_string=lambda: connection_string, **changes), on_news=bell.set
    )
    await queue.start()
    try:
        yield queue, bell
    finally:
        await queue.stop()


async def send(connection_string: str, count: int) -> None:
    async with Producer(ServiceBusConfig(queue="work", connection_string=lambda: connection_string)) as producer:
        await producer.send([(f"m-{n}", b"{}") for n in range(count)])


async def deliveries(queue: ServiceBusQueue, bell: asyncio.Event, count: int, seconds: float = 20) -> list[Delivery]:
    got: list[Delivery] = []
    async with asyncio.timeout(seconds):
        while True:
            bell.clear()
            got += await queue.receive(count - len(got))
            if len(got) >= count:
                return got
            await bell.wait()


async def deferred(queue: ServiceBusQueue, bell: asyncio.Event, count: int) -> list[int]:
    got = await deliveries(queue, bell, count)
    answers = await queue.defer([each.lock_token for each in got])
    assert set(answers.values()) == {Answer.DONE}
    return [each.message.sequence_number for each in got]


async def until(condition, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.02)
