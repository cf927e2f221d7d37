"""An outcome as a CloudEvent: whole, the same for whoever reads it, and as its published schema says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cloudevents.core.bindings import amqp
from cloudevents.core.formats.json import JSONFormat
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from dispatcher.core.outcomes import Outcome, OutcomeKind
from dispatcher.core.units import Money
from dispatcher.core.work import Placement
from dispatcher.queue.outcome_events import OUTCOME_SCHEMA, from_body, to_body, to_message

VALID = Draft202012Validator(OUTCOME_SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)
NOON = datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

texts = st.text(st.characters(codec="utf-8"), max_size=40)
times = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds
outcomes = st.builds(
    Outcome,
    reply_to=st.just("outcomes"),
    kind=st.sampled_from(OutcomeKind),
    queue=st.from_regex(r"[a-z]{1,9}", fullmatch=True),
    sequence_number=st.integers(0, 2**63 - 1),
    message_id=texts,
    task=st.none() | texts,
    tenant=st.none() | texts,
    enqueued_at=times,
    ruled_at=times,
    attempts=st.integers(0, 100),
    placement=st.none() | st.sampled_from(Placement),
    started_at=st.none() | times,
    finished_at=st.none() | times,
    cost=st.none() | st.builds(Money, st.integers(0, 10**18)),
    reason=st.none() | texts,
    description=st.none() | texts,
    result_ref=st.none() | texts,
    traceparent=st.none() | st.just(TRACE),
)


def an_outcome(**changes: Any) -> Outcome:
    facts: dict[str, Any] = {
        "reply_to": "outcomes", "kind": OutcomeKind.DONE, "queue": "work", "sequence_number": 7, "message_id": "m-7",
        "task": "report", "tenant": "acme", "enqueued_at": NOON, "ruled_at": NOON + timedelta(seconds=9), "attempts": 1,
        "placement": Placement.NODE_POOL, "cost": Money(0),
    }  # fmt: skip
    return Outcome(**{**facts, **changes})


@given(outcomes)
def test_an_outcome_is_read_as_it_was_written_and_is_as_its_schema_says(outcome: Outcome) -> None:
    body = to_body(outcome)
    assert from_body(body, "outcomes") == outcome
    VALID.validate(json.loads(body))


def test_the_event_is_one_that_other_libraries_read() -> None:
    outcome = an_outcome(traceparent=TRACE, cost=Money.from_usd("0.00012345"))
    message = to_message(outcome)
    read = amqp.from_amqp(
        amqp.AMQPMessage({"content-type": message.content_type}, {}, b"".join(message.body)), JSONFormat()
    )
    assert (read.get_id(), read.get_type(), read.get_source()) == (
        outcome.event_id,
        "burst.item.done",
        "/burst-dispatcher/queues/work",
    )
    assert (read.get_subject(), read.get_time(), read.get_extension("traceparent")) == ("m-7", outcome.ruled_at, TRACE)
    data = read.get_data()
    assert isinstance(data, Mapping)
    assert data["cost"] == {"amount": "0.00012345", "currency": "USD"}
    assert (message.message_id, message.correlation_id, message.subject) == (outcome.event_id, "m-7", "burst.item.done")


def test_what_a_later_version_adds_is_left_alone() -> None:
    event = json.loads(to_body(an_outcome()))
    event["more"] = "attribute"
    event["data"]["more"] = {"field": 1}
    assert from_body(json.dumps(event).encode(), "outcomes") == an_outcome()


def spoilt(**changes: Any) -> bytes:
    event = json.loads(to_body(an_outcome()))
    event["data"] |= changes
    return json.dumps(event).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"", b"nonsense", b"\xff", b"[]", b"1", b"{}", b'{"data": 1}', spoilt(outcome="lost"), spoilt(queued_at="x"),
        spoilt(placement="moon"), spoilt(cost=3), spoilt(cost={"amount": "x"}), spoilt(outcome="dead_lettered"),
        to_body(an_outcome()).replace(b'"time"', b'"tame"'), to_body(an_outcome()).replace(b'"data"', b'"date"'),
    ],
)  # fmt: skip
def test_what_is_no_outcome_is_refused_with_a_sentence(body: bytes) -> None:
    with pytest.raises(ValueError, match="not an outcome"):
        from_body(body, "outcomes")
