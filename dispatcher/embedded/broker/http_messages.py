"""A message as an HTTP request brings it: body, broker properties as JSON, and headers of the sender's own.

Decides which part of the request becomes which section of a message. Knows nothing of who may send it.

Sources: "Send Message", "Send Message Batch" and "Message headers and properties" of the Service Bus REST reference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from . import codec
from .errors import CodecError
from .messages import Content, split
from .types import Symbol, Timestamp, UInt

BATCH_TYPE = "application/vnd.microsoft.servicebus.json"

_HEADER, _ANNOTATIONS, _PROPERTIES, _APPLICATION_PROPERTIES, _DATA = 0x70, 0x72, 0x73, 0x74, 0x75
_NOT_THE_SENDERS = frozenset(
    (
        "accept", "accept-encoding", "accept-language", "authorization", "brokerproperties", "cache-control",
        "connection", "content-encoding", "content-length", "content-type", "cookie", "date", "expect", "host",
        "keep-alive", "origin", "pragma", "referer", "te", "transfer-encoding", "upgrade", "user-agent", "via",
        "x-ms-retrypolicy", "x-ms-version",
    )
)  # fmt: skip
_SPAN = re.compile(r"(?:(\d{1,8})\.)?(\d{1,2}):(\d{2}):(\d{2})(?:\.(\d{1,7}))?")
_TTL_MAX_MS = 0xFFFFFFFF


class BadMessageError(ValueError):
    """The request holds no message; the text says which part of it is wrong."""


def read_message(body: bytes, content_type: str | None, headers: Iterable[tuple[str, str]], new_id: str) -> Content:
    """The message that a request brings. ``new_id`` is its id unless it has one. Raises BadMessageError."""
    pairs = list(headers)
    broker = next((value for name, value in pairs if name.lower() == "brokerproperties"), "{}")
    try:
        properties = json.loads(broker)
    except (ValueError, RecursionError) as error:
        raise BadMessageError(f"BrokerProperties is not JSON: {error}") from None
    own = {str(name): _scalar(value) for name, value in pairs if name.lower() not in _NOT_THE_SENDERS}
    return _content(body, content_type, properties, {k: v for k, v in own.items() if v is not None}, new_id)


def read_batch(body: bytes, new_ids: Iterable[str]) -> list[Content]:
    """The messages of a batch, in its order. Raises BadMessageError."""
    try:
        entries = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadMessageError(f"the batch is not JSON: {error}") from None
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise BadMessageError("a batch is an array of objects, at least one")
    contents = []
    for entry, new_id in zip(entries, new_ids, strict=False):
        text, own = entry.get("Body"), entry.get("UserProperties") or {}
        if not isinstance(text, str) or not isinstance(own, dict):
            raise BadMessageError("each message of a batch has a Body, a text, and UserProperties, an object")
        told = {str(name): value for name, value in own.items() if isinstance(value, str | bool | int | float)}
        contents.append(_content(text.encode(), None, entry.get("BrokerProperties") or {}, told, new_id))
    return contents


def _scalar(text: str) -> Any:
    """The value of a sender's own header: quoted text, a number or a truth value; None for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, str | bool | int | float) else None


def _content(body: bytes, content_type: str | None, properties: Any, own: Mapping[str, Any], new_id: str) -> Content:
    if not isinstance(properties, dict):
        raise BadMessageError("BrokerProperties is not a JSON object")
    told = {name: _text(properties, name) for name in _TEXTS}
    fields: list[Any] = [
        told["MessageId"] or new_id,
        None,
        told["To"],
        told["Label"],
        told["ReplyTo"],
        told["CorrelationId"],
        None if content_type is None else Symbol(content_type),
        None, None, None,
        told["SessionId"],
        None,
        told["ReplyToSessionId"],
    ]  # fmt: skip
    ttl_ms = _ttl_ms(properties)
    annotations: dict[Any, Any] = {}
    if told["PartitionKey"] is not None:
        annotations[Symbol("x-opt-partition-key")] = told["PartitionKey"]
    if told["ScheduledEnqueueTimeUtc"] is not None:
        due = _instant_ms(told["ScheduledEnqueueTimeUtc"])
        annotations[Symbol("x-opt-scheduled-enqueue-time")] = Timestamp(due)
    try:
        sections = [codec.encode_described(_PROPERTIES, codec.encode(fields))]
        if ttl_ms is not None:
            sections.insert(0, codec.encode_described(_HEADER, codec.encode([None, None, UInt(ttl_ms)])))
        if annotations:
            sections.insert(-1, codec.encode_described(_ANNOTATIONS, codec.encode(annotations)))
        if own:
            sections.append(codec.encode_described(_APPLICATION_PROPERTIES, codec.encode(dict(own))))
        sections.append(codec.encode_described(_DATA, codec.encode_binary(body)))
        return split(b"".join(sections))
    except CodecError as error:
        raise BadMessageError(f"a property cannot be carried: {error}") from None


_TEXTS = (
    "MessageId", "To", "Label", "ReplyTo", "CorrelationId", "SessionId", "ReplyToSessionId", "PartitionKey",
    "ScheduledEnqueueTimeUtc",
)  # fmt: skip


def _text(properties: Mapping[str, Any], name: str) -> str | None:
    value = properties.get(name)
    if value is not None and not isinstance(value, str):
        raise BadMessageError(f"BrokerProperties.{name} is not a text")
    return value or None


def _ttl_ms(properties: Mapping[str, Any]) -> int | None:
    span, seconds = properties.get("TimeToLiveTimeSpan"), properties.get("TimeToLive")
    if span is not None:
        found = _SPAN.fullmatch(span) if isinstance(span, str) else None
        if found is None:
            raise BadMessageError("BrokerProperties.TimeToLiveTimeSpan is not like 0.00:00:40")
        days, hours, minutes, whole = (int(part or 0) for part in found.groups()[:4])
        ms = (((days * 24 + hours) * 60 + minutes) * 60 + whole) * 1000 + int((found[5] or "").ljust(7, "0")[:3])
    elif seconds is not None:
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds < 1e12:
            raise BadMessageError("BrokerProperties.TimeToLive is not a number of seconds above 0")
        ms = int(seconds * 1000)
    else:
        return None
    if ms <= 0:
        raise BadMessageError("BrokerProperties: the time to live must be more than 0")
    return min(ms, _TTL_MAX_MS)


def _instant_ms(text: str) -> int:
    try:
        return int(parsedate_to_datetime(text).timestamp() * 1000)
    except (ValueError, TypeError, OverflowError):
        raise BadMessageError("BrokerProperties.ScheduledEnqueueTimeUtc is no HTTP date") from None
