"""A look at a queue by somebody who may not manage it.

Decides what can be tried without leaving a trace: links are opened, some messages are peeked at, and one is locked and
released again, which counts as no delivery; a dead letter, if there is one, else the first that is free. Refuses to
know what is right (see ``seen``). Everything is bounded in time.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from azure.servicebus import ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver

from dispatcher.errors import LookFailed
from dispatcher.ports import DeadLetter, Message
from dispatcher.queue.config import ServiceBusConfig
from dispatcher.queue.convert import to_message
from dispatcher.queue.links import Clients, Link, bounded
from dispatcher.queue.sdk import release
from dispatcher.queue.seen import Seen
from dispatcher.queue.translate import refusal, told

__all__ = ["look_at"]

_PEEKED_MAX = 250
_LOCK_WAIT_SECONDS = 2.0


async def look_at(config: ServiceBusConfig, *, receives: bool = True) -> Seen:
    """What the queue shows of itself. Raises LookFailed if the broker does not answer, or answers nonsense.

    ``receives``: False for a queue that is only sent to; then nothing else is tried.
    """
    clients = Clients(config)
    try:
        send_refused = await _refused(lambda: _open_sender(clients, config))
        if not receives:
            return Seen(send_refused=send_refused)
        links = [Link("probe", clients, config, time.monotonic, _maker(config, each)) for each in (False, True)]
        try:
            listen_refused = await _refused(lambda: _peek(links[0], config))
            if listen_refused is not None:
                return Seen(listen_refused=listen_refused, send_refused=send_refused)
            messages, dead = [await _peek(link, config) for link in links]
            lock = await _lock(links[1], config) if dead else None
            if lock is None:
                lock = await _lock(links[0], config)
            return Seen(None, send_refused, lock, messages, [(each, _letter(each)) for each in dead])
        finally:
            for link in links:
                await link.close()
    except Exception as error:
        raise LookFailed(refusal(error) or told(error)) from error
    finally:
        await clients.close()


async def _refused(attempt: Callable[[], Awaitable[object]]) -> str | None:
    """Why the broker refuses it; None: it does not. Raises what is no refusal."""
    try:
        await attempt()
    except Exception as error:
        why = refusal(error)
        if why is None:
            raise
        return why
    return None


async def _open_sender(clients: Clients, config: ServiceBusConfig) -> None:
    sender = clients.get().get_queue_sender(config.queue, socket_timeout=config.socket_timeout_seconds)
    try:
        await bounded(sender.__aenter__(), config.operation_timeout_seconds)
    finally:
        clients.leave(sender.close())


def _maker(config: ServiceBusConfig, dead_letters: bool) -> Callable[[ServiceBusClient], ServiceBusReceiver]:
    def make(client: ServiceBusClient) -> ServiceBusReceiver:
        return client.get_queue_receiver(
            config.queue,
            sub_queue=ServiceBusSubQueue.DEAD_LETTER if dead_letters else None,
            prefetch_count=0,
            socket_timeout=config.socket_timeout_seconds,
        )

    return make


async def _peek(link: Link, config: ServiceBusConfig) -> list[Message]:
    page = await link.run(
        lambda receiver: receiver.peek_messages(_PEEKED_MAX, sequence_number=1), config.operation_timeout_seconds
    )
    return [to_message(each) for each in page]


async def _lock(link: Link, config: ServiceBusConfig) -> timedelta | None:
    """How long a lock lasts, by one that is given back at once; None: there was nothing to lock."""

    async def call(receiver: ServiceBusReceiver) -> timedelta | None:
        received = await receiver.receive_messages(max_message_count=1, max_wait_time=_LOCK_WAIT_SECONDS)
        now = datetime.now(UTC)
        until = [each.locked_until_utc for each in received if each.locked_until_utc is not None]
        await release(receiver, received)
        return max(until) - now if until else None

    return await link.run(call, config.operation_timeout_seconds + _LOCK_WAIT_SECONDS)


def _letter(message: Message) -> DeadLetter:
    reason, description = (message.properties.get(name) for name in ("DeadLetterReason", "DeadLetterErrorDescription"))
    return DeadLetter(str(reason or ""), str(description or ""))
