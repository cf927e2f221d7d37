"""The dead-letter queue of one queue, looked through from its beginning to its end.

Decides how it is read: page by page through the management link, on which nothing is locked, counted or removed.
Refuses to know what a message means and which of them somebody is looking for.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from azure.servicebus import ServiceBusReceivedMessage, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver

from dispatcher.ports import DeadLetter, Message
from dispatcher.queue.config import ServiceBusConfig
from dispatcher.queue.convert import to_message
from dispatcher.queue.links import Clients, Link, MonotonicClock, Pace
from dispatcher.queue.peeking import Peeking

__all__ = ["DeadLetterQueue", "DeadMessage"]


@dataclass(frozen=True, slots=True)
class DeadMessage:
    """A message in the dead-letter queue and why it is there; both texts are empty where nobody gave a reason."""

    message: Message
    letter: DeadLetter


class DeadLetterQueue:
    """The dead letters of one queue. Use as an async context manager, or call ``close``."""

    def __init__(self, config: ServiceBusConfig, clock: MonotonicClock = time.monotonic) -> None:
        self._config = config
        self._clients = Clients(config)
        self._link = Link("dead letters", self._clients, config, clock, self._receiver)
        self._peeking = Peeking(config, self._link, Pace(config.operations_per_second))

    @property
    def name(self) -> str:
        """The queue that the messages were sent to."""
        return self._config.queue

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def pages(self) -> AsyncIterator[Sequence[DeadMessage]]:
        """All that is there, by ascending sequence number, a page at a time. Raises LookFailed.

        A page that holds less than was asked for means nothing; only an empty one is the end.
        """
        first = 1
        while page := await self._peeking.page(first, self._config.peek_page_max):
            yield [_dead_message(each) for each in page]
            first = max(first, *(each.sequence_number or 0 for each in page)) + 1  # always forward, so it ends

    async def close(self) -> None:
        """Closes the connection, within bounds."""
        await self._link.close()
        await self._clients.close()

    def _receiver(self, client: ServiceBusClient) -> ServiceBusReceiver:
        return client.get_queue_receiver(
            self.name,
            sub_queue=ServiceBusSubQueue.DEAD_LETTER,
            prefetch_count=0,
            socket_timeout=self._config.socket_timeout_seconds,
        )


def _dead_message(received: ServiceBusReceivedMessage) -> DeadMessage:
    # The SDK's own properties for these raise where another program has written something else than UTF-8.
    message = to_message(received)
    reason, description = (message.properties.get(name) for name in ("DeadLetterReason", "DeadLetterErrorDescription"))
    return DeadMessage(message, DeadLetter(_text(reason), _text(description)))


def _text(value: object) -> str:
    return "" if value is None else str(value)
