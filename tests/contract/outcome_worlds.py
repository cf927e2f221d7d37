"""The worlds that the Outcomes contract is held against: reply queues, and ways to look at them and to break them.

To hold another implementation to the contract, write a world for it and name it in WORLDS.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from typing import Protocol

from azure.servicebus.aio import ServiceBusClient
from simulated import Surroundings

from dispatcher.core.outcomes import Outcome
from dispatcher.embedded.broker import Broker, BrokerConfig, Fault, QueueConfig
from dispatcher.ports import OutcomeAnswer, Outcomes
from dispatcher.queue import ServiceBusConfig
from dispatcher.queue.outcome_events import from_body
from dispatcher.queue.replies import ServiceBusOutcomes
from dispatcher.simulator.faults import Fault as SimulatedFault
from dispatcher.simulator.faults import FaultPlan
from dispatcher.simulator.replies import OutcomesPort, ReplyQueues

REPLIES = "outcomes"
OTHERS = "others"
PATIENCE_SECONDS = 20.0


class World(Protocol):
    """Reply queues ``outcomes`` and ``others``."""

    port: Outcomes

    async def answers(self, count: int) -> Sequence[OutcomeAnswer]:
        """So many answers, as the dispatcher collects them: whenever the bell rings."""
        ...

    async def on_queue(self, queue: str) -> Sequence[Outcome]:
        """What that queue has taken, in order."""
        ...

    async def break_replies(self) -> None:
        """From now on the queue ``outcomes`` takes nothing and says so."""
        ...

    async def mend_replies(self) -> None:
        """It takes outcomes again."""
        ...


class ServiceBusWorld:
    """The real SDK against the embedded broker."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.bell = asyncio.Event()
        self.port = ServiceBusOutcomes(self.config, self.bell.set)

    def config(self, queue: str) -> ServiceBusConfig:
        return ServiceBusConfig(queue=queue, connection_string=lambda: self.broker.connection_string)

    async def answers(self, count: int) -> Sequence[OutcomeAnswer]:
        got: list[OutcomeAnswer] = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                self.bell.clear()
                got += await self.port.answers()
                if len(got) >= count:
                    return got
                await self.bell.wait()

    async def on_queue(self, queue: str) -> Sequence[Outcome]:
        async with (
            ServiceBusClient.from_connection_string(self.broker.connection_string) as client,
            client.get_queue_receiver(queue) as receiver,
        ):
            found: list[Outcome] = []
            position = 1
            while page := await receiver.peek_messages(100, sequence_number=position):
                found += [from_body(b"".join(each.body), queue) for each in page]
                position = page[-1].sequence_number + 1
            return found

    async def break_replies(self) -> None:
        self.broker.faults.arm(Fault.FILL_QUOTA, queue=REPLIES)

    async def mend_replies(self) -> None:
        self.broker.faults.disarm(Fault.FILL_QUOTA)


@asynccontextmanager
async def service_bus() -> AsyncIterator[World]:
    async with Broker(BrokerConfig(queues=(QueueConfig(REPLIES), QueueConfig(OTHERS)))) as broker:
        world = ServiceBusWorld(broker)
        try:
            yield world
        finally:
            await world.port.stop()


class SimulatedWorld:
    """The simulator's reply queues, without any fault but the one that is asked for."""

    def __init__(self, *, lags: bool) -> None:
        around = Surroundings()
        self.queues = ReplyQueues(around.clock, around, Random("contract"), lags)
        self.port = OutcomesPort(self.queues, around.wire())

    async def answers(self, count: int) -> Sequence[OutcomeAnswer]:
        got: list[OutcomeAnswer] = []
        for _ in range(3):
            got += await self.port.answers()
        assert len(got) >= count
        return got

    async def on_queue(self, queue: str) -> Sequence[Outcome]:
        return [outcome for outcome in self.queues.taken if outcome.reply_to == queue]

    async def break_replies(self) -> None:
        self.queues.faults = FaultPlan({SimulatedFault.REPLY_REFUSED: 1.0})

    async def mend_replies(self) -> None:
        self.queues.faults = FaultPlan()
        self.queues.away_until = None


@asynccontextmanager
async def simulated() -> AsyncIterator[World]:
    yield SimulatedWorld(lags=False)


@asynccontextmanager
async def simulated_that_lags() -> AsyncIterator[World]:
    yield SimulatedWorld(lags=True)


WORLDS: dict[str, Callable[[], AbstractAsyncContextManager[World]]] = {
    "service_bus": service_bus,
    "simulated": simulated,
    "simulated_that_lags": simulated_that_lags,
}
ALL_QUEUES_AT_ONCE = ("simulated", "simulated_that_lags")
"""Worlds whose reply queues are one place, so that none can be broken alone."""
