"""How an item ended, as its sender is told: one value, made from the record alone.

Decides what an outcome says and what its id is. Nothing in it is read from a clock or from memory, so that an outcome
that is sent again after a crash is the same, word for word. Knows nothing of how it is sent.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from dispatcher.core.records import Record, RulingKind, RunSeen
from dispatcher.core.units import Money, to_text
from dispatcher.core.words import counted
from dispatcher.core.work import Placement

DESCRIPTION_MAX = 4096
"""What Service Bus takes as the description of a dead letter, in characters."""


class OutcomeKind(StrEnum):
    """The two ways in which an item ends."""

    DONE = "done"
    DEAD_LETTERED = "dead_lettered"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a sender is told of one item."""

    reply_to: str
    """The queue that it is sent to."""
    kind: OutcomeKind
    queue: str
    """Where the item came from; with the sequence number its identity."""
    sequence_number: int
    message_id: str
    task: str | None
    """None, as the tenant, of a message that never became an item."""
    tenant: str | None
    enqueued_at: datetime
    ruled_at: datetime
    """When it was decided that the item ends so."""
    attempts: int
    """Jobs that were made for it; 0: it was never launched."""
    placement: Placement | None = None
    """Where it ran last."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cost: Money | None = None
    """Of all its pods, by our own sightings; None: of a paid run nothing was seen."""
    reason: str | None = None
    """Of a dead letter: short and stable."""
    description: str | None = None
    """Of a dead letter: for people."""
    result_ref: str | None = None
    """Where the result lies, by the rule that operators gave the task; None: they gave none."""
    traceparent: str | None = None

    @property
    def event_id(self) -> str:
        """The same for every telling of this end of this item, and for nothing else.

        Sequence numbers begin anew when a queue is made anew, so the message's own id and time count too: or duplicate
        detection on the reply queue would swallow the first outcomes of the new queue.
        """
        told = [self.queue, self.sequence_number, self.message_id, to_text(self.enqueued_at), self.kind]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


def outcome_of(record: Record, index: int, result_ref: str | None = None) -> Outcome:
    """What is told of an item that ends in this record. Its ruling is ``done`` or ``dead``, and its sender asked."""
    item, ruling = record.items[index], record.rulings[index]
    done = ruling.kind is RulingKind.DONE
    run = ruling.run or RunSeen(record.created_at, cost=None)
    reason, description = (None, None) if done else letter(record, index, run.placement)
    return Outcome(
        reply_to=item.reply_to or "",
        kind=OutcomeKind.DONE if done else OutcomeKind.DEAD_LETTERED,
        queue=item.queue,
        sequence_number=item.sequence_number,
        message_id=item.message_id,
        task=item.task,
        tenant=item.tenant,
        enqueued_at=item.enqueued_at,
        ruled_at=run.ruled_at,
        attempts=record.attempt if run.placement is not None else record.attempt - 1,
        placement=run.placement,
        started_at=run.started_at,
        finished_at=run.finished_at,
        cost=run.cost,
        reason=reason,
        description=description,
        result_ref=result_ref if done else None,
        traceparent=item.traceparent,
    )


def letter(record: Record, index: int, placement: Placement | None) -> tuple[str, str]:
    """Reason and description of a dead letter: cause, attempts, placement, last message, end of the log."""
    tries = record.rulings[index].tries
    cause = tries.cause.value if tries.cause else "unknown"
    told = "It was never launched."
    if tries.failures:
        where = f", the last on the {placement.value.replace('_', ' ')}" if placement else ""
        told = (
            f"Gave up after {counted(tries.failures, 'failed try', 'failed tries')} "
            f"in {counted(record.attempt, 'attempt')} "
            f"({tries.own} of its own, {tries.platform} of the platform's){where}."
        )
    lines = [told, f"Cause: {cause}. {tries.message}".rstrip()]
    if tries.log_tail.strip():
        lines.append(f"End of the log:\n{tries.log_tail.strip()}")
    return cause, "\n".join(lines)[:DESCRIPTION_MAX]


# --- one reply queue -------------------------------------------------------------------------------------------------

WAIT_MIN = timedelta(seconds=1)
WAIT_MAX = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class ReplyLine:
    """How sending to one reply queue goes: when it may be tried again, and whether it is given up."""

    failures: int = 0
    """In a row."""
    again_at: datetime | None = None
    given_up: bool = False
    """Outcomes were given up on it since it last took any: it gets one try for each, until it takes one."""
    why: str = ""
    """Why it took none last."""

    def may_send(self, now: datetime) -> bool:
        """Whether it is time to send."""
        return self.again_at is None or now >= self.again_at

    def after_success(self) -> ReplyLine:
        """It took an outcome."""
        return ReplyLine() if self.failures else self

    def after_failure(self, now: datetime, why: str = "") -> ReplyLine:
        """It took none: the pause doubles from the shortest to the longest."""
        wait = min(WAIT_MIN * (1 << min(self.failures, 10)), WAIT_MAX)
        return ReplyLine(self.failures + 1, now + wait, self.given_up, why)
