"""Message body <-> work item, and what makes a message poison.

Decides by the body, the application's message id and the tables alone, so that reading a message again gives the same
answer, whoever reads it. Whoever sends messages sees these sentences in the dead-letter queue: each says what is wrong,
what would be right, and never repeats more of the message than fits on a line.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jsonschema.exceptions import ValidationError

from dispatcher.core.work import Task, WorkItem
from dispatcher.errors import BadMessage
from dispatcher.ports import DeadLetter, Message
from dispatcher.queue.task_table import QueueRules, TaskTable

__all__ = ["dead_letter", "to_body", "to_item"]

DESCRIPTION_MAX = 4096
DEPTH_MAX = 64
DIGITS_MAX = 64
_ERRORS_MAX = 5
_NAMES_MAX = 20
_SNIPPET_MAX = 80
_RULE_MAX = 240

_KEYS = ("task", "tenant", "params", "priority")
_RESERVED = {
    "start_by": "a time to start by cannot be asked for yet; leave start_by out",
    "payload_ref": "payloads cannot be fetched yet; leave payload_ref out and pass the reference in params",
    "reply_to": "outcomes cannot be sent back yet; leave reply_to out and follow the item by its message_id",
}
_EXAMPLE = '{"task": "thumbnail", "params": {"width": 200}}'
_TENANT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


def to_item(message: Message, queue: str, table: TaskTable, rules: QueueRules, received_at: datetime) -> WorkItem:
    """The work that a message asks for.

    Raises BadMessage if it can never become work; the reason is one of ``too_large``, ``bad_json``, ``bad_message``,
    ``unknown_task``, ``task_not_allowed``, ``tenant_not_allowed``, ``priority_not_allowed``, ``bad_params``.
    """
    fields = _fields(_parsed(message.body, rules))
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
    return _compact(fields).encode()


def dead_letter(bad: BadMessage) -> DeadLetter:
    """What a poison message carries into the dead-letter queue."""
    return DeadLetter(reason=bad.reason, description=bad.description)


# --- reading JSON, strictly -----------------------------------------------------------------------------------------


class _Refused(ValueError):
    """JSON that is well-formed for Python but not for us."""


def _parsed(body: bytes, rules: QueueRules) -> object:
    if len(body) > rules.item_bytes_max:
        _bad(
            "too_large",
            f"The body has {len(body)} bytes, more than the {rules.item_bytes_max} that an item may have. "
            "Put the input into a store and pass a reference to it in params.",
        )
    if not body:
        _bad("bad_json", f"The body is empty. Send a JSON object as the message's data, such as {_EXAMPLE}.")
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
        )
    except UnicodeDecodeError as error:
        _bad("bad_json", f"The body is not UTF-8 (byte {error.start}). Send a JSON object encoded as UTF-8.")
    except RecursionError:
        _too_deep()
    except json.JSONDecodeError as error:
        _bad(
            "bad_json",
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}. "
            f"Send an object such as {_EXAMPLE}.",
        )
    except _Refused as error:
        _bad("bad_json", f"The body is not JSON that can be passed on: {error}")
    if _depth(value) > DEPTH_MAX:
        _too_deep()
    return value


def _too_deep() -> NoReturn:
    _bad(
        "bad_json", f"The body is nested more than {DEPTH_MAX} levels deep. Flatten it, or pass a reference in params."
    )


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _Refused(f"the key {_quoted(name)} stands twice in one object. Name each key once.")
            seen.add(name)
    for text in (*fields, *fields.values()):
        if isinstance(text, str):
            _text(text)
        elif isinstance(text, list):
            _texts(text)
    return fields


def _texts(values: list[Any]) -> None:
    # Objects inside have been looked at when they were made; lists inside lists have not, and may be deep.
    waiting = [values]
    while waiting:
        for value in waiting.pop():
            if isinstance(value, str):
                _text(value)
            elif isinstance(value, list):
                waiting.append(value)


def _text(text: str) -> None:
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise _Refused("a string holds half of a surrogate pair. Escape characters beyond U+FFFF as a whole pair.")


def _constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not a JSON number. Leave it out or write it as a string.")


def _float(text: str) -> float:
    number = float(text) if len(text) <= DIGITS_MAX else math.inf
    if math.isinf(number):
        raise _Refused(f"the number {_clipped(text)} is too large or too long. Write it as a string.")
    return number


def _int(text: str) -> int:
    if len(text) > DIGITS_MAX:
        raise _Refused(f"the number {_clipped(text)} has more than {DIGITS_MAX} digits. Write it as a string.")
    return int(text)


def _depth(value: object) -> int:
    depth = 0
    level = [value]
    while level and depth <= DEPTH_MAX:
        depth += 1
        below: list[object] = []
        for each in level:
            if isinstance(each, dict):
                below.extend(each.values())
            elif isinstance(each, list):
                below.extend(each)
        level = [each for each in below if isinstance(each, dict | list)]
    return depth


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


# --- the fields of a message ----------------------------------------------------------------------------------------


def _fields(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        _bad("bad_message", f"The body is {_kind(value)}, not an object. Send an object such as {_EXAMPLE}.")
    faults = [
        _RESERVED[key]
        if key in _RESERVED
        else f"{_quoted(key)} is not a field of a message; known are {_listed(_KEYS)}"
        for key in value
        if key not in _KEYS
    ]
    if "task" not in value:
        faults.append("task is missing; it names the kind of work")
    elif not isinstance(value["task"], str) or not value["task"]:
        faults.append(f"task must be the name of a task, not {_kind(value['task'])}")
    if "params" not in value:
        faults.append("params is missing; send {} if the task needs none")
    elif not isinstance(value["params"], dict):
        faults.append(f"params must be an object, not {_kind(value['params'])}")
    if "tenant" in value and not (isinstance(value["tenant"], str) and _TENANT.fullmatch(value["tenant"])):
        faults.append(
            "tenant must be 1 to 63 letters, digits, '-', '_' or '.', beginning and ending with a letter or digit"
        )
    priority = value.get("priority", 0)
    if isinstance(priority, bool) or not isinstance(priority, int) or priority < 0:
        faults.append(f"priority must be a whole number from 0, not {_shown(priority)}")
    if faults:
        _bad("bad_message", _joined("The message cannot be used", faults))
    return value


def _task(fields: dict[str, Any], table: TaskTable, rules: QueueRules) -> Task:
    name = fields["task"]
    allowed = table.names(rules)
    task = table.tasks.get(name)
    if task is None:
        close = difflib.get_close_matches(name[:_SNIPPET_MAX], allowed, n=1)
        hint = f" Did you mean {_quoted(close[0])}?" if close else ""
        _bad("unknown_task", f"There is no task {_quoted(name)}.{hint} This queue takes: {_listed(allowed) or 'none'}.")
    if name not in allowed:
        _bad(
            "task_not_allowed",
            f"The task {_quoted(name)} may not be asked for on this queue. It takes: {_listed(allowed) or 'none'}.",
        )
    return task


def _tenant(fields: dict[str, Any], rules: QueueRules) -> str:
    tenant: str | None = fields.get("tenant")
    if rules.tenants is None:
        return tenant if tenant is not None else rules.tenant_default
    if tenant is None and len(rules.tenants) == 1:
        return rules.tenants[0]
    if tenant is None:
        _bad(
            "tenant_not_allowed",
            f"The message names no tenant, and this queue serves several: {_listed(rules.tenants)}.",
        )
    if tenant not in rules.tenants:
        _bad(
            "tenant_not_allowed",
            f"The tenant {_quoted(tenant)} may not use this queue. It serves: {_listed(rules.tenants) or 'none'}.",
        )
    return tenant


def _priority(fields: dict[str, Any], rules: QueueRules) -> int:
    priority: int = fields.get("priority", 0)
    if priority > rules.priority_max:
        _bad(
            "priority_not_allowed",
            f"The priority {_shown(priority)} is above {rules.priority_max}, the highest that this queue may ask for.",
        )
    return priority


def _params(fields: dict[str, Any], task: Task, table: TaskTable) -> str:
    params = fields["params"]
    validator = table.validators.get(task.name)
    if validator is not None:
        try:
            faults = sorted(validator.iter_errors(params), key=_place)
        except (RecursionError, ArithmeticError):
            _bad("bad_params", f"The parameters of {task.name} cannot be checked against its schema. Simplify them.")
        if faults:
            told = [_fault(fault) for fault in faults[:_ERRORS_MAX]]
            if len(faults) > _ERRORS_MAX:
                told.append(f"and {len(faults) - _ERRORS_MAX} more")
            _bad("bad_params", _joined(f"The parameters do not fit the task {task.name}", told))
    return _compact(params)


def _place(fault: ValidationError) -> tuple[list[str], str, str]:
    return [str(part) for part in fault.absolute_path], str(fault.validator), fault.message


def _fault(fault: ValidationError) -> str:
    path = "params" + "".join(
        f"[{part}]" if isinstance(part, int) else f".{_clipped(str(part))}" for part in fault.absolute_path
    )
    if len(fault.message) <= _RULE_MAX:
        wrong = fault.message
    else:
        wrong = f"{_shown(fault.instance)} breaks the rule {fault.validator}: {_shown(fault.validator_value)}"
    if fault.validator in ("additionalProperties", "unevaluatedProperties") and isinstance(fault.schema, Mapping):
        wrong += f"; known are: {_listed(fault.schema.get('properties', {}))}"
    return f"{path}: {_clipped(wrong, _RULE_MAX * 2)}"


# --- words for people -----------------------------------------------------------------------------------------------


def _bad(reason: str, description: str) -> NoReturn:
    raise BadMessage(reason, _clipped(description, DESCRIPTION_MAX))


def _joined(opening: str, faults: Sequence[str]) -> str:
    shown = list(faults[:_NAMES_MAX])
    if len(faults) > len(shown):
        shown.append(f"and {len(faults) - len(shown)} more")
    return f"{opening}: {'; '.join(shown)}."


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    shown = [_clipped(name) for name in every[:_NAMES_MAX]]
    return ", ".join(shown) + (f" and {len(every) - len(shown)} more" if len(every) > len(shown) else "")


def _quoted(text: str) -> str:
    return f"'{_clipped(text)}'"


def _shown(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    try:
        return _clipped(json.dumps(value, ensure_ascii=False, default=str))
    except (ValueError, RecursionError):
        return _kind(value)


def _clipped(text: str, length: int = _SNIPPET_MAX) -> str:
    # Unprintable characters (controls, line ends, text direction, lone surrogates) would fool whoever reads it.
    cut = text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return cut if cut.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in cut)


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case "":
            return "an empty string"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"
