"""Take over: lease, fence the ledger, list records, Jobs and pods, then the queues; and make of it a memory.

This is the one recovery procedure: at start, after another leader, after anything that left doubt. The order matters.
The ledger is fenced before anything is read, since a deposed leader may still be writing; claims (records) are read
before the broker, since they vanish last. Decides what each find means, by the table in docs/architecture.md; the acts
that follow are the ordinary stages'.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from dispatcher.core.attempts import Attempt, Sighting, Stage
from dispatcher.core.inflight import ItemState
from dispatcher.core.jobs import JobShape, attempt_name, shape_in
from dispatcher.core.ledger import Draft, Entry, EntryState, Ledger
from dispatcher.core.observations import ClusterSeen, JobSeen
from dispatcher.core.policy import Policy
from dispatcher.core.records import Record, decode
from dispatcher.core.work import Placement
from dispatcher.errors import Deposed
from dispatcher.memory import Memory, Tallies, release_hold
from dispatcher.ports import Answer, ObjectRef, Ports, StoredRecord
from dispatcher.stages import sweeping, watching
from dispatcher.stages.rejecting import NEVER_LAUNCHED

LEDGER_LOST = (
    "the ledger was missing although attempts exist: what was spent is not known, so nothing may be; "
    "look at the bill, then lift the freeze"
)


async def take_over(ports: Ports, policy: Policy, tallies: Tallies) -> Memory | None:
    """Becomes the leader and finds out how things stand; None if another one leads.

    Raises LookFailed, Deposed or OutcomeUnknown where that could not be finished: nothing has been acted on, begin
    anew.
    """
    if not await ports.lease.acquire():
        return None
    memory, was_lost = await _fence(ports, policy)
    records = await ports.store.list_records()
    seen = await ports.cluster.list_all()
    await _recall(memory, ports, policy, records, seen, was_lost=was_lost)
    for queue in ports.queues.values():
        await sweeping.sweep_all(memory, ports, policy, queue)
    memory.sweep_at = ports.clock.now() + policy.lock_duration
    memory.headroom = await ports.cluster.headroom()
    memory.dirty |= set(memory.attempts) | set(memory.draft.entries)
    ports.events.emit(
        "takeover.finished",
        epoch=memory.ledger.epoch,
        attempts=len(memory.attempts),
        entries=len(memory.ledger.entries),
        known_items=len(memory.inflight),
        received_before=tallies.received,
    )
    return memory


async def _fence(ports: Ports, policy: Policy) -> tuple[Memory, bool]:
    """Reads the ledger and writes it back with a higher epoch: whatever a deposed leader still writes is refused."""
    stored = await ports.store.read_ledger()
    now = ports.clock.now()
    ledger = Ledger.from_document(stored.document) if stored else Ledger(epoch=_first_epoch(now))
    draft = Draft(ledger, policy.budgets, release_hold(policy))
    draft.take_over()
    over = list(draft.over_limit())
    was_lost = stored is None and bool(await ports.store.list_records())
    if was_lost:
        draft.freeze(LEDGER_LOST)
        ports.events.emit("alarm.raised", what=LEDGER_LOST)
    fenced = draft.finish(now)
    version = await ports.store.write_ledger(fenced.to_document(), stored.version if stored else None)
    for account_id, account, reserved in over:
        ports.events.emit(
            "budget.over_limit",
            account=account_id,
            limit_usd=str(account.limit),
            spent_usd=str(account.spent),
            reserved_usd=str(reserved),
            what="nothing is started on it until less is bound, or the limit is raised",
        )
    memory = Memory(ledger=fenced, version=version, draft=draft, took_over_at=ports.clock.now())
    memory.new_draft(policy)
    # Still so where an earlier takeover froze the ledger and broke off before it had adopted what runs.
    return memory, was_lost or fenced.frozen == LEDGER_LOST


def _first_epoch(now: datetime) -> int:
    """Where a new ledger begins to count: above every epoch of a ledger that was deleted, as leaders change less than
    once a second. A leader of that ledger who stalled, and goes on later, must find no younger record to take for its
    predecessor's draft."""
    return int(now.timestamp())


async def _recall(
    memory: Memory,
    ports: Ports,
    policy: Policy,
    stored_records: Sequence[StoredRecord],
    seen: ClusterSeen,
    *,
    was_lost: bool,
) -> None:
    """Makes attempts and claims of what was found."""
    jobs = {job.name: job for job in seen.jobs}
    found = [(stored, decode(stored.data, stored.annotations)) for stored in stored_records]
    records = {record.name: (stored, record) for stored, record in found}
    over = await _over(memory, ports, [record for _, record in found])
    for stored, record in sorted(found, key=_standing):
        memory.records[record.name] = stored.uid
        entry = memory.draft.entries.get(record.name)
        if entry is None and was_lost and record.name in jobs:
            entry = _adopted(memory, record, jobs[record.name], ports)
            memory.draft.open(entry)
        is_draft = entry is None and record.parent is None
        if is_draft and record.epoch >= memory.ledger.epoch:
            raise Deposed(f"record {record.name} is a later leader's")
        # What was ruled is no draft, whatever became of its entry: a ledger was lost, maybe long ago. What its senders
        # are still to be told stands nowhere else.
        if is_draft and not record.rulings:
            await _forget_draft(memory, ports, stored)
        elif record.name in over:
            memory.give_up_record(record.name, ports.clock.now())
        elif entry is None or entry.state is EntryState.OPEN:
            stage = Stage.HELD if entry is None else Stage.RUNNING if record.name in jobs else Stage.OPENED
            carried_on = attempt_name(record.batch, record.attempt + 1) in records
            _claim(memory, stored, record, stage, carried_on=carried_on)
            memory.attempts[record.name].create_unknown = _may_land(record, stage, was_lost=was_lost or is_draft)
    for name, entry in list(memory.draft.entries.items()):
        memory.sightings[name] = memory.attempts[name].sight if name in memory.attempts else Sighting()
        if name not in jobs and (entry.job_uid is not None or name not in memory.attempts):
            await watching.look_for_job(memory, ports, name)
        if entry.state is EntryState.OPEN and name not in memory.attempts:
            ports.events.emit("alarm.raised", what="an open entry without a record", job=name)
            memory.draft.close(name)
    watching.relist(memory, seen)
    for sight in memory.sightings.values():
        sight.confirmed_stopped = True  # this very list is the consistent read; later sights ask again


async def _over(memory: Memory, ports: Ports, records: Sequence[Record]) -> set[str]:
    """Records of held retries that are over: one that a stalled leader created once more, after its attempt had closed.

    A retry that really waits has no attempt after it, and the broker has all its items.
    """
    entries = memory.draft.entries.values()
    latest: dict[str, int] = {}
    for batch, attempt in [(each.batch, each.attempt) for each in records] + [(e.batch, e.attempt) for e in entries]:
        latest[batch] = max(attempt, latest.get(batch, 0))
    waiting = [record for record in records if record.parent and not record.rulings]
    waiting = [record for record in waiting if record.name not in memory.draft.entries]
    over = {record.name for record in waiting if latest[record.batch] > record.attempt}
    for name, queue in ports.queues.items():
        numbers = [item.sequence_number for record in waiting for item in record.items if item.queue == name]
        states = await queue.look_up(numbers) if numbers else {}
        gone = {number for number, state in states.items() if state is None}
        over |= {
            record.name
            for record in waiting
            if any(item.queue == name and item.sequence_number in gone for item in record.items)
        }
    return over


def _standing(pair: tuple[StoredRecord, Record]) -> tuple[bool, bool, str, int]:
    """Whose claim counts first: attempts before mere rejections, among these the one that may have been carried out;
    the later attempt of a batch before the earlier."""
    record = pair[1]
    return record.parent == NEVER_LAUNCHED, record.confirmed is None, record.batch, -record.attempt


def _claim(memory: Memory, stored: StoredRecord, record: Record, stage: Stage, *, carried_on: bool) -> None:
    attempt = Attempt(record, stored.uid, stored.version, stage, carried_on=carried_on)
    attempt.followed = set(record.rulings)
    attempt.recalled = set(record.rulings)
    memory.attempts[record.name] = attempt
    for index, item in enumerate(record.items):
        ruling = record.rulings.get(index)
        # A rejection that came too late: an attempt has the item, or a leader has found that it had ended otherwise.
        if record.parent == NEVER_LAUNCHED and (item.id in memory.inflight or not _may_follow(record, index)):
            attempt.settled.add(index)
            attempt.replied.add(index)
            continue
        if item.id in memory.inflight:
            continue  # a later attempt of the batch has it
        if ruling is not None and not ruling.goes_on:
            memory.inflight.claim(item, ItemState.RULED)
        elif stage is Stage.HELD or ruling is not None:
            memory.inflight.claim(item, ItemState.HELD_RETRY)
        else:
            memory.inflight.claim(item, ItemState.IN_ATTEMPT)
            if stage is Stage.OPENED:
                memory.drafted.add(item.id)


def _may_follow(record: Record, index: int) -> bool:
    return record.confirmed is None or index in record.confirmed


def _may_land(record: Record, stage: Stage, *, was_lost: bool) -> bool:
    """Whether a create that the leader before has sent may still land. Where the ledger was lost nothing tells a retry
    that waits from one that was opened, once its Job is written in its record."""
    return stage is Stage.OPENED or (was_lost and stage is Stage.HELD and record.job is not None)


def _adopted(memory: Memory, record: Record, job: JobSeen, ports: Ports) -> Entry:
    """An entry for an attempt whose ledger was lost: its claim, and no money (nothing is left to spend anyway)."""
    pods = len(record.items)
    shape = shape_in(record.job) if record.job is not None else JobShape(pods, pods, 0, timedelta(0))
    return Entry(
        batch=record.batch,
        attempt=record.attempt,
        task=record.task,
        tenant=record.tenant,
        placement=Placement.NODE_POOL,
        items=len(record.items),
        written=ports.clock.now(),
        epoch=memory.ledger.epoch,
        shape=shape,
        job_uid=job.uid,
    )


async def _forget_draft(memory: Memory, ports: Ports, stored: StoredRecord) -> None:
    """The draft of a dead leader: no entry was opened, so no Job can have been made.

    Its items are still the broker's.
    """
    answer = await ports.store.delete_record(ObjectRef(stored.name, stored.uid))
    if answer in (Answer.DONE, Answer.NOT_FOUND):
        memory.records.pop(stored.name, None)
    else:
        memory.give_up_record(stored.name, ports.clock.now())
