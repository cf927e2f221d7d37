"""The two places where the SDK's public ways are not enough, each with its reason, and nothing else.

They rest on private names of azure-servicebus 7.15; a test says so when a new version lacks them.
"""

from __future__ import annotations

from typing import Any

from azure.servicebus.aio import ServiceBusReceiver
from azure.servicebus.exceptions import ServiceBusError

__all__ = ["NoOutcome", "give_back_credit", "settle_on_own_link_only"]


class NoOutcome(ServiceBusError):
    """A disposition got no answer: it may have happened."""

    def __init__(self) -> None:
        super().__init__("the disposition got no answer", retryable=False, shutdown_handler=False)


def settle_on_own_link_only(receiver: ServiceBusReceiver) -> ServiceBusReceiver:
    """Keeps the receiver from trying a disposition a second time.

    A disposition that gets no answer on the receiver's own link is tried again by the SDK on the management link, which
    it opens anew if the connection is gone. Of many dispositions under way each opens its own (a lost connection among
    200 made 200 connections, none of which was closed again), and "lock lost" on the second way does not tell whether
    the first one went through.
    """

    async def refuse(*_: object, **__: object) -> None:
        raise NoOutcome

    changed: Any = receiver
    changed._settle_message_via_mgmt_link = refuse
    return receiver


async def give_back_credit(receiver: ServiceBusReceiver) -> None:
    """Takes back the credit that a receive left with the broker, and releases what came meanwhile.

    The SDK does this when a receiver is closed, and offers no other way. Closing would cut the connection that the
    locks of messages still held may depend on.
    """
    opened: Any = receiver
    await opened._amqp_transport.drain_and_release_messages_async(opened._handler)
