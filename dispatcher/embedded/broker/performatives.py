"""The nine AMQP performatives, the SASL ones and the delivery states, as bytes and as fields.

Encoders take what the broker decides and fill in the rest; the frames of the hot path (transfer,
disposition) are put together from prepared pieces. A decoded performative is its code and its list of
fields, padded to full length, so that a field is read by its position in the standard. Nothing here knows
what a link or a queue is.
"""

from __future__ import annotations

import struct
from typing import Any

from . import codec
from .errors import AmqpError, CodecError
from .layouts import U32
from .types import Array, Described, Symbol, UByte, UInt, ULong, UShort

OPEN, BEGIN, ATTACH, FLOW, TRANSFER, DISPOSITION, DETACH, END, CLOSE = range(0x10, 0x19)
SASL_MECHANISMS, SASL_INIT, SASL_CHALLENGE, SASL_RESPONSE, SASL_OUTCOME = range(0x40, 0x45)

RECEIVED, ACCEPTED, REJECTED, RELEASED, MODIFIED = range(0x23, 0x28)

ROLE_SENDER = False
ROLE_RECEIVER = True

_FIELD_COUNTS = {
    OPEN: 10, BEGIN: 8, ATTACH: 14, FLOW: 11, TRANSFER: 11, DISPOSITION: 6, DETACH: 3, END: 1, CLOSE: 1,
    SASL_MECHANISMS: 1, SASL_INIT: 3, SASL_CHALLENGE: 1, SASL_RESPONSE: 1, SASL_OUTCOME: 2,
}  # fmt: skip

_FRAME_HEAD = struct.Struct(">IBBH")
_NULL = b"\x40"

ACCEPTED_STATE = b"\x00\x53\x24\x45"
RELEASED_STATE = b"\x00\x53\x26\x45"


def decode_performative(body: bytes) -> tuple[int, list[Any], int]:
    """The code, the fields and where the payload begins. Raises CodecError."""
    code, pos = _descriptor(body)
    count, pos, end = codec.open_compound(body, pos)
    fields, pos = codec.decode_many(body, pos, count)
    missing = _FIELD_COUNTS[code] - count
    if pos != end or missing < 0:
        raise CodecError(f"performative 0x{code:02x} does not fill its size or has too many fields")
    if missing:
        fields.extend([None] * missing)
    return code, fields, end


def raw_fields(body: bytes) -> list[bytes]:
    """The fields of a performative as the client encoded them, to be echoed unchanged."""
    _code, pos = _descriptor(body)
    count, pos, _end = codec.open_compound(body, pos)
    fields = []
    for _ in range(count):
        end = codec.skip(body, pos)
        fields.append(body[pos:end])
        pos = end
    return fields


def _descriptor(body: bytes) -> tuple[int, int]:
    if body[:2] == b"\x00\x53" and len(body) > 3:
        code, pos = body[2], 3
    else:
        if not body or body[0] != 0:
            raise CodecError("a frame without a performative")
        code, pos = codec.decode(body, 1)
    if code not in _FIELD_COUNTS:
        raise CodecError(f"unknown performative {code!r}")
    return code, pos


def _performative(code: int, fields: list[bytes]) -> bytes:
    return codec.encode_described(code, codec.encode_list(fields))


def _uint(value: int) -> bytes:
    return codec.encode(UInt(value))


def encode_error(error: AmqpError | None) -> bytes:
    """All three fields, always: the SDK reads the third without looking whether it is there."""
    if error is None:
        return _NULL
    fields = [codec.encode(Symbol(error.condition)), codec.encode(error.description), _NULL]
    return _performative(0x1D, fields)


def encode_sasl_mechanisms() -> bytes:
    """The broker asks for no password here; who may do what is settled by tokens afterwards."""
    return _performative(SASL_MECHANISMS, [codec.encode(Array(Symbol, ("ANONYMOUS",)))])


def encode_sasl_outcome(code: int) -> bytes:
    """0: ok, 1: refused."""
    return _performative(SASL_OUTCOME, [codec.encode(UByte(code))])


def encode_open(container: str, max_frame_size: int, channel_max: int, idle_timeout_ms: int) -> bytes:
    """The broker's side of opening a connection."""
    return _performative(
        OPEN,
        [
            codec.encode(container),
            _NULL,
            _uint(max_frame_size),
            codec.encode(UShort(channel_max)),
            _uint(idle_timeout_ms),
        ],
    )


def encode_begin(remote_channel: int, window: int, handle_max: int) -> bytes:
    """The broker's side of a session; transfer ids begin at 0."""
    return _performative(
        BEGIN,
        [
            codec.encode(UShort(remote_channel)),
            _uint(0),
            _uint(window),
            _uint(window),
            _uint(handle_max),
        ],
    )


def encode_attach(
    *,
    name: str,
    handle: int,
    role: bool,
    settle_modes: tuple[bytes, bytes],
    source: bytes,
    target: bytes,
    max_message_size: int = 0,
    properties: dict[Symbol, Any] | None = None,
) -> bytes:
    """The broker's side of a link; settle modes, source and target are given as encoded by the client."""
    return _performative(
        ATTACH,
        [
            codec.encode(name),
            _uint(handle),
            codec.encode(role),
            *settle_modes,
            source,
            target,
            _NULL,
            _NULL,
            _uint(0) if role is ROLE_SENDER else _NULL,
            codec.encode(ULong(max_message_size)) if max_message_size else _NULL,
            _NULL,
            _NULL,
            codec.encode(properties) if properties else _NULL,
        ],
    )


def encode_flow(
    *,
    next_incoming_id: int,
    next_outgoing_id: int,
    window: int,
    handle: int,
    delivery_count: int,
    credit: int,
    drain: bool = False,
) -> bytes:
    """Credit for a link, or the answer to a drain."""
    return _performative(
        FLOW,
        [
            _uint(next_incoming_id),
            _uint(window),
            _uint(next_outgoing_id),
            _uint(window),
            _uint(handle),
            _uint(delivery_count),
            _uint(credit),
            _uint(0),
            codec.encode(drain),
            codec.encode(False),
        ],
    )


def encode_session_flow(*, next_incoming_id: int, next_outgoing_id: int, window: int) -> bytes:
    """A flow that speaks of the session alone."""
    fields = [_uint(next_incoming_id), _uint(window), _uint(next_outgoing_id), _uint(window)]
    return _performative(FLOW, fields)


def encode_transfer(
    handle: int, delivery_id: int, tag: bytes, *, settled: bool, more: bool, message_format: int = 0
) -> bytes:
    """The performative of a transfer; the payload follows it in the frame."""
    body = b"".join(
        (
            _uint(handle),
            b"\x70",
            U32.pack(delivery_id),
            b"\xa0",
            bytes((len(tag),)),
            tag,
            _uint(message_format),
            b"\x41" if settled else b"\x42",
            b"\x41" if more else b"\x42",
        )
    )
    return b"\x00\x53\x14\xc0" + bytes((len(body) + 1, 6)) + body


def disposition_frame(channel: int, role: bool, delivery_id: int, state: bytes, last: int | None = None) -> bytes:
    """A whole frame that settles one delivery, or all up to the last one, with an encoded state."""
    size = 10 + len(state)
    if size < 255 and last is None:
        return b"".join(
            (
                _FRAME_HEAD.pack(size + 12, 2, 0, channel),
                b"\x00\x53\x15\xc0",
                bytes((size - 1, 5, 0x41 if role else 0x42, 0x70)),
                U32.pack(delivery_id),
                b"\x40\x41",
                state,
            )
        )
    fields = [codec.encode(role), b"\x70" + U32.pack(delivery_id), _NULL, b"\x41", state]
    if last is not None:
        fields[2] = b"\x70" + U32.pack(last)
    body = _performative(DISPOSITION, fields)
    return _FRAME_HEAD.pack(len(body) + 8, 2, 0, channel) + body


def encode_detach(handle: int, error: AmqpError | None) -> bytes:
    """Closes a link for good."""
    return _performative(DETACH, [_uint(handle), b"\x41", encode_error(error)])


def encode_end(error: AmqpError | None) -> bytes:
    """Ends a session."""
    return _performative(END, [encode_error(error)])


def encode_close(error: AmqpError | None) -> bytes:
    """Closes a connection."""
    return _performative(CLOSE, [encode_error(error)])


def rejected_state(error: AmqpError | None) -> bytes:
    """Rejected; without an error it means "rejected, as you asked"."""
    return _performative(REJECTED, [encode_error(error)] if error else [])


def modified_state(delivery_failed: bool, undeliverable_here: bool) -> bytes:
    """Modified, as an echo of what the client asked for."""
    return _performative(MODIFIED, [codec.encode(delivery_failed), codec.encode(undeliverable_here)])


def state_code(state: Any) -> int:
    """The descriptor of a delivery state; 0 for none. Raises CodecError for anything else."""
    if state is None:
        return 0
    if isinstance(state, Described) and isinstance(state.descriptor, int):
        return state.descriptor
    raise CodecError("a delivery state without a numeric descriptor")
