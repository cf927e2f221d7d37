"""AMQP 1.0 values to bytes.

A plain int is sent as a long and a plain float with 64 bits; whoever cares for the width says so with the
wrappers of `types`. Lists and maps can also be put together from parts that are encoded already, which is how
the hot path does it. What a value means is not known here.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from typing import Any

from .errors import CodecError
from .layouts import F32, F64, I16, I32, I64, U16, U32, U64
from .types import (
    Array,
    Byte,
    Char,
    Described,
    Float,
    Int,
    Long,
    Raw,
    Short,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
    UShort,
)


def encode(value: Any) -> bytes:
    """The value as bytes, constructor included. Raises CodecError for what AMQP cannot carry."""
    encoder = _ENCODERS.get(type(value))
    if encoder is None:
        raise CodecError(f"AMQP cannot carry a {type(value).__name__}")
    try:
        return encoder(value)
    except (struct.error, UnicodeEncodeError) as error:
        raise CodecError(f"{value!r} does not fit a {type(value).__name__}: {error}") from error


def encode_list(items: list[bytes]) -> bytes:
    """A list of values that are already encoded."""
    if not items:
        return b"\x45"
    return _compound(0xC0, len(items), b"".join(items))


def encode_map(flat: list[bytes]) -> bytes:
    """A map from encoded keys and values, one after the other."""
    return _compound(0xC1, len(flat), b"".join(flat))


def encode_described(code: int, value: bytes) -> bytes:
    """An encoded value with one of the small numeric descriptors."""
    return bytes((0, 0x53, code)) + value


def encode_binary(value: bytes) -> bytes:
    """A binary value."""
    return _sized(0xA0, value)


def _compound(code: int, count: int, body: bytes) -> bytes:
    if len(body) < 255 and count < 256:
        return bytes((code, len(body) + 1, count)) + body
    return bytes((code | 0x10,)) + struct.pack(">II", len(body) + 4, count) + body


def _sized(code: int, body: bytes) -> bytes:
    if len(body) < 256:
        return bytes((code, len(body))) + body
    return bytes((code | 0x10,)) + U32.pack(len(body)) + body


def _encode_uint(value: int) -> bytes:
    if value == 0:
        return b"\x43"
    return bytes((0x52, value)) if 0 < value < 256 else b"\x70" + U32.pack(value)


def _encode_ulong(value: int) -> bytes:
    if value == 0:
        return b"\x44"
    return bytes((0x53, value)) if 0 < value < 256 else b"\x80" + U64.pack(value)


def _encode_int(value: int) -> bytes:
    return bytes((0x54, value & 0xFF)) if -128 <= value < 128 else b"\x71" + I32.pack(value)


def _encode_long(value: int) -> bytes:
    return bytes((0x55, value & 0xFF)) if -128 <= value < 128 else b"\x81" + I64.pack(value)


def _encode_sequence(value: list[Any]) -> bytes:
    return encode_list([encode(item) for item in value])


def _encode_mapping(value: dict[Any, Any]) -> bytes:
    flat: list[bytes] = []
    for key, item in value.items():
        flat += (encode(key), encode(item))
    return encode_map(flat)


def _encode_array(value: Array) -> bytes:
    code, pack = _ARRAY_ITEMS[value.kind]
    body = b"".join([pack(item) for item in value.items])
    return b"\xf0" + struct.pack(">II", len(body) + 5, len(value.items)) + bytes((code,)) + body


# In an array the constructor is written once, so every item has the same, widest, form.
_ARRAY_ITEMS: dict[type, tuple[int, Callable[[Any], bytes]]] = {
    bool: (0x56, lambda value: b"\x01" if value else b"\x00"),
    UByte: (0x50, lambda value: struct.pack(">B", value)),
    UShort: (0x60, U16.pack),
    UInt: (0x70, U32.pack),
    ULong: (0x80, U64.pack),
    Byte: (0x51, lambda value: struct.pack(">b", value)),
    Short: (0x61, I16.pack),
    Int: (0x71, I32.pack),
    Long: (0x81, I64.pack),
    Timestamp: (0x83, I64.pack),
    float: (0x82, F64.pack),
    uuid.UUID: (0x98, lambda value: value.bytes),
    bytes: (0xB0, lambda value: U32.pack(len(value)) + value),
    str: (0xB1, lambda value: U32.pack(len(value.encode())) + value.encode()),
    Symbol: (0xB3, lambda value: U32.pack(len(value)) + value.encode("ascii")),
}

_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"\x40",
    bool: lambda value: b"\x41" if value else b"\x42",
    int: _encode_long,
    float: lambda value: b"\x82" + F64.pack(value),
    str: lambda value: _sized(0xA1, value.encode()),
    bytes: lambda value: _sized(0xA0, value),
    bytearray: lambda value: _sized(0xA0, bytes(value)),
    uuid.UUID: lambda value: b"\x98" + value.bytes,
    list: _encode_sequence,
    dict: _encode_mapping,
    Symbol: lambda value: _sized(0xA3, value.encode("ascii")),
    Char: lambda value: b"\x73" + U32.pack(ord(value)),
    UByte: lambda value: b"\x50" + struct.pack(">B", value),
    UShort: lambda value: b"\x60" + U16.pack(value),
    UInt: _encode_uint,
    ULong: _encode_ulong,
    Byte: lambda value: b"\x51" + struct.pack(">b", value),
    Short: lambda value: b"\x61" + I16.pack(value),
    Int: _encode_int,
    Long: _encode_long,
    Timestamp: lambda value: b"\x83" + I64.pack(value),
    Float: lambda value: b"\x72" + F32.pack(value),
    Described: lambda value: b"\x00" + encode(value.descriptor) + encode(value.value),
    Array: _encode_array,
    Raw: bytes,
}
