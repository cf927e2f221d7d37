"""A message that was received, as a new one that can be sent.

Decides what a copy keeps: body, content type, header, all application properties and annotations of its sender. What
belongs to the broker or to the time of the first sending is left out: lock, sequence number, delivery count, why it
was dead-lettered, when it was to expire (a time to live begins anew).

The SDK hands over AMQP strings, symbols and binaries alike as bytes, and timestamps as numbers. What is valid UTF-8
is sent as a string and a timestamp as a long: what a reader in this SDK sees stays the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.amqp import (
    AmqpAnnotatedMessage,
    AmqpMessageBodyType,
    AmqpMessageHeader,
    AmqpMessageProperties,
)

from dispatcher.queue.replays import DEAD_LETTER_PROPERTIES

__all__ = ["copy_of"]

_OF_THE_BROKER = frozenset(
    {
        "x-opt-deadletter-source",
        "x-opt-enqueue-sequence-number",
        "x-opt-enqueued-time",
        "x-opt-lock-token",
        "x-opt-locked-until",
        "x-opt-message-state",
        "x-opt-offset",
        "x-opt-scheduled-enqueue-time",
        "x-opt-sequence-number",
    }
)
_INT_MAX = 2**31


def copy_of(
    received: ServiceBusReceivedMessage, message_id: str, added: Mapping[str, str | int]
) -> AmqpAnnotatedMessage:
    """The message under another id, with these application properties added."""
    raw = received.raw_amqp_message
    kept = {_text(name): value for name, value in (raw.application_properties or {}).items()}
    properties = {name: _property(value) for name, value in kept.items() if name not in DEAD_LETTER_PROPERTIES}
    annotations = {_text(name): _value(value) for name, value in (raw.annotations or {}).items()}
    return AmqpAnnotatedMessage(
        **_body(raw),
        header=_header(raw.header),
        properties=_properties(raw.properties, message_id),
        application_properties={**properties, **added},
        annotations={name: value for name, value in annotations.items() if name not in _OF_THE_BROKER} or None,
        footer=raw.footer,
    )


def _body(raw: AmqpAnnotatedMessage) -> dict[str, Any]:
    match raw.body_type:
        case AmqpMessageBodyType.DATA:
            return {"data_body": [bytes(each) for each in raw.body]}
        case AmqpMessageBodyType.SEQUENCE:
            return {"sequence_body": [_value(each) for each in raw.body]}
        case _:
            return {"value_body": _value(raw.body)}


def _header(header: AmqpMessageHeader | None) -> AmqpMessageHeader | None:
    if header is None:
        return None
    return AmqpMessageHeader(durable=header.durable, priority=header.priority, time_to_live=header.time_to_live)


def _properties(old: AmqpMessageProperties | None, message_id: str) -> AmqpMessageProperties:
    if old is None:
        return AmqpMessageProperties(message_id=message_id)
    return AmqpMessageProperties(
        message_id=message_id,
        user_id=old.user_id,
        to=old.to,
        subject=old.subject,
        reply_to=old.reply_to,
        correlation_id=_value(old.correlation_id),
        content_type=old.content_type,
        content_encoding=old.content_encoding,
        group_id=old.group_id,
        group_sequence=old.group_sequence,
        reply_to_group_id=old.reply_to_group_id,
    )


def _property(value: Any) -> Any:
    """The SDK takes bytes among application properties for text, and fails where they are none."""
    value = _value(value)
    return bytearray(value) if isinstance(value, bytes) else value


def _value(value: Any) -> Any:
    """A value in the type that it most likely had."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value
    if isinstance(value, list):
        return [_value(each) for each in value]
    if isinstance(value, dict):
        return {_value(name): _value(each) for name, each in value.items()}
    if isinstance(value, int) and not isinstance(value, bool) and not -_INT_MAX <= value < _INT_MAX:
        return {"TYPE": "LONG", "VALUE": value}  # the SDK would encode any number as 32 bits
    return value


def _text(name: object) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
