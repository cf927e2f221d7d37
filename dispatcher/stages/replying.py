"""Reply: senders that asked are told how their items ended, before anything that says so is cleared away.

Comes after settling and before closing: the ruling stands, the broker has the item no more, and the record, which the
outcome is made from, is deleted only when the reply queue has taken it. So a crash at any point leads to one more
telling of the same, never to none. Decides when an outcome is handed over again and when it is given up: a reply queue
that is full or not there keeps an attempt open for ``reply_hold_max``, and holds up nothing else. What it says, the
core decides; sending does not wait here, answers are collected in a later cycle.

A message that never became an item has no record. Its sender is told on the same terms, but not through a crash.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime

from dispatcher.core.outcomes import Outcome, OutcomeKind, ReplyLine, outcome_of
from dispatcher.core.policy import Policy
from dispatcher.core.units import NO_MONEY
from dispatcher.core.work import ItemId
from dispatcher.errors import BadMessage
from dispatcher.memory import Memory, Owed, Tallies
from dispatcher.ports import Answer, Message, OutcomeAnswer, Ports

UNDER_WAY_MAX = 2_000
"""So many outcomes are handed over to one reply queue and not answered yet; the others wait as positions of records."""
PROBE_MAX = 100
"""So many at a time where the last ones were not taken."""


async def reply(memory: Memory, ports: Ports, policy: Policy, tallies: Tallies) -> None:
    """Hands over what is owed, takes note of what was accepted, gives up what has waited too long."""
    now = ports.clock.now()
    for name in sorted(memory.dirty):
        attempt = memory.attempts.get(name)
        if attempt is None:
            continue
        for index in attempt.unreplied():
            item = attempt.record.items[index]
            memory.owed.setdefault(item.id, Owed(item.message_id, item.reply_to or "", now, name, index))
    if not memory.owed:
        return
    due = _due(memory, policy, now)
    if due:
        await ports.outcomes.send(due)
    for answer in await ports.outcomes.answers():
        _answered(memory, ports, tallies, answer, now)
    for item_id, owed in list(memory.owed.items()):
        if not owed.under_way and _is_hopeless(memory, policy, owed, now):
            _give_up(memory, ports, tallies, item_id, owed, now)


def owe_for_poison(memory: Memory, queue: str, message: Message, bad: BadMessage, now: datetime) -> None:
    """A message was dead-lettered at the door. Its sender is told, if that can be read from it and is allowed."""
    if bad.reply_to is None:
        return
    outcome = Outcome(
        reply_to=bad.reply_to,
        kind=OutcomeKind.DEAD_LETTERED,
        queue=queue,
        sequence_number=message.sequence_number,
        message_id=message.message_id,
        task=None,
        tenant=None,
        enqueued_at=message.enqueued_at,
        ruled_at=now,
        attempts=0,
        cost=NO_MONEY,
        reason=bad.reason,
        description=bad.description,
    )
    item_id = ItemId(queue, message.sequence_number)
    memory.owed.setdefault(item_id, Owed(message.message_id, bad.reply_to, now, poison=outcome))


def _due(memory: Memory, policy: Policy, now: datetime) -> list[Outcome]:
    """What may be handed over now, in the order in which it came to be owed."""
    under_way = Counter(owed.reply_to for owed in memory.owed.values() if owed.under_way)
    due: list[Outcome] = []
    for item_id, owed in memory.owed.items():
        line = memory.reply_lines.get(owed.reply_to, ReplyLine())
        if owed.under_way or not line.may_send(now):
            continue
        if under_way[owed.reply_to] >= (PROBE_MAX if line.failures else UNDER_WAY_MAX):
            continue
        under_way[owed.reply_to] += 1
        outcome = _outcome(memory, policy, owed)
        owed.under_way = True
        memory.replies_under_way[outcome.event_id] = item_id
        due.append(outcome)
    return due


def _outcome(memory: Memory, policy: Policy, owed: Owed) -> Outcome:
    if owed.poison is not None:
        return owed.poison
    record = memory.attempts[owed.attempt].record
    task = policy.tasks.get(record.task)
    result_ref = task.result_ref_of(record.items[owed.index]) if task is not None else None
    return outcome_of(record, owed.index, result_ref)


def _answered(memory: Memory, ports: Ports, tallies: Tallies, answer: OutcomeAnswer, now: datetime) -> None:
    item_id = memory.replies_under_way.pop(answer.event_id, None)
    owed = memory.owed.get(item_id) if item_id is not None else None
    if item_id is None or owed is None:
        return  # handed over by an earlier memory of this process: the present one has owed it anew, or not at all
    owed.under_way = False
    line = memory.reply_lines.get(owed.reply_to, ReplyLine())
    if answer.answer is Answer.DONE:
        memory.reply_lines[owed.reply_to] = line.after_success()
        tallies.replied += 1
        ports.events.emit(
            "outcome.sent", item=owed.message_id, sequence_number=item_id.sequence_number, reply_to=owed.reply_to
        )
        _settled(memory, item_id, owed)
        return
    owed.tried = True
    owed.last_error = answer.text
    if line.may_send(now):  # what was handed over together fails together, and counts once
        memory.reply_lines[owed.reply_to] = line.after_failure(now, answer.text)


def _is_hopeless(memory: Memory, policy: Policy, owed: Owed, now: datetime) -> bool:
    line = memory.reply_lines.get(owed.reply_to, ReplyLine())
    return owed.tried and (line.given_up or now - owed.since >= policy.reply_hold_max)


def _give_up(memory: Memory, ports: Ports, tallies: Tallies, item_id: ItemId, owed: Owed, now: datetime) -> None:
    line = memory.reply_lines.get(owed.reply_to, ReplyLine())
    memory.reply_lines[owed.reply_to] = replace(line, given_up=True)
    tallies.replies_given_up += 1
    ports.events.emit(
        "outcome.given_up",
        item=owed.message_id,
        sequence_number=item_id.sequence_number,
        reply_to=owed.reply_to,
        held_seconds=round((now - owed.since).total_seconds(), 3),
        error=owed.last_error,
    )
    _settled(memory, item_id, owed)


def _settled(memory: Memory, item_id: ItemId, owed: Owed) -> None:
    del memory.owed[item_id]
    attempt = memory.attempts.get(owed.attempt)
    if attempt is not None and owed.poison is None:
        attempt.replied.add(owed.index)
        memory.dirty.add(owed.attempt)
