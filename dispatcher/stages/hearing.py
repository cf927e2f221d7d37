"""Hear: what pods that carry several items report is written into records, and only then taken off its queue.

Comes after watching, so that which pod is the newest is known as far as it can be, and before settling, which follows
the rulings. A report stays under lock until what follows from it stands in a record; a crash before that brings it
again, and again it means the same. Decides nothing of what a report means. Also looks whether the report queue is
emptied, where that is all that a ruling still waits for: a pod's silence proves nothing while a report may be there.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from dispatcher.core import attempts as rules
from dispatcher.core import hearing
from dispatcher.core.attempts import Attempt, Stage
from dispatcher.core.hearing import Means
from dispatcher.core.policy import Policy
from dispatcher.core.records import Ruling, RulingKind, RunSeen
from dispatcher.core.reports import ItemReport, read_report
from dispatcher.core.retries import Failure
from dispatcher.memory import Memory, Reported, Tallies
from dispatcher.ports import Answer, DeadLetter, Delivery, Ports, Reports
from dispatcher.stages import bookkeeping, circuit, records, settling

HELD_MAX = 2_000
"""So many reports are held under lock at once; the others wait on their queue."""
LOOK_EVERY = timedelta(seconds=1)
"""How often it is looked whether the report queue is emptied, while a ruling waits for that."""
NO_REPORT = "bad_report"
"""The reason on a dead letter of the report queue."""


async def hear(memory: Memory, ports: Ports, policy: Policy, tallies: Tallies) -> None:
    """Takes in reports, writes down what follows, completes them; then sees whether silence may be believed."""
    if ports.reports is not None:
        await _receive(memory, ports, ports.reports, tallies)
        if memory.reports:
            await _write_down(memory, ports, ports.reports, tallies)
    await _listen(memory, ports, policy)


async def _receive(memory: Memory, ports: Ports, reports: Reports, tallies: Tallies) -> None:
    now = ports.clock.now()
    for token in [token for token, held in memory.reports.items() if held.until <= now]:
        del memory.reports[token]  # its lock has ended: it is delivered again
    bad: dict[str, DeadLetter] = {}
    for delivery in await reports.receive(max(0, HELD_MAX - len(memory.reports))):
        try:
            report = read_report(delivery.message.body)
        except ValueError as error:
            bad[delivery.lock_token] = DeadLetter(NO_REPORT, str(error))
            _tell_bad(ports, tallies, delivery, str(error))
            continue
        number = delivery.message.sequence_number
        memory.reports[delivery.lock_token] = Reported(report, number, delivery.locked_until)
    if bad:
        await reports.dead_letter(bad)


def _tell_bad(ports: Ports, tallies: Tallies, delivery: Delivery, why: str) -> None:
    tallies.reports["bad"] += 1
    ports.events.emit("report.refused", message_id=delivery.message.message_id, why=why)


@dataclass(slots=True)
class _ForRecord:
    """What is to be written into the record of one attempt."""

    attempt: Attempt
    done: dict[int, ItemReport] = field(default_factory=dict)
    failures: dict[int, dict[str, Failure]] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)


async def _write_down(memory: Memory, ports: Ports, reports: Reports, tallies: Tallies) -> None:
    of_batch: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in memory.attempts.values():
        of_batch[attempt.record.batch].append(attempt)
    writes: dict[str, _ForRecord] = {}
    answered: list[str] = []
    unclaimed: list[str] = []
    for token, held in memory.reports.items():
        report = held.report
        meant = hearing.heard(report, of_batch.get(report.batch, ()))
        if meant.means is Means.WAIT:
            continue
        if meant.attempt is None:
            unclaimed.append(token)
            continue
        if meant.means in (Means.NOTHING, Means.TOO_LATE):
            answered.append(token)
            tallies.reports[meant.means.value] += 1
            if meant.means is Means.TOO_LATE:
                ports.events.emit("report.too_late", sequence_number=report.sequence_number, batch=report.batch)
            continue
        wanted = writes.setdefault(meant.attempt.name, _ForRecord(meant.attempt))
        wanted.tokens.append(token)
        if meant.means is Means.RULE_DONE:
            wanted.done[meant.position] = report
        else:
            wanted.failures.setdefault(meant.position, {})[report.pod] = hearing.failure_in(report)
    for wanted in writes.values():
        if await _write(memory, ports, wanted):
            answered += wanted.tokens
            tallies.reports["done"] += len(wanted.done)
            tallies.reports["failed"] += len(wanted.failures)
    if unclaimed:
        # Settled, if we lead. One who was deposed unawares does not know the batches of his successor.
        await bookkeeping.must_be_ours(memory, ports)
        answered += unclaimed
        tallies.reports[Means.NOTHING.value] += len(unclaimed)
    if answered:
        await _complete(memory, reports, answered)


async def _write(memory: Memory, ports: Ports, wanted: _ForRecord) -> bool:
    """Writes it into the record; whether it stands there now. What was not written is tried again with the next."""
    attempt, now = wanted.attempt, ports.clock.now()
    rulings = _rulings(memory, attempt, wanted.done, now)
    if settling.may_wait(attempt, rulings, now):
        return False
    if rulings:
        attempt.ruled_at = now
    if not await records.write_reports(ports, attempt, rulings, wanted.failures):
        return False
    memory.dirty.add(attempt.name)
    if wanted.done:
        circuit.report_success(memory, ports, attempt.name)
    return True


def _rulings(memory: Memory, attempt: Attempt, done: dict[int, ItemReport], now: datetime) -> dict[int, Ruling]:
    entry = memory.draft.entries.get(attempt.name)
    rulings = {position: Ruling(RulingKind.DONE) for position in done}
    if entry is not None:
        rulings = rules.with_runs(attempt, rulings, entry.placement, entry.rate, now)
    for position, report in done.items():
        if attempt.record.items[position].reply_to:
            run = rulings[position].run or RunSeen(now, cost=attempt.record.tries[position].cost)
            told = replace(
                run,
                started_at=report.started_at or run.started_at,
                finished_at=report.finished_at or run.finished_at,
                result_ref=report.result_ref,
            )
            rulings[position] = replace(rulings[position], run=told)
    if done and attempt.stage is Stage.HELD:
        # It was never launched, and its record is what its pods would read: the others go on into one without it.
        return {**rules.cancelled(attempt.record), **rulings}
    return rulings


async def _complete(memory: Memory, reports: Reports, tokens: list[str]) -> None:
    """Whatever the answer is, the token is used up: a report that comes again means what it meant."""
    for token, answer in (await reports.complete(tokens)).items():
        if answer is not Answer.REFUSED:
            memory.reports.pop(token, None)


async def _listen(memory: Memory, ports: Ports, policy: Policy) -> None:
    """Sees to it that it is known up to when the report queue is emptied, where a ruling waits for nothing else."""
    now = ports.clock.now()
    for name in sorted(memory.dirty):
        attempt = memory.attempts.get(name)
        if attempt is not None and attempt.stage is Stage.RUNNING and attempt.record.has_reports:
            hearing.note_ends(attempt, policy.report_grace, now)
            due = hearing.heard_out_at(attempt, policy.report_grace)
            if any(at <= now and not _is_emptied(memory, at) for at in due):
                await _look(memory, ports, now)


def _is_emptied(memory: Memory, until: datetime) -> bool:
    return memory.reports_emptied_until is not None and memory.reports_emptied_until >= until


async def _look(memory: Memory, ports: Ports, now: datetime) -> None:
    if ports.reports is None:
        memory.reports_emptied_until = now  # operators have taken the queue away: nothing is on it
        return
    if memory.reports_looked_at is not None and now - memory.reports_looked_at < LOOK_EVERY:
        return
    memory.reports_looked_at = now
    # What is still held here waits for one attempt to be launched: it says nothing about any other.
    held = {each.sequence_number for each in memory.reports.values()}
    oldest = await ports.reports.oldest(held)
    memory.reports_emptied_until = now if oldest is None else min(oldest, now)
