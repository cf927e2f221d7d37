"""The cluster of the simulated world: Jobs, pods, nodes, a virtual node that bills, and what a watch reports of them.

Jobs follow the same controller as the embedded cluster's. What each run of an item does is drawn when its pod starts.
The meter's times are the world's own: they are what ledger and laws are held against.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from dispatcher.core.failures import FailureCause
from dispatcher.core.observations import (
    ClusterChanges,
    ClusterSeen,
    GroupSeen,
    JobSeen,
    NodeHeadroom,
    NodeRoom,
    PodPhase,
    PodSeen,
)
from dispatcher.core.units import Resources
from dispatcher.core.work import Placement
from dispatcher.embedded.processes.controller import Backoff, JobPod, JobStatus, active, take_turn
from dispatcher.embedded.processes.manifests import JobSpec, read_manifest
from dispatcher.ports import Answer, Created, ObjectRef
from dispatcher.simulator.clock import VirtualClock
from dispatcher.simulator.faults import Faults
from dispatcher.simulator.store import SimulatedStore


@dataclass(frozen=True, slots=True)
class Run:
    """What one try of an item does."""

    start_delay: timedelta
    """From create to start; None in effect where it is longer than anybody waits."""
    run_time: timedelta
    failure: FailureCause | None = None
    refused: bool = False
    """The create itself is refused: the pod fails without having run."""
    leaks: timedelta = timedelta(0)
    """How long the group bills on after the pod has ended."""


@dataclass(slots=True)
class Pod:
    """A pod of the world."""

    name: str
    uid: str
    job: str
    index: int
    node: str | None
    created_at: datetime
    run: Run
    item: Mapping[str, Any]
    phase: PodPhase = PodPhase.PENDING
    started_at: datetime | None = None
    ended_at: datetime | None = None
    marked: bool = False
    counted: bool = False
    cause: FailureCause | None = None


@dataclass(slots=True)
class Job:
    """A Job of the world."""

    spec: JobSpec
    uid: str
    created_at: datetime
    status: JobStatus
    pods: dict[str, Pod] = field(default_factory=dict)
    marked: bool = False


@dataclass(slots=True)
class Group:
    """What ACI bills."""

    pod_uid: str
    job: str
    started_at: datetime
    stopped_at: datetime | None = None
    deleted_at: datetime | None = None


@dataclass(slots=True)
class SimulatedCluster:
    """Behind the JobCluster and AciAccount ports. ``behave`` draws what a try of an item does."""

    clock: VirtualClock
    faults: Faults
    store: SimulatedStore
    behave: Callable[[Mapping[str, Any], Placement], Run]
    nodes: Sequence[NodeRoom]
    backoff: Backoff = Backoff(timedelta(seconds=10), timedelta(minutes=10))
    jobs: dict[str, Job] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    runs: list[tuple[str, int, str]] = field(default_factory=list)
    """Every start of an item: (message id, attempt, pod uid)."""
    _changed: set[str] = field(default_factory=set)
    _gone_jobs: set[str] = field(default_factory=set)
    _gone_pods: set[str] = field(default_factory=set)
    _count: int = 0

    # --- the world's side

    def step(self) -> None:
        """Brings everything up to the present: pods start and end, the controller takes its turns."""
        now = self.clock.now()
        for job in list(self.jobs.values()):
            for pod in list(job.pods.values()):
                self._run(job, pod, now)
            if not job.marked:
                self._control(job, now)
        for group in self.groups.values():
            if group.stopped_at is not None and group.stopped_at > now:
                continue

    def _run(self, job: Job, pod: Pod, now: datetime) -> None:
        if pod.phase is PodPhase.PENDING and pod.run.refused:
            self._end(job, pod, PodPhase.FAILED, pod.created_at, pod.run.failure)
        if pod.phase is PodPhase.PENDING and not pod.marked and self._may_start(job, pod, now):
            pod.phase, pod.started_at = PodPhase.RUNNING, max(pod.created_at + pod.run.start_delay, pod.created_at)
            self.runs.append((pod.item["id"], pod.item["attempt"], pod.uid))
            if job.spec.placement is Placement.VIRTUAL_NODE:
                self.groups[pod.uid] = Group(pod.uid, job.spec.name, pod.started_at)
            self._changed.add(job.spec.name)
        if pod.phase is PodPhase.RUNNING and pod.started_at is not None and not pod.marked:
            ends = pod.started_at + pod.run.run_time
            if ends <= now:
                phase = PodPhase.FAILED if pod.run.failure else PodPhase.SUCCEEDED
                self._end(job, pod, phase, ends, pod.run.failure)

    def _may_start(self, job: Job, pod: Pod, now: datetime) -> bool:
        if pod.created_at + pod.run.start_delay > now:
            return False
        if job.spec.placement is Placement.VIRTUAL_NODE:
            return True
        if pod.node is None:
            pod.node = self._fitting_node(job.spec.pod.requests)
        return pod.node is not None

    def _fitting_node(self, requests: Resources) -> str | None:
        for room in self.headroom_now().nodes:
            if requests.fits_in(room.free) and room.pods_free > 0:
                return room.name
        return None

    def _end(self, job: Job, pod: Pod, phase: PodPhase, at: datetime, cause: FailureCause | None) -> None:
        pod.phase, pod.ended_at, pod.cause = phase, at, cause
        group = self.groups.get(pod.uid)
        if group is not None and group.stopped_at is None:
            group.stopped_at = at + pod.run.leaks
        self._changed.add(job.spec.name)

    def _control(self, job: Job, now: datetime) -> None:
        pods = [
            JobPod(pod.uid, pod.index, pod.phase, pod.marked, pod.counted, False, pod.ended_at)
            for pod in job.pods.values()
        ]
        before = job.status
        turn = take_turn(job.spec, job.status, pods, self.backoff, now)
        job.status = turn.status
        for uid in turn.counted:
            job.pods[uid].counted = True
        for uid in turn.delete:
            self._delete_pod(job, job.pods[uid], now)
        for index in turn.create:
            self._make_pod(job, index, now)
        if turn.counted or turn.delete or turn.create or before != job.status:
            self._changed.add(job.spec.name)

    def _make_pod(self, job: Job, index: int, now: datetime) -> None:
        self._count += 1
        uid = f"pod-{self._count}"
        record = self.store.records.get(job.spec.pod.record)
        refused = Run(timedelta(0), timedelta(0), FailureCause.TEMPLATE, refused=True)
        if record is None:
            job.pods[uid] = Pod(uid, uid, job.spec.name, index, None, now, refused, {"id": "?", "attempt": 0})
            return
        item = json.loads(record.data[f"{index}.json"])
        run = self.behave(item, job.spec.placement)
        node = "virtual" if job.spec.placement is Placement.VIRTUAL_NODE else None
        job.pods[uid] = Pod(uid, uid, job.spec.name, index, node, now, run, item)

    def _delete_pod(self, job: Job, pod: Pod, now: datetime) -> None:
        group = self.groups.get(pod.uid)
        if group is not None:
            group.deleted_at = now
            if group.stopped_at is None or group.stopped_at > now:
                group.stopped_at = now + min(pod.run.leaks, timedelta(seconds=60))
        del job.pods[pod.uid]
        self._gone_pods.add(pod.uid)
        self._changed.add(job.spec.name)

    def _seen(self, job: Job) -> JobSeen:
        status = job.status
        pods = [JobPod(pod.uid, pod.index, pod.phase, pod.marked) for pod in job.pods.values()]
        return JobSeen(
            name=job.spec.name,
            uid=job.uid,
            created_at=job.created_at,
            annotations=job.spec.annotations,
            marked_for_deletion=job.marked,
            condition=status.condition,
            reason=status.reason,
            active=active(pods),
            succeeded=status.succeeded,
            failed=status.failed,
            completed_indexes=status.completed,
            failed_indexes=status.failed_indexes,
        )

    def _pod_seen(self, pod: Pod) -> PodSeen:
        return PodSeen(
            name=pod.name,
            uid=pod.uid,
            job=pod.job,
            index=pod.index,
            phase=pod.phase,
            created_at=pod.created_at,
            started_at=pod.started_at,
            finished_at=pod.ended_at,
            node=pod.node,
            cause=pod.cause,
            message=f"simulated {pod.cause}" if pod.cause else "",
            marked_for_deletion=pod.marked,
        )

    def headroom_now(self) -> NodeHeadroom:
        """What is free on each node."""
        used: dict[str, list[Pod]] = {}
        for job in self.jobs.values():
            if job.spec.placement is Placement.NODE_POOL:
                for pod in job.pods.values():
                    if pod.node is not None and pod.ended_at is None:
                        used.setdefault(pod.node, []).append(pod)
        rooms = []
        for node in self.nodes:
            free = node.free
            for pod in used.get(node.name, ()):
                free = free - self.jobs[pod.job].spec.pod.requests
            rooms.append(NodeRoom(node.name, free, node.pods_free - len(used.get(node.name, ()))))
        return NodeHeadroom(tuple(rooms))

    # --- the ports

    async def create_jobs(self, manifests: Sequence[Mapping[str, Any]]) -> Sequence[Created]:
        """Each by itself."""
        return [
            self.faults.act("create job", partial(self._create, manifest), lambda: Created(Answer.UNKNOWN))
            for manifest in manifests
        ]

    def _create(self, manifest: Mapping[str, Any]) -> Created:
        spec = read_manifest(manifest)
        if spec.name in self.jobs:
            return Created(Answer.DONE, self._seen(self.jobs[spec.name]), already=True)
        self._count += 1
        now = self.clock.now()
        job = Job(spec, f"job-{self._count}", now, JobStatus(now))
        self.jobs[spec.name] = job
        self._changed.add(spec.name)
        return Created(Answer.DONE, self._seen(job))

    async def get_job(self, name: str) -> JobSeen | None:
        """By name."""
        self.faults.read("get job")
        job = self.jobs.get(name)
        return self._seen(job) if job else None

    async def list_all(self) -> ClusterSeen:
        """Everything."""
        self.faults.read("list jobs")
        pods = tuple(self._pod_seen(pod) for job in self.jobs.values() for pod in job.pods.values())
        return ClusterSeen(tuple(self._seen(job) for job in self.jobs.values()), pods)

    async def changes(self) -> ClusterChanges:
        """What has changed since the last call."""
        self.faults.read("watch")
        changed = [self.jobs[name] for name in sorted(self._changed) if name in self.jobs]
        pods = tuple(self._pod_seen(pod) for job in changed for pod in job.pods.values())
        result = ClusterChanges(
            jobs=tuple(self._seen(job) for job in changed),
            pods=pods,
            jobs_gone=tuple(sorted(self._gone_jobs)),
            pods_gone=tuple(sorted(self._gone_pods)),
        )
        self._changed.clear()
        self._gone_jobs.clear()
        self._gone_pods.clear()
        return result

    async def delete_jobs(self, refs: Sequence[ObjectRef]) -> Sequence[Answer]:
        """Marks."""
        return [self.faults.act("delete job", partial(self._mark, ref), lambda: Answer.UNKNOWN) for ref in refs]

    def _mark(self, ref: ObjectRef) -> Answer:
        job = self.jobs.get(ref.name)
        if job is None:
            return Answer.NOT_FOUND
        if job.uid != ref.uid:
            return Answer.CONFLICT
        job.marked = True
        self._changed.add(ref.name)
        return Answer.DONE

    async def release_jobs(self, refs: Sequence[ObjectRef]) -> Sequence[Answer]:
        """Takes them away."""
        return [self.faults.act("release job", partial(self._release, ref), lambda: Answer.UNKNOWN) for ref in refs]

    def _release(self, ref: ObjectRef) -> Answer:
        job = self.jobs.get(ref.name)
        if job is None:
            return Answer.NOT_FOUND
        if job.uid != ref.uid:
            return Answer.CONFLICT
        for pod in list(job.pods.values()):
            self._delete_pod(job, pod, self.clock.now())
        del self.jobs[ref.name]
        self._gone_jobs.add(ref.name)
        return Answer.DONE

    async def delete_pods(self, refs: Sequence[ObjectRef]) -> Sequence[Answer]:
        """Whatever they are doing."""
        return [self.faults.act("delete pod", partial(self._delete, ref), lambda: Answer.UNKNOWN) for ref in refs]

    def _delete(self, ref: ObjectRef) -> Answer:
        for job in self.jobs.values():
            pod = job.pods.get(ref.uid)
            if pod is not None:
                if not pod.counted and not job.marked:
                    self._control(job, self.clock.now())  # the finalizer holds a pod until it is counted
                if ref.uid in job.pods:
                    self._delete_pod(job, pod, self.clock.now())
                return Answer.DONE
        return Answer.NOT_FOUND

    async def headroom(self) -> NodeHeadroom:
        """What is free."""
        self.faults.read("headroom")
        return self.headroom_now()

    async def log_tail(self, pod: ObjectRef, bytes_max: int) -> str:
        """There is always something to read."""
        return f"log of {pod.name}"[:bytes_max]

    async def groups_seen(self) -> Mapping[str, GroupSeen]:
        """All groups that ACI still knows."""
        self.faults.read("groups")
        now = self.clock.now()
        return {
            uid: GroupSeen(
                uid,
                uid,
                group.started_at,
                group.stopped_at if group.stopped_at is not None and group.stopped_at <= now else None,
            )
            for uid, group in self.groups.items()
            if group.deleted_at is None or group.stopped_at is None or group.stopped_at > now
        }


@dataclass(frozen=True, slots=True)
class SimulatedAccount:
    """Behind the AciAccount port."""

    cluster: SimulatedCluster

    async def groups(self) -> Mapping[str, GroupSeen]:
        """The cluster's own meter."""
        return await self.cluster.groups_seen()
