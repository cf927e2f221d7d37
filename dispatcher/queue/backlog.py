"""The deferred messages of one queue, for returning them to it: found by looking, taken under lock, copied, removed.

Decides that each is copied only while we have its lock, so that nobody else is about to act on it. Refuses to know
which of them may be returned.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver
from azure.servicebus.amqp import AmqpAnnotatedMessage

from dispatcher.ports import Answer, Message, MessageState
from dispatcher.queue.config import ServiceBusConfig
from dispatcher.queue.convert import to_message, to_peeked
from dispatcher.queue.copying import copy_of
from dispatcher.queue.links import Clients, Closing, Link, MonotonicClock, Pace, utc_now
from dispatcher.queue.peeking import Peeking
from dispatcher.queue.replays import copy_id, released_properties
from dispatcher.queue.settlement import NUMBERS_MAX
from dispatcher.queue.taking import Taken, Taking

__all__ = ["DeferredBacklog", "TakenMessage"]


@dataclass(frozen=True, slots=True)
class TakenMessage:
    """A deferred message under our lock."""

    message: Message
    taken: Taken = field(repr=False)

    def copy(self, queue: str) -> tuple[str, AmqpAnnotatedMessage]:
        """The ordinary message that takes its place, and that message's id."""
        message_id = copy_id("release", queue, self.message)
        return message_id, copy_of(self.taken.received, message_id, released_properties(self.message))


class DeferredBacklog(Closing):
    """What is deferred on one queue. Use as an async context manager, or call ``close``."""

    def __init__(
        self,
        config: ServiceBusConfig,
        clock: MonotonicClock = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._config = config
        self._clients = Clients(config)
        self._link = Link("deferred backlog", self._clients, config, clock, self._receiver)
        pace = Pace(config.operations_per_second)
        self._peeking = Peeking(config, self._link, pace)
        self._taking = Taking(config, self._link, self._link, pace, now)

    @property
    def name(self) -> str:
        """The queue's name."""
        return self._config.queue

    async def pages(self) -> AsyncIterator[Sequence[Message]]:
        """All that is deferred, by ascending sequence number, a page at a time. Raises LookFailed."""
        async for page in self._peeking.pages():
            peeked = [to_peeked(each) for each in page]
            yield [each.message for each in peeked if each.state is MessageState.DEFERRED]

    async def take(self, numbers: Sequence[int]) -> Sequence[TakenMessage]:
        """Takes these under lock, at most 100; what cannot be had is left out. Raises LookFailed."""
        if len(numbers) > NUMBERS_MAX:
            raise ValueError(f"{len(numbers)} sequence numbers in one request; at most {NUMBERS_MAX} are taken")
        found = await self._taking.by_number(*numbers) if numbers else []
        if not found and len(numbers) > 1:  # one that cannot be had fails the whole request
            found = [taken for number in numbers for taken in await self._taking.by_number(number)]
        return [TakenMessage(to_message(each.received), each) for each in found]

    async def remove(self, taken: TakenMessage) -> Answer:
        """Removes one that was taken, for good. CONFLICT: its lock was lost; UNKNOWN: it may be gone or not."""
        return await self._taking.complete(taken.taken)

    def has_time(self, taken: TakenMessage) -> bool:
        """Whether enough of its lock is left to do something about it that cannot be undone."""
        return self._taking.has_time(taken.taken)

    async def remaining(self, numbers: Sequence[int]) -> set[int]:
        """Those of the numbers that are still there. Raises LookFailed."""
        return {number for number, state in (await self._peeking.look_up(numbers)).items() if state is not None}

    async def close(self) -> None:
        """Closes the connection, within bounds."""
        await self._link.close()
        await self._clients.close()

    def _receiver(self, client: ServiceBusClient) -> ServiceBusReceiver:
        return client.get_queue_receiver(
            self.name, prefetch_count=0, socket_timeout=self._config.socket_timeout_seconds
        )
