"""Sending work items from the command line: read, judged as the dispatcher would judge them, then sent.

Decides that nothing is sent while any item has a mistake. The judge is the dispatcher's own reader of messages, so what
passes here is not refused there.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dispatcher.core.work import WorkItem
from dispatcher.errors import BadMessage
from dispatcher.ports import Message
from dispatcher.queue import to_body
from dispatcher.queue.producer import Producer

SEND_AT_ONCE = 200
_KEYS = ("task", "params", "tenant", "priority", "message_id")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message, ready to be sent."""

    message_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """An item that cannot be sent: which line, and why."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


def outgoing(fields: Mapping[str, Any]) -> Outgoing:
    """The message for one item. Raises ValueError with a sentence for what cannot be one."""
    unknown = sorted(set(fields) - set(_KEYS))
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no field of an item; known are {', '.join(_KEYS)}")
    if not isinstance(fields.get("task"), str):
        raise ValueError('names no task; write {"task": "report", "params": {...}}')  # noqa: TRY004 - as for all fields
    try:
        body = to_body(fields["task"], fields.get("params", {}), fields.get("tenant"), fields.get("priority"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot be written as JSON: {error}") from error
    return Outgoing(str(fields.get("message_id") or uuid.uuid4()), body)


def read_lines(lines: Iterable[str], judge: Callable[[Outgoing], str | None]) -> tuple[list[Outgoing], list[Refused]]:
    """Items from JSON lines, each judged; all mistakes in one answer."""
    good: list[Outgoing] = []
    refused: list[Refused] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            if not isinstance(fields, dict):
                refused.append(Refused(number, 'is not an object; write {"task": "report", "params": {...}}'))
                continue
            item = outgoing(fields)
        except ValueError as error:
            refused.append(Refused(number, str(error)))
            continue
        reason = judge(item)
        if reason is None:
            good.append(item)
        else:
            refused.append(Refused(number, reason))
    return good, refused


def judge_by(read: Callable[[str, Message], WorkItem], queue: str) -> Callable[[Outgoing], str | None]:
    """Says why the dispatcher would refuse an item on that queue; None: it would not."""

    def judge(item: Outgoing) -> str | None:
        message = Message(1, item.message_id, item.body, datetime.now(UTC))
        try:
            read(queue, message)
        except BadMessage as error:
            return f"{error.description} ({error.reason})"
        return None

    return judge


async def send(items: Sequence[Outgoing], producer: Producer, sent: Callable[[int], None]) -> None:
    """Sends all items in order; ``sent`` is told how many after each batch. Raises OutcomeUnknown."""
    async with producer:
        for start in range(0, len(items), SEND_AT_ONCE):
            batch = [(item.message_id, item.body) for item in items[start : start + SEND_AT_ONCE]]
            sent(await producer.send(batch))
