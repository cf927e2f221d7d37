"""One attempt, as seen from its record, its entry, its Job and its pods: what may be ruled, and what must be stopped.

Decides what follows from what was seen of one attempt. The same rules serve the ordinary course and the repair after a
crash: what is found is all that counts. Knows nothing of other attempts or of how anything is carried out.

``done`` may be ruled as soon as the index has completed, or a pod of it was seen Succeeded (a Job that is marked for
deletion is not counted any more, so the pod's own word must do). ``retry`` may be ruled only when this attempt cannot
start the item again: the Job is stopped. "Failed" in between proves nothing: the Job controller may make the next pod.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from dispatcher.core.failures import FailureCause
from dispatcher.core.observations import JobSeen, PodPhase, PodSeen
from dispatcher.core.policy import Policy
from dispatcher.core.pricing import cost_of
from dispatcher.core.records import Record, Ruling, RulingKind, RunSeen
from dispatcher.core.retries import Failure, GiveUp, Tries, after_failures
from dispatcher.core.units import Money
from dispatcher.core.work import Placement, Task, WorkItem

LOG_TAIL_BYTES = 1024


class Stage(StrEnum):
    """Where an attempt is in its life."""

    HELD = "held"
    """A record without an entry: a retry that waits for its turn."""
    OPENED = "opened"
    """Record and entry stand; the Job was not seen yet."""
    RUNNING = "running"
    """The Job was seen."""


@dataclass(slots=True)
class Sighting:
    """What was seen of one Job and its pods. Memory only: it can be looked at again."""

    job: JobSeen | None = None
    pods: dict[str, PodSeen] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    """Pods that were seen and are no more; their last sight stays in ``pods``."""
    job_gone: bool = False
    """The server says that there is no Job of that name (any more)."""
    dropped: set[str] = field(default_factory=set)
    """Pods that the ledger has charged and dropped: they are not noted a second time."""
    deleted: set[str] = field(default_factory=set)
    """Pods that we had deleted: not deleted a second time."""
    answered: bool = False
    """Every create of it was answered, so that none can still land."""
    confirmed_stopped: bool = False
    """A consistent read has shown that a Job marked for deletion is stopped."""

    def live_pods(self) -> list[PodSeen]:
        """Pods that are there and have not ended."""
        return [pod for uid, pod in self.pods.items() if uid not in self.gone and not pod.finished]


@dataclass(slots=True)
class Attempt:
    """An attempt that claims items. Memory only: all of it can be found again."""

    record: Record
    record_uid: str
    record_version: str
    stage: Stage
    sight: Sighting = field(default_factory=Sighting)
    settled: set[int] = field(default_factory=set)
    """Positions whose item the broker has no more."""
    followed: set[int] = field(default_factory=set)
    """Positions whose ruling has been taken note of."""
    replied: set[int] = field(default_factory=set)
    """Positions whose outcome the reply queue has, or will never have."""
    recalled: set[int] = field(default_factory=set)
    """Positions that had been ruled when this leader took over: an earlier one may have settled and told them."""
    carried_on: bool = False
    """The next record exists, where one is needed."""
    stopping: FailureCause | None = None
    """Why we had its Job deleted, where we did."""
    last_create_at: datetime | None = None
    create_unknown: bool = False
    """A create got no answer: it may still land."""
    create_again_at: datetime | None = None
    """The cluster would not take it for now: not sent again before."""
    ruled_at: datetime | None = None
    """When rulings of it were last written."""
    ending_since: dict[int, datetime] = field(default_factory=dict)
    """Since when, as far as this leader has seen, a completion index can start nothing any more: where pods report."""
    ended_since: dict[int, datetime] = field(default_factory=dict)
    """Since when no pod of such an index runs any more either."""
    told_suspended: bool = False
    """It was told that somebody has suspended its Job."""

    @property
    def name(self) -> str:
        """The name that record, entry and Job share."""
        return self.record.name

    def unruled(self) -> list[int]:
        """Positions without a ruling."""
        return [index for index in range(len(self.record.items)) if index not in self.record.rulings]

    def positions(self, kind: RulingKind) -> list[tuple[int, WorkItem]]:
        """Ruled so and not settled yet."""
        return [
            (index, self.record.items[index])
            for index, ruling in self.record.rulings.items()
            if ruling.kind is kind and index not in self.settled
        ]

    def unreplied(self) -> list[int]:
        """Positions that are settled and whose sender has still to be told."""
        items = self.record.items
        return [index for index in sorted(self.settled) if items[index].reply_to and index not in self.replied]

    @property
    def over(self) -> bool:
        """Whether every item is settled and told, or carried on, so that nothing is claimed any more."""
        rulings = self.record.rulings
        if len(rulings) < len(self.record.items):
            return False
        if any(ruling.goes_on for ruling in rulings.values()) and not self.carried_on:
            return False
        if not all(ruling.goes_on or index in self.settled for index, ruling in rulings.items()):
            return False
        return not self.unreplied()


def ended_indexes(sight: Sighting) -> frozenset[int]:
    """Positions that need no pod any more: by the Job's own count, or by the word of a pod that succeeded.

    The Job controller counts once a second; until then the pod knows better.
    """
    job = sight.job
    if job is None:
        return frozenset()
    succeeded = (pod.index for pod in sight.pods.values() if pod.phase is PodPhase.SUCCEEDED)
    return job.completed_indexes | job.failed_indexes | frozenset(succeeded)


@dataclass(frozen=True, slots=True)
class Load:
    """What a Job still takes of the room that its task and the nodes have."""

    ended: int
    """Positions that need no pod any more."""
    placed: int
    """Pods that are there, have not ended, and are on a node."""
    stopped: bool


def load_of(sight: Sighting) -> Load:
    """Counted from all its pods: costs time for each of them."""
    placed = sum(1 for pod in sight.live_pods() if pod.node is not None)
    return Load(len(ended_indexes(sight)), placed, is_stopped(sight))


def seems_stopped(sight: Sighting) -> bool:
    """Whether the Job can start nothing any more, as far as seen."""
    job = sight.job
    if job is None:
        return False
    if job.condition is not None:
        return True
    if not job.marked_for_deletion or job.uncounted:
        return False
    return all(pod.finished or uid in sight.gone or pod.marked_for_deletion for uid, pod in sight.pods.items())


def is_stopped(sight: Sighting) -> bool:
    """Whether it is certain that the Job can start nothing any more.

    Its own condition says so for certain. For one that is marked for deletion a consistent read must have confirmed it.
    """
    if sight.job_gone:
        return True
    if not seems_stopped(sight):
        return False
    return sight.confirmed_stopped or (sight.job is not None and sight.job.condition is not None)


def unexamined(attempt: Attempt) -> list[PodSeen]:
    """Failed pods whose failure is not written down yet."""
    return [
        pod
        for uid, pod in attempt.sight.pods.items()
        if pod.phase is PodPhase.FAILED and uid not in attempt.record.evidence.get(pod.index, {})
    ]


def next_rulings(attempt: Attempt, task: Task | None, policy: Policy, now: datetime) -> dict[int, Ruling]:
    """The rulings that can be made now, for positions that have none. Evidence must have been written down before."""
    if attempt.record.has_reports or (attempt.sight.job is None and not attempt.sight.job_gone):
        return {}  # of pods that report, their reports decide: see core/hearing
    succeeded = {pod.index for pod in attempt.sight.pods.values() if pod.phase is PodPhase.SUCCEEDED}
    completed = attempt.sight.job.completed_indexes if attempt.sight.job else frozenset()
    failed = attempt.sight.job.failed_indexes if attempt.sight.job else frozenset()
    stopped = is_stopped(attempt.sight)
    rulings: dict[int, Ruling] = {}
    for index in attempt.unruled():
        if index in completed or index in succeeded:
            rulings[index] = Ruling(RulingKind.DONE)
        elif stopped or index in failed:
            ruling = _failed(attempt, index, task, policy, now, stopped=stopped)
            if ruling is not None:
                rulings[index] = ruling
    return rulings


def _failed(
    attempt: Attempt, index: int, task: Task | None, policy: Policy, now: datetime, *, stopped: bool
) -> Ruling | None:
    failures = list(attempt.record.evidence.get(index, {}).values())
    if not failures:
        if not stopped:
            return None  # its pod has not been seen yet; it tells the cause
        failures = [unwitnessed(attempt, index)]
    return ruling_after(attempt.record.tries[index], failures, task, policy, now, stopped=stopped)


def ruling_after(
    tries: Tries, failures: Sequence[Failure], task: Task | None, policy: Policy, now: datetime, *, stopped: bool
) -> Ruling | None:
    """What is ruled of an item that failed like this; None where it would be tried again and its Job still runs."""
    verdict = after_failures(tries, failures, task, policy, now)
    if isinstance(verdict, GiveUp):
        return Ruling(RulingKind.DEAD, verdict.tries)
    return Ruling(RulingKind.RETRY, verdict.tries, verdict.not_before) if stopped else None


def unwitnessed(attempt: Attempt, index: int) -> Failure:
    """The failure of a completion index that left no failed pod behind."""
    if attempt.stopping is FailureCause.START_DEADLINE:
        started = any(pod.index == index and pod.started_at for pod in attempt.sight.pods.values())
        if not started:
            return _never_started(attempt, index)
        return Failure(FailureCause.CANCELLED, "stopped together with its Job")
    job = attempt.sight.job
    if job is not None and job.reason == "DeadlineExceeded":
        if any(pod.index == index and pod.started_at for pod in attempt.sight.pods.values()):
            return Failure(FailureCause.ITEM_TIMEOUT, "still running when the Job's deadline passed")
        return Failure(FailureCause.START_DEADLINE, "never started before the Job's deadline passed")
    if job is not None and job.marked_for_deletion:
        return Failure(FailureCause.CANCELLED, "its Job was deleted")
    return Failure(FailureCause.UNKNOWN, "its pod vanished without a result")


def with_runs(
    attempt: Attempt, rulings: Mapping[int, Ruling], placement: Placement, rate: Money, now: datetime
) -> dict[int, Ruling]:
    """The rulings, with what their senders are to be told, where they asked: the run, and what all runs have cost.

    ``rate`` is what a pod costs a second, nothing on nodes. A pod is reckoned from its creation to its end, by our own
    sightings; the bill may differ by the start and by the tail of its group.
    """
    return {
        index: _with_run(attempt, index, ruling, placement, rate, now)
        if attempt.record.items[index].reply_to
        else ruling
        for index, ruling in rulings.items()
    }


def _with_run(attempt: Attempt, index: int, ruling: Ruling, placement: Placement, rate: Money, now: datetime) -> Ruling:
    carried_by = attempt.record.index_of(index)
    pods = [pod for pod in attempt.sight.pods.values() if pod.index == carried_by]
    cost = attempt.record.tries[index].cost
    share = len(attempt.record.positions_of(carried_by))
    for pod in pods:
        cost += cost_of(rate, ((pod.finished_at or now) - pod.created_at) / share)
    if ruling.goes_on:
        return replace(ruling, tries=replace(ruling.tries, cost=cost))
    # The newest pod is the one that decided; a success that an older one brought counts before it.
    decided = max(pods, key=lambda pod: (pod.phase is PodPhase.SUCCEEDED, pod.created_at, pod.uid), default=None)
    if decided is not None:
        return replace(ruling, run=RunSeen(now, decided.started_at, decided.finished_at, cost, placement))
    unseen = bool(rate) and attempt.sight.job is not None
    return replace(ruling, run=RunSeen(now, cost=None if unseen else cost, placement=placement))


def _never_started(attempt: Attempt, index: int) -> Failure:
    """Why a pod did not start, in its own words where it gave any."""
    text = "the pod did not start within the task's start_deadline"
    waiting = [pod for pod in attempt.sight.pods.values() if pod.index == index and pod.reason]
    if not waiting:
        return Failure(FailureCause.START_DEADLINE, text)
    pod = max(waiting, key=lambda pod: pod.created_at)
    cause = FailureCause.IMAGE if pod.cause is FailureCause.IMAGE else FailureCause.START_DEADLINE
    said = f"{pod.reason}: {pod.message}" if pod.message else pod.reason
    return Failure(cause, f"{text} ({said})"[:500])


def cancelled(record: Record) -> dict[int, Ruling]:
    """Rulings for an attempt whose Job was never seen: all its items go on, with unchanged counts."""
    return {index: Ruling(RulingKind.CANCELLED, tries) for index, tries in enumerate(record.tries)}


def refused(attempt: Attempt, message: str, task: Task | None, policy: Policy, now: datetime) -> dict[int, Ruling]:
    """Rulings for an attempt whose Job the API server refuses as written: a failure of the template, never retried."""
    failure = Failure(FailureCause.TEMPLATE, message)
    tries_after = (after_failures(tries, [failure], task, policy, now).tries for tries in attempt.record.tries)
    return {index: Ruling(RulingKind.DEAD, tries) for index, tries in enumerate(tries_after)}


def stuck_pods(attempt: Attempt, start_deadline: timedelta, now: datetime) -> list[PodSeen]:
    """Pods that have not started within the start deadline: the platform has failed them."""
    return [
        pod
        for pod in attempt.sight.live_pods()
        if pod.phase is PodPhase.PENDING and not pod.marked_for_deletion and now - pod.created_at > start_deadline
    ]


def makes_no_pods(attempt: Attempt, start_deadline: timedelta, now: datetime) -> bool:
    """Whether a Job has made no pod at all within the start deadline."""
    job = attempt.sight.job
    if job is None or job.condition is not None or job.marked_for_deletion:
        return False
    return not attempt.sight.pods and now - job.created_at > start_deadline


def suspended_too_long(attempt: Attempt, deadline: timedelta, now: datetime, *, paid: bool) -> bool:
    """Whether a Job that somebody has suspended is to be taken back.

    Its deadline begins anew when it is resumed. A paid one is taken back at once, since its reservation covers no time
    but its own; one on nodes when its deadline, reckoned from the start, is over: no item waits for ever.
    """
    job = attempt.sight.job
    if job is None or not job.suspended or job.condition is not None:
        return False
    return paid or now - job.created_at > deadline


def outlived(attempt: Attempt, deadline: timedelta, now: datetime) -> list[PodSeen]:
    """Pods that run on past the Job's deadline: a Job marked for deletion has nobody to enforce it."""
    job = attempt.sight.job
    if job is None or not job.marked_for_deletion or now - job.created_at <= deadline:
        return []
    return [pod for pod in attempt.sight.live_pods() if not pod.marked_for_deletion]


def with_evidence(record: Record, found: Mapping[str, tuple[PodSeen, str]]) -> dict[int, dict[str, Failure]]:
    """The record's evidence with newly failed pods added: by uid the pod and the tail of its log.

    Of each position the last failure alone keeps its tail.
    """
    evidence = {index: dict(failures) for index, failures in record.evidence.items()}
    for uid, (pod, tail) in found.items():
        cause = pod.cause or (FailureCause.EVICTED if pod.disrupted else FailureCause.APPLICATION)
        message = pod.message or pod.reason
        if not message and pod.exit_code is not None:
            message = f"exit code {pod.exit_code}"
        before = evidence.get(pod.index, {})
        last = Failure(cause, message[:500], _end_of(tail))
        evidence[pod.index] = {**_bare(before), uid: last}
    return evidence


def without_tails(
    evidence: Mapping[int, Mapping[str, Failure]], ruled: Container[int]
) -> dict[int, Mapping[str, Failure]]:
    """Failures without the logs of what is ruled: the ruling has the last one, and a record's
    annotations may take 256 KiB in all."""
    return {index: _bare(failures) if index in ruled else failures for index, failures in evidence.items()}


def _bare(failures: Mapping[str, Failure]) -> dict[str, Failure]:
    return {uid: replace(failure, log_tail="") for uid, failure in failures.items()}


def _end_of(log: str) -> str:
    return log.encode(errors="replace")[-LOG_TAIL_BYTES:].decode(errors="ignore")
