"""The codec: what is written is read back, garbage is refused, and the SDK's own codec agrees."""

from __future__ import annotations

import math
import struct
import uuid
from typing import Any

import pytest
from azure.servicebus._pyamqp import _decode as sdk_decode
from azure.servicebus._pyamqp import _encode as sdk_encode
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.embedded.broker import codec
from dispatcher.embedded.broker import types as t
from dispatcher.embedded.broker.errors import CodecError

bytes_max = st.binary(max_size=600)
text = st.text(max_size=300)
symbols = st.text(st.characters(max_codepoint=127), max_size=300).map(t.Symbol)


def bounded(kind: type, bits: int, signed: bool) -> st.SearchStrategy[Any]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.integers(low, high).map(kind)


integers = st.one_of(
    bounded(t.UByte, 8, False),
    bounded(t.UShort, 16, False),
    bounded(t.UInt, 32, False),
    bounded(t.ULong, 64, False),
    bounded(t.Byte, 8, True),
    bounded(t.Short, 16, True),
    bounded(t.Int, 32, True),
    bounded(t.Long, 64, True),
    bounded(t.Timestamp, 64, True),
    bounded(int, 64, True),
)
floats = st.one_of(st.floats(allow_nan=False), st.floats(allow_nan=False, width=32).map(t.Float))
scalars = st.one_of(
    st.none(), st.booleans(), integers, floats, bytes_max, text, symbols, st.uuids(),
    st.characters(exclude_categories=["Cs"]).map(t.Char),
)  # fmt: skip
keys = st.one_of(text, symbols, bounded(t.ULong, 64, False))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.dictionaries(keys, inner, max_size=6),
        st.builds(t.Described, st.one_of(bounded(t.ULong, 64, False), symbols), inner),
    ),
    max_leaves=20,
)
arrays = st.one_of(
    st.lists(st.uuids()).map(lambda items: t.Array(uuid.UUID, tuple(items))),
    st.lists(bounded(t.Long, 64, True)).map(lambda items: t.Array(t.Long, tuple(items))),
    st.lists(bounded(t.Timestamp, 64, True)).map(lambda items: t.Array(t.Timestamp, tuple(items))),
    st.lists(symbols).map(lambda items: t.Array(t.Symbol, tuple(items))),
    st.lists(text).map(lambda items: t.Array(str, tuple(items))),
    st.lists(st.binary(max_size=20)).map(lambda items: t.Array(bytes, tuple(items))),
    st.lists(st.booleans()).map(lambda items: t.Array(bool, tuple(items))),
)


@given(values)
def test_every_value_is_read_back_as_it_was_written(value: Any) -> None:
    encoded = codec.encode(value)
    assert codec.decode(encoded) == (value, len(encoded))


@given(arrays)
def test_every_array_is_read_back_as_it_was_written(array: t.Array) -> None:
    encoded = codec.encode(array)
    assert codec.decode(encoded) == (list(array.items), len(encoded))


@given(st.one_of(values, arrays), st.binary(max_size=10))
def test_skipping_a_value_ends_where_reading_it_ends(value: Any, after: bytes) -> None:
    encoded = codec.encode(value)
    assert codec.skip(encoded + after, 0) == len(encoded)


@given(st.binary(max_size=200))
def test_garbage_is_a_value_or_a_codec_error_and_nothing_else(data: bytes) -> None:
    for read in (codec.decode, codec.skip):
        try:
            read(data, 0)
        except CodecError:
            continue


@given(st.one_of(values, arrays), st.data())
def test_a_value_cut_short_is_refused(value: Any, data: st.DataObject) -> None:
    encoded = codec.encode(value)
    cut = encoded[: data.draw(st.integers(0, len(encoded) - 1))]
    with pytest.raises(CodecError):
        codec.skip(cut, 0)


def sdk_value(value: Any) -> Any:
    """A value as the SDK's decoder gives it: text and symbols as bytes, descriptors dropped."""
    if isinstance(value, str) and not isinstance(value, t.Char):
        return value.encode()
    if isinstance(value, list):
        return [sdk_value(item) for item in value]
    if isinstance(value, dict):
        return {sdk_value(key): sdk_value(item) for key, item in value.items()}
    return value


plain = st.recursive(
    st.one_of(st.none(), st.booleans(), integers, floats, bytes_max, text, symbols, st.uuids()),
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(st.one_of(text, symbols), inner, max_size=6)),
    max_leaves=20,
)


@given(plain)
def test_the_sdk_reads_what_this_codec_writes(value: Any) -> None:
    buffer = memoryview(codec.encode(value))
    rest, read = sdk_decode._DECODE_BY_CONSTRUCTOR[buffer[0]](buffer[1:])
    assert len(rest) == 0
    assert read == sdk_value(value)


sdk_plain = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**31), 2**31 - 1), st.floats(allow_nan=False), bytes_max, text,
        st.uuids(),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(text, inner, max_size=6)),
    max_leaves=20,
)  # fmt: skip


@given(sdk_plain)
def test_this_codec_reads_what_the_sdk_writes(value: Any) -> None:
    output = bytearray()
    sdk_encode.encode_value(output, value)
    assert codec.decode(bytes(output)) == (value, len(output))


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (None, "40"),
        (True, "41"),
        (t.UInt(0), "43"),
        (t.UInt(255), "52ff"),
        (t.UInt(256), "7000000100"),
        (t.ULong(0), "44"),
        (t.ULong(0x24), "5324"),
        (t.Int(-1), "54ff"),
        (-129, "81ffffffffffffff7f"),
        (t.Timestamp(1), "830000000000000001"),
        (t.Symbol("a"), "a30161"),
        ("ä", "a102c3a4"),
        ([], "45"),
        ([t.UInt(1)], "c0030152" + "01"),
        ({}, "c10100"),
        (1.0, "823ff0000000000000"),
        (t.Float(1.0), "723f800000"),
        (t.Described(t.ULong(0x24), []), "00532445"),
    ],
)
def test_the_encodings_are_those_of_the_standard(value: Any, encoded: str) -> None:
    assert codec.encode(value).hex() == encoded


def test_nan_survives() -> None:
    value, _ = codec.decode(codec.encode(math.nan))
    assert math.isnan(value)


@pytest.mark.parametrize("code", [0x74, 0x84, 0x94])
def test_decimals_are_refused_by_name(code: int) -> None:
    with pytest.raises(CodecError, match="decimal"):
        codec.decode(bytes([code]) + bytes(16))


def test_a_count_beyond_the_bytes_allocates_nothing() -> None:
    with pytest.raises(CodecError):
        codec.decode(b"\xd0" + struct.pack(">II", 4, 0xFFFFFFFF))
    with pytest.raises(CodecError):
        codec.decode(b"\xf0" + struct.pack(">II", 5, 0xFFFFFFFF) + b"\x40")


def test_endless_nesting_is_refused() -> None:
    value: Any = None
    for _ in range(100):
        value = [value]
    encoded = codec.encode(value)
    with pytest.raises(CodecError, match="nested too deeply"):
        codec.decode(encoded)
    with pytest.raises(CodecError, match="nested too deeply"):
        codec.skip(b"\x00" * 5000, 0)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, object(), t.UByte(256), t.UInt(-1), t.Symbol("ä")])
def test_what_amqp_cannot_carry_is_refused(value: Any) -> None:
    with pytest.raises(CodecError):
        codec.encode(value)
