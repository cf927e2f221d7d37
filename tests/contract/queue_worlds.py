"""The worlds that the WorkQueue contract is held against: each is a queue, and ways to reach it from outside.

To hold another implementation to the contract, write a world for it and name it in WORLDS.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from azure.servicebus import ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient

from dispatcher.embedded.broker import Broker, BrokerConfig, QueueConfig
from dispatcher.ports import DeadLetter, Delivery, WorkQueue
from dispatcher.queue import Producer, ServiceBusConfig, ServiceBusQueue

PATIENCE_SECONDS = 15.0


@dataclass
class User:
    """One user of the queue: the port, its bell, and how to take it out of the world."""

    queue: WorkQueue
    bell: asyncio.Event
    stop: Callable[[], object]

    async def deliveries(self, count: int) -> list[Delivery]:
        """Receives as the dispatcher does, whenever the bell rings, until so many have come."""
        got: list[Delivery] = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                self.bell.clear()
                got += await self.queue.receive(count - len(got))
                if len(got) >= count:
                    return got
                await self.bell.wait()

    async def deferred(self, count: int) -> list[int]:
        """Receives and defers so many messages; their sequence numbers."""
        got = await self.deliveries(count)
        answers = await self.queue.defer([each.lock_token for each in got])
        assert set(answers.values()) == {"done"}, answers
        return [each.message.sequence_number for each in got]


class World(Protocol):
    """A queue with messages locked for ``lock_duration``."""

    lock_duration: timedelta

    async def user(self) -> User:
        """Another user of the same queue, ready to receive."""
        ...

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Puts messages of (id, body) on the queue."""
        ...

    async def dead_letters(self) -> list[tuple[str, DeadLetter]]:
        """What is in the dead-letter queue: message id and what it carries."""
        ...


class ServiceBusWorld:
    """The real SDK against the embedded broker."""

    def __init__(self, broker: Broker, lock_duration: timedelta) -> None:
        self.broker = broker
        self.lock_duration = lock_duration
        self.users: list[ServiceBusQueue] = []

    def config(self) -> ServiceBusConfig:
        return ServiceBusConfig(
            queue="work", connection_string=lambda: self.broker.connection_string, lock_margin=self.lock_duration / 4
        )

    async def user(self) -> User:
        bell = asyncio.Event()
        queue = ServiceBusQueue(self.config(), on_news=bell.set)
        self.users.append(queue)
        await queue.start()
        return User(queue, bell, queue.stop)

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        async with Producer(self.config()) as producer:
            assert await producer.send(messages) == len(messages)

    async def dead_letters(self) -> list[tuple[str, DeadLetter]]:
        async with (
            ServiceBusClient.from_connection_string(self.broker.connection_string) as client,
            client.get_queue_receiver("work", sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver,
        ):
            return [
                (
                    str(each.message_id),
                    DeadLetter(each.dead_letter_reason or "", each.dead_letter_error_description or ""),
                )
                for each in await receiver.peek_messages(100)
            ]


@asynccontextmanager
async def service_bus(lock_duration: timedelta) -> AsyncIterator[World]:
    async with Broker(BrokerConfig(queues=(QueueConfig("work", lock_duration=lock_duration),))) as broker:
        world = ServiceBusWorld(broker, lock_duration)
        try:
            yield world
        finally:
            await asyncio.gather(*(each.stop() for each in world.users))


WORLDS: dict[str, Callable[[timedelta], AbstractAsyncContextManager[World]]] = {"service_bus": service_bus}
