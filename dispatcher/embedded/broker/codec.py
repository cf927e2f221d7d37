"""AMQP 1.0 values to bytes and back: `decoding` and `encoding` under one name."""

from __future__ import annotations

from .decoding import decode, decode_many, open_compound, skip
from .encoding import encode, encode_binary, encode_described, encode_list, encode_map

__all__ = [
    "decode",
    "decode_many",
    "encode",
    "encode_binary",
    "encode_described",
    "encode_list",
    "encode_map",
    "open_compound",
    "skip",
]
