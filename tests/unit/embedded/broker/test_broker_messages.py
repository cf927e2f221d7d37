"""Messages: what is kept, what is added, what is never touched."""

from __future__ import annotations

from typing import Any

import pytest
from azure.servicebus._pyamqp._decode import decode_payload
from azure.servicebus._pyamqp._encode import encode_payload
from azure.servicebus._pyamqp.message import BatchMessage, Header, Message, Properties
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.embedded.broker.errors import CodecError
from dispatcher.embedded.broker.messages import (
    Content,
    outgoing,
    read_request,
    split,
    split_batch,
    token_to_tag,
    with_dead_letter_reason,
)


def encoded(**parts: Any) -> bytes:
    return bytes(encode_payload(bytearray(), Message(**parts)))


def delivered(content: Content, **kwargs: Any) -> Any:
    facts = {"sequence": 7, "enqueued_ms": 5, "state": 0, "delivery_count": 2} | kwargs
    return decode_payload(memoryview(outgoing(content, **facts)))


def test_the_sdk_reads_what_was_sent_and_what_was_added() -> None:
    content = split(
        encoded(
            header=Header(durable=True, priority=3, ttl=9000),
            delivery_annotations={"my-delivery": "kept"},
            message_annotations={"mine": "kept", "x-opt-partition-key": "p"},
            properties=Properties(message_id="id", group_id="g"),
            application_properties={"a": 1},
            data=[b"body"],
            footer={"f": 1},
        )
    )
    message = delivered(content, token=bytes(range(16)), locked_until_ms=99)
    assert message.header == Header(True, 3, 9000, None, 2)
    assert message.message_annotations == {
        b"x-opt-sequence-number": 7,
        b"x-opt-enqueued-time": 5,
        b"x-opt-message-state": 0,
        b"x-opt-locked-until": 99,
        b"mine": b"kept",
        b"x-opt-partition-key": b"p",
    }
    assert message.delivery_annotations[b"x-opt-lock-token"].bytes == bytes(range(16))
    assert message.delivery_annotations[b"my-delivery"] == b"kept"
    assert delivered(content).delivery_annotations == {b"my-delivery": b"kept"}
    assert (message.properties.message_id, message.properties.group_id) == (b"id", b"g")
    assert (message.application_properties, message.data, message.footer) == ({b"a": 1}, [b"body"], {b"f": 1})


def test_annotations_of_an_earlier_delivery_are_replaced() -> None:
    first = outgoing(split(encoded(data=[b"x"])), sequence=1, enqueued_ms=1, state=1, delivery_count=1, token=bytes(16))
    message = delivered(split(first), delivery_count=0)
    assert message.message_annotations[b"x-opt-sequence-number"] == 7
    assert message.message_annotations[b"x-opt-message-state"] == 0
    assert b"x-opt-locked-until" not in message.message_annotations
    assert message.delivery_annotations is None
    assert message.header.delivery_count is None or message.header.delivery_count == 0


@given(st.dictionaries(st.text(min_size=1, max_size=40), st.text(max_size=60), max_size=30), st.binary(max_size=400))
def test_any_annotations_and_body_come_back_unchanged(annotations: dict[str, str], body: bytes) -> None:
    content = split(encoded(message_annotations=annotations or None, data=[body]))
    message = delivered(content)
    for key, value in annotations.items():
        if not key.startswith("x-opt-"):
            assert message.message_annotations[key.encode()] == value.encode()
    assert message.data == [body]


def test_a_lock_token_is_the_delivery_tag_with_its_first_groups_reversed() -> None:
    from uuid import UUID

    token = bytes(range(16))
    assert UUID(bytes_le=token_to_tag(token)) == UUID(bytes=token)


def test_a_batch_is_taken_apart_into_its_messages() -> None:
    inner = [
        encoded(data=[f"m{number}".encode()], properties=Properties(message_id=f"{number}")) for number in range(3)
    ]
    batch = bytes(encode_payload(bytearray(), BatchMessage(*[None] * 5, inner, None, None, None)))
    assert [delivered(content).data for content in split_batch(batch)] == [[b"m0"], [b"m1"], [b"m2"]]


@pytest.mark.parametrize("payload", [b"", b"\x00\x53\x77\x40", b"\x00\x53\x75\xa1\x01x"])
def test_a_batch_without_messages_is_refused(payload: bytes) -> None:
    with pytest.raises(CodecError):
        split_batch(payload)


@given(st.binary(max_size=100))
def test_garbage_is_refused_with_a_codec_error(payload: bytes) -> None:
    for take_apart in (split, split_batch, read_request):
        try:
            take_apart(payload)
        except CodecError:
            continue


def test_time_to_live_and_due_time_are_read() -> None:
    from azure.servicebus._pyamqp.types import AMQPTypes

    due = {"TYPE": AMQPTypes.timestamp, "VALUE": 123}
    content = split(
        encoded(header=Header(ttl=5), message_annotations={b"x-opt-scheduled-enqueue-time": due}, data=[b""])
    )
    assert (content.ttl_ms, content.due_ms) == (5, 123)
    assert delivered(content).message_annotations[b"x-opt-scheduled-enqueue-time"] == 123


@pytest.mark.parametrize("mine", [None, {"a": 1, "DeadLetterReason": "old"}])
def test_dead_lettering_adds_two_application_properties_and_replaces_old_ones(mine: Any) -> None:
    content = split(encoded(properties=Properties(message_id="id"), application_properties=mine, data=[b"x"]))
    dead = with_dead_letter_reason(content, "why", "because")
    message = delivered(dead)
    expected = {b"DeadLetterReason": b"why", b"DeadLetterErrorDescription": b"because"}
    assert message.application_properties == ({b"a": 1} if mine else {}) | expected
    assert (message.properties.message_id, message.data) == (b"id", [b"x"])


def test_dead_lettering_without_a_reason_changes_nothing() -> None:
    content = split(encoded(data=[b"x"]))
    assert with_dead_letter_reason(content, None, None) == content
