"""Wrong rules, each switched on in turn: a law must catch every one, or the simulator proves nothing.

Decides which rules are broken and how. The product carries no switches for this: a mutation replaces one function of it
for as long as it lasts. Most are the counterexamples that the protocol of launch, settle and recovery was made from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from unittest.mock import patch

from rich.console import Console
from rich.table import Table

from dispatcher import memory as memories
from dispatcher.core import attempts as rules
from dispatcher.core import hearing
from dispatcher.core import plan as plans
from dispatcher.core.addresses import AddressBook
from dispatcher.core.attempts import Attempt, Sighting
from dispatcher.core.batching import Lane
from dispatcher.core.budgets import WorstCase
from dispatcher.core.hearing import Heard, Means
from dispatcher.core.inflight import ItemState
from dispatcher.core.ledger import Draft, Entry, Ledger
from dispatcher.core.observations import AccountSeen, GroupSeen, PodSeen
from dispatcher.core.outcomes import Outcome, outcome_of
from dispatcher.core.plan import Plan
from dispatcher.core.policy import Policy, VirtualNodePolicy
from dispatcher.core.records import Record, Ruling, RulingKind, next_record, to_annotations
from dispatcher.core.reports import ItemReport
from dispatcher.core.retries import Tries
from dispatcher.core.routing import Room
from dispatcher.core.units import NO_MONEY, Money, whole_seconds
from dispatcher.core.windows import Window
from dispatcher.core.work import ItemId, Task
from dispatcher.errors import Deposed, OutcomeUnknown
from dispatcher.memory import Lock, Memory, Tallies
from dispatcher.ports import Answer, ObjectRef, OutcomeAnswer, Ports, Reports
from dispatcher.simulator.faults import Fault, FaultPlan
from dispatcher.simulator.run import run
from dispatcher.simulator.scenario import Scenario, draw
from dispatcher.stages import (
    accounting,
    auditing,
    bookkeeping,
    closing,
    launching,
    leading,
    receiving,
    records,
    rejecting,
    replying,
    settling,
    sweeping,
)
from dispatcher.stages import hearing as hearing_stage

SEEDS_MAX = 600

Patches = Sequence[tuple[Any, str, Any]]


def anywhere(scenario: Scenario) -> bool:
    """Every world will do."""
    return True


def has_reports(scenario: Scenario) -> bool:
    """Worlds in which pods of some task carry several items."""
    return any(task.reports for task in scenario.policy.tasks.values())


@dataclass(frozen=True, slots=True)
class Mutation:
    """One wrong rule."""

    name: str
    sentence: str
    patches: Patches
    caught_by: tuple[str, ...]
    """The laws that may catch it first: a wrong rule breaks more than one."""
    faults: Mapping[Fault, float] | None = None
    """The faults that it is hunted under, where those of the seed would take too long to meet."""
    where: Callable[[Scenario], bool] = anywhere
    """The worlds that it can show in; seeds of others are passed over."""

    @contextmanager
    def switched_on(self) -> Iterator[None]:
        """The product follows the wrong rule inside."""
        with ExitStack() as stack:
            for owner, name, wrong in self.patches:
                stack.enter_context(patch.object(owner, name, wrong))
            yield


@dataclass(frozen=True, slots=True)
class Hunt:
    """How a mutation was hunted."""

    mutation: Mutation
    law: str | None
    """The law that caught it; None: it got away."""
    seeds: int
    text: str = ""


def hunt(mutation: Mutation, first: int = 0, seeds_max: int = SEEDS_MAX) -> Hunt:
    """Runs seeds with the mutation switched on until a law catches it."""
    with mutation.switched_on():
        for number in range(seeds_max):
            scenario = world_for(mutation, first + number)
            result = run(scenario) if mutation.where(scenario) else None
            if result is not None and not result.held:
                return Hunt(mutation, result.law, number + 1, result.text)
    return Hunt(mutation, None, seeds_max)


def world_for(mutation: Mutation, seed: int) -> Scenario:
    """The world of a seed, under the faults that the mutation is hunted under."""
    scenario = draw(seed)
    return scenario if mutation.faults is None else replace(scenario, faults=FaultPlan(mutation.faults))


def hunt_all(mutations: Sequence[Mutation] | None = None) -> Iterator[Hunt]:
    """Every mutation in turn, each from the first seed on."""
    return (hunt(mutation) for mutation in (MUTATIONS if mutations is None else mutations))


def tell_mutations(console: Console, hunts: Iterator[Hunt]) -> int:
    """Prints the table; exit code 1 if any got away."""
    table = Table("mutation", "what is wrong", "caught by", "after seeds", title="Mutations", title_justify="left")
    got_away = 0
    for each in hunts:
        got_away += each.law is None
        table.add_row(each.mutation.name, each.mutation.sentence, each.law or "[red]nobody[/]", str(each.seeds))
    console.print(table)
    for harmless in HARMLESS:
        console.print(f"[dim]not counted: {harmless.name}: {harmless.sentence}[/]")
    return 1 if got_away else 0


# --- launch ---------------------------------------------------------------------------------------------------------


async def _launch_then_reserve(memory: Memory, ports: Ports, policy: Policy, plan: Plan, tallies: Tallies) -> None:
    await launching._look_for_opened(memory, ports)
    openings = await launching._write_records(memory, ports, policy, plan)
    opened = [opening for opening in openings if launching._open(memory, ports, opening)]
    accepted, memory.ledger = memory.ledger, memory.draft.peek()
    for opening in opened:
        launching._claimed(memory, ports, policy, tallies, opening)
    await launching._create_jobs(memory, ports, policy)
    memory.ledger = accepted
    await bookkeeping.write(memory, ports, policy)


async def _write_and_go_on(memory: Memory, ports: Ports, policy: Policy) -> None:
    if not memory.draft.changed:
        return
    ledger = memory.draft.finish(ports.clock.now())
    try:
        memory.version = await ports.store.write_ledger(ledger.to_document(), memory.version)
    except (Deposed, OutcomeUnknown):
        stored = await ports.store.read_ledger()
        memory.version = stored.version if stored else memory.version
    memory.ledger = ledger
    memory.new_draft(policy)


async def _fence_without_write(ports: Ports, policy: Policy) -> tuple[Memory, bool]:
    stored = await ports.store.read_ledger()
    if stored is None:
        return await _FENCE(ports, policy)
    ledger = Ledger.from_document(stored.document)
    draft = Draft(ledger, policy.budgets, memories.release_hold(policy))
    return Memory(ledger=ledger, version=stored.version, draft=draft, took_over_at=ports.clock.now()), False


_FENCE = leading._fence


def _one_tail(self: WorstCase, window: Window, written: datetime) -> Money:
    start, end = self.first_second(written), self.last_second(written)
    active = min(whole_seconds(self.shape.deadline), whole_seconds(window.overlap(start, end - self.tail)))
    tails = min(whole_seconds(self.tail), whole_seconds(window.overlap(start, end)))
    return self.rate * (self.shape.parallelism * active + tails)


def _all_in_the_first_window(self: WorstCase, window: Window, written: datetime) -> Money:
    return self.total() if window.start <= written < window.end else NO_MONEY


# --- rulings --------------------------------------------------------------------------------------------------------


def _stopped_whatever_its_pods_do(sight: Sighting) -> bool:
    return sight.job is not None and (sight.job.condition is not None or sight.job.marked_for_deletion)


_NEXT_RULINGS = rules.next_rulings


def _failed_is_failed(attempt: Attempt, task: Task | None, policy: Policy, now: datetime) -> dict[int, Ruling]:
    rulings = dict(_NEXT_RULINGS(attempt, task, policy, now))
    for index in attempt.unruled():
        if index not in rulings and attempt.record.evidence.get(index):
            ruling = rules._failed(attempt, index, task, policy, now, stopped=True)
            if ruling is not None:
                rulings[index] = ruling
    return rulings


async def _replace_by_force(ports: Ports, attempt: Attempt, record: Record) -> bool:
    version = attempt.record_version
    while True:
        answer, written = await ports.store.replace_annotations(attempt.name, version, to_annotations(record))
        if answer is Answer.DONE:
            attempt.record, attempt.record_version = record, written
            return True
        stored = await ports.store.get_record(attempt.name)
        if stored is None:
            raise Deposed(f"record {attempt.name} is gone")
        version = stored.version


def _counts_forgotten(record: Record, epoch: int, now: datetime) -> Record | None:
    following = next_record(record, epoch, now)
    return following and replace(following, tries=(Tries(),) * len(following.items))


# --- settle ---------------------------------------------------------------------------------------------------------


async def _not_found_is_settled(memory: Memory, ports: Ports, queue: str, ids: Sequence[ItemId]) -> set[int]:
    return {item_id.sequence_number for item_id in ids}


def _defer_at_once(memory: Memory, policy: Policy, item_id: ItemId, lock: Lock, now: datetime) -> bool:
    return memory.inflight.state(item_id) is not ItemState.UNDER_LOCK or now - lock.since >= policy.lock_hold_max


_RECEIVE = receiving.receive


async def _receive_and_drop_copies(memory: Memory, ports: Ports, policy: Policy, tallies: Tallies) -> int:
    received = await _RECEIVE(memory, ports, policy, tallies)
    for item_id, lock in list(memory.locks.items()):
        if memory.inflight.state(item_id) is ItemState.COPY:
            queue = ports.queues[item_id.queue]
            await queue.defer([lock.token])
            del memory.locks[item_id]
            if await queue.remove_deferred([item_id.sequence_number]) is Answer.DONE:
                memory.inflight.settled(item_id)
    return received


# --- money and room -------------------------------------------------------------------------------------------------


def _release_when_complete(
    memory: Memory,
    ports: Ports,
    name: str,
    sight: Sighting,
    seen: AccountSeen | None,
    now: datetime,
) -> None:
    if rules.is_stopped(sight):
        memory.draft.settle_money(name)


def _unseen_costs_nothing(self: Draft, name: str, count: int, at: datetime) -> None:
    return None


def _no_hold(policy: Policy) -> timedelta:
    return timedelta(0)


def _book_that_is_never_full(self: AddressBook, requests: object, count: int) -> None:
    return None


async def _seek_no_leaks(memory: Memory, ports: Ports, node: VirtualNodePolicy, group: GroupSeen) -> None:
    return None


def _leak_for_nothing(self: Draft, uid: str, until: datetime) -> None:
    return None


def _gone_at_once(memory: Memory, entry: Entry, pod: PodSeen, now: datetime) -> bool:
    return True


_LEDGER_ROOM = Room.__init__


def _room_beside_leaks(self: Room, *room: Any, **more: Any) -> None:
    _LEDGER_ROOM(self, *room, **more)
    self._leaked = []


# --- holds ----------------------------------------------------------------------------------------------------------


def _turn_by_name(self: plans._Planner, lane: Lane) -> tuple[int, float, int, str, str]:
    share = self._snapshot.active_of_tenant.get(lane.key.tenant, 0)
    return (-lane.key.priority, share, 0, lane.key.tenant, lane.key.task)


def _room_that_trusts_its_clock(*room: Any, **known: Any) -> Room:
    return Room(*room, **{**known, "clock_fault": None})


def _hold_silently(self: plans._Planner, lane: Lane, taken: int, held: object, considered: object) -> None:
    return None


# --- recovery -------------------------------------------------------------------------------------------------------


async def _nothing(memory: Memory, ports: Ports, policy: Policy) -> None:
    return None


async def _none_is_over(memory: Memory, ports: Ports, found: Sequence[Record]) -> set[str]:
    return set()


async def _job_before_record(memory: Memory, ports: Ports, policy: Policy, entry: Entry) -> None:
    sight = memory.sight(entry.name)
    if not sight.job_gone:
        await closing._release_job(memory, ports, policy, entry)
    uid = memory.records.get(entry.name)
    if not sight.job_gone:
        return
    if uid is not None:
        if await ports.store.delete_record(ObjectRef(entry.name, uid)) not in closing._GONE:
            return
        del memory.records[entry.name]
    entry = memory.draft.entries[entry.name]
    if (not entry.paid or entry.money_settled) and entry.addresses(ports.clock.now()) == 0:
        closing._drop(memory, ports, entry)


async def _missing_is_never_made(memory: Memory, ports: Ports) -> None:
    """An attempt whose create got no answer is given up at once, and its items are carried on."""
    for attempt in list(memory.attempts.values()):
        if attempt.create_unknown and not attempt.record.rulings and attempt.stage is rules.Stage.OPENED:
            sequence = enumerate(attempt.record.tries)
            again = {index: Ruling(RulingKind.RETRY, tries) for index, tries in sequence}
            await records.write_rulings(ports, attempt, again)
            memory.dirty.add(attempt.name)


# --- telling senders ------------------------------------------------------------------------------------------------


_ANSWERED = replying._answered


def _any_answer_will_do(memory: Memory, ports: Ports, tallies: Tallies, answer: OutcomeAnswer, now: datetime) -> None:
    _ANSWERED(memory, ports, tallies, replace(answer, answer=Answer.DONE), now)


def _tell_what_is_ruled(self: Attempt) -> list[int]:
    ruled = [index for index, ruling in self.record.rulings.items() if not ruling.goes_on]
    return [index for index in ruled if self.record.items[index].reply_to and index not in self.replied]


_TELLINGS = count()


def _a_new_id_each_time(record: Record, index: int, result_ref: str | None = None) -> Outcome:
    outcome = outcome_of(record, index, result_ref)
    return replace(outcome, enqueued_at=outcome.enqueued_at + timedelta(microseconds=next(_TELLINGS)))


async def _always_confirmed(memory: Memory, ports: Ports, attempt: Attempt) -> bool:
    return True


# --- reports ----------------------------------------------------------------------------------------------------------


_WRITE_DOWN = hearing_stage._write_down


async def _complete_then_write(memory: Memory, ports: Ports, reports: Reports, tallies: Tallies) -> None:
    held = dict(memory.reports)
    await hearing_stage._complete(memory, reports, list(held))
    memory.reports.update(held)
    await _WRITE_DOWN(memory, ports, reports, tallies)


_SILENCE = hearing.rulings_of_silence


def _failed_is_ruled(
    attempt: Attempt, task: Task | None, policy: Policy, emptied_until: datetime | None, now: datetime
) -> dict[int, Ruling]:
    rulings = dict(_SILENCE(attempt, task, policy, emptied_until, now))
    for position in attempt.unruled():
        told = list(attempt.record.reported.get(position, {}).values())
        if told and position not in rulings:
            ruling = rules.ruling_after(attempt.record.tries[position], told, task, policy, now, stopped=True)
            if ruling is not None:
                rulings[position] = ruling
    return rulings


def _silence_at_once(
    attempt: Attempt, task: Task | None, policy: Policy, emptied_until: datetime | None, now: datetime
) -> dict[int, Ruling]:
    hearing.note_ends(attempt, timedelta(0), now)
    return _SILENCE(attempt, task, replace(policy, report_grace=timedelta(0)), now, now)


def _queue_taken_for_empty(
    attempt: Attempt, task: Task | None, policy: Policy, emptied_until: datetime | None, now: datetime
) -> dict[int, Ruling]:
    return _SILENCE(attempt, task, policy, now, now)


_HEARD = hearing.heard


def _only_of_the_newest(report: ItemReport, of_batch: Iterable[Attempt]) -> Heard:
    found = _HEARD(report, of_batch)
    late = found.attempt is not None and found.attempt.record.attempt > report.attempt
    return Heard(Means.NOTHING, found.attempt, found.position) if late else found


async def _believed(memory: Memory, ports: Ports) -> None:
    return None


SETTLED = "law 1: settled once"
RULED = "law 1: ruled once"
ONE_JOB = "law 2: one live Job"
ADMISSION = "law 3: admission"
COVER = "law 3: cover"
CHARGE = "law 3: charge"
CAPACITY = "law 4: capacity"
PLAN = "law 5: plan"
HELD = "law 6: held with a reason"
DRAINS = "law 8: drains"
TOLD = "law 9: told to senders"
HEARD = "law 10: reports"

LEAKING = {Fault.GROUP_BEYOND_TAIL: 0.5, Fault.POD_EVICTED: 0.3}
"""Groups outlive their pods by more than anybody assumed, and nothing else goes wrong."""
UNSEEN = {Fault.POD_DELETED: 0.5, Fault.JOB_DELETED: 0.3, Fault.MISSED_EVENT: 0.4}
"""Pods come and go while nobody looks."""

MUTATIONS: tuple[Mutation, ...] = (
    Mutation(
        "reserve after launch",
        "the Job is created first, the entry that reserves its money is written afterwards",
        [(launching, "launch", _launch_then_reserve)],
        (COVER, ONE_JOB, CAPACITY),
    ),
    Mutation(
        "act on after a refusal",
        "a leader whose write of the ledger was refused goes on with what it has in mind",
        [(bookkeeping, "write", _write_and_go_on)],
        (ADMISSION, COVER, CHARGE, CAPACITY, ONE_JOB, SETTLED, TOLD),
    ),
    Mutation(
        "take over without a fence",
        "a new leader reads the ledger and does not write it back: the old one's writes are still accepted",
        [(leading, "_fence", _fence_without_write)],
        (ONE_JOB, SETTLED, DRAINS),
    ),
    Mutation(
        "give up without an answer",
        "a create that got no answer is taken for one that never happened",
        [(launching, "_look_for_opened", _missing_is_never_made)],
        (ONE_JOB, SETTLED),
    ),
    Mutation(
        "ignore terminating pods",
        "a Job that is marked for deletion counts as stopped though pods of it still run",
        [(rules, "seems_stopped", _stopped_whatever_its_pods_do)],
        (ONE_JOB, CAPACITY),
    ),
    Mutation(
        "trust Failed",
        "an item is retried as soon as a pod of it has failed, though its Job may make the next pod itself",
        [(rules, "next_rulings", _failed_is_failed)],
        (ONE_JOB,),
        {Fault.LOST_ACT: 0.3, Fault.POD_EVICTED: 0.3},
    ),
    Mutation(
        "Job before record",
        "an attempt's Job is deleted before its record, so that a late create finds its items again",
        [(closing, "_clear", _job_before_record)],
        (ONE_JOB, DRAINS),
        {Fault.LATE_ACT: 0.3, Fault.POD_REFUSED: 0.3},
    ),
    Mutation(
        "late records live",
        "a retry's record that a stalled leader created once more is believed",
        [(leading, "_over", _none_is_over)],
        (ONE_JOB, SETTLED),
        {Fault.STALLED_LEADER: 0.02, Fault.CRASH_AFTER: 0.02, Fault.POD_REFUSED: 0.4},
    ),
    Mutation(
        "rule twice",
        "a ruling is written over another's",
        [(records, "_replace", _replace_by_force)],
        (RULED,),
    ),
    Mutation(
        "forget the count",
        "a retry starts to count anew",
        [(settling, "next_record", _counts_forgotten)],
        (DRAINS,),
    ),
    Mutation(
        "not found is settled",
        "the broker's 'not found' is taken for the proof that a message is gone",
        [(settling, "_look_up", _not_found_is_settled)],
        (SETTLED,),
    ),
    Mutation(
        "settle twice",
        "what the leader before had settled is counted as done once more",
        [(settling, "_was_settled", lambda m, p, a, i, item: settling._done(m, p, Tallies(), a, i, item))],
        (SETTLED,),
    ),
    Mutation(
        "remove a copy on sight",
        "a second message with the same id is removed before the first is done",
        [(receiving, "receive", _receive_and_drop_copies)],
        (SETTLED,),
    ),
    Mutation(
        "skip the sweep",
        "deferred messages that nothing claims are looked for at takeover only",
        [(sweeping, "sweep", _nothing)],
        (DRAINS, SETTLED),
    ),
    Mutation(
        "one tail per Job",
        "one tail is reserved for a whole Job instead of one for each of its groups",
        [(WorstCase, "within", _one_tail)],
        (COVER, ADMISSION),
        {Fault.GROUP_LEAKED: 0.95},
    ),
    Mutation(
        "all in one window",
        "a Job over a window's end is reserved in the window of its launch only",
        [(WorstCase, "within", _all_in_the_first_window)],
        (COVER, ADMISSION),
    ),
    Mutation(
        "release when complete",
        "what was reserved is given back when the Job is stopped, though its groups may still run",
        [(accounting, "_settle", _release_when_complete)],
        (COVER, CHARGE),
    ),
    Mutation(
        "unseen is free",
        "a pod that came and went unseen costs nothing",
        [(Draft, "pods_unseen", _unseen_costs_nothing)],
        (CHARGE, COVER, CAPACITY),
        UNSEEN,
    ),
    Mutation(
        "leaks are not sought",
        "a group that outlives its pod by more than was set aside is waited for, and told to nobody",
        [(auditing, "_examine", _seek_no_leaks)],
        (CHARGE,),
        LEAKING,
    ),
    Mutation(
        "leaks are free",
        "a group that was found without a pod is charged nothing",
        [(Draft, "_charge_leak", _leak_for_nothing)],
        (CHARGE,),
        LEAKING,
    ),
    Mutation(
        "spill beside a leak",
        "work is opened on the virtual node while a group bills on without a pod",
        [(Room, "__init__", _room_beside_leaks)],
        (ADMISSION,),
        LEAKING,
    ),
    Mutation(
        "delete before reading",
        "a finished pod is deleted before its group's own times were read, where they could have been",
        [(accounting, "is_read", _gone_at_once)],
        (CHARGE,),
        {},
    ),
    Mutation(
        "drop the release hold",
        "an address counts as free as soon as its pod has gone",
        [(memories, "release_hold", _no_hold), (leading, "release_hold", _no_hold)],
        (CAPACITY,),
    ),
    Mutation(
        "spend addresses twice",
        "a plan does not use up the addresses that it gives away",
        [(AddressBook, "take", _book_that_is_never_full)],
        (CAPACITY, PLAN),
    ),
    Mutation(
        "turn by name",
        "among tenants with nothing in flight the first by name goes first, always",
        [(plans._Planner, "_turn", _turn_by_name)],
        (HELD,),
        {Fault.POD_SLOW: 0.1},
    ),
    Mutation(
        "hold in silence",
        "work that must wait is held without a reason",
        [(plans._Planner, "_hold", _hold_silently)],
        (HELD,),
    ),
    Mutation(
        "launch with clocks apart",
        "work is launched though this machine's clock and the cluster's are far apart",
        [(plans, "Room", _room_that_trusts_its_clock)],
        (PLAN,),
    ),
    Mutation(
        "send and forget",
        "an outcome that was handed over counts as told, whatever the reply queue answers",
        [(replying, "_answered", _any_answer_will_do)],
        (TOLD,),
    ),
    Mutation(
        "tell before settling",
        "a sender is told as soon as the ruling is written, though the broker has the item still",
        [(Attempt, "unreplied", _tell_what_is_ruled)],
        (TOLD,),
        {Fault.LOST_ACT: 0.2, Fault.THROTTLED: 0.3},
    ),
    Mutation(
        "tell under a new id",
        "an outcome that is sent again is another event",
        [(replying, "outcome_of", _a_new_id_each_time)],
        (TOLD,),
        {Fault.LOST_ANSWER: 0.2},
    ),
    Mutation(
        "believe a late rejection",
        "a rejection whose writer led no more is taken for one that was carried out, and told",
        [(rejecting, "confirmed", _always_confirmed)],
        (TOLD,),
        {Fault.LATE_ACT: 0.1, Fault.LOST_ANSWER: 0.1, Fault.CRASH_AFTER: 0.05, Fault.POD_REFUSED: 0.4},
    ),
    Mutation(
        "complete before writing",
        "a report is taken off its queue before what follows from it stands in a record",
        [(hearing_stage, "_write_down", _complete_then_write)],
        (HEARD,),
        where=has_reports,
    ),
    Mutation(
        "failed report is a ruling",
        "an item is retried as soon as its pod reports that it failed, though the Job may still start it",
        [(settling, "rulings_of_silence", _failed_is_ruled)],
        (HEARD, ONE_JOB),
        where=has_reports,
    ),
    Mutation(
        "no grace for reports",
        "an item is retried as soon as its pod has ended without a report, though one may be on its way",
        [(settling, "rulings_of_silence", _silence_at_once)],
        (HEARD,),
        where=has_reports,
    ),
    Mutation(
        "report queue unread",
        "after the grace an item is retried, though its report may wait on the queue",
        [(settling, "rulings_of_silence", _queue_taken_for_empty)],
        (HEARD,),
        {Fault.THROTTLED: 0.7, Fault.REPORT_LATE: 0.5, Fault.STALLED_LEADER: 0.002},
        has_reports,
    ),
    Mutation(
        "done of the past",
        "a report that an item is done is dropped where a newer attempt has the item",
        [(hearing, "heard", _only_of_the_newest)],
        (HEARD,),
        {Fault.REPORT_LATE: 0.6},
        has_reports,
    ),
    Mutation(
        "blame the company",
        "when a pod of several items comes down, each of them counts as failed by itself",
        [(hearing, "_ONE_ITEMS_FAULT", ())],
        (HEARD,),
        {},
        has_reports,
    ),
    Mutation(
        "believe what one remembers",
        "a report of a batch that is not known is completed without a look whether one still leads",
        [(bookkeeping, "must_be_ours", _believed)],
        (HEARD, DRAINS),
        {Fault.TWO_LEADERS: 0.3, Fault.STALLED_LEADER: 0.02},
        has_reports,
    ),
)

HARMLESS: tuple[Mutation, ...] = (
    Mutation(
        "defer early",
        "messages are deferred before their Job exists: harmless as long as the record comes first and sweeps go on",
        [(receiving, "must_defer", _defer_at_once)],
        (),
    ),
)
"""Wrong by the letter, and caught by nothing, for the reason given: other rules make up for them."""
