"""A message's forms: a JSON object, a JSON object with properties beside it, or a CloudEvent.

Decides which form a message has, and brings every form to the same fields, so that all are judged by one set of rules.
What a message says in two places must be the same in both. Refuses to know tasks, tenants and rules: those are judged
in `messages`. Decides by the message alone, so that reading it again gives the same answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dispatcher.core.trace import TraceContext, read_trace
from dispatcher.ports import Message
from dispatcher.queue import cloud_events
from dispatcher.queue.strict_json import EXAMPLE, compact, parsed
from dispatcher.queue.words import bad, joined, kind, shown

__all__ = ["PROPERTIES", "Envelope", "opened", "whole_number"]

PROPERTIES = ("task", "tenant", "priority")
"""Fields that may stand as application properties instead of in the body."""
_ATTRIBUTES = {
    "tenant": "tenant",
    "priority": "priority",
    "startby": "start_by",
    "payloadref": "payload_ref",
    "replyto": "reply_to",
}
"""Extension attributes of an event, and the field that each is. Others are not ours and are left alone."""
_EVENT_WORDS = {"params": "data", "task": "the application property task", **{v: k for k, v in _ATTRIBUTES.items()}}


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a message says, whatever its form."""

    fields: Mapping[str, Any]
    """The fields as in the JSON form; of an event only those that it has. Nothing in it has been judged."""
    digest: str
    """SHA-256, hex, of the body and of what properties add to it."""
    event_type: str | None = None
    """The type of an event, which names its task; None: not an event."""
    event_id: str | None = None
    trace: TraceContext | None = None
    words: Mapping[str, str] = field(default_factory=dict)
    """How this form calls a field, where it is not the field's own name."""

    def called(self, name: str) -> str:
        """The name under which the sender knows the field."""
        return self.words.get(name, name)


def opened(message: Message) -> Envelope:
    """The fields of a message. Raises BadMessage (``bad_json`` or ``bad_message``)."""
    event = cloud_events.event_in(message)
    if event is not None:
        return _of_event(message, event)
    value = parsed(message.body)
    if not isinstance(value, dict):
        bad("bad_message", f"The body is {kind(value)}, not an object. Send an object such as {EXAMPLE}.")
    if "specversion" in value and "task" not in value:
        bad(
            "bad_message",
            "The body looks like a CloudEvent, and the message's content type does not say so. "
            f"Send it with the content type {cloud_events.STRUCTURED}.",
        )
    beside = _beside(message.properties)
    return Envelope(
        fields=_together(value, beside, "body"),
        digest=_digest(message.body, {name: said for name, said in beside.items() if name not in value}),
        trace=_trace(message.properties),
    )


def _of_event(message: Message, event: cloud_events.Event) -> Envelope:
    said = {
        name: whole_number(event.extensions[attribute]) if name == "priority" else event.extensions[attribute]
        for attribute, name in _ATTRIBUTES.items()
        if attribute in event.extensions
    }
    beside = _beside(message.properties)
    added = {name: value for name, value in beside.items() if name not in said}
    if event.from_properties:
        added |= {**said, "type": event.type, "source": event.source, "id": event.id}
    return Envelope(
        fields={"params": event.data, **_together(said, beside, "event")},
        digest=_digest(message.body, added),
        event_type=event.type,
        event_id=event.id,
        trace=_trace(message.properties, event.extensions),
        words=_EVENT_WORDS,
    )


def whole_number(value: object) -> object:
    """The number that a text of digits stands for: properties pass through systems that know only texts."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9:
        return int(value)
    return value


def _beside(properties: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: properties[name] for name in PROPERTIES if properties.get(name) is not None}
    if "priority" in found:
        found["priority"] = whole_number(found["priority"])
    return found


def _together(inside: Mapping[str, Any], beside: Mapping[str, Any], where: str) -> dict[str, Any]:
    faults = [
        f"{name} is {shown(inside[name])} in the {where} and {shown(value)} in the application property; say it once"
        for name, value in beside.items()
        if name in inside and not _same(inside[name], value)
    ]
    if faults:
        bad("bad_message", joined("The message contradicts itself", faults))
    return {**inside, **beside}


def _same(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other


def _digest(body: bytes, added: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(body)
    if added:
        digest.update(b"\n" + compact({name: str(added[name]) for name in sorted(added)}).encode(errors="replace"))
    return digest.hexdigest()


def _trace(properties: Mapping[str, Any], extensions: Mapping[str, Any] | None = None) -> TraceContext | None:
    """The first that is valid: the hop to this queue before the event's own origin."""
    return next((trace for pair in _pairs(properties, extensions or {}) if (trace := read_trace(*pair))), None)


def _pairs(properties: Mapping[str, Any], extensions: Mapping[str, Any]) -> Iterator[tuple[object, object]]:
    yield properties.get("traceparent"), properties.get("tracestate")
    yield extensions.get("traceparent"), extensions.get("tracestate")
    yield properties.get("Diagnostic-Id"), None
