"""The few things every SDK test does: send texts, receive, count until something is seen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from azure.servicebus import ServiceBusMessage, ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver, ServiceBusSender

_senders: WeakKeyDictionary[ServiceBusClient, dict[str, ServiceBusSender]] = WeakKeyDictionary()


async def send(client: ServiceBusClient, queue: str, *bodies: str) -> None:
    """Opening and closing a sender takes the SDK a second, so each client keeps one for each queue."""
    senders = _senders.setdefault(client, {})
    if queue not in senders:
        senders[queue] = client.get_queue_sender(queue, socket_timeout=0.02)
    await senders[queue].send_messages([ServiceBusMessage(body, message_id=body[:100]) for body in bodies])


async def close(client: ServiceBusClient) -> None:
    """Closes what is still open side by side; the SDK would do it one after the other."""
    await asyncio.gather(*(handler.close() for handler in list(client._handlers)))
    await client.close()


def receiver_of(client: ServiceBusClient, queue: str, **kwargs: Any) -> ServiceBusReceiver:
    return client.get_queue_receiver(queue, socket_timeout=0.02, **kwargs)


async def receive(receiver: ServiceBusReceiver, count: int, within: float = 5) -> list[ServiceBusReceivedMessage]:
    """Exactly so many messages."""
    received: list[ServiceBusReceivedMessage] = []
    async with asyncio.timeout(within):
        while len(received) < count:
            received += await receiver.receive_messages(count - len(received), max_wait_time=within)
    assert len(received) == count
    return received


async def until(seen: Callable[[], bool], within: float = 5) -> None:
    """Waits for what can be observed."""
    async with asyncio.timeout(within):
        while not seen():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)
