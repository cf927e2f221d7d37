"""The values a queue works with: a message, a change of it, a consumer, and the counts.

What may happen to them is the business of `queue`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from .messages import Content, outgoing

if TYPE_CHECKING:
    from .queue import Queue


class State(IntEnum):
    """Where a message stands; the numbers are those of the x-opt-message-state annotation."""

    ACTIVE = 0
    DEFERRED = 1
    SCHEDULED = 2


class Message:
    """One message in a queue. Locked while it has a token, busy while a change of it is being written."""

    __slots__ = (
        "busy",
        "content",
        "delivery_count",
        "due_ms",
        "end_ms",
        "enqueued_ms",
        "locked_until_ms",
        "sequence",
        "state",
        "token",
    )

    def __init__(
        self,
        sequence: int,
        content: Content,
        enqueued_ms: int,
        state: State = State.ACTIVE,
        due_ms: int = 0,
        delivery_count: int = 0,
    ) -> None:
        self.sequence = sequence
        self.content = content
        self.enqueued_ms = enqueued_ms
        self.state = state
        self.due_ms = due_ms
        self.delivery_count = delivery_count
        self.end_ms: int | None = None  # when it expires, if it still waits to be handed out then
        self.token: bytes | None = None
        self.locked_until_ms = 0
        self.busy = False

    def encoded(self, token: bytes | None) -> bytes:
        """The message as a receiver gets it: under the lock of that token, or as one who only looks."""
        return outgoing(
            self.content,
            sequence=self.sequence,
            enqueued_ms=self.enqueued_ms,
            state=int(self.state),
            delivery_count=self.delivery_count,
            token=token,
            locked_until_ms=self.locked_until_ms,
        )


class Kind(IntEnum):
    """What a change does to its message."""

    PUT = 0  # it is new
    DROP = 1  # it is gone
    DEFER = 2  # it waits to be asked for by number
    RETURN = 3  # its lock ends and the delivery counts
    BURY = 4  # it moves to the dead-letter queue
    ACTIVATE = 5  # its time has come


class Change(NamedTuple):
    """A decision about one message that is not carried out before it is durable."""

    kind: Kind
    queue: Queue
    message: Message
    delivery_count: int
    content: Content
    sequence: int  # after the change: only ACTIVATE gives a new one
    by_client: bool = True  # False: the broker decided, so there is nobody to refuse it to
    message_id: bytes | None = None  # of a PUT: remembered with it, so that a duplicate is known


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """How many messages are where, each counted once, and what has become of them since the broker started."""

    active: int
    locked: int
    deferred: int
    scheduled: int
    dead_lettered: int
    operations: int  # that clients had carried out
    entered: int = 0  # this and the next two count messages since the start of the broker; duplicates never enter
    removed: int = 0  # for good: completed, taken in receive-and-delete, cancelled, or expired without a trace
    buried: int = 0  # moved to the dead-letter queue


@dataclass(slots=True, eq=False)
class Consumer:
    """Someone who receives: so many messages are still wanted; settled means receive-and-delete."""

    settled: bool
    credit: int = 0
    waiting: bool = False
    paused: bool = False
