"""The published schemas and the reader of messages agree: what one accepts the other accepts, for any body."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from dispatcher.core.units import Resources
from dispatcher.core.work import Task
from dispatcher.errors import BadMessage
from dispatcher.ports import Message
from dispatcher.queue.messages import to_item
from dispatcher.queue.schemas import event_schema, message_schema
from dispatcher.queue.task_table import QueueRules, TaskTable

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SIZE = {"type": "integer", "minimum": 1}


def a_task(name: str, params_schema: dict[str, Any] | None = None, event_types: tuple[str, ...] = ()) -> Task:
    return Task(
        name=name,
        image="i",
        command=("c",),
        requests=Resources(100, 1),
        params_schema=params_schema,
        event_types=event_types,
    )


TABLE = TaskTable.of(
    [
        a_task(
            "thumbnail",
            {
                "$schema": "http://json-schema.org/draft-07/schema#",
                "$defs": {"size": SIZE},
                "type": "object",
                "required": ["width"],
                "properties": {"width": {"$ref": "#/$defs/size"}, "tags": {"prefixItems": [SIZE]}},
                "additionalProperties": False,
            },
            ("com.example.photo.taken",),
        ),
        a_task(
            "report",
            {
                "$id": "https://example.com/report",
                "$defs": {"size": {"type": "string"}},
                "properties": {"width": {"$ref": "https://example.com/report#/$defs/size"}},
            },
        ),
        a_task("anything"),
        a_task("elsewhere"),
    ]
)
TASKS = frozenset({"thumbnail", "report", "anything"})
RULES = {
    "one tenant": QueueRules(tasks=TASKS, tenants=("acme",), priority_max=3, reply_to=frozenset({"outcomes", "told"})),
    "two tenants": QueueRules(tasks=TASKS, tenants=("acme", "globex")),
    "any tenant": QueueRules(tasks=None, priority_max=1),
    "no tenant": QueueRules(tasks=TASKS, tenants=()),
}
MESSAGE_SCHEMAS = {name: Draft202012Validator(message_schema("work", TABLE, rules)) for name, rules in RULES.items()}
EVENT_SCHEMAS = {name: Draft202012Validator(event_schema("work", TABLE, rules)) for name, rules in RULES.items()}


def is_read(body: Any, rules: QueueRules, content_type: str | None = None) -> bool:
    data = json.dumps(body).encode()
    message = Message(1, "", data, NOON, content_type=content_type)
    try:
        to_item(message, "work", TABLE, rules, NOON)
    except BadMessage:
        return False
    return True


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
tasks = st.sampled_from(["thumbnail", "report", "anything", "elsewhere", "com.example.photo.taken"])
tenants = st.sampled_from(["acme", "globex", "acme\n", "a b", "x" * 63, "x" * 64, ""])
replies = st.sampled_from(["outcomes", "told", "else"])
params = st.fixed_dictionaries(
    {}, optional={"width": st.integers(-1, 9) | st.text() | json_values, "tags": json_values}
)
whole = st.integers(-1, 5) | json_values.filter(lambda value: not (isinstance(value, float) and value.is_integer()))


def mostly(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The usual, and now and then anything."""
    return st.one_of(usual, usual, usual, json_values)


bodies = st.fixed_dictionaries(
    {"task": tasks, "params": params, "tenant": mostly(tenants)},
    optional={
        "priority": whole,
        "start_by": json_values,
        "payload_ref": json_values,
        "image": json_values,
        "reply_to": mostly(replies),
    },
)
near_bodies = st.fixed_dictionaries(
    {}, optional={"task": mostly(tasks), "params": mostly(params), "tenant": mostly(tenants), "priority": whole}
)
attributes = {
    "specversion": mostly(st.just("1.0")),
    "id": mostly(st.sampled_from(["e-1", "e" * 128, "e" * 129])),
    "source": mostly(st.just("/shop")),
    "type": mostly(tasks),
}
more_attributes = {
    "data": mostly(params),
    "tenant": mostly(tenants),
    "priority": whole.filter(lambda value: not isinstance(value, str)),
    "subject": mostly(st.text()),
    "dataschema": mostly(st.text()),
    "datacontenttype": st.sampled_from(
        ["application/json", "text/x+json; a=b", "application/jsonp", "text/xml", "", None]
    ),
    "time": st.sampled_from(["2026-03-01T12:00:00Z", None, 3]),
    "replyto": mostly(replies),
    "startby": st.none() | st.text(),
    "payloadref": st.none() | st.text(),
    "traceparent": json_values,
    "loud": json_values,
    "Loud": json_values,
    "": json_values,
}
events = st.fixed_dictionaries(attributes, optional=more_attributes)
near_events = st.fixed_dictionaries({}, optional={**attributes, **more_attributes})


@pytest.mark.parametrize("queue", RULES)
def test_every_schema_is_one(queue: str) -> None:
    for schema in (MESSAGE_SCHEMAS[queue].schema, EVENT_SCHEMAS[queue].schema):
        Draft202012Validator.check_schema(schema)
        assert json.loads(json.dumps(schema)) == schema


@given(st.sampled_from(sorted(RULES)), bodies | near_bodies | json_values)
@example("one tenant", {"task": "thumbnail", "params": {"width": 1}})
@example("one tenant", {"task": "report", "params": {"width": "1"}, "priority": 3})
@example("one tenant", {"task": "thumbnail", "params": {"width": 1, "tags": ["x"]}})
@example("one tenant", {"task": "anything"})
@example("one tenant", {"task": "anything", "params": {}, "reply_to": "told"})
@example("one tenant", {"task": "anything", "params": {}, "reply_to": "else"})
@example("two tenants", {"task": "anything", "params": {}, "tenant": "acme", "reply_to": "told"})
@example("one tenant", {"task": "anything", "params": {}, "priority": 4})
@example("one tenant", {"task": "anything", "params": {}, "image": "evil"})
@example("one tenant", {"task": "anything", "params": {}, "priority": None})
@example("two tenants", {"task": "thumbnail", "params": {"width": 1}})
@example("any tenant", {"task": "elsewhere", "params": {}, "tenant": "acme\n"})
def test_a_body_satisfies_the_schema_if_and_only_if_it_is_read(queue: str, body: Any) -> None:
    assert MESSAGE_SCHEMAS[queue].is_valid(body) == is_read(body, RULES[queue])


@given(st.sampled_from(sorted(RULES)), events | near_events | json_values)
@example("one tenant", {"specversion": "1.0", "id": "e", "source": "/", "type": "thumbnail"})
@example("one tenant", {"specversion": "1.0", "id": "e", "source": "/", "type": "report", "data": {"width": "1"}})
@example("one tenant", {"specversion": "1.0", "id": "e", "source": "/", "type": "anything", "priority": None})
@example("one tenant", {"specversion": "1.0", "id": "e", "source": "/", "type": "anything", "priority": 4})
@example("one tenant", {"specversion": "1.0", "id": "e", "source": "/", "type": "anything", "tenant": None})
@example("one tenant", {"specversion": "1.0", "id": "e", "source": "/", "type": "anything", "Loud": 1})
@example("one tenant", {"specversion": "1.0", "id": "e", "source": "/", "type": "anything", "startby": "x"})
@example("one tenant", {"specversion": "1.0", "id": "e" * 129, "source": "/", "type": "anything"})
@example("two tenants", {"specversion": "1.0", "id": "e", "source": "/", "type": "report", "tenant": None})
def test_an_event_satisfies_the_schema_if_and_only_if_it_is_read(queue: str, body: Any) -> None:
    assert EVENT_SCHEMAS[queue].is_valid(body) == is_read(body, RULES[queue], "application/cloudevents+json")


@pytest.mark.parametrize(
    ("body", "valid"),
    [
        ({"task": "thumbnail", "tenant": "acme", "params": {"width": 3}}, True),
        ({"task": "thumbnail", "tenant": "acme", "params": {"width": 0}}, False),
        ({"task": "report", "tenant": "acme", "params": {"width": "wide"}}, True),
        ({"task": "report", "tenant": "acme", "params": {"width": 3}}, False),
        ({"task": "anything", "tenant": "acme", "params": {"width": 3}}, True),
    ],
)
def test_each_task_is_held_to_its_own_parameters_though_parts_share_a_name(body: Any, valid: bool) -> None:
    assert MESSAGE_SCHEMAS["two tenants"].is_valid(body) is valid


def test_a_schema_for_one_task_takes_no_other() -> None:
    schema = message_schema("work", TABLE, RULES["one tenant"], ["report", "elsewhere"])
    assert schema["properties"]["task"]["enum"] == ["report"]
    assert list(schema["$defs"]) == ["report"]


def test_two_tasks_that_copied_one_id_are_told_apart() -> None:
    copied = {"$id": "https://example.com/x"}
    table = TaskTable.of(
        [a_task("a", {**copied, "required": ["x"]}), a_task("b", {**copied, "required": ["y"]})],
    )
    validator = Draft202012Validator(message_schema("work", table, QueueRules()))
    assert validator.is_valid({"task": "a", "params": {"x": 1}})
    assert not validator.is_valid({"task": "b", "params": {"x": 1}})
