"""Which parts of a message the broker reads, which it writes, and which it never touches.

An arriving message is split once: time-to-live and user annotations are kept apart, properties and body stay
the bytes they were. What leaves is those bytes behind a header and annotations made for this delivery:
delivery count, sequence number, lock. Only dead-lettering reaches further in, to add two application
properties. When any of this happens is decided by `queue` and its callers.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from . import codec
from .errors import CodecError
from .layouts import U32
from .types import Described

BATCH_FORMAT = 0x80013700

_HEADER, _DELIVERY_ANNOTATIONS, _ANNOTATIONS, _PROPERTIES, _APPLICATION_PROPERTIES, _DATA = range(0x70, 0x76)
_SEQUENCE, _VALUE, _FOOTER = range(0x76, 0x79)

_SCHEDULED = "x-opt-scheduled-enqueue-time"
# The broker writes these itself; a copy that came with the message (forwarded, sent again) is dropped.
_OWN_ANNOTATIONS = frozenset(
    (
        "x-opt-sequence-number",
        "x-opt-enqueued-time",
        "x-opt-locked-until",
        "x-opt-message-state",
        "x-opt-lock-token",
        "x-opt-enqueue-sequence-number",
    )
)
_DEAD_LETTER_PROPERTIES = ("DeadLetterReason", "DeadLetterErrorDescription")

_PLAIN_HEADER = b"\x40\x40"


class Content(NamedTuple):
    """A message as its sender made it, split into what the broker needs apart."""

    body: bytes  # properties, application properties, data or value, footer: untouched
    annotations: bytes = b""  # encoded keys and values
    annotation_count: int = 0  # keys and values counted one by one, as a map counts them
    delivery_annotations: bytes = b""  # encoded keys and values, without the lock
    delivery_annotation_count: int = 0
    header: bytes = _PLAIN_HEADER  # encoded durable and priority
    ttl_ms: int | None = None
    due_ms: int | None = None  # when a scheduled message becomes available

    @property
    def size(self) -> int:
        """Bytes the message takes."""
        return len(self.body) + len(self.annotations) + len(self.delivery_annotations) + len(self.header)


def message_id_of(content: Content) -> bytes | None:
    """The message id as its sender encoded it, or None if it has none. Raises CodecError."""
    for code, _begin, value, _end in _sections(content.body):
        if code == _PROPERTIES:
            count, pos, _ = codec.open_compound(content.body, value)
            encoded = content.body[pos : codec.skip(content.body, pos)] if count else b"\x40"
            return None if encoded == b"\x40" else encoded
    return None


class _Parts:
    """What has been found so far while the sections of one message are walked."""

    __slots__ = ("annotations", "bare", "delivery_annotations", "due_ms", "header", "ttl_ms")

    def __init__(self) -> None:
        self.bare: list[bytes] = []
        self.annotations: list[bytes] = []
        self.delivery_annotations: list[bytes] = []
        self.header = _PLAIN_HEADER
        self.ttl_ms: int | None = None
        self.due_ms: int | None = None


def split(payload: bytes) -> Content:
    """Takes one encoded message apart. Raises CodecError."""
    parts = _Parts()
    for code, begin, value, end in _sections(payload):
        if code == _HEADER:
            _read_header(payload, value, parts)
        elif code == _ANNOTATIONS:
            parts.annotations, parts.due_ms = _read_annotations(payload, value)
        elif code == _DELIVERY_ANNOTATIONS:
            parts.delivery_annotations, _due_ms = _read_annotations(payload, value)
        else:
            parts.bare.append(payload[begin:end])
    body = parts.bare[0] if len(parts.bare) == 1 else b"".join(parts.bare)
    return Content(
        body,
        b"".join(parts.annotations),
        2 * len(parts.annotations),
        b"".join(parts.delivery_annotations),
        2 * len(parts.delivery_annotations),
        parts.header,
        parts.ttl_ms,
        parts.due_ms,
    )


def split_batch(payload: bytes) -> list[Content]:
    """Takes a batch apart: each data section of the envelope is one encoded message. Raises CodecError."""
    contents = []
    for code, _begin, value, _end in _sections(payload):
        if code == _DATA:
            message, _ = codec.decode(payload, value)
            if not isinstance(message, bytes):
                raise CodecError("a data section that holds no binary")
            contents.append(split(message))
    if not contents:
        raise CodecError("a batch without a message")
    return contents


def _sections(payload: bytes) -> list[tuple[int, int, int, int]]:
    """(code, where the section begins, where its value begins, where it ends), in the order sent."""
    sections = []
    pos, total = 0, len(payload)
    while pos < total:
        begin = pos
        if pos + 3 >= total or payload[pos] != 0:
            raise CodecError("a message section without a descriptor")
        code: Any
        if payload[pos + 1] == 0x53:
            code, value = payload[pos + 2], pos + 3
        else:
            code, value = codec.decode(payload, pos + 1)
        if not isinstance(code, int) or not _HEADER <= code <= _FOOTER:
            raise CodecError(f"unknown message section {code!r}")
        pos = codec.skip(payload, value)
        sections.append((int(code), begin, value, pos))
    return sections


def _read_header(payload: bytes, pos: int, parts: _Parts) -> None:
    count, pos, _end = codec.open_compound(payload, pos)
    spans: list[bytes] = []
    for index in range(min(count, 3)):
        end = codec.skip(payload, pos)
        if index < 2:
            spans.append(payload[pos:end])
        else:
            ttl, _ = codec.decode(payload, pos)
            parts.ttl_ms = int(ttl) if ttl is not None else None
        pos = end
    parts.header = b"".join(spans) + b"\x40" * (2 - len(spans))


def _read_annotations(payload: bytes, pos: int) -> tuple[list[bytes], int | None]:
    """The encoded pairs that are the sender's own, and the due time if one of them says it."""
    count, pos, end = codec.open_compound(payload, pos)
    pairs: list[bytes] = []
    due_ms = None
    for _ in range(count // 2):
        key, value = codec.decode(payload, pos)
        after = codec.skip(payload, value)
        if key not in _OWN_ANNOTATIONS:
            pairs.append(payload[pos:after])
            if key == _SCHEDULED:
                due, _ = codec.decode(payload, value)
                due_ms = int(due) if due is not None else None
        pos = after
    if pos != end:
        raise CodecError("annotations do not fill their size")
    return pairs, due_ms


# --- what leaves -------------------------------------------------------------------------------------------

_LONG = struct.Struct(">q")


def _key(name: str) -> bytes:
    return b"\xa3" + bytes((len(name),)) + name.encode()


_LOCK_KEY = _key("x-opt-lock-token") + b"\x98"
_LOCK_SECTION = b"\x00\x53\x71\xc1\x24\x02" + _LOCK_KEY
_SEQUENCE_KEY = _key("x-opt-sequence-number") + b"\x81"
_ENQUEUED_KEY = _key("x-opt-enqueued-time") + b"\x83"
_STATE_KEY = _key("x-opt-message-state") + b"\x54"
_LOCKED_UNTIL_KEY = _key("x-opt-locked-until") + b"\x83"


def token_to_tag(token: bytes) -> bytes:
    """A lock token as a delivery tag: .NET writes the first three groups of a uuid backwards."""
    return token[3::-1] + token[5:3:-1] + token[7:5:-1] + token[8:]


def outgoing(
    content: Content,
    *,
    sequence: int,
    enqueued_ms: int,
    state: int,
    delivery_count: int,
    token: bytes | None = None,
    locked_until_ms: int = 0,
) -> bytes:
    """The message as one receiver gets it: with its lock if it has one."""
    ttl = content.ttl_ms
    head = b"".join(
        (
            content.header,
            b"\x40" if ttl is None else b"\x70" + U32.pack(min(ttl, 0xFFFFFFFF)),
            b"\x40",
            b"\x43" if not delivery_count else b"\x70" + U32.pack(delivery_count),
        )
    )
    marks = [
        _SEQUENCE_KEY,
        _LONG.pack(sequence),
        _ENQUEUED_KEY,
        _LONG.pack(enqueued_ms),
        _STATE_KEY,
        bytes((state,)),
    ]
    lock = b""
    count = 6 + content.annotation_count
    if token is not None:
        marks += (_LOCKED_UNTIL_KEY, _LONG.pack(locked_until_ms))
        lock = _LOCK_SECTION + token
        count += 2
    if content.delivery_annotations:
        lock = _delivery_annotations(content, token)
    if content.annotations:
        marks.append(content.annotations)
    annotations = b"".join(marks)
    if len(annotations) < 255 and count < 256:
        opening = bytes((0, 0x53, 0x72, 0xC1, len(annotations) + 1, count))
    else:
        opening = b"\x00\x53\x72\xd1" + struct.pack(">II", len(annotations) + 4, count)
    return b"".join((b"\x00\x53\x70\xc0", bytes((len(head) + 1, 5)), head, lock, opening, annotations, content.body))


def _delivery_annotations(content: Content, token: bytes | None) -> bytes:
    """The sender's own delivery annotations, which travel along, with the lock if there is one."""
    pairs = content.delivery_annotations + (b"" if token is None else _LOCK_KEY + token)
    count = content.delivery_annotation_count + (0 if token is None else 2)
    return b"\x00\x53\x71\xd1" + struct.pack(">II", len(pairs) + 4, count) + pairs


def with_dead_letter_reason(content: Content, reason: str | None, description: str | None) -> Content:
    """The message with the application properties a dead-letter queue adds. Raises CodecError."""
    added = [
        (name, text)
        for name, text in zip(_DEAD_LETTER_PROPERTIES, (reason, description), strict=True)
        if text is not None
    ]
    before, after = b"", b""
    pairs: list[bytes] = []
    for code, begin, value, end in _sections(content.body):
        if code == _PROPERTIES:
            before = content.body[begin:end]
        elif code == _APPLICATION_PROPERTIES:
            pairs = _foreign_pairs(content.body, value)
        else:
            after += content.body[begin:end]
    for name, text in added:
        pairs += (codec.encode(name), codec.encode(text))
    section = codec.encode_described(_APPLICATION_PROPERTIES, codec.encode_map(pairs)) if pairs else b""
    return content._replace(body=before + section + after)


def _foreign_pairs(body: bytes, pos: int) -> list[bytes]:
    """The application properties as they are, without those of an earlier dead-lettering."""
    count, pos, _end = codec.open_compound(body, pos)
    pairs: list[bytes] = []
    for _ in range(count // 2):
        key, value = codec.decode(body, pos)
        end = codec.skip(body, value)
        if key not in _DEAD_LETTER_PROPERTIES:
            pairs += (body[pos:value], body[value:end])
        pos = end
    return pairs


# --- requests and replies of $cbs and $management ----------------------------------------------------------


class Request(NamedTuple):
    """A message to a request/response node."""

    message_id: Any
    properties: dict[str, Any]
    body: Any


def read_request(payload: bytes) -> Request:
    """The parts of a request that matter. Raises CodecError."""
    message_id: Any = None
    properties: Any = {}
    body: Any = None
    for code, _begin, value, _end in _sections(payload):
        if code == _PROPERTIES:
            fields, _ = codec.decode(payload, value)
            message_id = fields[0] if fields else None
        elif code == _APPLICATION_PROPERTIES:
            properties, _ = codec.decode(payload, value)
        elif code == _VALUE:
            body, _ = codec.decode(payload, value)
    if not isinstance(properties, dict) or isinstance(body, Described):
        raise CodecError("a request whose application properties are no map")
    return Request(message_id, properties, body)


def reply(correlation_id: Any, properties: dict[str, Any], body: Any = None) -> bytes:
    """A reply; the correlation id keeps the type of the message id it answers."""
    fields = [b"\x40"] * 5 + [encode_message_id(correlation_id)]
    return b"".join(
        (
            codec.encode_described(_PROPERTIES, codec.encode_list(fields)),
            codec.encode_described(_APPLICATION_PROPERTIES, codec.encode(properties)),
            codec.encode_described(_VALUE, codec.encode(body)),
        )
    )


def encode_message_id(message_id: Any) -> bytes:
    """A message id may be a number (then an unsigned one), a uuid, binary or text."""
    if isinstance(message_id, int):
        return b"\x80" + struct.pack(">Q", message_id)
    return codec.encode(message_id)
