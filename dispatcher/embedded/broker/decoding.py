"""Bytes to AMQP 1.0 values.

Decoding reads at a position and answers the value with the position after it, so that nothing is copied on
the way. Every length is checked against the bytes that are really there and nesting is bounded: whatever
arrives, the answer is a value or a CodecError. Numbers come back as plain ints and floats. The decimal types
are refused by name. What a value means is not known here.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from typing import Any

from .errors import CodecError
from .layouts import F32, F64, I16, I32, I64, U16, U32, U64
from .types import Char, Described, Symbol

_NESTING_MAX = 64
_ITEMS_MAX = 65_536


_Decoder = Callable[[bytes, int, int], tuple[Any, int]]


def decode(data: bytes, pos: int = 0) -> tuple[Any, int]:
    """The value at `pos` and the position after it. Raises CodecError."""
    try:
        return _DECODERS[data[pos]](data, pos + 1, 0)
    except (IndexError, struct.error, UnicodeDecodeError, TypeError) as error:
        raise CodecError(f"malformed AMQP value at byte {pos}: {error}") from error


def decode_many(data: bytes, pos: int, count: int) -> tuple[list[Any], int]:
    """So many values, one after the other from `pos`, and the position after them. Raises CodecError."""
    values: list[Any] = []
    try:
        for _ in range(count):
            value, pos = _DECODERS[data[pos]](data, pos + 1, 0)
            values.append(value)
    except (IndexError, struct.error, UnicodeDecodeError, TypeError) as error:
        raise CodecError(f"malformed AMQP value at byte {pos}: {error}") from error
    return values, pos


def skip(data: bytes, pos: int, depth: int = 0) -> int:
    """The position after the value at `pos`, without decoding it. Raises CodecError."""
    try:
        code = data[pos]
        pos += 1
        if code == 0:
            if depth > _NESTING_MAX:
                raise CodecError("AMQP value nested too deeply")
            return skip(data, skip(data, pos, depth + 1), depth + 1)
        width = code >> 4
        if width in (0xA, 0xC, 0xE):
            pos += 1 + data[pos]
        elif width in (0xB, 0xD, 0xF):
            pos += 4 + U32.unpack_from(data, pos)[0]
        else:
            pos += _FIXED_WIDTHS[width]
    except (IndexError, KeyError, struct.error) as error:
        raise CodecError(f"malformed AMQP value at byte {pos}: {error}") from error
    if pos > len(data):
        raise CodecError("AMQP value is longer than its frame")
    return pos


_FIXED_WIDTHS = {0x4: 0, 0x5: 1, 0x6: 2, 0x7: 4, 0x8: 8, 0x9: 16}


def open_compound(data: bytes, pos: int) -> tuple[int, int, int]:
    """For the list or map at `pos`: how many values it holds, where they begin, where they end.

    Raises CodecError, also for a value that is neither.
    """
    try:
        code = data[pos]
        if code == 0x45:
            return 0, pos + 1, pos + 1
        if code in (0xC0, 0xC1):
            count, begin, end = data[pos + 2], pos + 3, pos + 2 + data[pos + 1]
        elif code in (0xD0, 0xD1):
            size, count = struct.unpack_from(">II", data, pos + 1)
            begin, end = pos + 9, pos + 5 + size
        else:
            raise CodecError(f"expected a list or a map, got constructor 0x{code:02x}")
    except (IndexError, struct.error) as error:
        raise CodecError(f"malformed AMQP compound at byte {pos}: {error}") from error
    # Each value takes at least a byte, so a count beyond the size is a lie and would only cost memory.
    if end > len(data) or begin > end or count > end - begin:
        raise CodecError("AMQP compound is longer than its frame")
    return count, begin, end


def _null(_data: bytes, pos: int, _depth: int) -> tuple[Any, int]:
    return None, pos


def _true(_data: bytes, pos: int, _depth: int) -> tuple[Any, int]:
    return True, pos


def _false(_data: bytes, pos: int, _depth: int) -> tuple[Any, int]:
    return False, pos


def _zero(_data: bytes, pos: int, _depth: int) -> tuple[Any, int]:
    return 0, pos


def _boolean(data: bytes, pos: int, _depth: int) -> tuple[Any, int]:
    return data[pos] == 1, pos + 1


def _unsigned8(data: bytes, pos: int, _depth: int) -> tuple[Any, int]:
    return data[pos], pos + 1


def _signed8(data: bytes, pos: int, _depth: int) -> tuple[Any, int]:
    value = data[pos]
    return (value - 256 if value > 127 else value), pos + 1


def _fixed(layout: struct.Struct) -> _Decoder:
    unpack, width = layout.unpack_from, layout.size

    def read(data: bytes, pos: int, _depth: int) -> tuple[Any, int]:
        return unpack(data, pos)[0], pos + width

    return read


def _char(data: bytes, pos: int, _depth: int) -> tuple[Any, int]:
    code = U32.unpack_from(data, pos)[0]
    if code > 0x10FFFF:
        raise CodecError(f"not a Unicode character: {code}")
    return Char(chr(code)), pos + 4


def _uuid(data: bytes, pos: int, _depth: int) -> tuple[Any, int]:
    end = pos + 16
    if end > len(data):
        raise CodecError("uuid is longer than its frame")
    return uuid.UUID(bytes=data[pos:end]), end


def _variable(width: int, convert: Callable[[bytes], Any]) -> _Decoder:
    def read(data: bytes, pos: int, _depth: int) -> tuple[Any, int]:
        size = data[pos] if width == 1 else U32.unpack_from(data, pos)[0]
        begin = pos + width
        end = begin + size
        if end > len(data):
            raise CodecError("variable-width value is longer than its frame")
        return convert(data[begin:end]), end

    return read


def _as_is(raw: bytes) -> bytes:
    return raw


def _text(raw: bytes) -> str:
    return raw.decode()


def _symbol(raw: bytes) -> Symbol:
    return Symbol(raw.decode())  # ASCII by the standard, but the SDK lets any text through


def _empty_list(_data: bytes, pos: int, _depth: int) -> tuple[Any, int]:
    return [], pos


def _list(data: bytes, pos: int, depth: int) -> tuple[Any, int]:
    count, begin, end = open_compound(data, pos - 1)
    return _values(data, begin, end, count, depth), end


def _map(data: bytes, pos: int, depth: int) -> tuple[Any, int]:
    count, begin, end = open_compound(data, pos - 1)
    if count % 2:
        raise CodecError("a map with a key and no value")
    flat = _values(data, begin, end, count, depth)
    return dict(zip(flat[::2], flat[1::2], strict=True)), end


def _values(data: bytes, pos: int, end: int, count: int, depth: int) -> list[Any]:
    if depth >= _NESTING_MAX:
        raise CodecError("AMQP value nested too deeply")
    values = []
    for _ in range(count):
        value, pos = _DECODERS[data[pos]](data, pos + 1, depth + 1)
        values.append(value)
    if pos != end:
        raise CodecError("AMQP compound does not fill its size")
    return values


def _array(width: int) -> _Decoder:
    def read(data: bytes, pos: int, depth: int) -> tuple[Any, int]:
        if width == 1:
            size, count = data[pos], data[pos + 1]
        else:
            size, count = struct.unpack_from(">II", data, pos)
        end = pos + width + size
        if end > len(data) or count > _ITEMS_MAX or depth >= _NESTING_MAX:
            raise CodecError("AMQP array is longer than its frame or nested too deeply")
        return _array_items(data, pos + 2 * width, end, count, depth), end

    return read


def _array_items(data: bytes, pos: int, end: int, count: int, depth: int) -> list[Any]:
    code = data[pos]
    pos += 1
    descriptor = None
    if code == 0:
        descriptor, pos = _DECODERS[data[pos]](data, pos + 1, depth + 1)
        code = data[pos]
        pos += 1
    if code in (0xC0, 0xC1, 0xD0, 0xD1):
        raise CodecError("arrays of lists and maps are not supported")
    read = _DECODERS[code]
    items = []
    for _ in range(count):
        value, pos = read(data, pos, depth + 1)
        items.append(value if descriptor is None else Described(descriptor, value))
    if pos != end:
        raise CodecError("AMQP array does not fill its size")
    return items


def _described(data: bytes, pos: int, depth: int) -> tuple[Any, int]:
    if depth >= _NESTING_MAX:
        raise CodecError("AMQP value nested too deeply")
    descriptor, pos = _DECODERS[data[pos]](data, pos + 1, depth + 1)
    value, pos = _DECODERS[data[pos]](data, pos + 1, depth + 1)
    return Described(descriptor, value), pos


def _unknown(data: bytes, pos: int, _depth: int) -> tuple[Any, int]:
    raise CodecError(f"unknown AMQP constructor 0x{data[pos - 1]:02x}")


def _decimal(_data: bytes, _pos: int, _depth: int) -> tuple[Any, int]:
    raise CodecError("AMQP decimal types are not supported")


def _decoder_table() -> list[_Decoder]:
    known: dict[int, _Decoder] = {
        0x00: _described, 0x40: _null, 0x41: _true, 0x42: _false, 0x43: _zero, 0x44: _zero, 0x45: _empty_list,
        0x50: _unsigned8, 0x51: _signed8, 0x52: _unsigned8, 0x53: _unsigned8, 0x54: _signed8, 0x55: _signed8,
        0x56: _boolean, 0x60: _fixed(U16), 0x61: _fixed(I16), 0x70: _fixed(U32), 0x71: _fixed(I32),
        0x72: _fixed(F32), 0x73: _char, 0x74: _decimal, 0x80: _fixed(U64), 0x81: _fixed(I64),
        0x82: _fixed(F64), 0x83: _fixed(I64), 0x84: _decimal, 0x94: _decimal, 0x98: _uuid,
        0xA0: _variable(1, _as_is), 0xA1: _variable(1, _text), 0xA3: _variable(1, _symbol),
        0xB0: _variable(4, _as_is), 0xB1: _variable(4, _text), 0xB3: _variable(4, _symbol),
        0xC0: _list, 0xC1: _map, 0xD0: _list, 0xD1: _map, 0xE0: _array(1), 0xF0: _array(4),
    }  # fmt: skip
    return [known.get(code, _unknown) for code in range(256)]


_DECODERS = _decoder_table()
