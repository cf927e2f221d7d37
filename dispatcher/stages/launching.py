"""Launch: record, ledger, Job, each after the answer to the one before; repair of what broke off between.

Carries out a plan and what a crash left of one; decides nothing of what is launched. An attempt that is opened and
whose Job was never seen is looked for by name; its create is repeated under the same name, with a renewed reservation
if the first has run out of time, or the attempt is cancelled. A create that got no answer is never simply given up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from dispatcher.core import attempts as rules
from dispatcher.core.addresses import group_cpu_millis
from dispatcher.core.attempts import Attempt, Stage
from dispatcher.core.budgets import LAUNCH_GRACE, LAUNCH_SEND
from dispatcher.core.inflight import ItemState
from dispatcher.core.jobs import (
    ANNOTATION_DIGEST,
    ANNOTATION_RECORD_UID,
    manifest,
    ready_to_create,
    with_verdict,
)
from dispatcher.core.ledger import Entry, NoRoom
from dispatcher.core.observations import JobSeen
from dispatcher.core.plan import Launch, Plan, after_service, share
from dispatcher.core.policy import Policy
from dispatcher.core.pricing import group_rate
from dispatcher.core.records import Record, Ruling
from dispatcher.core.retries import Tries
from dispatcher.core.units import NO_MONEY
from dispatcher.core.work import Placement
from dispatcher.errors import DispatcherError
from dispatcher.memory import Memory, Tallies
from dispatcher.ports import Answer, Created, Ports
from dispatcher.stages import bookkeeping, records, watching

CREATE_AGAIN = timedelta(seconds=5)
"""How soon a create is sent again that the cluster would not take for now: its quota is full, a right is missing."""


@dataclass(frozen=True, slots=True)
class _Opening:
    launch: Launch
    attempt: Attempt
    entry: Entry


async def launch(memory: Memory, ports: Ports, policy: Policy, plan: Plan, tallies: Tallies) -> None:
    """Carries the plan out, together with every other change of the ledger: one write for all."""
    await _look_for_opened(memory, ports)
    openings = await _write_records(memory, ports, policy, plan)
    opened = [opening for opening in openings if _open(memory, ports, opening)]
    await bookkeeping.write(memory, ports, policy)
    for opening in opened:
        _claimed(memory, ports, policy, tallies, opening)
    await _create_jobs(memory, ports, policy)


async def _write_records(memory: Memory, ports: Ports, policy: Policy, plan: Plan) -> list[_Opening]:
    """Step (a): the record of each launch stands before anything else is done for it."""
    now = ports.clock.now()
    openings: list[_Opening] = []
    fresh: list[tuple[Launch, Record]] = []
    for wanted in plan.launches:
        if wanted.retry is None:
            fresh.append((wanted, _new_record(memory, ports, policy, wanted, now)))
            continue
        attempt = memory.attempts[wanted.retry]
        record = replace(attempt.record, job=_manifest(policy, wanted, attempt.record))
        if await records.write_job(ports, attempt, record):
            openings.append(_Opening(wanted, attempt, _entry(memory, policy, wanted, record, now)))
    if fresh:
        answers = await records.create(memory, ports, [record for _, record in fresh])
        for (wanted, record), created in zip(fresh, answers, strict=True):
            stored = created.record
            if created.answer is Answer.DONE and stored is not None and records.is_ours(created, record):
                attempt = Attempt(record, stored.uid, stored.version, Stage.OPENED)
                openings.append(_Opening(wanted, attempt, _entry(memory, policy, wanted, record, now)))
            else:
                # It may stand in the store. Without an entry it has no power; it is cleared away, its items stay.
                memory.give_up_record(record.name, now)
                if created.answer is Answer.UNKNOWN:
                    ports.events.emit("record.create_unanswered", job=record.name, text=created.text)
                    continue
                why = created.text or "another stands under its name"
                ports.events.emit("alarm.raised", what=f"record not created: {why}", job=record.name)
    return openings


def _new_record(memory: Memory, ports: Ports, policy: Policy, wanted: Launch, now: datetime) -> Record:
    record = Record(
        batch=ports.ids.batch_id(),
        attempt=1,
        task=wanted.task,
        tenant=wanted.tenant,
        priority=wanted.priority,
        epoch=memory.ledger.epoch,
        created_at=now,
        items=wanted.items,
        tries=(Tries(),) * len(wanted.items),
    )
    return replace(record, job=_manifest(policy, wanted, record))


def _manifest(policy: Policy, wanted: Launch, record: Record) -> dict[str, object]:
    made = manifest(
        policy.tasks[wanted.task],
        wanted.placed.shape,
        placement=wanted.placed.where,
        batch_id=record.batch,
        attempt=record.attempt,
        sequence_numbers=tuple(item.sequence_number for item in record.items),
        trace=record.items[0].trace if len(record.items) == 1 else None,
        profile=policy.profile_of(wanted.placed.where),
        reports_to=policy.reports_to,
    )
    considered = wanted.considered
    return made if considered is None else with_verdict(made, wanted.placed.why, considered.to_json())


def _entry(memory: Memory, policy: Policy, wanted: Launch, record: Record, now: datetime) -> Entry:
    profile = policy.virtual_node
    paid = wanted.placed.where is Placement.VIRTUAL_NODE and profile is not None
    requests = policy.tasks[wanted.task].requests
    if profile is not None:
        requests = profile.of_group(requests)
    return Entry(
        batch=record.batch,
        attempt=record.attempt,
        task=wanted.task,
        tenant=wanted.tenant,
        placement=wanted.placed.where,
        items=len(record.items),
        written=now,
        epoch=memory.ledger.epoch,
        shape=wanted.placed.shape,
        rate=group_rate(requests, profile.rates) if paid and profile else NO_MONEY,
        tail=profile.tail if paid and profile else timedelta(0),
        cpu_millis=group_cpu_millis(requests) if paid else 0,
    )


def _open(memory: Memory, ports: Ports, opening: _Opening) -> bool:
    """Step (b), into the draft: the reservation is checked against the very version that the write replaces."""
    try:
        memory.draft.open(opening.entry)
    except NoRoom as no_room:
        # The plan was made from this very ledger, so it should have seen it. Nothing has happened but the record.
        ports.events.emit("alarm.raised", what=f"planned beyond an account: {no_room}", job=opening.entry.name)
        if opening.launch.retry is None:
            memory.give_up_record(opening.entry.name, ports.clock.now())
        return False
    return True


def _claimed(memory: Memory, ports: Ports, policy: Policy, tallies: Tallies, opening: _Opening) -> None:
    """The entry was accepted: the items are the attempt's now."""
    wanted, attempt = opening.launch, opening.attempt
    attempt.stage = Stage.OPENED
    attempt.sight = memory.sight(attempt.name)
    memory.attempts[attempt.name] = attempt
    memory.dirty.add(attempt.name)
    for item in attempt.record.items:
        if wanted.retry is None:
            memory.inflight.claim(item, ItemState.IN_ATTEMPT)
        elif memory.inflight.state(item.id) is ItemState.HELD_RETRY:
            memory.inflight.move(item.id, ItemState.IN_ATTEMPT)
        memory.drafted.add(item.id)
    placed = wanted.placed
    waiting = {lane.key.tenant for lane in memory.inflight.lanes()}
    # Who waits for nothing has no claim on the past either: when it comes back it starts level.
    memory.served = {who: much for who, much in memory.served.items() if who in waiting or who == wanted.tenant}
    weight = policy.tenant_weights.get(wanted.tenant, 1)
    got = share(policy, policy.tasks[wanted.task], placed.shape.completions)
    memory.served[wanted.tenant] = after_service(memory.served, waiting, wanted.tenant, got, weight)
    if placed.where is Placement.VIRTUAL_NODE and memory.circuit.is_open:
        memory.probes.add(attempt.name)
        memory.circuit = memory.circuit.probed(ports.clock.now())
    tallies.batches[placed.where] += 1
    ports.events.emit(
        "batch.launched",
        batch=attempt.record.batch,
        attempt=attempt.record.attempt,
        job=attempt.name,
        placement=placed.where,
        items=len(attempt.record.items),
        task=wanted.task,
        tenant=wanted.tenant,
        why=placed.why,
        considered=None if wanted.considered is None else wanted.considered.to_json(),
        parallelism=placed.shape.parallelism,
        reserved_usd=str(placed.cost_max),
    )


async def _create_jobs(memory: Memory, ports: Ports, policy: Policy) -> None:
    """Step (c): Jobs as recorded, sent only within LAUNCH_SEND of their entry's time."""
    now = ports.clock.now()
    due = [attempt for attempt in memory.attempts.values() if _is_due(memory, attempt, now)]
    if not due:
        return
    answers = await ports.cluster.create_jobs([_as_recorded(memory, attempt) for attempt in due])
    for attempt, created in zip(due, answers, strict=True):
        attempt.last_create_at = now
        await _created(memory, ports, policy, attempt, created)


def _is_due(memory: Memory, attempt: Attempt, now: datetime) -> bool:
    entry = memory.ledger.entries.get(attempt.name)
    return (
        attempt.stage is Stage.OPENED
        and entry is not None
        and not attempt.record.rulings
        and now - entry.written <= LAUNCH_SEND
        and (attempt.create_again_at is None or now >= attempt.create_again_at)
    )


def _as_recorded(memory: Memory, attempt: Attempt) -> dict[str, object]:
    entry = memory.ledger.entries[attempt.name]
    if attempt.record.job is None:
        raise DispatcherError(f"record {attempt.name} has an entry and no Job written in it; it was tampered with")
    return ready_to_create(
        attempt.record.job,
        record_uid=attempt.record_uid,
        items_digest=attempt.record.items_digest,
        epoch=memory.ledger.epoch,
        stop_at=entry.written + LAUNCH_GRACE + entry.shape.deadline,
    )


async def _created(memory: Memory, ports: Ports, policy: Policy, attempt: Attempt, created: Created) -> None:
    if created.answer is Answer.DONE and created.job is not None:
        ours = created.job.annotations
        if created.already and (
            ours.get(ANNOTATION_RECORD_UID) != attempt.record_uid
            or ours.get(ANNOTATION_DIGEST) != attempt.record.items_digest
        ):
            raise DispatcherError(f"Job {attempt.name} exists and is not ours; its name must never be used twice")
        _seen(memory, attempt, created.job)
        attempt.sight.answered = not created.already and not attempt.create_unknown
    elif created.answer is Answer.REFUSED and created.later:
        # Not the task's fault, so no item is given up for it: the same create is sent again until it is taken.
        attempt.create_again_at = ports.clock.now() + CREATE_AGAIN
        ports.events.emit("job.refused", job=attempt.name, text=created.text, later=True)
    elif created.answer is Answer.REFUSED and not attempt.create_unknown:
        attempt.sight.answered = True
        now = ports.clock.now()
        task = policy.tasks.get(attempt.record.task)
        rulings = rules.refused(attempt, created.text, task, policy, now)
        entry = memory.draft.entries[attempt.name]
        rulings = rules.with_runs(attempt, rulings, entry.placement, entry.rate, now)
        await _rule_unseen(memory, ports, attempt, rulings)
        ports.events.emit("job.refused", job=attempt.name, text=created.text, later=False)
    else:
        attempt.create_unknown = True
        ports.events.emit("job.create_unanswered", job=attempt.name, answer=created.answer)


def _seen(memory: Memory, attempt: Attempt, job: JobSeen) -> None:
    if attempt.sight.job is None:
        attempt.sight.job = job
    watching.exists(memory, attempt)
    memory.draft.job_seen(attempt.name, job.uid)


async def _rule_unseen(memory: Memory, ports: Ports, attempt: Attempt, rulings: dict[int, Ruling]) -> None:
    """Rules for an attempt whose Job was never seen; settling carries it out."""
    await records.write_rulings(ports, attempt, rulings)
    memory.dirty.add(attempt.name)


async def _look_for_opened(memory: Memory, ports: Ports) -> None:
    """What broke off between entry and Job: find it, or send it again, with a renewed reservation if it is late."""
    now = ports.clock.now()
    for attempt in list(memory.attempts.values()):
        if attempt.stage is not Stage.OPENED or attempt.record.rulings or attempt.name not in memory.ledger.entries:
            continue
        entry = memory.ledger.entries[attempt.name]
        if attempt.last_create_at is not None and not attempt.create_unknown and now - entry.written <= LAUNCH_SEND:
            continue
        job = await ports.cluster.get_job(attempt.name)
        if job is not None:
            _seen(memory, attempt, job)
        elif now - entry.written > LAUNCH_SEND:
            await _renew_or_cancel(memory, ports, attempt, now)


async def _renew_or_cancel(memory: Memory, ports: Ports, attempt: Attempt, now: datetime) -> None:
    if now < memory.ledger.entries[attempt.name].written + LAUNCH_GRACE:
        return  # a create of this leader, or of one before, may still land: docs/decisions/0006
    try:
        memory.draft.renew(attempt.name, now)
        attempt.create_unknown = False  # none of before can land any more
    except NoRoom as no_room:
        ports.events.emit("attempt.cancelled", job=attempt.name, why=str(no_room))
        await _rule_unseen(memory, ports, attempt, rules.cancelled(attempt.record))


def may_open(memory: Memory, attempt: Attempt) -> bool:
    """Whether a held retry may be opened: its parent claims nothing any more, so that no restart can make it twice.

    After ``cancelled`` nothing of the parent may be left at all: its Job, never seen, could still come.
    """
    parent = attempt.record.parent
    if parent is None or parent in memory.attempts:
        return False
    return not attempt.record.after_cancel or parent not in memory.draft.entries
