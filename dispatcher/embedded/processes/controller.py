"""The Job controller: what an Indexed Job's pods mean, and which pods it wants next. Pure.

Decides counting, replacement with its back-off, and how a Job ends, as the Kubernetes Job controller does. Knows
nothing of processes, nodes or money; time is handed in. A Job that is marked for deletion is left alone: no new pods,
and nothing that its pods still do is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from dispatcher.core.observations import JobCondition, PodPhase
from dispatcher.embedded.processes.manifests import JobSpec

DEADLINE_EXCEEDED = "DeadlineExceeded"
FAILED_INDEXES = "FailedIndexes"


@dataclass(frozen=True, slots=True)
class IndexTally:
    """How often one index has failed, and when last: its limit and its back-off hang on it."""

    failures: int = 0
    ignored: int = 0
    last_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What the controller has concluded so far."""

    started_at: datetime
    condition: JobCondition | None = None
    reason: str = ""
    ending: str = ""
    """The reason it is going to fail for, once its last pod has ended."""
    succeeded: int = 0
    failed: int = 0
    completed: frozenset[int] = frozenset()
    failed_indexes: frozenset[int] = frozenset()
    tallies: Mapping[int, IndexTally] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobPod:
    """A pod as the controller sees it."""

    uid: str
    index: int
    phase: PodPhase
    marked: bool = False
    counted: bool = False
    disrupted: bool = False
    ended_at: datetime | None = None

    @property
    def ended(self) -> bool:
        """Whether it is in a phase that is final."""
        return self.phase in (PodPhase.SUCCEEDED, PodPhase.FAILED)


@dataclass(frozen=True, slots=True)
class Backoff:
    """The wait before an index's next pod: ``first``, doubling up to ``longest``."""

    first: timedelta
    longest: timedelta

    def after(self, failures: int) -> timedelta:
        """The wait after so many failures of one index."""
        doublings = min(failures - 1, 30)
        return min(self.first * 2**doublings, self.longest) if failures > 0 else timedelta(0)


@dataclass(frozen=True, slots=True)
class JobTurn:
    """What one look at a Job led to."""

    status: JobStatus
    counted: tuple[str, ...] = ()
    """Uids of pods that the status includes from now on."""
    create: tuple[int, ...] = ()
    """Indexes that get a pod now, in this order."""
    delete: tuple[str, ...] = ()
    """Uids of pods to delete."""
    again_at: datetime | None = None
    """When time alone will change the answer."""


def active(pods: Iterable[JobPod]) -> int:
    """How many pods a Job's status shows as active."""
    return sum(1 for pod in pods if not pod.ended and not pod.marked)


def take_turn(spec: JobSpec, status: JobStatus, pods: Sequence[JobPod], backoff: Backoff, now: datetime) -> JobTurn:
    """Counts what has ended, ends the Job if it is over, and otherwise says which pods to make and delete."""
    if status.condition is not None:
        return JobTurn(status)
    status, counted = _count(spec, status, pods, now)
    deadline_at = None if spec.deadline is None else status.started_at + spec.deadline
    if not status.ending:
        status = _see_the_end(spec, status, deadline_at, now)
    alive = [pod for pod in pods if not pod.ended]
    if status.ending:
        return _end(status, counted, alive)
    wanted, again_at = _missing(spec, status, alive, backoff, now)
    return JobTurn(status, counted, create=wanted, again_at=_earliest(deadline_at, again_at))


def _count(
    spec: JobSpec, status: JobStatus, pods: Sequence[JobPod], now: datetime
) -> tuple[JobStatus, tuple[str, ...]]:
    counted = []
    for pod in pods:
        gone = pod.marked and not spec.replaces_ended_pods_only
        if pod.counted or not (pod.ended or gone):
            continue
        status = _count_one(spec, status, pod, now)
        counted.append(pod.uid)
    return status, tuple(counted)


def _count_one(spec: JobSpec, status: JobStatus, pod: JobPod, now: datetime) -> JobStatus:
    if pod.phase is PodPhase.SUCCEEDED:
        return replace(
            status,
            succeeded=status.succeeded + 1,
            completed=status.completed | {pod.index} if pod.index not in status.failed_indexes else status.completed,
        )
    tally = status.tallies.get(pod.index, IndexTally())
    last_at = pod.ended_at or now
    if pod.disrupted and spec.ignores_disruptions:
        tally = replace(tally, ignored=tally.ignored + 1, last_at=last_at)
        return replace(status, tallies={**status.tallies, pod.index: tally})
    tally = replace(tally, failures=tally.failures + 1, last_at=last_at)
    given_up = tally.failures > spec.backoff_limit_per_index and pod.index not in status.completed
    return replace(
        status,
        failed=status.failed + 1,
        failed_indexes=status.failed_indexes | {pod.index} if given_up else status.failed_indexes,
        tallies={**status.tallies, pod.index: tally},
    )


def _see_the_end(spec: JobSpec, status: JobStatus, deadline_at: datetime | None, now: datetime) -> JobStatus:
    if len(status.completed) + len(status.failed_indexes) >= spec.completions:
        return replace(status, ending=FAILED_INDEXES if status.failed_indexes else JobCondition.COMPLETE.value)
    if deadline_at is not None and now >= deadline_at:
        return replace(status, ending=DEADLINE_EXCEEDED)
    return status


def _end(status: JobStatus, counted: tuple[str, ...], alive: Sequence[JobPod]) -> JobTurn:
    if alive:
        return JobTurn(status, counted, delete=tuple(pod.uid for pod in alive if not pod.marked))
    if status.ending == JobCondition.COMPLETE.value:
        return JobTurn(replace(status, condition=JobCondition.COMPLETE), counted)
    return JobTurn(replace(status, condition=JobCondition.FAILED, reason=status.ending), counted)


def _missing(
    spec: JobSpec, status: JobStatus, alive: Sequence[JobPod], backoff: Backoff, now: datetime
) -> tuple[tuple[int, ...], datetime | None]:
    """The lowest free indexes, as many as there is room for; one in back-off keeps its place and waits."""
    holding = [pod for pod in alive if spec.replaces_ended_pods_only or not pod.marked]
    done = status.completed | status.failed_indexes | {pod.index for pod in holding}
    room = min(spec.parallelism, spec.completions) - len(holding)
    pending = [index for index in range(spec.completions) if index not in done][: max(room, 0)]
    ready_at = {index: _ready_at(status.tallies.get(index), backoff) for index in pending}
    waits = [at for at in ready_at.values() if at is not None and at > now]
    wanted = tuple(index for index, at in ready_at.items() if at is None or at <= now)
    return wanted, min(waits, default=None)


def _ready_at(tally: IndexTally | None, backoff: Backoff) -> datetime | None:
    if tally is None or tally.last_at is None:
        return None
    return tally.last_at + backoff.after(tally.failures + tally.ignored)


def _earliest(*instants: datetime | None) -> datetime | None:
    return min((instant for instant in instants if instant is not None), default=None)
