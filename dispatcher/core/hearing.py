"""Pods that carry several items: what their reports mean, and what may be ruled of an item that has none.

Decides which record a report belongs to, and when silence may be taken for an answer. ``done`` counts whenever it
comes, in the newest attempt of that batch that still waits for the item; it follows ``retry`` from attempt to attempt
and never leaves the batch. ``failed`` is evidence of the newest pod of the newest attempt, never a ruling: the Job may
still start the item. What has no ``done`` is ruled only when its pod can start nothing any more, a report can no longer
be on its way, and the report queue was seen emptied of what came before. Knows nothing of how reports travel.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from dispatcher.core.attempts import Attempt, Stage, ended_indexes, is_stopped, ruling_after, unwitnessed
from dispatcher.core.failures import FailureCause
from dispatcher.core.observations import PodPhase, PodSeen
from dispatcher.core.policy import Policy
from dispatcher.core.records import Record, Ruling, RulingKind
from dispatcher.core.reports import ItemReport, ReportedOutcome
from dispatcher.core.retries import Failure
from dispatcher.core.work import Task


class Means(Enum):
    """What is to be done about a report."""

    RULE_DONE = "rule done"
    """The item is done: its ruling is to be written into that attempt's record."""
    NOTE_FAILURE = "note failure"
    """Evidence for that attempt's record."""
    TOO_LATE = "too late"
    """It is done after all, and was given up before."""
    NOTHING = "nothing"
    """It is ruled so already, or settled, or a failure that proves nothing."""
    WAIT = "wait"
    """The item goes on into an attempt whose record is not there yet, or whose Job is about to be."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a report means, and of which item of which attempt."""

    means: Means
    attempt: Attempt | None = None
    position: int = 0


def heard(report: ItemReport, of_batch: Iterable[Attempt]) -> Heard:
    """What a report means, where these are the attempts of its batch that still claim items."""
    waits: Attempt | None = None
    for attempt in sorted(of_batch, key=lambda each: each.record.attempt):
        position = _position(attempt.record, report)
        if attempt.record.attempt < report.attempt or position is None:
            continue
        ruling = attempt.record.rulings.get(position)
        if ruling is None:
            return _of_open(report, attempt, position)
        if not ruling.goes_on:
            late = ruling.kind is RulingKind.DEAD and report.outcome is ReportedOutcome.DONE
            return Heard(Means.TOO_LATE if late else Means.NOTHING, attempt, position)
        waits = attempt if not attempt.carried_on else None
    return Heard(Means.WAIT, waits) if waits is not None else Heard(Means.NOTHING)


def _position(record: Record, report: ItemReport) -> int | None:
    """Where in that record the item stands; None: it does not."""
    told = (report.queue, report.sequence_number, report.digest)
    for position, item in enumerate(record.items):
        if (item.queue, item.sequence_number, item.digest) == told:
            return position
    return None


def _of_open(report: ItemReport, attempt: Attempt, position: int) -> Heard:
    if report.outcome is ReportedOutcome.DONE:
        # Of a Job that is about to be created nothing is settled: it would come to be for an item that is gone.
        return Heard(Means.WAIT if attempt.stage is Stage.OPENED else Means.RULE_DONE, attempt, position)
    newest = _newest_pod(attempt, attempt.record.index_of(position))
    counts = attempt.record.attempt == report.attempt and (newest is None or report.pod in (newest.uid, newest.name))
    return Heard(Means.NOTE_FAILURE if counts else Means.NOTHING, attempt, position)


def _newest_pod(attempt: Attempt, index: int) -> PodSeen | None:
    pods = (pod for pod in attempt.sight.pods.values() if pod.index == index)
    return max(pods, key=lambda pod: (pod.created_at, pod.uid), default=None)


def failure_in(report: ItemReport) -> Failure:
    """What a report says of a failure."""
    message = report.message or (f"exit code {report.exit_code}" if report.exit_code is not None else "")
    return Failure(report.cause or FailureCause.APPLICATION, message, report.log_tail)


# --- silence ---------------------------------------------------------------------------------------------------------


def note_ends(attempt: Attempt, grace: timedelta, now: datetime) -> None:
    """Notes which pods of an attempt have ended: from now on their last reports may be waited for.

    A pod that is being deleted has failed for the Job controller and may still bring its item to an end. One that never
    goes (its node is lost) is waited for as long as for a report.
    """
    still_there = {pod.index for pod in attempt.sight.live_pods()}
    ended = range(attempt.record.pods) if is_stopped(attempt.sight) else ended_indexes(attempt.sight)
    for index in ended:
        since = attempt.ending_since.setdefault(index, now)
        if index not in still_there or now - since >= grace:
            attempt.ended_since.setdefault(index, now)


def heard_out_at(attempt: Attempt, grace: timedelta) -> list[datetime]:
    """For each pod that has ended and of which something is not ruled: until when reports of it may still come."""
    indexes = {attempt.record.index_of(position) for position in attempt.unruled()}
    return [since + grace for index, since in attempt.ended_since.items() if index in indexes]


def rulings_of_silence(
    attempt: Attempt, task: Task | None, policy: Policy, emptied_until: datetime | None, now: datetime
) -> dict[int, Ruling]:
    """The rulings of items that have no ``done`` and can get none from their pod any more.

    ``emptied_until``: all reports that came to the queue before that instant were taken from it. None: nobody looked.
    """
    if emptied_until is None or (attempt.sight.job is None and not attempt.sight.job_gone):
        return {}
    stopped = is_stopped(attempt.sight)
    rulings: dict[int, Ruling] = {}
    for position in attempt.unruled():
        since = attempt.ended_since.get(attempt.record.index_of(position))
        if since is None or min(now, emptied_until) < since + policy.report_grace:
            continue
        failure = _failure_of(attempt, position, stopped=stopped)
        if failure is None:
            continue
        ruling = ruling_after(attempt.record.tries[position], [failure], task, policy, now, stopped=stopped)
        if ruling is not None:
            rulings[position] = ruling
    return rulings


_ONE_ITEMS_FAULT = (FailureCause.APPLICATION, FailureCause.ITEM_TIMEOUT, FailureCause.UNKNOWN)
"""What brings a whole pod down and is the doing of the item that ran: the others have only been in its company."""


def _failure_of(attempt: Attempt, position: int, *, stopped: bool) -> Failure | None:
    """How the item's try ended: by its own report, else by what became of its pod. None: not known yet."""
    record = attempt.record
    index = record.index_of(position)
    pod = _newest_pod(attempt, index)
    reported = record.reported.get(position, {})
    told = list(reported.values()) if pod is None else [reported[who] for who in (pod.uid, pod.name) if who in reported]
    if told:
        return told[-1]
    if index in _ended_well(attempt):
        return Failure(FailureCause.UNREPORTED, "its pod ended well and has not said how this item ended")
    witnessed = list(record.evidence.get(index, {}).values())
    if not witnessed and not stopped:
        return None  # its pod has not been seen yet; it tells the cause
    failure = witnessed[-1] if witnessed else unwitnessed(attempt, index)
    if failure.cause not in _ONE_ITEMS_FAULT or position == _under_way(attempt, index):
        return failure
    said = f": {failure.message}" if failure.message else ""
    return Failure(FailureCause.CANCELLED, f"its pod ended ({failure.cause}) before its turn{said}"[:500])


def _ended_well(attempt: Attempt) -> frozenset[int]:
    job = attempt.sight.job
    counted = job.completed_indexes if job is not None else frozenset()
    pods = attempt.sight.pods.values()
    return counted | frozenset(pod.index for pod in pods if pod.phase is PodPhase.SUCCEEDED)


def _under_way(attempt: Attempt, index: int) -> int | None:
    """The item that a pod was at when it ended: the first, in its order, of which nothing was heard.

    None where it told of one that it was stopped at it: then it had begun no other.
    """
    record = attempt.record
    told = (failure for each in record.positions_of(index) for failure in record.reported.get(each, {}).values())
    if any(failure.cause is FailureCause.CANCELLED for failure in told):
        return None
    done = {position for position, ruling in record.rulings.items() if ruling.kind is RulingKind.DONE}
    silent = (each for each in record.positions_of(index) if each not in done and each not in record.reported)
    return next(silent, None)
