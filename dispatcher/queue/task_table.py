"""The tables that a message is judged by: which tasks there are, what they take, what a queue may ask for.

Decides whether an operator's schemas can be used at all, once, when the tables are made. Refuses to know messages:
those are judged in `messages`, by these tables and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from dispatcher.core.work import Task
from dispatcher.errors import BadConfiguration

__all__ = ["ITEM_BYTES_MAX", "QueueRules", "TaskTable"]

ITEM_BYTES_MAX = 16 * 1024
"""How long a message body may be unless the queue's rules say otherwise."""


@dataclass(frozen=True, slots=True)
class QueueRules:
    """What may come from one queue; a message that claims more is dead-lettered."""

    tasks: frozenset[str] | None = None
    """Tasks that may be named; None: every task there is."""
    tenants: tuple[str, ...] | None = None
    """Tenants that may be named; None: any. If there is exactly one, a message that names none belongs to it."""
    tenant_default: str = "default"
    """Whose a message is that names no tenant, on a queue that takes any."""
    priority_max: int = 0
    """The highest priority that may be asked for."""
    item_bytes_max: int = ITEM_BYTES_MAX
    """How long a body may be; larger inputs belong into a store, and a reference to them into the parameters."""
    reply_to: frozenset[str] = frozenset()
    """Queues on which a sender may ask to hear how its item ended."""


@dataclass(frozen=True, slots=True)
class TaskTable:
    """Tasks by name, with their parameter schemas compiled."""

    tasks: Mapping[str, Task]
    validators: Mapping[str, Draft202012Validator] = field(repr=False)
    names_by_event_type: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Of the types that tasks list; every task takes events of its own name too."""

    @classmethod
    def of(cls, tasks: Iterable[Task]) -> TaskTable:
        """Compiles the schemas of all tasks.

        Raises BadConfiguration with every mistake at once: a name used twice, an event type of two tasks, a schema that
        is none, a reference in a schema that leads nowhere or out of it (nothing is ever fetched).
        """
        by_name: dict[str, Task] = {}
        validators: dict[str, Draft202012Validator] = {}
        mistakes: list[str] = []
        for task in tasks:
            if task.name in by_name:
                mistakes.append(f"tasks.{task.name}: the name is used twice; give each task its own")
                continue
            by_name[task.name] = task
            if task.params_schema is None:
                continue
            try:
                validators[task.name] = _compiled(task.params_schema)
            except _BadSchema as error:
                mistakes.append(f"tasks.{task.name}.params_schema: {error}")
        names_by_event_type: dict[str, str] = {}
        for name, event_type in ((task.name, each) for task in by_name.values() for each in task.event_types):
            other = event_type if event_type in by_name else names_by_event_type.setdefault(event_type, name)
            if other != name:
                mistakes.append(f"tasks.{name}.event_types: {event_type!r} is of the task {other!r}; give it to one")
        if mistakes:
            raise BadConfiguration(mistakes)
        return cls(by_name, validators, names_by_event_type)

    def names(self, rules: QueueRules) -> list[str]:
        """The tasks that a queue may ask for, in order of name."""
        return sorted(name for name in self.tasks if rules.tasks is None or name in rules.tasks)

    def of_event(self, event_type: str) -> Task | None:
        """The task that events of a type are work for; None: none is."""
        return self.tasks.get(self.names_by_event_type.get(event_type, event_type))

    def event_types(self, rules: QueueRules) -> list[str]:
        """The types of events that a queue takes: the names of its tasks, and the types that these list; in order."""
        return sorted({each for name in self.names(rules) for each in (name, *self.tasks[name].event_types)})


class _BadSchema(Exception):
    """Why a schema cannot be used."""


def _compiled(schema: Mapping[str, object]) -> Draft202012Validator:
    plain: dict[str, Any] = dict(schema)
    try:
        Draft202012Validator.check_schema(plain)
    except SchemaError as error:
        where = ".".join(str(part) for part in error.absolute_path) or "the top"
        raise _BadSchema(f"not a JSON Schema (draft 2020-12), at {where}: {error.message}") from error
    resource: Resource[Any] = DRAFT202012.create_resource(plain)
    registry: Registry[Any] = Registry().with_resource(resource.id() or "", resource)
    resolver = registry.resolver_with_root(resource)
    for reference in _references(plain):
        try:
            resolver.lookup(reference)
        except Unresolvable as error:
            raise _BadSchema(
                f"the reference {reference!r} leads nowhere; only references within the schema are followed, "
                "for example '#/$defs/size'"
            ) from error
    validator = Draft202012Validator(plain, registry=registry)
    try:
        validator.is_valid({})
    except RecursionError as error:
        raise _BadSchema("it refers to itself without end; a reference must not lead straight back") from error
    return validator


def _references(schema: object) -> Iterator[str]:
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield value
            else:
                yield from _references(value)
    elif isinstance(schema, list | tuple):
        for value in schema:
            yield from _references(value)
