"""One item in every form that a message may have: the same work, refused for the same reasons."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings import amqp
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.trace import TraceContext
from dispatcher.core.units import Resources
from dispatcher.core.work import Task, WorkItem
from dispatcher.errors import BadConfiguration, BadMessage
from dispatcher.ports import Message
from dispatcher.queue.messages import to_item
from dispatcher.queue.task_table import QueueRules, TaskTable
from dispatcher.queue.words import DESCRIPTION_MAX

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
REQUESTED = "com.example.report.requested"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NEWER = "00-4bf92f3577b34da6a3ce929d0e0e4736-aaaaaaaaaaaaaaaa-00"
COUNTRY = {"type": "object", "required": ["country"], "additionalProperties": False, "properties": {"country": {}}}
RULES = QueueRules(tasks=frozenset({"report"}), tenants=("acme", "globex"), priority_max=5)


def a_task(name: str, **changed: Any) -> Task:
    return Task(name=name, image="i", command=("c",), requests=Resources(100, 1), **changed)


TABLE = TaskTable.of([a_task("report", params_schema=COUNTRY, event_types=(REQUESTED,)), a_task("thumbnail")])


def a_message(
    body: object = b"",
    properties: dict[str, Any] | None = None,
    content_type: str | None = None,
    message_id: str = "m-1",
) -> Message:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Message(7, message_id, data, NOON, content_type=content_type, properties=properties or {})


def read(message: Message, rules: QueueRules = RULES) -> WorkItem:
    return to_item(message, "work", TABLE, rules, received_at=NOON)


def refused(message: Message, rules: QueueRules = RULES) -> BadMessage:
    with pytest.raises(BadMessage) as caught:
        read(message, rules)
    return caught.value


def work_of(item: WorkItem) -> tuple[Any, ...]:
    return item.task, item.tenant, item.priority, item.params_json


WORK = ("report", "acme", 2, '{"country":"Kenya"}')
PARAMS = {"country": "Kenya"}


def an_event(**attributes: Any) -> dict[str, Any]:
    """A structured event; an attribute of None is left out."""
    event = {"specversion": "1.0", "id": "e-1", "source": "/shop", "type": REQUESTED, "tenant": "acme", "priority": 2}
    return {name: value for name, value in {**event, "data": PARAMS, **attributes}.items() if value is not None}


def structured(event: object, **changed: Any) -> Message:
    return a_message(event, content_type="application/cloudevents+json", **changed)


def binary(
    prefix: str = "cloudEvents:", body: object = None, content_type: str | None = None, **attributes: Any
) -> Message:
    event = an_event(data=None, **attributes)
    return a_message(
        PARAMS if body is None else body, {prefix + name: value for name, value in event.items()}, content_type
    )


# --- the same work in every form ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        a_message({"task": "report", "tenant": "acme", "params": PARAMS, "priority": 2}),
        a_message({"params": PARAMS}, {"task": "report", "tenant": "acme", "priority": 2}),
        a_message({"params": PARAMS, "tenant": "acme"}, {"task": "report", "tenant": "acme", "priority": "2"}),
        a_message({"task": "report", "params": PARAMS}, {"tenant": "acme", "priority": 2, "region": "north"}),
        structured(an_event()),
        structured(an_event(type="report")),
        structured(an_event(priority="2")),
        structured(an_event(priority=None), properties={"priority": 2}),
        structured(an_event(subject="x", time="2026-03-01T12:00:00Z", dataschema="urn:x", whatever=1)),
        structured({**an_event(), "subject": None, "datacontenttype": "application/json; charset=utf-8"}),
        structured(an_event(data=None, data_base64="eyJjb3VudHJ5IjogIktlbnlhIn0=")),
        a_message(an_event(), content_type="Application/CloudEvents+JSON; charset=UTF-8"),
        binary(),
        binary("cloudEvents_"),
        binary(content_type="application/json"),
        binary(content_type="text/json; charset=utf-8"),
        binary(time=1_772_366_400_000),
        binary(time="2026-03-01T12:00:00+01:00", priority="2"),
    ],
)
def test_every_form_gives_the_same_work(message: Message) -> None:
    assert work_of(read(message)) == WORK


def test_what_the_library_writes_is_read() -> None:
    attributes = {"type": "report", "source": "/shop", "tenant": "acme", "priority": 2}
    for convert in (amqp.to_binary_event, amqp.to_structured_event):
        for data in (PARAMS, json.dumps(PARAMS).encode()):
            written = convert(CloudEvent({**attributes, "datacontenttype": "application/json"}, data))
            message = a_message(
                written.application_data, written.application_properties, written.properties["content-type"]
            )
            assert work_of(read(message)) == WORK


def test_an_event_without_data_has_no_params() -> None:
    anything = QueueRules(tenants=("acme",), priority_max=5)
    assert read(structured(an_event(type="thumbnail", data=None)), anything).params_json == "{}"
    assert read(binary(body=b"", type="thumbnail"), anything).params_json == "{}"
    assert refused(structured(an_event(data=None))).reason == "bad_params"


# --- identity -------------------------------------------------------------------------------------------------------


def test_the_id_is_the_messages_own_before_the_events() -> None:
    assert read(structured(an_event())).message_id == "m-1"
    assert read(structured(an_event(), message_id="")).message_id == "e-1"
    bad = refused(structured(an_event(id="e" * 129), message_id=""))
    assert bad.reason == "bad_message"
    assert "129 characters" in bad.description


def test_the_digest_of_a_body_that_says_all_is_the_bodys_own() -> None:
    body = json.dumps({"task": "report", "tenant": "acme", "params": PARAMS}).encode()
    for properties in ({}, {"tenant": "acme", "region": "north", "traceparent": PARENT}):
        assert read(a_message(body, properties)).digest == hashlib.sha256(body).hexdigest()


def test_messages_with_one_body_are_copies_only_if_their_properties_say_the_same() -> None:
    def of_properties(**properties: Any) -> str:
        body = {"params": PARAMS}
        return read(a_message(body, {"task": "report", "tenant": "acme", **properties})).digest

    assert of_properties() == of_properties(region="north", traceparent=PARENT)
    assert of_properties() != of_properties(tenant="globex")
    assert of_properties() != of_properties(priority=1)
    assert read(binary()).digest == read(binary("cloudEvents_", time=1_772_366_400_000)).digest
    for changed in ({"id": "e-2"}, {"source": "/other"}, {"tenant": "globex"}, {"type": "report"}, {"priority": 1}):
        assert read(binary()).digest != read(binary(**changed)).digest


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "reason", "part"),
    [
        (
            a_message({"task": "report", "tenant": "acme", "params": PARAMS}, {"tenant": "globex"}),
            "bad_message",
            'tenant is "acme" in the body and "globex" in the application property; say it once',
        ),
        (a_message({"task": "report", "params": PARAMS}, {"task": "thumbnail"}), "bad_message", "contradicts itself"),
        (a_message({"params": {}, "priority": 1}, {"task": "report", "priority": 2}), "bad_message", "priority is 1"),
        (a_message({"params": {}, "priority": True}, {"task": "report", "priority": 1}), "bad_message", "is true"),
        (a_message({"params": PARAMS}, {"task": 3, "tenant": "acme"}), "bad_message", "not a number"),
        (a_message({"params": PARAMS}, {"task": "report", "priority": "high"}), "bad_message", 'not "high"'),
        (a_message({"params": PARAMS}, {"task": "report", "priority": True}), "bad_message", "not true"),
        (a_message({"params": PARAMS}, {"tenant": "acme"}), "bad_message", "task is missing"),
        (a_message({"params": PARAMS}, {"task": "report", "tenant": "evil"}), "tenant_not_allowed", "'evil'"),
        (a_message({"params": PARAMS}, {"task": "rapport", "tenant": "acme"}), "unknown_task", "mean 'report'"),
        (a_message({"params": {}}, {"task": "report", "tenant": "acme", "priority": 6}), "priority_not_allowed", "5"),
        (a_message(an_event()), "bad_message", "Send it with the content type application/cloudevents+json"),
        (structured([an_event()]), "bad_message", "a message of its own"),
        (structured("x"), "bad_message", "a string, not an event"),
        (structured(b"{"), "bad_json", "line 1"),
        (structured(b'{"id": 1, "id": 2}'), "bad_json", "'id' stands twice"),
        (a_message([an_event()], content_type="application/cloudevents-batch+json"), "bad_message", "is a batch of"),
        (a_message(b"x", content_type="application/cloudevents+avro"), "bad_message", "cloudevents+avro' are not read"),
        (structured(an_event(specversion="0.3")), "bad_message", 'specversion "0.3" is not read; send 1.0'),
        (structured(an_event(specversion=None)), "bad_message", "specversion is missing"),
        (structured(an_event(id=None)), "bad_message", "id is missing; it tells this event from all others"),
        (structured(an_event(source="")), "bad_message", "source must be a text that is not empty"),
        (structured(an_event(type=3)), "bad_message", "type must be a text that is not empty, not 3"),
        (structured(an_event(time="yesterday")), "bad_message", "time is no timestamp"),
        (structured(an_event(time=3)), "bad_message", "time is no timestamp"),
        (structured(an_event(time="2026-03-01T12:00:00")), "bad_message", "timezone"),
        (structured(an_event(subject="")), "bad_message", "subject"),
        (structured(an_event(Loud=1)), "bad_message", "Loud"),
        (structured(an_event(datacontenttype="text/xml")), "bad_message", "data is 'text/xml'. Send JSON"),
        (structured(an_event(data='{"country": "Kenya"}')), "bad_message", "data must be an object, not a string"),
        (structured(an_event(data_base64="e30=")), "bad_message", "both data and data_base64"),
        (structured(an_event(data=None, data_base64="e30")), "bad_message", "not base64"),
        (structured(an_event(data=None, data_base64="e3 0=")), "bad_message", "not base64"),
        (structured(an_event(data=None, data_base64=3)), "bad_message", "not a number"),
        (structured(an_event(data=None, data_base64="e30gMQ==")), "bad_json", "line 1"),
        (structured(an_event(data={"town": "Nairobi"})), "bad_params", "data: 'country' is a required property"),
        (structured(an_event(tenant="evil")), "tenant_not_allowed", "'evil'"),
        (structured(an_event(tenant=None)), "tenant_not_allowed", "names no tenant"),
        (structured(an_event(priority=9)), "priority_not_allowed", "9"),
        (structured(an_event(priority="-1")), "bad_message", 'not "-1"'),
        (structured(an_event(startby="x", payloadref="y")), "bad_message", "leave startby out; payloads cannot"),
        (structured(an_event(type="com.example.report.request")), "unknown_task", f"Did you mean '{REQUESTED}'?"),
        (structured(an_event(type="thumbnail")), "task_not_allowed", f"takes: {REQUESTED}, report"),
        (structured(an_event(), properties={"task": "thumbnail"}), "bad_message", "work for the task 'report'"),
        (structured(an_event(), properties={"tenant": "globex"}), "bad_message", 'tenant is "acme" in the event'),
        (binary(id=None), "bad_message", "id is missing"),
        (a_message(PARAMS, {"cloudEvents:type": "report"}), "bad_message", "specversion is missing"),
        (binary(content_type="application/xml"), "bad_message", "'application/xml'"),
        (binary(body=b"<xml/>"), "bad_json", "line 1"),
        (binary(body=[1]), "bad_message", "data must be an object, not a list"),
        (binary(time=10**30), "bad_message", "time is no timestamp"),
        (
            a_message(PARAMS, {**binary().properties, "cloudEvents_tenant": "globex"}),
            "bad_message",
            "'tenant' stands twice, with different values",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_the_place_and_the_remedy(message: Message, reason: str, part: str) -> None:
    bad = refused(message)
    assert (bad.reason, part in bad.description) == (reason, True), f"{bad.reason}: {bad.description}"


def test_a_property_task_that_agrees_with_the_event_is_no_contradiction() -> None:
    assert work_of(read(structured(an_event(), properties={"task": "report", "tenant": "acme"}))) == WORK


def test_an_event_type_belongs_to_one_task() -> None:
    with pytest.raises(BadConfiguration) as caught:
        TaskTable.of([a_task("a", event_types=("x", "a")), a_task("b", event_types=("x", "a"))])
    assert caught.value.mistakes == [
        "tasks.b.event_types: 'x' is of the task 'a'; give it to one",
        "tasks.b.event_types: 'a' is of the task 'a'; give it to one",
    ]


# --- trace ----------------------------------------------------------------------------------------------------------

PLAIN = {"task": "report", "tenant": "acme", "params": PARAMS}


@pytest.mark.parametrize(
    ("message", "trace"),
    [
        (a_message(PLAIN), None),
        (a_message(PLAIN, {"traceparent": PARENT, "tracestate": "a=1"}), TraceContext(PARENT, "a=1")),
        (a_message(PLAIN, {"Diagnostic-Id": PARENT, "tracestate": "a=1"}), TraceContext(PARENT)),
        (a_message(PLAIN, {"traceparent": "no", "tracestate": "a=1", "Diagnostic-Id": PARENT}), TraceContext(PARENT)),
        (a_message(PLAIN, {"traceparent": 3, "Diagnostic-Id": "|a.1"}), None),
        (a_message(PLAIN, {"traceparent": PARENT, "tracestate": "NO"}), TraceContext(PARENT)),
        (structured(an_event(traceparent=PARENT, tracestate="a=1")), TraceContext(PARENT, "a=1")),
        (structured(an_event(traceparent=PARENT), properties={"traceparent": NEWER}), TraceContext(NEWER)),
        (structured(an_event(traceparent=PARENT), properties={"traceparent": "broken"}), TraceContext(PARENT)),
        (structured(an_event(traceparent={"a": 1})), None),
        (binary(traceparent=PARENT), TraceContext(PARENT)),
    ],
)  # fmt: skip
def test_the_trace_is_found_and_a_bad_one_is_never_poison(message: Message, trace: TraceContext | None) -> None:
    assert read(message).trace == trace


# --- whatever comes -------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
amqp_values = (
    st.text() | st.integers() | st.booleans() | st.none() | st.floats() | st.uuids() | st.datetimes() | st.binary()
)
near_values = st.sampled_from(
    ["1.0", "e-1", "/shop", "report", REQUESTED, "acme", "2", 2, PARENT, "2026-03-01T12:00:00Z"]
)
names = st.sampled_from(
    ["specversion", "id", "source", "type", "tenant", "priority", "time", "subject", "traceparent", ""]
)
prefixed = st.tuples(st.sampled_from(["cloudEvents:", "cloudEvents_", ""]), names | st.text(max_size=5)).map("".join)
properties = st.dictionaries(
    prefixed | st.sampled_from(["task", "Diagnostic-Id"]), near_values | amqp_values, max_size=9
)
events = st.dictionaries(names | st.text(max_size=5) | st.just("data"), near_values | json_values, max_size=9).map(
    lambda changed: {**an_event(), **changed}
)
content_types = st.sampled_from(
    [None, "", "application/json", "application/cloudevents+json", "application/cloudevents", "text/plain"]
)


@given(
    st.binary(max_size=50)
    | st.just(json.dumps(PARAMS).encode())
    | events.map(lambda event: json.dumps(event).encode()),
    properties,
    content_types,
    st.sampled_from(["", "m-1"]),
)
def test_any_message_gives_an_item_or_a_reason_and_the_same_again(
    body: bytes, properties: dict[str, Any], content_type: str | None, message_id: str
) -> None:
    def answer() -> WorkItem | tuple[str, str]:
        try:
            return read(a_message(body, properties, content_type, message_id))
        except BadMessage as bad:
            return bad.reason, bad.description

    first = answer()
    assert answer() == first
    if isinstance(first, WorkItem):
        assert (first.task, first.tenant) in {("report", "acme"), ("report", "globex")}
        assert first.message_id
    else:
        assert 0 < len(first[1]) <= DESCRIPTION_MAX
        assert first[1].isprintable()
