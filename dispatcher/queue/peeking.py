"""Looking at messages without touching them.

Decides how to find out where many messages are with few requests, and when a look has failed. A page that holds less
than was asked for means nothing; only an empty one is the end.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Mapping, Sequence

from azure.servicebus import ServiceBusReceivedMessage
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_random_exponential

from dispatcher.errors import LookFailed
from dispatcher.ports import MessageState, Peeked
from dispatcher.queue.config import ServiceBusConfig
from dispatcher.queue.convert import to_peeked
from dispatcher.queue.links import Link, Pace
from dispatcher.queue.translate import refusal, told

__all__ = ["Peeking", "next_page"]

_ATTEMPTS_MAX = 3


class Peeking:
    """Peeks through the management link of one receiver."""

    def __init__(self, config: ServiceBusConfig, steward: Link, pace: Pace) -> None:
        self._config = config
        self._steward = steward
        self._pace = pace

    async def peek(self, from_sequence_number: int, count_max: int) -> Sequence[Peeked]:
        """One page of messages of all states. Raises LookFailed."""
        if count_max < 1:
            return []
        page = await self.page(from_sequence_number, min(count_max, self._config.peek_page_max))
        return [to_peeked(each) for each in page]

    async def look_up(self, sequence_numbers: Sequence[int]) -> Mapping[int, MessageState | None]:
        """Where each number is now; None: nowhere. Raises LookFailed, also when it takes too long."""
        wanted = sorted(set(sequence_numbers))
        states: dict[int, MessageState | None] = dict.fromkeys(wanted)
        try:
            async with asyncio.timeout(self._config.look_timeout_seconds):
                index = 0
                while index < len(wanted):
                    first, count = next_page(wanted, index, self._config.peek_page_max)
                    page = [to_peeked(each) for each in await self.page(first, count)]
                    if not page:
                        break
                    for each in page:
                        if each.message.sequence_number in states:
                            states[each.message.sequence_number] = each.state
                    index = bisect_right(wanted, page[-1].message.sequence_number, lo=index)
        except TimeoutError as error:
            raise LookFailed(f"looking up {len(wanted)} messages took too long") from error
        return states

    async def pages(self) -> AsyncIterator[Sequence[ServiceBusReceivedMessage]]:
        """All that is there, by ascending sequence number, as the SDK hands it over. Raises LookFailed."""
        first = 1
        while page := await self.page(first, self._config.peek_page_max):
            yield page
            first = max(first, *(each.sequence_number or 0 for each in page)) + 1  # always forward, so it ends

    async def page(self, first: int, count: int) -> Sequence[ServiceBusReceivedMessage]:
        """One page as the SDK hands it over, for those who want to know more of a message. Raises LookFailed."""

        async def call() -> Sequence[ServiceBusReceivedMessage]:
            async with self._pace.turn():
                # From 0 the SDK would go on behind the last page.
                page = await self._steward.run(
                    lambda receiver: receiver.peek_messages(count, sequence_number=max(first, 1)),
                    self._config.operation_timeout_seconds,
                )
            await self._pace.spend(len(page) - 1)
            return page

        # A look can be repeated without harm: once for a connection that had died unnoticed, again for a busy broker.
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception(lambda error: isinstance(error, Exception) and refusal(error) is None),
                wait=wait_random_exponential(multiplier=0.1, max=1.0),
                stop=stop_after_attempt(_ATTEMPTS_MAX) | stop_after_delay(self._config.operation_timeout_seconds),
                reraise=True,
            ):
                with attempt:
                    return await call()
        except Exception as error:
            raise LookFailed(f"peeking from {first} failed: {refusal(error) or told(error)}") from error
        raise AssertionError("tenacity ends by an answer or an error")  # pragma: no cover


def next_page(wanted: Sequence[int], index: int, page_max: int) -> tuple[int, int]:
    """The page that finds out most about the sorted numbers from an index on: where it begins and how long it is.

    Messages stand at most one to a number, so a page as long as the span up to a wanted number reaches it or proves
    it absent. A page is made no longer than that, since every message on it costs its body.
    """
    first = wanted[index]
    last = bisect_right(wanted, first + page_max - 1, lo=index) - 1
    return first, wanted[last] - first + 1
