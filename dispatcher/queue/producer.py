"""Sending work to a queue: for the command line's ``enqueue``, the demo and tests.

Decides how messages travel in batches. Not part of the dispatcher's cycle. A sender of the SDK used by two tasks at
once sends copies, so it has one owner at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType

from azure.servicebus import ServiceBusMessage, ServiceBusMessageBatch
from azure.servicebus.aio import ServiceBusSender
from azure.servicebus.exceptions import MessageSizeExceededError

from dispatcher.errors import OutcomeUnknown
from dispatcher.queue.config import ServiceBusConfig
from dispatcher.queue.links import Clients, Pace, bounded, patiently
from dispatcher.queue.translate import refusal, told

__all__ = ["Producer"]

_ENVELOPE_BYTES = 1024
"""The SDK reckons a batch without what it copies from the first message onto the envelope, and so fills it too full."""


class Producer:
    """Sends messages of (message id, body) to one queue. Use as an async context manager, or call ``close``."""

    def __init__(self, config: ServiceBusConfig) -> None:
        self._config = config
        self._clients = Clients(config)
        self._pace = Pace(config.operations_per_second)
        self._lock = asyncio.Lock()
        self._sender: ServiceBusSender | None = None

    async def __aenter__(self) -> Producer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> int:
        """Sends all messages, in order, and returns their number.

        Raises OutcomeUnknown if a batch got no answer or was refused, saying how many were confirmed before it; the
        messages from there on may be sent again under the same ids. Raises ValueError for a message that is too large.
        """
        async with self._lock:
            sent = 0
            try:
                sender = await self._opened()
                while sent < len(messages):
                    batch, count = await self._batch(sender, messages, sent)
                    async with self._pace.turn():
                        await patiently(
                            lambda batch=batch: bounded(  # type: ignore[misc]
                                sender.send_messages(batch), self._config.operation_timeout_seconds
                            ),
                            self._config.operation_timeout_seconds,
                        )
                    sent += count
            except MessageSizeExceededError as error:
                raise ValueError(
                    f"message {messages[sent][0]!r} has {len(messages[sent][1])} bytes, more than the queue takes; "
                    f"the {sent} before it were sent"
                ) from error
            except Exception as error:
                self._discard()
                raise OutcomeUnknown(
                    f"{sent} of {len(messages)} messages were confirmed, those behind them may have been sent or not: "
                    f"{refusal(error) or told(error)}"
                ) from error
            return sent

    async def close(self) -> None:
        """Closes the sender, within bounds."""
        self._discard()
        await self._clients.close()

    async def _opened(self) -> ServiceBusSender:
        if self._sender is None:
            self._sender = self._clients.get().get_queue_sender(
                self._config.queue, socket_timeout=self._config.socket_timeout_seconds
            )
            await bounded(self._sender.__aenter__(), self._config.operation_timeout_seconds)
        return self._sender

    async def _batch(
        self, sender: ServiceBusSender, messages: Sequence[tuple[str, bytes]], start: int
    ) -> tuple[ServiceBusMessageBatch, int]:
        seconds = self._config.operation_timeout_seconds
        largest = (await bounded(sender.create_message_batch(), seconds)).max_size_in_bytes
        batch = await bounded(sender.create_message_batch(max(largest - _ENVELOPE_BYTES, largest // 2)), seconds)
        count = 0
        for message_id, body in messages[start:]:
            message = ServiceBusMessage(body, message_id=message_id, content_type="application/json")
            try:
                batch.add_message(message)
            except MessageSizeExceededError:
                if count == 0:
                    raise
                break
            count += 1
        return batch, count

    def _discard(self) -> None:
        if self._sender is not None:
            self._clients.leave(self._sender.close())
            self._sender = None
