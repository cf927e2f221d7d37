"""The four places where the SDK's public ways are not enough, each with its reason, and nothing else.

They rest on private names of azure-servicebus 7.15; a test says so when a new version lacks them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus._pyamqp.constants import LinkState
from azure.servicebus._pyamqp.error import AMQPException
from azure.servicebus._pyamqp.outcomes import Modified
from azure.servicebus._pyamqp.performatives import DispositionFrame
from azure.servicebus._pyamqp.receiver import check_disposition_outcome, outcome_name
from azure.servicebus.aio import ServiceBusReceiver
from azure.servicebus.exceptions import MessageAlreadySettled, MessageLockLostError, ServiceBusError

__all__ = ["NoOutcome", "defer_together", "give_back_credit", "release", "settle_on_own_link_only"]

_logger = logging.getLogger(__name__)


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


async def release(receiver: ServiceBusReceiver, messages: Sequence[ServiceBusReceivedMessage]) -> None:
    """Ends the locks of messages of this receiver as if they had never been delivered.

    The SDK does so with what it has buffered when it is closed. What it offers for messages that were handed over,
    ``abandon_message``, counts a delivery that failed, and a lock that ends by itself does too: the count of a dead
    letter is a part of what people go by.
    """
    opened: Any = receiver
    unsettled = opened._handler._link._received_delivery_tags
    for message in messages:
        delivered: Any = message
        if not delivered._settled and delivered._delivery_tag in unsettled:
            await opened._handler.settle_messages_async(delivered._delivery_id, delivered._delivery_tag, "released")
            delivered._settled = True


async def defer_together(
    receiver: ServiceBusReceiver,
    messages: Sequence[ServiceBusReceivedMessage],
    tell: Callable[[int, Exception | None], None],
) -> None:
    """Defers messages of this receiver at once, and tells of each, by its position, what came of it; None: it is done.

    The SDK settles messages one by one: each sends a frame and then reads for itself, so that of 200 under way each
    looks through the answers of all others, and where the broker answers many with one frame, all but one of them wait
    a read in vain. Here neighbours travel in one frame, as the protocol has it, and one reader hands out the answers.
    Waits until every message has its answer: whoever calls sets the limit. Raises what breaks the link; those that were
    not told of may have been deferred.
    """
    opened: Any = receiver
    link: Any = opened._handler._link
    state = Modified(delivery_failed=True, undeliverable_here=True, message_annotations=None)
    waiting: dict[int, int] = {}
    for position, message in enumerate(messages):
        untried = _why_untried(message, link)
        if untried is None:
            waiting[_delivery_id(message)] = position
        else:
            tell(position, untried)
    answers: dict[int, dict[str, Any]] = {number: {"settled": False, "outcome": None} for number in waiting}
    try:
        link._pending_dispositions.update(answers)
        for first, last in _neighbours(sorted(waiting)):
            await link._session._outgoing_disposition(
                DispositionFrame(role=link.role, first=first, last=last, settled=False, state=state, batchable=None)
            )
            link._received_delivery_tags.difference_update(
                _delivery_tag(messages[waiting[number]]) for number in range(first, last + 1)
            )
        while waiting:
            await link._session._connection.listen(wait=False)
            for number in [number for number in waiting if answers[number]["settled"]]:
                position = waiting.pop(number)
                del link._pending_dispositions[number]
                tell(position, _came_of(number, answers[number]["outcome"], outcome_name(state), opened))
                messages[position]._settled = True
            if waiting and link.state in (LinkState.DETACHED, LinkState.ERROR):
                raise NoOutcome
    finally:
        for number in waiting:
            link._pending_dispositions.pop(number, None)


def _why_untried(message: Any, link: Any) -> Exception | None:
    if message._settled:
        return MessageAlreadySettled(action="defer")
    if message._lock_expired:
        return MessageLockLostError(message="the lock has expired")
    return None if message._delivery_tag in link._received_delivery_tags else NoOutcome()


def _delivery_id(message: Any) -> int:
    number: int = message._delivery_id
    return number


def _delivery_tag(message: Any) -> bytes:
    tag: bytes = message._delivery_tag
    return tag


def _neighbours(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The ranges, first and last, that ascending numbers make."""
    start = 0
    for end in range(1, len(numbers) + 1):
        if end == len(numbers) or numbers[end] != numbers[end - 1] + 1:
            yield numbers[start], numbers[end - 1]
            start = end


def _came_of(number: int, outcome: dict[str, Any] | None, expected: str, receiver: Any) -> Exception | None:
    try:
        check_disposition_outcome(number, outcome, expected)
    except AMQPException as error:
        translated: Exception = receiver._amqp_transport.create_servicebus_exception(_logger, error)
        return translated
    return None
