"""Messages as the SDK hands them over, as the ports know them.

Decides how to read a message that some other program wrote. Refuses to fail: what cannot be read becomes empty, and
the rules for bodies make poison of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from azure.servicebus import ServiceBusMessageState, ServiceBusReceivedMessage
from azure.servicebus.amqp import AmqpMessageBodyType

from dispatcher.ports import Message, MessageState, Peeked

__all__ = ["to_message", "to_peeked"]

_STATES = {
    ServiceBusMessageState.ACTIVE: MessageState.ACTIVE,
    ServiceBusMessageState.DEFERRED: MessageState.DEFERRED,
    ServiceBusMessageState.SCHEDULED: MessageState.SCHEDULED,
}
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def to_message(received: ServiceBusReceivedMessage) -> Message:
    """The message, whatever state it is in."""
    return Message(
        sequence_number=received.sequence_number or 0,
        message_id=_text(received.message_id),
        body=_body(received),
        enqueued_at=received.enqueued_time_utc or _LONG_AGO,
        expires_at=_expires_at(received),
        content_type=_text(received.content_type) or None,
        properties=_properties(received.application_properties),
        delivery_count=received.delivery_count or 0,
    )


def to_peeked(received: ServiceBusReceivedMessage) -> Peeked:
    """The message and where the broker has it."""
    return Peeked(message=to_message(received), state=_STATES.get(received.state, MessageState.ACTIVE))


def _body(received: ServiceBusReceivedMessage) -> bytes:
    body: Any = received.body
    if received.body_type == AmqpMessageBodyType.DATA:
        return b"".join(body) if isinstance(body, Iterable) else b""
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    return body if isinstance(body, bytes) else b""


def _expires_at(received: ServiceBusReceivedMessage) -> datetime | None:
    try:
        return received.expires_at_utc
    except OverflowError:  # a time to live beyond the calendar is none
        return None


def _properties(properties: Mapping[Any, Any] | None) -> dict[str, Any]:
    if not properties:
        return {}
    return {_text(name): _text(value) if isinstance(value, bytes) else value for name, value in properties.items()}


def _text(value: object) -> str:
    if value is None:
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
