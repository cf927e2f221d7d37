"""Reject: held work that is never to run goes to the dead-letter queue.

Its budget is spent, or its time to live is over.

The ruling is written before anything happens at the broker, in a record that has no Job and never will: so that
whoever takes over finds it, and a dead letter whose answer was late can never meet a run of the same item. The ledger
is written between the two: a leader that was deposed meanwhile is refused there, and its rejection gives way to any
attempt that has the item. Settling does the rest. Decides nothing: the plan and the items' own times do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import groupby

from dispatcher.core.attempts import Attempt, Stage
from dispatcher.core.failures import FailureCause
from dispatcher.core.inflight import ItemState
from dispatcher.core.plan import Rejection
from dispatcher.core.policy import Policy
from dispatcher.core.records import Record, Ruling, RulingKind, RunSeen
from dispatcher.core.retries import Tries
from dispatcher.core.units import to_text
from dispatcher.core.verdicts import Rejected
from dispatcher.core.work import WorkItem
from dispatcher.memory import Memory
from dispatcher.ports import Answer, MessageState, Ports
from dispatcher.stages import records

NEVER_LAUNCHED = "none"
"""The parent of a record that was made for its rulings alone: no attempt has this name."""
LOOK_EVERY = timedelta(seconds=15)
"""A deferred message does not expire at the broker; how often the backlog is searched for those that should have."""


async def expire(memory: Memory, ports: Ports, policy: Policy) -> None:
    """Writes the rulings for what has outlived its time to live: before the plan, which would launch it."""
    await reject(memory, ports, _expired(memory, policy, ports.clock.now()))


async def reject(memory: Memory, ports: Ports, rejections: Sequence[Rejection]) -> None:
    """Writes the rulings for what is never to run."""
    if not rejections:
        return
    now = ports.clock.now()
    wanted = [_record(memory, ports, rejection, now) for rejection in rejections]
    for record, created in zip(wanted, await records.create(memory, ports, wanted), strict=True):
        if created.answer is not Answer.DONE or created.record is None:
            memory.give_up_record(record.name, now)  # should it stand all the same, it says what the next one says
            continue
        for item in record.items:
            memory.inflight.claim(item, ItemState.RULED)
        attempt = Attempt(record, created.record.uid, created.record.version, Stage.HELD)
        attempt.followed = set(record.rulings)
        memory.attempts[record.name] = attempt
        memory.draft.changed = True  # an accepted write of the ledger, before settling, says that we still lead
        memory.dirty.add(record.name)


def _record(memory: Memory, ports: Ports, rejection: Rejection, now: datetime) -> Record:
    first, rejected = rejection.items[0], rejection.rejected
    ruling = Ruling(RulingKind.DEAD, Tries(cause=rejected.cause, message=rejected.detail))
    told = replace(ruling, run=RunSeen(now))
    return Record(
        batch=ports.ids.batch_id(),
        attempt=1,
        task=first.task,
        tenant=first.tenant,
        priority=first.priority,
        epoch=memory.ledger.epoch,
        created_at=now,
        items=rejection.items,
        tries=(Tries(),) * len(rejection.items),
        parent=NEVER_LAUNCHED,
        rulings={index: told if item.reply_to else ruling for index, item in enumerate(rejection.items)},
    )


async def confirmed(memory: Memory, ports: Ports, attempt: Attempt) -> bool:
    """Whether a rejection may be carried out, and told to the senders. Always, for an ordinary attempt.

    The ledger has been written since its record was created: its writer, or whoever took it over, leads. That is noted
    in the record before anything is done. A rejection that is found without the note was not carried out: what of it
    the broker has no more has ended otherwise, and was told then. Without a sender to be told nothing hangs on the
    difference.
    """
    record = attempt.record
    if record.parent != NEVER_LAUNCHED or not any(item.reply_to for item in record.items):
        return True
    if record.confirmed is None:
        absent = await _absent(ports, record) if attempt.recalled else set()
        positions = [index for index in range(len(record.items)) if index not in absent]
        if not await records.write_confirmation(ports, attempt, positions):
            return False
    attempt.replied.update(set(range(len(record.items))).difference(attempt.record.confirmed or ()))
    return True


async def _absent(ports: Ports, record: Record) -> set[int]:
    """Positions whose message the broker has no more. Raises LookFailed."""
    absent: set[int] = set()
    for queue in sorted({item.queue for item in record.items}):
        positions = {item.sequence_number: index for index, item in enumerate(record.items) if item.queue == queue}
        states = await ports.queues[queue].look_up(list(positions))
        absent |= {index for number, index in positions.items() if states.get(number, MessageState.ACTIVE) is None}
    return absent


def _expired(memory: Memory, policy: Policy, now: datetime) -> list[Rejection]:
    """What waits in the backlog beyond its message's time to live, in batches of one kind."""
    if memory.expiry_at is not None and now < memory.expiry_at:
        return []
    memory.expiry_at = now + LOOK_EVERY
    late = [item for item in memory.inflight.backlog_items() if item.expires_at is not None and item.expires_at <= now]
    found: list[Rejection] = []
    for _, group in groupby(late, key=lambda item: (item.task, item.tenant, item.priority)):
        items = list(group)
        size = policy.tasks[items[0].task].batch_size_max
        found += [_too_late(items[start : start + size]) for start in range(0, len(items), size)]
    return found[: policy.launches_per_cycle_max]


def _too_late(items: Sequence[WorkItem]) -> Rejection:
    ended = max(item.expires_at for item in items if item.expires_at is not None)
    detail = f"its time to live ended (the batch's last at {to_text(ended)}) while it was held"
    return Rejection(tuple(items), Rejected(FailureCause.EXPIRED, detail))
