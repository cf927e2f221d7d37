"""Message body <-> work item, and what makes a message poison.

Decides by the body, the application's message id and the tables alone, so that reading a message again gives the same
answer, whoever reads it. Whoever sends messages sees these sentences in the dead-letter queue: each says what is wrong,
what would be right, and never repeats more of the message than fits on a line.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from jsonschema.exceptions import ValidationError

from dispatcher.core.work import Task, WorkItem
from dispatcher.errors import BadMessage
from dispatcher.ports import DeadLetter, Message
from dispatcher.queue.strict_json import EXAMPLE, compact, parsed
from dispatcher.queue.task_table import QueueRules, TaskTable
from dispatcher.queue.words import SNIPPET_MAX, bad, clipped, joined, kind, listed, quoted, shown

__all__ = ["dead_letter", "to_body", "to_item"]

_ERRORS_MAX = 5
_RULE_MAX = 240

_KEYS = ("task", "tenant", "params", "priority")
_RESERVED = {
    "start_by": "a time to start by cannot be asked for yet; leave start_by out",
    "payload_ref": "payloads cannot be fetched yet; leave payload_ref out and pass the reference in params",
    "reply_to": "outcomes cannot be sent back yet; leave reply_to out and follow the item by its message_id",
}
_TENANT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


def to_item(message: Message, queue: str, table: TaskTable, rules: QueueRules, received_at: datetime) -> WorkItem:
    """The work that a message asks for.

    Raises BadMessage if it can never become work; the reason is one of ``too_large``, ``bad_json``, ``bad_message``,
    ``unknown_task``, ``task_not_allowed``, ``tenant_not_allowed``, ``priority_not_allowed``, ``bad_params``.
    """
    if len(message.body) > rules.item_bytes_max:
        bad(
            "too_large",
            f"The body has {len(message.body)} bytes, more than the {rules.item_bytes_max} that an item may have. "
            "Put the input into a store and pass a reference to it in params.",
        )
    fields = _fields(parsed(message.body))
    task = _task(fields, table, rules)
    tenant = _tenant(fields, rules)
    priority = _priority(fields, rules)
    params = _params(fields, task, table)
    return WorkItem(
        queue=queue,
        sequence_number=message.sequence_number,
        message_id=message.message_id or f"sequence-{message.sequence_number}",
        digest=hashlib.sha256(message.body).hexdigest(),
        task=task.name,
        tenant=tenant,
        priority=priority,
        params_json=params,
        enqueued_at=message.enqueued_at,
        received_at=received_at,
        expires_at=message.expires_at,
    )


def to_body(task: str, params: Mapping[str, Any], tenant: str | None = None, priority: int | None = None) -> bytes:
    """The body of a message that asks for a task. Raises ValueError or TypeError for what JSON cannot hold."""
    fields: dict[str, Any] = {"task": task}
    if tenant is not None:
        fields["tenant"] = tenant
    fields["params"] = params
    if priority is not None:
        fields["priority"] = priority
    return compact(fields).encode()


def dead_letter(error: BadMessage) -> DeadLetter:
    """What a poison message carries into the dead-letter queue."""
    return DeadLetter(reason=error.reason, description=error.description)


# --- the fields of a message ----------------------------------------------------------------------------------------


def _fields(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        bad("bad_message", f"The body is {kind(value)}, not an object. Send an object such as {EXAMPLE}.")
    faults = [
        _RESERVED[key] if key in _RESERVED else f"{quoted(key)} is not a field of a message; known are {listed(_KEYS)}"
        for key in value
        if key not in _KEYS
    ]
    if "task" not in value:
        faults.append("task is missing; it names the kind of work")
    elif not isinstance(value["task"], str) or not value["task"]:
        faults.append(f"task must be the name of a task, not {kind(value['task'])}")
    if "params" not in value:
        faults.append("params is missing; send {} if the task needs none")
    elif not isinstance(value["params"], dict):
        faults.append(f"params must be an object, not {kind(value['params'])}")
    if "tenant" in value and not (isinstance(value["tenant"], str) and _TENANT.fullmatch(value["tenant"])):
        faults.append(
            "tenant must be 1 to 63 letters, digits, '-', '_' or '.', beginning and ending with a letter or digit"
        )
    priority = value.get("priority", 0)
    if isinstance(priority, bool) or not isinstance(priority, int) or priority < 0:
        faults.append(f"priority must be a whole number from 0, not {shown(priority)}")
    if faults:
        bad("bad_message", joined("The message cannot be used", faults))
    return value


def _task(fields: dict[str, Any], table: TaskTable, rules: QueueRules) -> Task:
    name = fields["task"]
    allowed = table.names(rules)
    task = table.tasks.get(name)
    if task is None:
        close = difflib.get_close_matches(name[:SNIPPET_MAX], allowed, n=1)
        hint = f" Did you mean {quoted(close[0])}?" if close else ""
        bad("unknown_task", f"There is no task {quoted(name)}.{hint} This queue takes: {listed(allowed) or 'none'}.")
    if name not in allowed:
        bad(
            "task_not_allowed",
            f"The task {quoted(name)} may not be asked for on this queue. It takes: {listed(allowed) or 'none'}.",
        )
    return task


def _tenant(fields: dict[str, Any], rules: QueueRules) -> str:
    tenant: str | None = fields.get("tenant")
    if rules.tenants is None:
        return tenant if tenant is not None else rules.tenant_default
    if tenant is None and len(rules.tenants) == 1:
        return rules.tenants[0]
    if tenant is None:
        bad(
            "tenant_not_allowed",
            f"The message names no tenant, and this queue serves several: {listed(rules.tenants)}.",
        )
    if tenant not in rules.tenants:
        bad(
            "tenant_not_allowed",
            f"The tenant {quoted(tenant)} may not use this queue. It serves: {listed(rules.tenants) or 'none'}.",
        )
    return tenant


def _priority(fields: dict[str, Any], rules: QueueRules) -> int:
    priority: int = fields.get("priority", 0)
    if priority > rules.priority_max:
        bad(
            "priority_not_allowed",
            f"The priority {shown(priority)} is above {rules.priority_max}, the highest that this queue may ask for.",
        )
    return priority


def _params(fields: dict[str, Any], task: Task, table: TaskTable) -> str:
    params = fields["params"]
    validator = table.validators.get(task.name)
    if validator is not None:
        try:
            faults = sorted(validator.iter_errors(params), key=_place)
        except (RecursionError, ArithmeticError):
            bad("bad_params", f"The parameters of {task.name} cannot be checked against its schema. Simplify them.")
        if faults:
            told = [_fault(fault) for fault in faults[:_ERRORS_MAX]]
            if len(faults) > _ERRORS_MAX:
                told.append(f"and {len(faults) - _ERRORS_MAX} more")
            bad("bad_params", joined(f"The parameters do not fit the task {task.name}", told))
    return compact(params)


def _place(fault: ValidationError) -> tuple[list[str], str, str]:
    return [str(part) for part in fault.absolute_path], str(fault.validator), fault.message


def _fault(fault: ValidationError) -> str:
    path = "params" + "".join(
        f"[{part}]" if isinstance(part, int) else f".{clipped(str(part))}" for part in fault.absolute_path
    )
    if len(fault.message) <= _RULE_MAX:
        wrong = fault.message
    else:
        wrong = f"{shown(fault.instance)} breaks the rule {fault.validator}: {shown(fault.validator_value)}"
    if fault.validator in ("additionalProperties", "unevaluatedProperties") and isinstance(fault.schema, Mapping):
        wrong += f"; known are: {listed(fault.schema.get('properties', {}))}"
    return f"{path}: {clipped(wrong, _RULE_MAX * 2)}"
