"""Whether the dispatcher would take a message, asked before it is sent.

Decides nothing of its own: by the tasks file the dispatcher's own reader judges, by the published schema JSON Schema
does. A check is a function of message id and body that raises InvalidWork.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, best_match
from pydantic import TypeAdapter, ValidationError

from dispatcher.client.errors import InvalidWork
from dispatcher.core.work import WorkItem
from dispatcher.errors import BadConfiguration, BadMessage
from dispatcher.ports import Message
from dispatcher.queue.messages import to_item
from dispatcher.queue.task_table import QueueRules, TaskTable
from dispatcher.settings.tasks import TaskSettings
from dispatcher.settings.yaml_file import read_yaml

__all__ = ["Check", "by_reader", "by_schema", "by_tasks"]

Check = Callable[[str, bytes], None]
"""Message id and body; raises InvalidWork for what would be dead-lettered."""

_PRIORITY_MAX = 2**31


def by_tasks(tasks_file: Path, reply_to: str | None = None) -> Check:
    """Judges by a tasks.yaml: that the task exists and takes these params. Raises BadConfiguration for the file.

    What only the queue's own rules say (tenants, priorities, which tasks) is not judged.
    """
    read = read_yaml(tasks_file)
    mistakes = [str(mistake) for mistake in read.mistakes]
    tasks: tuple[TaskSettings, ...] = ()
    if not mistakes:
        try:
            tasks = TypeAdapter(tuple[TaskSettings, ...]).validate_python(read.data.get("tasks", ()))
        except ValidationError as error:
            mistakes = [f"tasks.{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    if mistakes:
        raise BadConfiguration([f"{tasks_file}: {mistake}" for mistake in mistakes])
    table = TaskTable.of(entry.task() for entry in tasks)
    rules = QueueRules(priority_max=_PRIORITY_MAX, reply_to=frozenset({reply_to} if reply_to else ()))
    return by_reader(lambda message: to_item(message, "", table, rules, message.enqueued_at))


def by_schema(schema: Mapping[str, Any] | Path) -> Check:
    """Judges by the schema of messages, as ``dispatcher schema message`` prints it, or by a file with it.

    Raises BadConfiguration for what is no schema.
    """
    try:
        plain = json.loads(schema.read_text(encoding="utf-8")) if isinstance(schema, Path) else dict(schema)
        Draft202012Validator.check_schema(plain)
    except (OSError, ValueError, SchemaError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadConfiguration([f"the schema of messages cannot be used: {first}"]) from error
    validator = Draft202012Validator(plain)

    def check(message_id: str, body: bytes) -> None:
        fault = best_match(validator.iter_errors(json.loads(body)))
        if fault is not None:
            where = ".".join(str(part) for part in fault.absolute_path)
            raise InvalidWork("against_schema", f"{where}: {fault.message}" if where else fault.message)

    return check


def by_reader(read: Callable[[Message], WorkItem]) -> Check:
    """Judges by a reader of messages."""

    def check(message_id: str, body: bytes) -> None:
        try:
            read(Message(1, message_id, body, datetime.now(UTC)))
        except BadMessage as error:
            raise InvalidWork(error.reason, error.description) from error

    return check
