"""Message <-> work item, and what makes a message poison.

Decides by what the application sent (body, message id, content type, properties) and by the tables alone, so that
reading a message again gives the same answer, whoever reads it. Whoever sends messages sees these sentences in the
dead-letter queue: each says what is wrong and what would be right. The forms that a message may have stand in
`envelope`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from jsonschema.exceptions import ValidationError

from dispatcher.core.work import TENANT_PATTERN, Task, WorkItem
from dispatcher.errors import BadMessage
from dispatcher.ports import DeadLetter, Message
from dispatcher.queue.cloud_events import MESSAGE_ID_LENGTH_MAX
from dispatcher.queue.envelope import Envelope, opened
from dispatcher.queue.replays import carried_id
from dispatcher.queue.strict_json import compact
from dispatcher.queue.task_table import QueueRules, TaskTable
from dispatcher.queue.words import SNIPPET_MAX, bad, clipped, joined, kind, listed, quoted, shown

__all__ = ["dead_letter", "to_body", "to_item"]

_ERRORS_MAX = 5
_RULE_MAX = 240

_KEYS = ("task", "tenant", "params", "priority", "reply_to")
_RESERVED = {
    "start_by": "a time to start by cannot be asked for yet; leave {} out",
    "payload_ref": "payloads cannot be fetched yet; leave {} out and pass the reference in params",
}
_TENANT = re.compile(TENANT_PATTERN)


def to_item(message: Message, queue: str, table: TaskTable, rules: QueueRules, received_at: datetime) -> WorkItem:
    """The work that a message asks for.

    Raises BadMessage if it can never become work; the reason is one of ``too_large``, ``bad_json``, ``bad_message``,
    ``unknown_task``, ``task_not_allowed``, ``tenant_not_allowed``, ``priority_not_allowed``, ``reply_to_not_allowed``,
    ``bad_params``. It names where the sender wants to hear of it, as far as that can be read and is allowed.
    """
    if len(message.body) > rules.item_bytes_max:
        bad(
            "too_large",
            f"The body has {len(message.body)} bytes, more than the {rules.item_bytes_max} that an item may have. "
            "Put the input into a store and pass a reference to it in params.",
        )
    envelope = opened(message)
    try:
        return _item(message, envelope, queue, table, rules, received_at)
    except BadMessage as error:
        wanted = envelope.fields.get("reply_to")
        if isinstance(wanted, str) and wanted in rules.reply_to:
            error.reply_to = wanted
        raise


def _item(
    message: Message, envelope: Envelope, queue: str, table: TaskTable, rules: QueueRules, received_at: datetime
) -> WorkItem:
    message_id = _message_id(message, envelope)
    fields = _fields(envelope)
    task = _task(envelope, table, rules)
    tenant = _tenant(fields, rules)
    priority = _priority(fields, rules)
    reply_to = _reply_to(envelope, rules)
    params = _params(envelope, task, table)
    return WorkItem(
        queue=queue,
        sequence_number=message.sequence_number,
        message_id=message_id,
        digest=envelope.digest,
        task=task.name,
        tenant=tenant,
        priority=priority,
        params_json=params,
        enqueued_at=message.enqueued_at,
        received_at=received_at,
        expires_at=message.expires_at,
        reply_to=reply_to,
        trace=envelope.trace,
    )


def to_body(
    task: str,
    params: Mapping[str, Any],
    tenant: str | None = None,
    priority: int | None = None,
    reply_to: str | None = None,
) -> bytes:
    """The body of a message that asks for a task. Raises ValueError or TypeError for what JSON cannot hold."""
    said = {"task": task, "tenant": tenant, "params": params, "priority": priority, "reply_to": reply_to}
    return compact({name: value for name, value in said.items() if value is not None or name == "params"}).encode()


def dead_letter(error: BadMessage) -> DeadLetter:
    """What a poison message carries into the dead-letter queue."""
    return DeadLetter(reason=error.reason, description=error.description)


# --- the fields of a message ----------------------------------------------------------------------------------------


def _message_id(message: Message, envelope: Envelope) -> str:
    """The application's own id, or the event's, or one that at least is the message's alone.

    A message that was sent anew, from the dead-letter queue or out of the backlog, is still the item that it was.
    """
    if carried := carried_id(message):
        return carried
    if message.message_id:
        return message.message_id
    if envelope.event_id is None:
        return f"sequence-{message.sequence_number}"
    if len(envelope.event_id) > MESSAGE_ID_LENGTH_MAX:
        bad(
            "bad_message",
            f"The event's id has {len(envelope.event_id)} characters, more than the {MESSAGE_ID_LENGTH_MAX} of an "
            "item's id. Set the message's message_id, or shorten the event's id.",
        )
    return envelope.event_id


def _fields(envelope: Envelope) -> Mapping[str, Any]:
    fields, called = envelope.fields, envelope.called
    faults = [
        _RESERVED[key].format(called(key))
        if key in _RESERVED
        else f"{quoted(key)} is not a field of a message; known are {listed(_KEYS)}"
        for key in fields
        if key not in _KEYS
    ]
    if "task" in fields:
        if not isinstance(fields["task"], str) or not fields["task"]:
            faults.append(f"{called('task')} must be the name of a task, not {kind(fields['task'])}")
    elif envelope.event_type is None:
        faults.append("task is missing; it names the kind of work")
    if "params" not in fields:
        faults.append("params is missing; send {} if the task needs none")
    elif not isinstance(fields["params"], dict):
        faults.append(f"{called('params')} must be an object, not {kind(fields['params'])}")
    if "tenant" in fields and not (isinstance(fields["tenant"], str) and _TENANT.fullmatch(fields["tenant"])):
        faults.append(
            "tenant must be 1 to 63 letters, digits, '-', '_' or '.', beginning and ending with a letter or digit"
        )
    priority = fields.get("priority", 0)
    if isinstance(priority, bool) or not isinstance(priority, int) or priority < 0:
        faults.append(f"priority must be a whole number from 0, not {shown(priority)}")
    if "reply_to" in fields and not (isinstance(fields["reply_to"], str) and fields["reply_to"]):
        faults.append(f"{called('reply_to')} must be the name of a queue, not {kind(fields['reply_to'])}")
    if faults:
        bad("bad_message", joined("The message cannot be used", faults))
    return fields


def _task(envelope: Envelope, table: TaskTable, rules: QueueRules) -> Task:
    if envelope.event_type is not None:
        return _task_of_event(envelope.event_type, envelope.fields.get("task"), table, rules)
    name = envelope.fields["task"]
    allowed = table.names(rules)
    task = table.tasks.get(name)
    if task is None:
        bad("unknown_task", f"There is no task {_unknown(name, allowed)} {_takes(allowed)}")
    if name not in allowed:
        bad("task_not_allowed", f"The task {quoted(name)} may not be asked for on this queue. {_takes(allowed)}")
    return task


def _task_of_event(event_type: str, named: str | None, table: TaskTable, rules: QueueRules) -> Task:
    types = table.event_types(rules)
    task = table.of_event(event_type)
    if task is None:
        bad("unknown_task", f"No task takes events of the type {_unknown(event_type, types)} {_takes(types)}")
    if named is not None and named != task.name:
        bad(
            "bad_message",
            f"The message contradicts itself: events of the type {quoted(event_type)} are work for the task "
            f"{quoted(task.name)}, and the application property task names {quoted(named)}. Leave the property out.",
        )
    if event_type not in types:
        bad(
            "task_not_allowed",
            f"The task {quoted(task.name)} may not be asked for on this queue. {_takes(types)}",
        )
    return task


def _unknown(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name[:SNIPPET_MAX], known, n=1)
    return f"{quoted(name)}. Did you mean {quoted(close[0])}?" if close else f"{quoted(name)}."


def _takes(names: list[str]) -> str:
    return f"This queue takes: {listed(names) or 'none'}."


def _tenant(fields: Mapping[str, Any], rules: QueueRules) -> str:
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


def _priority(fields: Mapping[str, Any], rules: QueueRules) -> int:
    priority: int = fields.get("priority", 0)
    if priority > rules.priority_max:
        bad(
            "priority_not_allowed",
            f"The priority {shown(priority)} is above {rules.priority_max}, the highest that this queue may ask for.",
        )
    return priority


def _reply_to(envelope: Envelope, rules: QueueRules) -> str | None:
    wanted: str | None = envelope.fields.get("reply_to")
    if wanted is not None and wanted not in rules.reply_to:
        allowed = listed(sorted(rules.reply_to))
        remedy = f"Allowed are: {allowed}." if allowed else f"Leave {envelope.called('reply_to')} out."
        bad(
            "reply_to_not_allowed",
            f"Outcomes of this queue may not be sent to {quoted(wanted)}. {remedy} "
            "Operators allow others in the queue's reply_to.",
        )
    return wanted


def _params(envelope: Envelope, task: Task, table: TaskTable) -> str:
    params = envelope.fields["params"]
    validator = table.validators.get(task.name)
    if validator is not None:
        try:
            faults = sorted(validator.iter_errors(params), key=_place)
        except (RecursionError, ArithmeticError):
            bad("bad_params", f"The parameters of {task.name} cannot be checked against its schema. Simplify them.")
        if faults:
            told = [_fault(fault, envelope.called("params")) for fault in faults[:_ERRORS_MAX]]
            if len(faults) > _ERRORS_MAX:
                told.append(f"and {len(faults) - _ERRORS_MAX} more")
            bad("bad_params", joined(f"The parameters do not fit the task {task.name}", told))
    return compact(params)


def _place(fault: ValidationError) -> tuple[list[str], str, str]:
    return [str(part) for part in fault.absolute_path], str(fault.validator), fault.message


def _fault(fault: ValidationError, root: str) -> str:
    path = root + "".join(
        f"[{part}]" if isinstance(part, int) else f".{clipped(str(part))}" for part in fault.absolute_path
    )
    if len(fault.message) <= _RULE_MAX:
        wrong = fault.message
    else:
        wrong = f"{shown(fault.instance)} breaks the rule {fault.validator}: {shown(fault.validator_value)}"
    if fault.validator in ("additionalProperties", "unevaluatedProperties") and isinstance(fault.schema, Mapping):
        wrong += f"; known are: {listed(fault.schema.get('properties', {}))}"
    return f"{path}: {clipped(wrong, _RULE_MAX * 2)}"
