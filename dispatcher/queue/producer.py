"""Sending to one queue: work by the typed client and the command line, outcomes by the dispatcher itself.

Decides how messages travel in batches and what a failure proves. A sender of the SDK used by two tasks at once sends
copies, so it has one owner at a time. Refuses to know what the messages mean.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from azure.servicebus import ServiceBusMessage, ServiceBusMessageBatch
from azure.servicebus.aio import ServiceBusClient, ServiceBusSender
from azure.servicebus.exceptions import MessageSizeExceededError

from dispatcher.errors import OutcomeUnknown
from dispatcher.ports import Answer
from dispatcher.queue.config import ServiceBusConfig
from dispatcher.queue.links import Clients, Closing, MonotonicClock, Pace, bounded, patiently
from dispatcher.queue.translate import answer_to, is_busy, refusal, told

__all__ = ["NotSent", "Producer", "TooLarge"]

_ENVELOPE_BYTES = 1024
"""The SDK reckons a batch without what it copies from the first message onto the envelope, and so fills it too full."""


class NotSent(OutcomeUnknown):
    """Not everything was sent: the first ``confirmed`` messages were; those behind them may have been, or not.

    ``refused``: the broker answered, and took none of those behind.
    """

    def __init__(self, confirmed: int, count: int, error: BaseException) -> None:
        self.confirmed = confirmed
        self.refused = is_busy(error) or answer_to(error) is Answer.REFUSED or refusal(error) is not None
        self.why = refusal(error) or told(error)
        behind = "those behind them were refused" if self.refused else "those behind them may have been sent or not"
        super().__init__(f"{confirmed} of {count} messages were confirmed, {behind}: {self.why}")


class TooLarge(ValueError):
    """A message is larger than the queue takes; the first ``confirmed`` messages, those before it, were sent."""

    def __init__(self, message_id: str, confirmed: int) -> None:
        self.message_id = message_id
        self.confirmed = confirmed
        super().__init__(f"message {message_id!r} is larger than the queue takes; the {confirmed} before it were sent")


class Producer(Closing):
    """Sends messages to one queue. Use as an async context manager, or call ``close``."""

    def __init__(self, config: ServiceBusConfig, clock: MonotonicClock = time.monotonic) -> None:
        self._config = config
        self._clients = Clients(config)
        self._pace = Pace(config.operations_per_second)
        self._clock = clock
        self._lock = asyncio.Lock()
        self._sender: ServiceBusSender | None = None
        self._made_by: ServiceBusClient | None = None
        self._used_at = 0.0

    async def send(self, messages: Sequence[ServiceBusMessage | tuple[str, bytes]]) -> int:
        """Sends all messages, in order, and returns their number. A pair of id and body is sent as plain JSON.

        Raises NotSent if a batch got no answer or was refused; the messages from there on may be sent again under the
        same ids. Raises TooLarge for a message that no batch can hold.
        """
        async with self._lock:
            sent = 0
            try:
                while sent < len(messages):
                    sender = await self._opened()
                    batch, count = await self._batch(sender, messages, sent)
                    async with self._pace.turn():
                        await patiently(
                            lambda batch=batch, sender=sender: bounded(  # type: ignore[misc]
                                sender.send_messages(batch), self._config.operation_timeout_seconds
                            ),
                            self._config.operation_timeout_seconds,
                        )
                    self._used_at = self._clock()
                    sent += count
            except MessageSizeExceededError as error:
                raise TooLarge(_id_of(messages[sent]), sent) from error
            except Exception as error:
                self._discard()
                raise NotSent(sent, len(messages), error) from error
            except BaseException:
                self._discard()  # cancelled in the middle: what the sender was about is not known
                raise
            return sent

    async def close(self) -> None:
        """Closes the sender, within bounds."""
        self._discard()
        await self._clients.close()

    async def _opened(self) -> ServiceBusSender:
        client = self._clients.get()  # also follows a connection string that was rotated
        idle = self._clock() - self._used_at > self._config.link_idle_max_seconds
        if self._sender is not None and (idle or self._made_by is not client):
            self._discard()
        if self._sender is None:
            self._sender = client.get_queue_sender(
                self._config.queue, socket_timeout=self._config.socket_timeout_seconds
            )
            self._made_by = client
            await bounded(self._sender.__aenter__(), self._config.operation_timeout_seconds)
            self._used_at = self._clock()
        return self._sender

    async def _batch(
        self, sender: ServiceBusSender, messages: Sequence[ServiceBusMessage | tuple[str, bytes]], start: int
    ) -> tuple[ServiceBusMessageBatch, int]:
        seconds = self._config.operation_timeout_seconds
        largest = (await bounded(sender.create_message_batch(), seconds)).max_size_in_bytes
        batch = await bounded(sender.create_message_batch(max(largest - _ENVELOPE_BYTES, largest // 2)), seconds)
        count = 0
        for each in messages[start:]:
            try:
                batch.add_message(_message(each))
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


def _message(message: ServiceBusMessage | tuple[str, bytes]) -> ServiceBusMessage:
    if isinstance(message, ServiceBusMessage):
        return message
    message_id, body = message
    return ServiceBusMessage(body, message_id=message_id, content_type="application/json")


def _id_of(message: ServiceBusMessage | tuple[str, bytes]) -> str:
    return str(message.message_id) if isinstance(message, ServiceBusMessage) else message[0]
