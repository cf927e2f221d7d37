"""Settle: rulings are written, then carried out at the broker; what goes on gets its record.

Nothing is done at the broker for a launched item before its ruling stands in the record. Decides nothing of what a
ruling is; decides how to ask the broker when it gave no clear answer: "not found" proves nothing of any single number,
since one missing number fails its whole request, so each is looked up and only an absent one counts as settled.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from datetime import datetime, timedelta
from functools import partial

from dispatcher.core import attempts as rules
from dispatcher.core.attempts import Attempt, Stage
from dispatcher.core.hearing import rulings_of_silence
from dispatcher.core.inflight import ItemState
from dispatcher.core.observations import PodPhase
from dispatcher.core.outcomes import letter
from dispatcher.core.policy import Policy
from dispatcher.core.records import Record, RulingKind, next_record
from dispatcher.core.retries import RETRY_RULES
from dispatcher.core.work import ItemId, WorkItem
from dispatcher.memory import Memory, Tallies
from dispatcher.ports import Answer, DeadLetter, MessageState, Ports
from dispatcher.stages import circuit, records, rejecting

NUMBERS_PER_REQUEST = 100
ASK_AGAIN_AFTER = timedelta(seconds=1)
RULE_EVERY = timedelta(seconds=1)
"""How often rulings of an attempt are written while more of it runs. The last ones are written at once."""


async def settle(memory: Memory, ports: Ports, policy: Policy, tallies: Tallies) -> None:
    """Rules, carries on and settles for every attempt that something has happened to."""
    now = ports.clock.now()
    done: dict[str, list[tuple[Attempt, int]]] = {}
    attempts = [memory.attempts[name] for name in sorted(memory.dirty) if name in memory.attempts]
    running = [attempt for attempt in attempts if attempt.stage is Stage.RUNNING]
    await ports.together([partial(_rule, memory, ports, policy, attempt, now) for attempt in running])
    for attempt in attempts:
        _follow(memory, ports, tallies, attempt)
        await _carry_on(memory, ports, attempt)
        if not await rejecting.confirmed(memory, ports, attempt):
            continue
        for index, item in attempt.positions(RulingKind.DEAD):
            if _may_ask(memory, item.id, now):
                await _dead_letter(memory, ports, tallies, attempt, index)
        for index, item in attempt.positions(RulingKind.DONE):
            if _may_ask(memory, item.id, now):
                done.setdefault(item.queue, []).append((attempt, index))
    for queue, positions in done.items():
        for chunk in _chunks(memory, positions):
            await _remove(memory, ports, tallies, queue, chunk)


async def _rule(memory: Memory, ports: Ports, policy: Policy, attempt: Attempt, now: datetime) -> None:
    if rules.unexamined(attempt):
        return  # the evidence could not be written yet; a ruling without it would forget the cause
    task = policy.tasks.get(attempt.record.task)
    if attempt.record.has_reports:
        rulings = rulings_of_silence(attempt, task, policy, memory.reports_emptied_until, now)
    else:
        rulings = rules.next_rulings(attempt, task, policy, now)
    entry = memory.draft.entries.get(attempt.name)
    if entry is not None:
        rulings = rules.with_runs(attempt, rulings, entry.placement, entry.rate, now)
    if not rulings or may_wait(attempt, rulings, now):
        return
    attempt.ruled_at = now
    if not await records.write_rulings(ports, attempt, rulings):
        return
    pods = attempt.sight.pods.values()
    indexes = {attempt.record.index_of(position) for position in rulings}
    if any(pod.phase is PodPhase.SUCCEEDED and pod.index in indexes for pod in pods):
        circuit.report_success(memory, ports, attempt.name)


def may_wait(attempt: Attempt, rulings: Container[int], now: datetime) -> bool:
    """Whether these rulings may go with the next ones, since there are more to come and some were written just now.

    Each write carries the whole record's: one for every pod that ends would be most of what the dispatcher asks for.
    """
    if attempt.ruled_at is None or now - attempt.ruled_at >= RULE_EVERY:
        return False
    return any(index not in rulings for index in attempt.unruled())


def _follow(memory: Memory, ports: Ports, tallies: Tallies, attempt: Attempt) -> None:
    """What rulings mean for the items' states, and the telling of retries.

    Whoever wrote them: a write that got no answer may have happened, and what stands in the record is followed.
    """
    for index, ruling in attempt.record.rulings.items():
        if index in attempt.followed:
            continue
        attempt.followed.add(index)
        item = attempt.record.items[index]
        if not ruling.goes_on:
            memory.drafted.discard(item.id)
            memory.inflight.move(item.id, ItemState.RULED)
            continue
        memory.drafted.discard(item.id)
        if memory.inflight.state(item.id) is ItemState.IN_ATTEMPT:
            memory.inflight.move(item.id, ItemState.HELD_RETRY)
        cause = ruling.tries.cause
        if ruling.kind is RulingKind.RETRY and cause is not None:
            allowance = RETRY_RULES[cause].allowance
            tallies.retried[allowance] += 1
            ports.events.emit(
                "item.retried",
                item=item.message_id,
                job=attempt.name,
                cause=cause,
                allowance=allowance,
                message=ruling.tries.message,
                traceparent=item.traceparent,
            )


async def _carry_on(memory: Memory, ports: Ports, attempt: Attempt) -> None:
    """Makes the next record when all rulings that go on are known: it follows from them alone."""
    if attempt.carried_on or attempt.unruled():
        return
    now = ports.clock.now()
    following = next_record(attempt.record, memory.ledger.epoch, now)
    if following is None:
        return
    [created] = await records.create(memory, ports, [following])
    if created.answer is not Answer.DONE or created.record is None:
        return  # no answer, or refused: the same record is made again, harmlessly
    stored = created.record
    attempt.carried_on = True
    if following.name not in memory.attempts:
        memory.attempts[following.name] = Attempt(following, stored.uid, stored.version, Stage.HELD)


def _may_ask(memory: Memory, item_id: ItemId, now: datetime) -> bool:
    """Whether the broker may be asked to settle: the message is deferred as far as we know, and it is not too soon."""
    if item_id in memory.locks:
        return False  # delivered again or not deferred yet: that comes first
    again = memory.ask_again_at.get(item_id)
    return again is None or now >= again


def _chunks(memory: Memory, positions: Sequence[tuple[Attempt, int]]) -> list[list[tuple[Attempt, int]]]:
    """Requests of bounded size; what has failed in company goes alone. Copies travel with their first."""
    chunks: list[list[tuple[Attempt, int]]] = []
    current: list[tuple[Attempt, int]] = []
    size = 0
    for attempt, index in positions:
        item_id = attempt.record.items[index].id
        weight = 1 + len(memory.inflight.copies_of(item_id))
        if item_id in memory.ask_alone:
            chunks.append([(attempt, index)])
            continue
        if current and size + weight > NUMBERS_PER_REQUEST:
            chunks.append(current)
            current, size = [], 0
        current.append((attempt, index))
        size += weight
    if current:
        chunks.append(current)
    return chunks


async def _remove(
    memory: Memory, ports: Ports, tallies: Tallies, queue: str, chunk: Sequence[tuple[Attempt, int]]
) -> None:
    """Removes done items, and copies with them, in one request; where it was refused, finds out which is where."""
    ids = [attempt.record.items[index].id for attempt, index in chunk]
    copies = {copy: item_id for item_id in ids for copy in memory.inflight.copies_of(item_id)}
    numbers = [copy.sequence_number for copy in copies] + [item_id.sequence_number for item_id in ids]
    answer = await ports.queues[queue].remove_deferred(numbers[:NUMBERS_PER_REQUEST])
    if answer is Answer.DONE and len(numbers) <= NUMBERS_PER_REQUEST:
        absent = set(numbers)
    else:
        absent = await _look_up(memory, ports, queue, [*copies, *ids])
        rest = [number for number in numbers if number not in absent]
        # What is gone fails the request for the others, a first for the copies behind it too: ask without it at once.
        if absent and rest and await ports.queues[queue].remove_deferred(rest[:NUMBERS_PER_REQUEST]) is Answer.DONE:
            absent |= set(rest[:NUMBERS_PER_REQUEST])
    for copy in copies:
        if copy.sequence_number in absent and copy in memory.inflight:
            memory.inflight.settled(copy)
    for attempt, index in chunk:
        item = attempt.record.items[index]
        waiting = [copy for copy in memory.inflight.copies_of(item.id) if copy.sequence_number not in absent]
        if item.sequence_number in absent and not waiting:
            if answer is not Answer.DONE and index in attempt.recalled:
                _was_settled(memory, ports, attempt, index, item)
            else:
                _done(memory, ports, tallies, attempt, index, item)


async def _look_up(memory: Memory, ports: Ports, queue: str, ids: Sequence[ItemId]) -> set[int]:
    """The numbers that the broker has no more. The rest is asked for again later, alone."""
    states = await ports.queues[queue].look_up([item_id.sequence_number for item_id in ids])
    now = ports.clock.now()
    absent: set[int] = set()
    for item_id in ids:
        state = states.get(item_id.sequence_number, MessageState.ACTIVE)
        if state is None:
            absent.add(item_id.sequence_number)
            continue
        # Deferred: somebody has it locked, or another number failed the request. Active: the defer never happened;
        # it will be delivered, deferred as known, and removed then.
        if item_id in memory.ask_again_at or len(ids) == 1:
            memory.ask_alone.add(item_id)
        wait = timedelta(0) if len(ids) > 1 and item_id not in memory.ask_alone else ASK_AGAIN_AFTER
        memory.ask_again_at[item_id] = now + wait
    return absent


def _forget(memory: Memory, attempt: Attempt, index: int, item: WorkItem) -> None:
    attempt.settled.add(index)
    memory.ask_again_at.pop(item.id, None)
    memory.ask_alone.discard(item.id)
    memory.locks.pop(item.id, None)
    memory.dirty.add(attempt.name)
    memory.inflight.settled(item.id)


def _was_settled(memory: Memory, ports: Ports, attempt: Attempt, index: int, item: WorkItem) -> None:
    """Ruled before this leader took over, and absent now: the one before had settled it, and counted it."""
    _forget(memory, attempt, index, item)
    ports.events.emit("item.found_settled", item=item.message_id, job=attempt.name)


def _done(memory: Memory, ports: Ports, tallies: Tallies, attempt: Attempt, index: int, item: WorkItem) -> None:
    entry = memory.draft.entries.get(attempt.name)
    placement = entry.placement if entry else None
    _forget(memory, attempt, index, item)
    tallies.done += 1
    if placement is not None:
        tallies.items[placement] += 1
    ports.events.emit(
        "item.done",
        item=item.message_id,
        sequence_number=item.sequence_number,
        job=attempt.name,
        placement=placement,
        task=item.task,
        tenant=item.tenant,
        traceparent=item.traceparent,
        waited_seconds=round((ports.clock.now() - item.enqueued_at).total_seconds(), 3),
    )


async def _dead_letter(memory: Memory, ports: Ports, tallies: Tallies, attempt: Attempt, index: int) -> None:
    item, ruling = attempt.record.items[index], attempt.record.rulings[index]
    letter = _letter(memory, attempt.record, index)
    queue = ports.queues[item.queue]
    answer = await queue.dead_letter_deferred(item.sequence_number, letter)
    if answer is not Answer.DONE:
        if item.sequence_number not in await _look_up(memory, ports, item.queue, [item.id]):
            return
        if index in attempt.recalled:
            _was_settled(memory, ports, attempt, index, item)
            return
    _forget(memory, attempt, index, item)
    tallies.dead_lettered += 1
    ports.events.emit(
        "item.dead_lettered",
        item=item.message_id,
        sequence_number=item.sequence_number,
        job=attempt.name,
        cause=ruling.tries.cause,
        attempts=attempt.record.attempt,
        reason=letter.reason,
        task=item.task,
        tenant=item.tenant,
        traceparent=item.traceparent,
    )


def _letter(memory: Memory, record: Record, index: int) -> DeadLetter:
    """What a person who finds the dead letter needs."""
    entry = memory.draft.entries.get(record.name)
    return DeadLetter(*letter(record, index, entry.placement if entry else None))
