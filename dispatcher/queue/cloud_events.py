"""CloudEvents in messages, as the CNCF's AMQP binding puts them there: structured, or attributes beside the data.

Decides whether a message is an event and whether the event is whole. Refuses to know what events mean to us.

The JSON is read by our own strict reader first, and what the specification leaves to chance is refused: an attribute
that is missing would be made up by the library, and a message must say the same whenever it is read.

Specification: CloudEvents 1.0.2 with its JSON format and its AMQP protocol binding, https://github.com/cloudevents/spec
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings import amqp
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.spec import SPECVERSION_V1_0
from cloudevents.core.v1.event import CloudEvent

from dispatcher.ports import Message
from dispatcher.queue.strict_json import compact, parsed
from dispatcher.queue.words import bad, clipped, joined, kind, quoted, refused, shown

__all__ = ["MESSAGE_ID_LENGTH_MAX", "STRUCTURED", "Event", "event_in"]

STRUCTURED = JSONFormat.CONTENT_TYPE
"""The content type of a message whose body is a whole event."""
MESSAGE_ID_LENGTH_MAX = 128
"""As Service Bus has it: https://learn.microsoft.com/azure/service-bus-messaging/service-bus-quotas"""
_FAMILY = "application/cloudevents"
_BATCH = "application/cloudevents-batch"
_PREFIXES = (amqp.CE_PREFIX_COLON, amqp.CE_PREFIX_UNDERSCORE)
_REQUIRED = {
    "specversion": f"must be {SPECVERSION_V1_0}, the version that is read",
    "id": "tells this event from all others of its source",
    "source": "says who sends it, such as /shop/orders",
    "type": "names the task",
}
_DATA = ("data", "data_base64")
_FAULT_LENGTH_MAX = 200
_EXAMPLE = '{"specversion": "1.0", "id": "a-1", "source": "/shop", "type": "thumbnail", "data": {"width": 200}}'
_FORMAT = JSONFormat()


@dataclass(frozen=True, slots=True)
class Event:
    """What we use of an event."""

    type: str
    source: str
    id: str
    data: object
    """The data as JSON; an empty object where the event has none."""
    extensions: Mapping[str, Any]
    """All attributes, extensions among them, as the event has them."""
    from_properties: bool
    """The attributes stand beside the body (binary mode), which is the data alone."""


def event_in(message: Message) -> Event | None:
    """The event that a message is; None if it is none.

    Raises BadMessage (``bad_json`` or ``bad_message``) for one that is not whole.
    """
    content_type = (message.content_type or "").partition(";")[0].strip().lower()
    if content_type == STRUCTURED:
        return _structured(message)
    if content_type.startswith(_BATCH):
        bad("bad_message", "The message is a batch of events. Send each event as a message of its own.")
    if content_type.startswith(_FAMILY):
        bad("bad_message", f"Events of the type {quoted(content_type)} are not read. Send {STRUCTURED}.")
    if any(name.startswith(_PREFIXES) for name in message.properties):
        return _binary(message, content_type)
    return None


def _structured(message: Message) -> Event:
    value = parsed(message.body)
    if isinstance(value, list):
        bad("bad_message", "The body is a list of events. Send each event as a message of its own.")
    if not isinstance(value, dict):
        bad("bad_message", f"The body is {kind(value)}, not an event. Send an object such as {_EXAMPLE}.")
    data = value.get("data", {})
    if "data_base64" in value:
        if "data" in value:
            bad("bad_message", "The event has both data and data_base64. Send data alone.")
        data = _decoded(value["data_base64"])
    # null means that an attribute is not set
    attributes = {name: each for name, each in value.items() if name not in _DATA and each is not None}
    _must_be_said(attributes)
    body = compact(attributes).encode()
    event = _judged(amqp.AMQPMessage({amqp.CONTENT_TYPE_PROPERTY: STRUCTURED}, {}, body))
    return _event(event, data, event.get_datacontenttype(), from_properties=False)


def _binary(message: Message, content_type: str) -> Event:
    attributes: dict[str, Any] = {}
    for name, value in message.properties.items():
        prefix = next((each for each in _PREFIXES if name.startswith(each)), None)
        if prefix is None or value is None:
            continue
        attribute = name.removeprefix(prefix)
        if attribute in attributes and attributes[attribute] != value:
            bad("bad_message", f"The event's {quoted(attribute)} stands twice, with different values. Send it once.")
        attributes[attribute] = value
    _must_be_said(attributes)
    event = _judged(amqp.AMQPMessage({}, {amqp.CE_PREFIX_COLON + name: attributes[name] for name in attributes}, b""))
    data = parsed(message.body) if message.body else {}
    return _event(event, data, content_type or None, from_properties=True)


def _must_be_said(attributes: Mapping[str, Any]) -> None:
    """What the library would make up where it is missing, anew at each reading."""
    faults = [f"{name} is missing; it {why}" for name, why in _REQUIRED.items() if name not in attributes]
    faults += [
        f"{name} must be a text that is not empty, not {shown(attributes[name])}"
        for name in _REQUIRED
        if name in attributes and not (isinstance(attributes[name], str) and attributes[name])
    ]
    version = attributes.get("specversion")
    if not faults and version != SPECVERSION_V1_0:
        faults.append(f"specversion {shown(version)} is not read; send {SPECVERSION_V1_0}")
    if faults:
        bad("bad_message", joined("The event is not whole", faults))


def _judged(message: amqp.AMQPMessage) -> BaseCloudEvent:
    """The event without its data, by the library."""
    try:
        return amqp.from_amqp(message, _FORMAT, CloudEvent)
    except CloudEventValidationError as error:
        faults = [clipped(f"{name}: {causes[0]}", _FAULT_LENGTH_MAX) for name, causes in error.errors.items()]
    except (ValueError, TypeError, OverflowError, OSError):  # the time is the only attribute that it reads further
        faults = ["time is no timestamp; write for example 2026-03-01T12:00:00Z"]
    raise refused("bad_message", joined("The event is not whole", faults))


def _event(event: BaseCloudEvent, data: object, content_type: str | None, *, from_properties: bool) -> Event:
    if content_type is not None and not re.match(JSONFormat.JSON_CONTENT_TYPE_PATTERN, content_type.lower()):
        bad("bad_message", f"The event's data is {quoted(content_type)}. Send JSON, as application/json.")
    return Event(
        type=event.get_type(),
        source=event.get_source(),
        id=event.get_id(),
        data=data,
        extensions=event.get_attributes(),
        from_properties=from_properties,
    )


def _decoded(text: object) -> object:
    if not isinstance(text, str):
        bad("bad_message", f"data_base64 must be a text in base64, not {kind(text)}. Send JSON as data.")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        bad("bad_message", "data_base64 is not base64. Send JSON as data.")
    return parsed(data) if data else {}
