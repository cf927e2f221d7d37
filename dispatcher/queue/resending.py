"""Sending copies of messages to the queue that they came from, one by one, each confirmed.

Decides what an answer proves. A send without an answer may have happened: whoever sends the same copy again, under the
same message id, does no harm where the queue detects duplicates. Knows nothing of what the copies are for.
"""

from __future__ import annotations

import asyncio

from azure.servicebus.aio import ServiceBusSender
from azure.servicebus.amqp import AmqpAnnotatedMessage
from azure.servicebus.exceptions import MessageSizeExceededError, ServiceBusError

from dispatcher.errors import OutcomeUnknown
from dispatcher.ports import Answer
from dispatcher.queue.config import ServiceBusConfig
from dispatcher.queue.links import Clients, Closing, bounded, patiently
from dispatcher.queue.translate import answer_to, refusal, told

__all__ = ["CopySender"]


class CopySender(Closing):
    """Sends to one queue. A sender of the SDK used by two tasks at once sends copies, so it has one owner at a time."""

    def __init__(self, config: ServiceBusConfig) -> None:
        self._config = config
        self._clients = Clients(config)
        self._lock = asyncio.Lock()
        self._sender: ServiceBusSender | None = None

    async def send(self, copy: AmqpAnnotatedMessage) -> Answer:
        """Sends one: DONE, or REFUSED where it is larger than the queue takes.

        One that gets no answer is sent a second time, over a new connection. Raises OutcomeUnknown if that gets none
        either, or if the queue takes nothing.
        """
        async with self._lock:
            try:
                return await self._sent(copy)
            except OutcomeUnknown as unknown:
                if not unknown.__cause__ or refusal(unknown.__cause__) is not None:
                    raise
            return await self._sent(copy)

    async def _sent(self, copy: AmqpAnnotatedMessage) -> Answer:
        try:
            await patiently(lambda: self._once(copy), self._config.operation_timeout_seconds)
        except MessageSizeExceededError:
            return Answer.REFUSED
        except (ServiceBusError, TimeoutError, OSError, ValueError, TypeError) as error:
            self._discard()
            proof = "it was not sent" if answer_to(error) is Answer.REFUSED else "it may have been sent or not"
            raise OutcomeUnknown(f"a copy got no confirmation, {proof}: {refusal(error) or told(error)}") from error
        except BaseException:
            self._discard()  # cut off in the middle: the sender must not be used again
            raise
        return Answer.DONE

    async def close(self) -> None:
        """Closes the sender, within bounds."""
        self._discard()
        await self._clients.close()

    async def _once(self, copy: AmqpAnnotatedMessage) -> None:
        if self._sender is None:
            sender = self._clients.get().get_queue_sender(
                self._config.queue, socket_timeout=self._config.socket_timeout_seconds
            )
            self._sender = sender
            await bounded(sender.__aenter__(), self._config.operation_timeout_seconds)
        await bounded(self._sender.send_messages(copy), self._config.operation_timeout_seconds)

    def _discard(self) -> None:
        if self._sender is not None:
            self._clients.leave(self._sender.close())
            self._sender = None
