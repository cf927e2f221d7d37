"""From a stream of bytes to frames, and the few bytes that surround every frame.

A frame is a size, an offset to its body, a type (AMQP or SASL) and a channel. What the body means is the
business of `performatives`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from .errors import FRAMING_ERROR, AmqpError

AMQP_HEADER = b"AMQP\x00\x01\x00\x00"
SASL_HEADER = b"AMQP\x03\x01\x00\x00"
EMPTY_FRAME = b"\x00\x00\x00\x08\x02\x00\x00\x00"

AMQP_TYPE = 0
SASL_TYPE = 1

_HEAD = struct.Struct(">IBBH")


def frame(channel: int, body: bytes, kind: int = AMQP_TYPE) -> bytes:
    """A complete frame around an encoded performative and its payload."""
    return _HEAD.pack(len(body) + 8, 2, kind, channel) + body


class FrameReader:
    """Cuts the stream of one connection into protocol headers and frames, whatever pieces it arrives in."""

    __slots__ = ("_expects_header", "_rest", "_size_max")

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._rest = b""
        self._expects_header = True

    def expect_header(self) -> None:
        """The next eight bytes are a protocol header: so it is at the start and after SASL."""
        self._expects_header = True

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Yields (kind, channel, body) for each complete frame; a protocol header has kind -1.

        Raises AmqpError (framing-error) for a size the broker did not agree to.
        """
        if self._rest:
            data = self._rest + data
            self._rest = b""
        pos, end = 0, len(data)
        while end - pos >= 8:
            if self._expects_header:
                self._expects_header = False
                header = data[pos : pos + 8]
                pos += 8
                yield -1, 0, header
                continue
            size, offset, kind, channel = _HEAD.unpack_from(data, pos)
            body = offset * 4
            if not 8 <= body <= size <= self._size_max:
                raise AmqpError(FRAMING_ERROR, f"frame of {size} bytes with a body at {body}")
            if end - pos < size:
                break
            content = data[pos + body : pos + size]
            pos += size
            yield kind, channel, content
        self._rest = data[pos:] if pos else data
