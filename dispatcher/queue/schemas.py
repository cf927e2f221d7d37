"""What a queue takes, as a JSON Schema: for app teams, their editors and their tests.

Decides how the rules of `messages` and the tables are said in JSON Schema, so that what the schema accepts is accepted
and the other way round. What JSON Schema cannot say stands in :data:`NOT_SAID`. Refuses to judge anything itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dispatcher.core.work import TENANT_PATTERN
from dispatcher.queue.cloud_events import MESSAGE_ID_LENGTH_MAX
from dispatcher.queue.task_table import QueueRules, TaskTable

__all__ = ["NOT_SAID", "event_schema", "message_schema"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NOT_SAID = (
    "Beside this schema: the body is UTF-8 JSON of at most {bytes_max} bytes, nested at most 64 levels deep, names no "
    "key twice, and writes whole numbers without a fraction."
)
"""What else holds for a body; numbers such as 1.0 are whole to JSON Schema and not to us."""
_OF_EVENTS = (
    "Also read, and not said here: data_base64 that holds such JSON, a priority as a text of digits, an id of any "
    "length where the message has one of its own."
)
_JSON_TYPE = r"^(application|text)/([A-Za-z0-9.-]+\+)?json(;.*)?$(?!\n)"
_REPLY_TO = "The queue on which the sender wants to hear how the item ended."
_ALWAYS = ("params",)
_NOT_YET = ("startby", "payloadref")


def message_schema(
    queue: str, table: TaskTable, rules: QueueRules, tasks: Iterable[str] | None = None
) -> dict[str, Any]:
    """A JSON body on that queue. ``tasks``: only these, of those that the queue takes; None: all of them."""
    names = _names(table, rules, tasks)
    by_task = {name: {"required": ["task"], "properties": {"task": {"const": name}}} for name in names}
    properties: dict[str, Any] = {
        "task": {"description": "The kind of work.", "enum": names},
        "tenant": {"description": "Whose work it is.", **_tenant(rules)},
        "params": {"description": "The task's parameters.", "type": "object"},
        "priority": {"description": "Higher goes first; 0 is ordinary work.", **_priority(rules), "default": 0},
    }
    if rules.reply_to:  # an enumeration of nothing is none to some validators
        properties["reply_to"] = {"description": _REPLY_TO, "enum": sorted(rules.reply_to)}
    return {
        "$schema": DIALECT,
        "$id": f"urn:burst-dispatcher:message:{queue}",
        "title": f"A message on the queue {queue}",
        "description": NOT_SAID.format(bytes_max=rules.item_bytes_max),
        "type": "object",
        "required": ["task", "params", *_required_tenant(rules)],
        "properties": properties,
        "additionalProperties": False,
        "allOf": _conditions(table, names, "params", by_task),
        "$defs": _definitions(table, names),
    }


def event_schema(queue: str, table: TaskTable, rules: QueueRules, tasks: Iterable[str] | None = None) -> dict[str, Any]:
    """A structured CloudEvent as the body of a message on that queue, whose data are the task's parameters."""
    names = _names(table, rules, tasks)
    types = {name: [name, *table.tasks[name].event_types] for name in names}
    by_type = {name: {"required": ["type"], "properties": {"type": {"enum": types[name]}}} for name in names}
    text = {"type": "string", "minLength": 1}
    required_tenant = _required_tenant(rules)
    properties: dict[str, Any] = {
        "specversion": {"const": "1.0"},
        "id": {
            "description": "The item's id, where the message has none of its own.",
            **text,
            "maxLength": MESSAGE_ID_LENGTH_MAX,
        },
        "source": {"description": "Who sends it.", **text},
        "type": {"description": "Names the task.", "enum": [each for name in names for each in types[name]]},
        "tenant": {
            "description": "Whose work it is.",
            **(_tenant(rules) if required_tenant else _or_null(_tenant(rules))),
        },
        "priority": {"description": "Higher goes first; 0 is ordinary work.", **_or_null(_priority(rules))},
        "data": {"description": "The task's parameters.", "type": "object"},
        "datacontenttype": _or_null({"type": "string", "pattern": _JSON_TYPE}),
        "time": _or_null({"type": "string", "format": "date-time"}),
        "subject": _or_null(text),
        "dataschema": _or_null(text),
        "traceparent": {"description": "W3C Trace Context; carried to the pod."},
        "tracestate": {"description": "W3C Trace Context; carried to the pod."},
        **{key: {"type": "null"} for key in ("replyto", *_NOT_YET)},
    }
    if rules.reply_to:
        properties["replyto"] = {"description": _REPLY_TO, **_or_null({"enum": sorted(rules.reply_to)})}
    return {
        "$schema": DIALECT,
        "$id": f"urn:burst-dispatcher:event:{queue}",
        "title": f"A CloudEvent on the queue {queue}, sent with the content type application/cloudevents+json",
        "description": f"{NOT_SAID.format(bytes_max=rules.item_bytes_max)} {_OF_EVENTS}",
        "type": "object",
        "required": ["specversion", "id", "source", "type", *required_tenant],
        "properties": properties,
        "propertyNames": {"pattern": r"^[a-z0-9]+$(?!\n)"},
        "allOf": _conditions(table, names, "data", by_type),
        "$defs": _definitions(table, names),
    }


def _names(table: TaskTable, rules: QueueRules, tasks: Iterable[str] | None) -> list[str]:
    names = table.names(rules)
    return names if tasks is None else [name for name in names if name in set(tasks)]


def _tenant(rules: QueueRules) -> dict[str, Any]:
    if rules.tenants is not None:
        return {"enum": list(rules.tenants)}
    return {"type": "string", "pattern": rf"^{TENANT_PATTERN}$(?!\n)"}


def _required_tenant(rules: QueueRules) -> list[str]:
    return ["tenant"] if rules.tenants is not None and len(rules.tenants) != 1 else []


def _priority(rules: QueueRules) -> dict[str, Any]:
    return {"type": "integer", "minimum": 0, "maximum": rules.priority_max}


def _or_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """In an event null means that an attribute is not set."""
    return {"anyOf": [dict(schema), {"type": "null"}]}


def _conditions(table: TaskTable, names: Iterable[str], under: str, by: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each task that has a schema: where ``by`` says that it is this task, its params satisfy it."""
    found = []
    for name in names:
        validator = table.validators.get(name)
        if validator is None:
            continue
        then: dict[str, Any] = {"properties": {under: {"$ref": _reference(table, name)}}}
        if under not in _ALWAYS and not validator.is_valid({}):
            then["required"] = [under]
        found.append({"if": by[name], "then": then})
    return found


def _reference(table: TaskTable, name: str) -> str:
    """The schema's own id, if it has one that is no other's: references inside it may use it."""
    ids = [(task.params_schema or {}).get("$id") for task in table.tasks.values()]
    own = (table.tasks[name].params_schema or {}).get("$id")
    return own if isinstance(own, str) and ids.count(own) == 1 else f"urn:burst-dispatcher:params:{name}"


def _definitions(table: TaskTable, names: Iterable[str]) -> dict[str, Any]:
    """The tasks' own schemas, each with an id, so that references inside it still mean its own parts."""
    found: dict[str, Any] = {}
    for name in names:
        schema = table.tasks[name].params_schema
        if schema is not None:
            # Whatever dialect it names, it is judged by this one.
            own = {key: value for key, value in schema.items() if key not in ("$schema", "$id")}
            found[name] = {"$id": _reference(table, name), **own}
    return found
