"""Dead letters as people ask for them: what is known of each, which of them are wanted, and how many are looked at.

Decides what a dead letter's task and tenant are, also where its body was never ours, and what a selection means: every
command about dead letters selects by this file. Refuses to know how they are read and what is done with them.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from dispatcher.core.units import to_text
from dispatcher.core.work import WorkItem
from dispatcher.errors import BadMessage
from dispatcher.ports import Message
from dispatcher.queue.dead_letters import DeadMessage
from dispatcher.queue.replays import original_id, replay_count

LOOKED_AT_MAX = 1_000_000
"""How many messages one command looks at: about a quarter of an hour, and more than anybody reads."""
_BODY_BYTES_MAX = 256 * 1024
"""A longer body is not searched for its task."""

Reader = Callable[[str, Message], WorkItem]
"""Queue name and message -> work item, by the configuration of today; raises BadMessage."""


@dataclass(frozen=True, slots=True)
class Letter:
    """What is known of one dead letter. ``task`` and ``tenant`` are None where the message names none."""

    queue: str
    sequence_number: int
    message_id: str
    task: str | None
    tenant: str | None
    reason: str
    description: str
    enqueued_at: datetime
    delivery_count: int
    original_id: str = ""
    """What the sender called it, however often it was replayed."""
    replays: int = 0
    """How often it was replayed before it came here once more."""
    deferred: bool = False
    """Somebody has deferred it in the dead-letter queue."""
    refused: str | None = None
    """Why the configuration of today would dead-letter it at once; None: it would be taken, or nobody has asked."""

    def age(self, now: datetime) -> timedelta:
        """Since it was sent: the broker does not keep when a message was dead-lettered."""
        return max(now - self.enqueued_at, timedelta(0))

    def to_json(self, now: datetime) -> dict[str, Any]:
        """Everything, as plain JSON."""
        return {
            "queue": self.queue,
            "sequence_number": self.sequence_number,
            "message_id": self.message_id,
            "original_message_id": self.original_id or self.message_id,
            "task": self.task,
            "tenant": self.tenant,
            "reason": self.reason,
            "description": self.description,
            "enqueued_at": to_text(self.enqueued_at),
            "age_seconds": round(self.age(now).total_seconds(), 3),
            "delivery_count": self.delivery_count,
            "replays": self.replays,
        }


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters are wanted. What is empty or None does not restrict; everything else must hold at once."""

    tasks: frozenset[str] = frozenset()
    tenants: frozenset[str] = frozenset()
    reasons: frozenset[str] = frozenset()
    older_than: timedelta | None = None
    newer_than: timedelta | None = None
    ids: frozenset[str] = frozenset()
    """Message ids: the one that it has now, or the one that its sender gave it."""
    numbers: frozenset[int] = frozenset()
    """Sequence numbers; each queue counts for itself."""

    @property
    def restricts(self) -> bool:
        """Whether anything is left out."""
        return self != Selection()

    def takes(self, letter: Letter, now: datetime) -> bool:
        """Whether this one is wanted."""
        age = letter.age(now)
        return (
            (not self.tasks or letter.task in self.tasks)
            and (not self.tenants or letter.tenant in self.tenants)
            and (not self.reasons or letter.reason in self.reasons)
            and (self.older_than is None or age > self.older_than)
            and (self.newer_than is None or age < self.newer_than)
            and (not self.ids or letter.message_id in self.ids or letter.original_id in self.ids)
            and (not self.numbers or letter.sequence_number in self.numbers)
        )


@dataclass(slots=True)
class Found:
    """The dead letters that are wanted, oldest first in each queue, and how much was looked at for them."""

    letters: list[Letter] = field(default_factory=list)
    looked_at: int = 0
    cut: str | None = None
    """Why there may be more than these, in words; None: these are all."""


class Queue(Protocol):
    """Where dead letters come from."""

    @property
    def name(self) -> str:
        """The queue that the messages were sent to."""
        ...

    def pages(self) -> AsyncIterator[Sequence[DeadMessage]]:
        """All that is there, by ascending sequence number."""
        ...


async def matching(
    queues: Iterable[tuple[Queue, str | None]],
    selection: Selection,
    now: datetime,
    *,
    reader: Reader | None = None,
    looked: Callable[[], None] = lambda: None,
) -> AsyncIterator[tuple[Letter, DeadMessage]]:
    """All that are wanted, with the message itself. ``looked`` is called for each message that was looked at."""
    for queue, tenant in queues:
        async for page in queue.pages():
            for dead in page:
                looked()
                letter = read(queue.name, dead, tenant, reader)
                if selection.takes(letter, now):
                    yield letter, dead


async def find(
    queues: Iterable[tuple[Queue, str | None]],
    selection: Selection,
    now: datetime,
    *,
    limit: int,
    looked_at_max: int = LOOKED_AT_MAX,
    reader: Reader | None = None,
) -> Found:
    """Looks through the queues until their ends, or until more than ``limit`` letters are found.

    Each queue comes with the tenant of messages that name none, if there is one.
    """
    found = Found()
    for queue, tenant in queues:
        async for page in queue.pages():
            for dead in page:
                found.looked_at += 1
                letter = read(queue.name, dead, tenant, reader)
                if not selection.takes(letter, now):
                    continue
                if len(found.letters) == limit:
                    found.cut = f"there are more than {limit}; --limit shows more of them"
                    return found
                found.letters.append(letter)
            if found.looked_at >= looked_at_max:
                found.cut = f"only {found.looked_at} were looked at, there may be more behind them"
                return found
    return found


def read(queue: str, dead: DeadMessage, tenant: str | None = None, reader: Reader | None = None) -> Letter:
    """What is known of a message in a dead-letter queue. Never fails.

    ``tenant``: whose a message without one is. ``reader``: tells what the message would be taken for today.
    """
    message = dead.message
    refused = None
    task = whose = None
    if reader is not None:
        try:
            item = reader(queue, message)
            task, whose = item.task, item.tenant
        except BadMessage as bad:
            refused = bad.reason
    if reader is None or refused is not None:
        fields = _fields(message.body)
        task = _name(fields.get("task"))
        whose = tenant if task is not None and "tenant" not in fields else _name(fields.get("tenant"))
    return Letter(
        queue=queue,
        sequence_number=message.sequence_number,
        message_id=message.message_id,
        task=task,
        tenant=whose,
        reason=dead.letter.reason,
        description=dead.letter.description,
        enqueued_at=message.enqueued_at,
        delivery_count=message.delivery_count,
        original_id=original_id(message),
        replays=replay_count(message.properties),
        deferred=dead.deferred,
        refused=refused,
    )


def _fields(body: bytes) -> dict[str, Any]:
    if len(body) > _BODY_BYTES_MAX:
        return {}
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
