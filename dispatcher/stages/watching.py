"""Watch: what the cluster reported becomes sightings; failures are written down; what is stuck or outlived is stopped.

Believes a thing missing only when a read by name has said so. Decides nothing of what follows for an item.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from dispatcher.core import attempts as rules
from dispatcher.core.attempts import Attempt, Sighting, Stage
from dispatcher.core.failures import FailureCause
from dispatcher.core.observations import ClusterChanges, ClusterSeen, JobSeen, PodPhase, PodSeen
from dispatcher.core.policy import Policy
from dispatcher.memory import Memory
from dispatcher.ports import ObjectRef, Ports
from dispatcher.stages import records

CHECK_ALL_EVERY = timedelta(seconds=1)
"""Deadlines are looked at for every attempt this often; whatever has changed is looked at in each cycle."""


async def watch(memory: Memory, ports: Ports, policy: Policy) -> None:
    """Takes in what has changed, then looks after each attempt that something happened to."""
    changes = await ports.cluster.changes()
    if changes.relisted:
        relist(memory, ClusterSeen(changes.jobs, changes.pods))
        listed = {job.name for job in changes.jobs}
        for name, sight in memory.sightings.items():
            if sight.job is not None and not sight.job_gone and name not in listed:
                await look_for_job(memory, ports, name)
    else:
        await _take_in(memory, ports, changes)
    now = ports.clock.now()
    if memory.all_checked_at is None or now - memory.all_checked_at >= CHECK_ALL_EVERY:
        memory.all_checked_at = now
        memory.dirty |= set(memory.attempts) | set(memory.draft.entries)
    for name in sorted(memory.dirty):
        attempt = memory.attempts.get(name)
        if attempt is not None and attempt.stage is Stage.RUNNING:
            await _look_after(memory, ports, policy, attempt, now)


def relist(memory: Memory, seen: ClusterSeen) -> None:
    """A whole list: what is in it is seen; pods that are not in it are gone. Missing Jobs are asked for by name."""
    for job in seen.jobs:
        _job_seen(memory, job)
    listed = {pod.uid for pod in seen.pods}
    for pod in seen.pods:
        _pod_seen(memory, pod)
    for name, sight in memory.sightings.items():
        entry = memory.draft.entries.get(name)
        noted = set(entry.pods) if entry else set()
        missing = {uid for uid in (*sight.pods, *noted) if uid not in listed}
        if missing - sight.gone:
            sight.gone |= missing
            memory.dirty.add(name)


async def _take_in(memory: Memory, ports: Ports, changes: ClusterChanges) -> None:
    for job in changes.jobs:
        _job_seen(memory, job)
    for pod in changes.pods:
        _pod_seen(memory, pod)
    for uid in changes.pods_gone:
        name = memory.job_of_pod.get(uid)
        if name in memory.sightings:
            memory.sightings[name].gone.add(uid)
            memory.dirty.add(name)
    for name in changes.jobs_gone:
        await look_for_job(memory, ports, name)


def _job_seen(memory: Memory, job: JobSeen) -> None:
    if job.name not in memory.draft.entries:
        memory.latecomers.add(job.name)
        return
    sight = memory.sight(job.name)
    if _is_older(job, sight.job):
        return
    sight.job = job
    sight.job_gone = False
    memory.dirty.add(job.name)
    attempt = memory.attempts.get(job.name)
    if attempt is not None:
        exists(memory, attempt)
    memory.draft.job_seen(job.name, job.uid)
    if memory.draft.entries[job.name].paid:
        # On nodes nothing rests on it, and each step would be a write of the ledger.
        memory.draft.ended_seen(job.name, job.succeeded + job.failed)


def _is_older(job: JobSeen, known: JobSeen | None) -> bool:
    """Whether this sight is older than the one we have: what has ended or is marked never goes back."""
    if known is None or known.uid != job.uid:
        return False
    went_back = known.condition is not None and job.condition is None
    return went_back or (known.marked_for_deletion and not job.marked_for_deletion)


def exists(memory: Memory, attempt: Attempt) -> None:
    """The attempt's Job is known to exist: its messages may be deferred."""
    if attempt.stage is Stage.OPENED:
        attempt.stage = Stage.RUNNING
        memory.drafted.difference_update(item.id for item in attempt.record.items)


def _pod_seen(memory: Memory, pod: PodSeen) -> None:
    if pod.job not in memory.draft.entries:
        return
    sight = memory.sight(pod.job)
    known = sight.pods.get(pod.uid)
    if pod.uid in sight.gone or (known is not None and known.finished and not pod.finished):
        return  # an older sight: an ended pod never runs again, a vanished one never comes back
    _learn(memory, pod, known)
    sight.pods[pod.uid] = pod
    memory.job_of_pod[pod.uid] = pod.job
    memory.dirty.add(pod.job)


def _learn(memory: Memory, pod: PodSeen, known: PodSeen | None) -> None:
    """How long it took to start, and to run, at the first sight of either."""
    entry, experience = memory.draft.entries[pod.job], memory.experience
    if experience is None or pod.started_at is None:
        return
    learned = experience.learned
    if known is None or known.started_at is None:
        learned.started(entry.task, entry.placement, pod.started_at - pod.created_at)
    if pod.phase is PodPhase.SUCCEEDED and pod.finished_at is not None and (known is None or not known.finished):
        learned.ran(entry.task, entry.placement, pod.finished_at - pod.started_at)


async def look_for_job(memory: Memory, ports: Ports, name: str) -> None:
    """Asks for a Job by name. Only the server's own word makes it gone; its pods may still be on their way out."""
    if name not in memory.draft.entries:
        return
    job = await ports.cluster.get_job(name)
    sight = memory.sight(name)
    memory.dirty.add(name)
    if job is not None:
        _job_seen(memory, job)
        return
    attempt = memory.attempts.get(name)
    if attempt is not None and attempt.stage is Stage.OPENED:
        return  # it was never seen: that is the launch's to deal with
    sight.job_gone = True


async def _look_after(memory: Memory, ports: Ports, policy: Policy, attempt: Attempt, now: datetime) -> None:
    await _confirm(memory, ports, attempt.sight)
    _tell_suspended(ports, attempt)
    failed = rules.unexamined(attempt)
    if failed:
        await records.write_evidence(memory, ports, policy, attempt, failed)
    await _stop_what_is_stuck(memory, ports, policy, attempt, now)


def _tell_suspended(ports: Ports, attempt: Attempt) -> None:
    job = attempt.sight.job
    if job is not None and job.suspended != attempt.told_suspended:
        attempt.told_suspended = job.suspended
        ports.events.emit("job.suspended" if job.suspended else "job.resumed", job=attempt.name)


async def _confirm(memory: Memory, ports: Ports, sight: Sighting) -> None:
    """A Job marked for deletion is stopped only if a consistent list says so: a watch may have missed a pod."""
    if sight.job is None or sight.job.condition is not None:
        return
    if not rules.seems_stopped(sight):
        sight.confirmed_stopped = False
    elif not sight.confirmed_stopped:
        relist(memory, await ports.cluster.list_all())
        sight.confirmed_stopped = rules.seems_stopped(sight)


async def _stop_what_is_stuck(memory: Memory, ports: Ports, policy: Policy, attempt: Attempt, now: datetime) -> None:
    """The platform has failed a pod that has not started by its deadline: no more pods, and that one goes."""
    task, job = policy.tasks.get(attempt.record.task), attempt.sight.job
    if job is None or task is None:
        return
    stuck = rules.stuck_pods(attempt, task.start_deadline, now)
    if (stuck or rules.makes_no_pods(attempt, task.start_deadline, now)) and job.condition is None:
        attempt.stopping = attempt.stopping or FailureCause.START_DEADLINE
        if not job.marked_for_deletion:
            await _stop(ports, attempt, job, pods_stuck=len(stuck))
            return  # its pods are deleted once it is seen marked, so that none is replaced
        await ports.cluster.delete_pods([ObjectRef(pod.name, pod.uid) for pod in stuck])
    entry = memory.draft.entries.get(attempt.name)
    if entry is not None:
        if not job.marked_for_deletion and rules.suspended_too_long(
            attempt, entry.shape.deadline, now, paid=entry.paid
        ):
            attempt.stopping = attempt.stopping or FailureCause.CANCELLED
            await _stop(ports, attempt, job, pods_stuck=0)
            return
        late = rules.outlived(attempt, entry.shape.deadline, now)
        if late:
            await ports.cluster.delete_pods([ObjectRef(pod.name, pod.uid) for pod in late])


async def _stop(ports: Ports, attempt: Attempt, job: JobSeen, *, pods_stuck: int) -> None:
    await ports.cluster.delete_jobs([ObjectRef(job.name, job.uid)])
    ports.events.emit("job.stopped", job=job.name, cause=attempt.stopping, pods_stuck=pods_stuck)
