"""The dead-letter queue of one queue: looked through from its beginning to its end, and particular ones taken out.

Decides how it is read: page by page through the management link, on which nothing is locked, counted or removed; and
that whatever leaves it does so under its lock. Refuses to know what a message means and which of them somebody is
looking for.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime

from azure.servicebus import ServiceBusMessageState, ServiceBusReceivedMessage, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver
from azure.servicebus.amqp import AmqpAnnotatedMessage

from dispatcher.ports import Answer, DeadLetter, Message
from dispatcher.queue.config import ServiceBusConfig
from dispatcher.queue.convert import to_message
from dispatcher.queue.copying import copy_of
from dispatcher.queue.links import Clients, Closing, Link, MonotonicClock, Pace, utc_now
from dispatcher.queue.peeking import Peeking
from dispatcher.queue.replays import copy_id, replayed_properties
from dispatcher.queue.sdk import settle_on_own_link_only
from dispatcher.queue.taking import OutOfReach, Taken, Taking

__all__ = ["DeadLetterQueue", "DeadMessage", "OutOfReach", "TakenLetter"]


@dataclass(frozen=True, slots=True)
class DeadMessage:
    """A message in the dead-letter queue and why it is there; both texts are empty where nobody gave a reason."""

    message: Message
    letter: DeadLetter
    deferred: bool = False
    """Somebody has deferred it there: it can only be had by its number."""


@dataclass(frozen=True, slots=True)
class TakenLetter:
    """A dead letter under our lock."""

    dead: DeadMessage
    taken: Taken = field(repr=False)

    def copy(self, queue: str, now: datetime) -> tuple[str, AmqpAnnotatedMessage]:
        """The message that replays it, and that message's id."""
        message_id = copy_id("replay", queue, self.dead.message)
        added = replayed_properties(self.dead.message, self.dead.letter.reason, now)
        return message_id, copy_of(self.taken.received, message_id, added)


class DeadLetterQueue(Closing):
    """The dead letters of one queue. Use as an async context manager, or call ``close``."""

    def __init__(
        self,
        config: ServiceBusConfig,
        clock: MonotonicClock = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._config = config
        self._clients = Clients(config)
        self._link = Link("dead letters", self._clients, config, clock, self._receiver)
        self._sweeper = Link(
            "sweeper of dead letters", self._clients, config, clock, self._receiver_that_settles, wears=False
        )
        pace = Pace(config.operations_per_second)
        self._peeking = Peeking(config, self._link, pace)
        self._taking = Taking(config, self._sweeper, self._link, pace, now)

    @property
    def name(self) -> str:
        """The queue that the messages were sent to."""
        return self._config.queue

    async def pages(self) -> AsyncIterator[Sequence[DeadMessage]]:
        """All that is there, by ascending sequence number, a page at a time. Raises LookFailed.

        A page that holds less than was asked for means nothing; only an empty one is the end.
        """
        async for page in self._peeking.pages():
            yield [_dead_message(each) for each in page]

    async def take(
        self, numbers: Iterable[int], deferred: Iterable[int] = (), *, at_once: int
    ) -> AsyncGenerator[Sequence[TakenLetter], None]:
        """Takes these under lock, at most so many at once, and hands them over; what cannot be had is left out.

        ``deferred``: those that were deferred there, by what the pages said. Each group is to be dealt with before the
        next is asked for; what is not removed by then becomes available again by itself. Close the generator when
        leaving early (``aclosing``). Raises LookFailed; OutOfReach where too many others stand before them.
        """
        for number in sorted(set(deferred)):
            for found in await self._taking.by_number(number):
                yield [TakenLetter(_dead_message(found.received, deferred=True), found)]
        async with aclosing(self._taking.sweep(numbers, at_once)) as sweeping:
            async for taken in sweeping:
                yield [TakenLetter(_dead_message(each.received), each) for each in taken]

    async def remove(self, taken: TakenLetter) -> Answer:
        """Removes one that was taken, for good. CONFLICT: its lock was lost; UNKNOWN: it may be gone or not."""
        return await self._taking.complete(taken.taken)

    def has_time(self, taken: TakenLetter) -> bool:
        """Whether enough of its lock is left to do something about it that cannot be undone."""
        return self._taking.has_time(taken.taken)

    async def remaining(self, numbers: Sequence[int]) -> set[int]:
        """Those of the numbers that are still there. Raises LookFailed."""
        return {number for number, state in (await self._peeking.look_up(numbers)).items() if state is not None}

    async def close(self) -> None:
        """Closes the connections, within bounds."""
        await self._link.close()
        await self._sweeper.close()
        await self._clients.close()

    def _receiver(self, client: ServiceBusClient) -> ServiceBusReceiver:
        return client.get_queue_receiver(
            self.name,
            sub_queue=ServiceBusSubQueue.DEAD_LETTER,
            prefetch_count=0,
            socket_timeout=self._config.socket_timeout_seconds,
        )

    def _receiver_that_settles(self, client: ServiceBusClient) -> ServiceBusReceiver:
        return settle_on_own_link_only(self._receiver(client))


def _dead_message(received: ServiceBusReceivedMessage, *, deferred: bool = False) -> DeadMessage:
    # The SDK's own properties for these raise where another program has written something else than UTF-8.
    message = to_message(received)
    reason, description = (message.properties.get(name) for name in ("DeadLetterReason", "DeadLetterErrorDescription"))
    deferred = deferred or received.state == ServiceBusMessageState.DEFERRED
    return DeadMessage(message, DeadLetter(_text(reason), _text(description)), deferred)


def _text(value: object) -> str:
    return "" if value is None else str(value)
