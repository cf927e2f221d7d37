"""AMQP types that Python has no word for.

A plain `int` says nothing about its width, so a value whose type matters on the wire is wrapped: `UInt(7)`,
`Timestamp(0)`, `Symbol("amqp:not-found")`. The wrappers are ordinary ints and strings everywhere else.
Nothing here encodes or decodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class Symbol(str):
    """An ASCII name from a constrained set, such as an error condition."""

    __slots__ = ()


class Char(str):
    """One Unicode character."""

    __slots__ = ()


class UByte(int):
    """0 to 2^8 - 1."""


class UShort(int):
    """0 to 2^16 - 1."""


class UInt(int):
    """0 to 2^32 - 1."""


class ULong(int):
    """0 to 2^64 - 1."""


class Byte(int):
    """-2^7 to 2^7 - 1."""


class Short(int):
    """-2^15 to 2^15 - 1."""


class Int(int):
    """-2^31 to 2^31 - 1."""


class Long(int):
    """-2^63 to 2^63 - 1; what a plain `int` is sent as."""


class Timestamp(int):
    """Milliseconds since 1970-01-01T00:00Z."""


class Float(float):
    """A 32-bit float; a plain `float` is sent with 64 bits."""


@dataclass(frozen=True, slots=True)
class Described:
    """A value with a descriptor that says what it means, for example 0x28 for the source of a link."""

    descriptor: Any
    value: Any


@dataclass(frozen=True, slots=True)
class Array:
    """Values of one type. `kind` is that type: one of the classes here, or uuid.UUID, str, bytes, bool."""

    kind: type
    items: tuple[Any, ...]


class Raw(bytes):
    """A value that is already encoded, constructor included."""

    __slots__ = ()
