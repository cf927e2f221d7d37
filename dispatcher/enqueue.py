"""Sending work items from the command line: read, judged as the dispatcher would judge them, then sent and waited for.

Decides that nothing is sent while any item has a mistake. The judge is the dispatcher's own reader of messages, so what
passes here is not refused there. Sending and waiting is the typed client's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dispatcher.client import BurstClient, InvalidWork, Outcome, Work
from dispatcher.client.checks import Check
from dispatcher.client.work import Outgoing
from dispatcher.core.words import counted
from dispatcher.queue.outcome_events import to_body

KEYS = ("task", "params", "tenant", "priority", "message_id", "at")


@dataclass(frozen=True, slots=True)
class Refused:
    """An item that cannot be sent: which line, and why."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


def work_of(fields: Mapping[str, Any], at: datetime | None = None) -> Work:
    """The item that a line asks for; ``at`` where it says no time itself. Raises ValueError with a sentence."""
    unknown = sorted(set(fields) - set(KEYS))
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no field of an item; known are {', '.join(KEYS)}")
    if not isinstance(fields.get("task"), str):
        raise ValueError('names no task; write {"task": "report", "params": {...}}')  # noqa: TRY004 - as for all fields
    message_id = fields.get("message_id")
    return Work(
        fields["task"],
        fields.get("params", {}),
        fields.get("tenant"),
        fields.get("priority"),
        None if message_id is None else str(message_id),
        at=_time(fields["at"]) if fields.get("at") is not None else at,
    )


def _time(text: object) -> datetime:
    try:
        at = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ValueError(f"at: {text!r} is no time; write for example 2026-03-01T06:00:00Z")
    return at


def read_lines(
    lines: Iterable[str], reply_to: str | None, check: Check, at: datetime | None = None
) -> tuple[list[Outgoing], list[Refused]]:
    """Messages from JSON lines, each judged; all mistakes in one answer."""
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
            message = Outgoing.of(work_of(fields, at), reply_to)
            check(message.message_id, message.body)
        except (ValueError, InvalidWork) as error:
            refused.append(Refused(number, str(error)))
            continue
        good.append(message)
    return good, refused


async def send(client: BurstClient, messages: Sequence[Outgoing], sent: Callable[[int], None]) -> None:
    """Sends all, in order; ``sent`` is told how many after each batch. Raises SendFailed."""
    await client.send_checked(messages, sent=sent)


async def wait(
    client: BurstClient, messages: Sequence[Outgoing], timeout: timedelta, came: Callable[[Outcome], None]
) -> None:
    """Waits for the outcomes of all; ``came`` is told each. Raises NotInTime and RepliesRefused."""
    ids = [message.message_id for message in messages]
    async with aclosing(client.as_they_come(ids, timeout)) as outcomes:
        async for outcome in outcomes:
            came(outcome)


def as_facts(outcome: Outcome) -> dict[str, Any]:
    """An outcome as the plain JSON of its event's data."""
    facts: dict[str, Any] = json.loads(to_body(outcome))["data"]
    return facts


def told(outcome: Outcome) -> str:
    """An outcome as one line for people."""
    where = f" on the {outcome.placement.value.replace('_', ' ')}" if outcome.placement else ""
    tries = counted(outcome.attempts, "attempt")
    paid = f", ${outcome.cost}" if outcome.cost else ""
    why = "" if outcome.reason is None else f": {outcome.reason}"
    found = "" if outcome.result_ref is None else f" -> {outcome.result_ref}"
    kind = outcome.kind.value.replace("_", "-")
    return f"{outcome.message_id} {kind}{why} ({tries}{where}{paid}){found}"
