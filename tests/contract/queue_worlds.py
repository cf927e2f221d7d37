"""The worlds that the WorkQueue contract is held against: each is a queue, and ways to reach it from outside.

To hold another implementation to the contract, write a world for it and name it in WORLDS.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

from azure.servicebus import ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient
from simulated import Surroundings

from dispatcher.embedded.broker import Broker, BrokerConfig, QueueConfig
from dispatcher.ports import DeadLetter, Delivery, WorkQueue
from dispatcher.queue import Producer, ServiceBusConfig, ServiceBusQueue
from dispatcher.simulator.clock import HostClock
from dispatcher.simulator.queue import Broker as SimulatedBroker
from dispatcher.simulator.queue import QueuePort

PATIENCE = timedelta(seconds=15)


@dataclass
class User:
    """One user of the queue: the port, how it waits, and how to take it out of the world."""

    world: World
    queue: WorkQueue
    news: Callable[[], Awaitable[bool]]
    """Waits until the bell rings, for a moment at most; whether it may have."""
    stop: Callable[[], Awaitable[None]]

    async def deliveries(self, count: int) -> list[Delivery]:
        """Receives as the dispatcher does, again at all news, until so many have come."""
        got: list[Delivery] = []
        last = self.world.now() + PATIENCE
        while True:
            got += await self.queue.receive(count - len(got))
            if len(got) >= count:
                return got
            assert self.world.now() < last, f"only {len(got)} of {count} messages have come"
            await self.news()

    async def deferred(self, count: int) -> list[int]:
        """Receives and defers so many messages; their sequence numbers."""
        got = await self.deliveries(count)
        answers = await self.queue.defer([each.lock_token for each in got])
        assert set(answers.values()) == {"done"}, answers
        return [each.message.sequence_number for each in got]


class World(Protocol):
    """A queue with messages locked for ``lock_duration``."""

    lock_duration: timedelta

    def now(self) -> datetime:
        """The world's time."""
        ...

    async def let_pass(self, span: timedelta) -> None:
        """Lets time pass."""
        ...

    async def user(self) -> User:
        """Another user of the same queue, ready to receive."""
        ...

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Puts messages of (id, body) on the queue."""
        ...

    async def dead_letters(self) -> list[tuple[str, DeadLetter]]:
        """What is in the dead-letter queue: message id and what it carries."""
        ...


# --- the real SDK against the embedded broker -------------------------------------------------------------------------


class ServiceBusWorld:
    """The real SDK against the embedded broker."""

    kind: type[ServiceBusQueue] = ServiceBusQueue

    def __init__(self, broker: Broker, lock_duration: timedelta) -> None:
        self.broker = broker
        self.lock_duration = lock_duration
        self.users: list[ServiceBusQueue] = []

    def config(self) -> ServiceBusConfig:
        return ServiceBusConfig(
            queue="work", connection_string=lambda: self.broker.connection_string, lock_margin=self.lock_duration / 4
        )

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def let_pass(self, span: timedelta) -> None:
        await asyncio.sleep(span.total_seconds())

    async def user(self) -> User:
        bell = asyncio.Event()

        async def news() -> bool:
            try:
                async with asyncio.timeout(0.2):
                    await bell.wait()
            except TimeoutError:
                return False
            bell.clear()
            return True

        queue = self.kind(self.config(), on_news=bell.set)
        self.users.append(queue)
        await queue.start()
        return User(self, queue, news, queue.stop)

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


Served = TypeVar("Served", bound=ServiceBusWorld)


@asynccontextmanager
async def service_bus(lock_duration: timedelta) -> AsyncIterator[World]:
    async with served(ServiceBusWorld, lock_duration) as world:
        yield world


@asynccontextmanager
async def served(kind: type[Served], lock_duration: timedelta) -> AsyncIterator[Served]:
    """A world of that kind on a broker of its own."""
    async with Broker(BrokerConfig(queues=(QueueConfig("work", lock_duration=lock_duration),))) as broker:
        world = kind(broker, lock_duration)
        try:
            yield world
        finally:
            await asyncio.gather(*(each.stop() for each in world.users))


# --- the simulator's queue --------------------------------------------------------------------------------------------


class SimulatedWorld:
    """The simulator's broker and, for each user, a port of its own; nothing goes wrong, time moves on when asked."""

    kind: type[QueuePort] = QueuePort

    def __init__(self, lock_duration: timedelta) -> None:
        self.lock_duration = lock_duration
        self._around = Surroundings()
        self._broker = SimulatedBroker("work", self._around.clock, self._around, self._around.random, lock_duration)
        self._ids: dict[int, str] = {}

    def now(self) -> datetime:
        return self._around.clock.now()

    async def let_pass(self, span: timedelta) -> None:
        self._around.let_pass(span)

    async def user(self) -> User:
        async def news() -> bool:
            self._around.let_pass(timedelta(milliseconds=100))
            await asyncio.sleep(0)  # others have their turn too
            return True

        async def stop() -> None:
            """There is nothing to close."""

        queue = self.kind(self._broker, self._around.wire(), HostClock(self._around.clock))
        return User(self, queue, news, stop)

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        for message_id, body in messages:
            self._ids[self._broker.send(message_id, body)] = message_id

    async def dead_letters(self) -> list[tuple[str, DeadLetter]]:
        return [(self._ids[number], letter) for number, letter in self._broker.letters.items()]


@asynccontextmanager
async def simulated(lock_duration: timedelta) -> AsyncIterator[World]:
    yield SimulatedWorld(lock_duration)


Worlds = dict[str, Callable[[timedelta], AbstractAsyncContextManager[World]]]
WORLDS: Worlds = {"service_bus": service_bus, "simulated": simulated}
FETCHING_AHEAD: Worlds = {"service_bus": service_bus}
"""Where messages can be under lock before anybody has called for them. In the simulator a message is locked by the call
that hands it over, so a port holds none that it could give back."""
