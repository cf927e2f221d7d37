"""The cluster of the simulated world: Jobs, pods, nodes and a virtual node.

Jobs follow the same controller as the embedded cluster's; its status lags a second. What each try of an item does is
drawn when its pod is made. On the virtual node every pod is a container group, whose bill the meter keeps. Nothing here
knows what the dispatcher believes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from dispatcher.core.budgets import Spender
from dispatcher.core.failures import FailureCause
from dispatcher.core.jobs import ANNOTATION_REPORTS, ANNOTATION_SEQUENCE_NUMBERS
from dispatcher.core.observations import ClusterSeen, JobSeen, NodeHeadroom, NodeRoom, PodPhase, PodSeen
from dispatcher.core.reports import ItemReport, ReportedOutcome, positions_of, report_to_body
from dispatcher.core.units import Resources
from dispatcher.core.work import Placement
from dispatcher.embedded.processes.controller import Backoff, JobPod, JobStatus, active, take_turn
from dispatcher.embedded.processes.manifests import BadManifest, JobSpec, read_manifest
from dispatcher.ports import Answer, Created, ObjectRef
from dispatcher.simulator.clock import WorldClock
from dispatcher.simulator.faults import Fault
from dispatcher.simulator.meter import Group, Meter
from dispatcher.simulator.store import Store
from dispatcher.simulator.watch import News, Watch
from dispatcher.simulator.wire import Surroundings

SECOND = timedelta(seconds=1)
STATUS_LAG = SECOND
CORRECTED_AFTER = 3 * SECOND
_VIRTUAL = "virtual"


class WorkFile(NamedTuple):
    """An item as its pod finds it."""

    number: int
    message_id: str
    digest: str
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """What a pod of several items does with one of them."""

    item: WorkFile
    position: int
    ends_after: timedelta
    """From the pod's start."""
    cause: FailureCause | None
    """Of its failure; None: it is done."""
    arrivals: tuple[timedelta, ...]
    """When its report reaches the queue, after its end; more than one: it was sent again."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one try of an item does, or of several in one pod."""

    start_delay: timedelta
    """From create to start."""
    run_time: timedelta
    failure: FailureCause | None = None
    refused: bool = False
    """The pod fails at its start without having run."""
    disrupted: bool = False
    bills_after: timedelta | None = timedelta(0)
    """From create to the first billed second; None: ends before anything is billed."""
    leaks: timedelta = timedelta(0)
    """How long the group bills on after its pod has ended or gone."""
    beyond_tail: bool = False
    """It leaks for longer than the product assumes."""
    grace: timedelta = SECOND
    """How long the pod takes to go once it is marked."""
    corrects_itself: bool = False
    """It reports Failed, and a little later Succeeded."""
    ignores_stop: bool = False
    message: str = ""
    """What the cluster says of its failure; empty: the cause."""
    log: str = "simulated log\n"
    steps: tuple[Step, ...] = ()
    """Of a pod that reports: its items, as far as it comes."""


def _without_its_items(record: str) -> Run:
    """A group is made with its volume's contents, or refused."""
    message = f"ConfigMap {record} is required and does not exist"
    return Run(SECOND, timedelta(0), FailureCause.TEMPLATE, refused=True, bills_after=None, message=message)


@dataclass(slots=True)
class Pod:
    """A pod of the world."""

    uid: str
    job: str
    index: int
    node: str | None
    created_at: datetime
    run: Run
    item: WorkFile | None
    phase: PodPhase = PodPhase.PENDING
    started_at: datetime | None = None
    ended_at: datetime | None = None
    marked: bool = False
    gone_at: datetime | None = None
    counted: bool = False
    cause: FailureCause | None = None
    seen: PodSeen | None = None
    steps_taken: int = 0

    @property
    def ended(self) -> bool:
        """Whether its phase is final."""
        return self.ended_at is not None


@dataclass(slots=True)
class Job:
    """A Job of the world."""

    spec: JobSpec
    uid: str
    created_at: datetime
    status: JobStatus
    spender: Spender
    items: tuple[WorkFile, ...]
    pods: dict[str, Pod] = field(default_factory=dict)
    pods_made: Counter[int] = field(default_factory=Counter)
    marked: bool = False
    released: bool = False
    turn_at: datetime | None = None
    """When the controller looks at it next; None: nothing to look at."""
    last_turn: datetime | None = None
    next_at: datetime | None = None
    """When anything changes by time alone."""
    seen: JobSeen | None = None

    @property
    def paid(self) -> bool:
        """Whether its pods are container groups."""
        return self.spec.placement is Placement.VIRTUAL_NODE

    @property
    def reports(self) -> bool:
        """Whether its pods carry several items and report each."""
        return ANNOTATION_REPORTS in self.spec.annotations

    def carried(self, index: int) -> list[tuple[int, WorkFile]]:
        """The items of a completion index's pod, with their positions."""
        positions = positions_of(index, self.spec.completions, len(self.items)) if self.reports else (index,)
        return [(position, self.items[position]) for position in positions if position < len(self.items)]


@dataclass(slots=True)
class Cluster:
    """The API server's Jobs and pods, and what moves them."""

    clock: WorldClock
    world: Surroundings
    store: Store
    meter: Meter
    behave: Callable[[WorkFile, Placement], Run]
    carry: Callable[[Sequence[tuple[int, WorkFile]], Placement, timedelta], Run]
    report: Callable[[str, bytes], object]
    """Takes what a pod reports: message id and body."""
    nodes: Sequence[NodeRoom]
    backoff: Backoff
    jobs: dict[str, Job] = field(default_factory=dict)
    ghosts: list[Job] = field(default_factory=list)
    """Jobs that are gone while pods of theirs still go."""
    watches: list[Watch] = field(default_factory=list)
    tries: Counter[int] = field(default_factory=Counter)
    """Chances that each message had, by sequence number: every Job, refused ones too, and every further pod in one."""
    succeeded: set[tuple[str, str]] = field(default_factory=set)
    """What has really been done: (message id, digest)."""
    succeeded_numbers: set[int] = field(default_factory=set)
    on_create: list[Callable[[Job], None]] = field(default_factory=list)
    """Told of each Job that comes to be."""
    lost_nodes: dict[str, datetime] = field(default_factory=dict)
    """Nodes that are away, and until when."""
    index_ended: dict[tuple[str, int], datetime] = field(default_factory=dict)
    """When the last pod of an index ended or went: of Jobs whose pods report."""
    version: int = 0
    """Rises with every change, so that who looks knows whether there is anything new."""
    _used: dict[str, list[int]] = field(default_factory=dict)
    _changed_jobs: dict[str, Job] = field(default_factory=dict)
    _changed_pods: dict[str, Pod] = field(default_factory=dict)
    _count: int = 0

    # --- time

    def next_event(self) -> datetime | None:
        """When something changes by time alone."""
        due = [job.next_at for job in (*self.jobs.values(), *self.ghosts) if job.next_at is not None]
        due += list(self.lost_nodes.values())
        return min(due, default=None)

    def step(self) -> None:
        """Brings everything up to the present."""
        now = self.clock.now()
        for name in [name for name, until in self.lost_nodes.items() if until <= now]:
            del self.lost_nodes[name]
            self._room_changed(now)
        for job in (*self.jobs.values(), *self.ghosts):
            if job.next_at is not None and job.next_at <= now:
                self._step_job(job, now)
        if self.ghosts:
            self.ghosts = [job for job in self.ghosts if job.pods]
        self.tell()

    def _step_job(self, job: Job, now: datetime) -> None:
        for pod in list(job.pods.values()):
            self._run(job, pod, now)
        if job.turn_at is not None and job.turn_at <= now:
            self._control(job, now)
        self._schedule(job, now)

    def _schedule(self, job: Job, now: datetime) -> None:
        due = [when for pod in job.pods.values() if (when := self._pod_due(job, pod, now)) is not None]
        if job.turn_at is not None and not job.marked:
            due.append(job.turn_at)
        job.next_at = min(due, default=None)

    def _pod_due(self, job: Job, pod: Pod, now: datetime) -> datetime | None:
        due, step = self._phase_due(job, pod, now), self._step_due(pod)
        return due if step is None or (due is not None and due < step) else max(now, step)

    def _step_due(self, pod: Pod) -> datetime | None:
        if pod.phase is not PodPhase.RUNNING or pod.started_at is None or pod.steps_taken >= len(pod.run.steps):
            return None
        return pod.started_at + pod.run.steps[pod.steps_taken].ends_after

    def _phase_due(self, job: Job, pod: Pod, now: datetime) -> datetime | None:
        if pod.marked and pod.phase is PodPhase.RUNNING and pod.gone_at is not None:
            return min(pod.gone_at, max(now, self._ends_at(job, pod)[0]))
        if pod.marked:
            return pod.gone_at
        if pod.ended_at is not None:
            if pod.run.corrects_itself and pod.phase is PodPhase.FAILED:
                return max(now, pod.ended_at + CORRECTED_AFTER)
            return None
        if pod.started_at is not None:
            return self._ends_at(job, pod)[0]
        starts = pod.created_at + pod.run.start_delay
        if starts > now:
            return starts
        if pod.node is None and not pod.run.refused:
            return None  # waits for room on a node
        return now + 5 * SECOND  # waits for its record to be there

    # --- pods

    def _run(self, job: Job, pod: Pod, now: datetime) -> None:
        if pod.phase is PodPhase.PENDING and not pod.marked and pod.created_at + pod.run.start_delay <= now:
            self._start(job, pod, now)
        if pod.phase is PodPhase.RUNNING and pod.started_at is not None:
            ends, cause = self._ends_at(job, pod)
            self._take_steps(job, pod, min(now, ends, pod.gone_at or now))
            if ends <= now and (pod.gone_at is None or ends < pod.gone_at):
                self._end(job, pod, PodPhase.FAILED if cause else PodPhase.SUCCEEDED, ends, cause)
        elif pod.run.corrects_itself and pod.phase is PodPhase.FAILED and self._pod_due(job, pod, now) == now:
            pod.phase, pod.cause, pod.ended_at = PodPhase.SUCCEEDED, None, now
            self._did(job, pod)
            self._pod_changed(pod)
            self.world.struck(Fault.CONTRADICTORY)
        if pod.gone_at is not None and pod.gone_at <= now:
            self._leave(job, pod, now)

    def _take_steps(self, job: Job, pod: Pod, until: datetime) -> None:
        """Items of a pod that have ended by then: what is done is done, and the pod tells it."""
        while (due := self._step_due(pod)) is not None and due <= until:
            step = pod.run.steps[pod.steps_taken]
            pod.steps_taken += 1
            if step.cause is None:
                self.succeeded.add((step.item.message_id, step.item.digest))
                self.succeeded_numbers.add(step.item.number)
                if job.marked or job.status.condition is not None:
                    self.world.struck(Fault.LATE_OUTCOME)
            report = _report_of(job, pod, step, due)
            what = f"report of {pod.uid} on {step.item.number}: {report.outcome}"
            for after in step.arrivals:
                self.world.land_later(after, what, partial(self.report, report.message_id, report_to_body(report)))

    def _start(self, job: Job, pod: Pod, now: datetime) -> None:
        if pod.run.refused:
            self._end(job, pod, PodPhase.FAILED, pod.created_at + pod.run.start_delay, pod.run.failure)
            return
        if not job.paid and pod.node is None:
            pod.node = self._fitting_node(job.spec.pod.requests)
            if pod.node is None:
                return
            self._use(pod.node, job.spec.pod.requests, 1)
        if pod.item is None or (not job.paid and job.spec.pod.record not in self.store.records):
            return  # on a node a pod waits for its volume
        at = pod.created_at + pod.run.start_delay if job.paid else now
        pod.phase, pod.started_at = PodPhase.RUNNING, at
        self._pod_changed(pod)

    def _ends_at(self, job: Job, pod: Pod) -> tuple[datetime, FailureCause | None]:
        assert pod.started_at is not None  # the caller has looked
        ends, cause = pod.started_at + pod.run.run_time, pod.run.failure
        if job.spec.pod.deadline is not None and pod.started_at + job.spec.pod.deadline < ends:
            ends, cause = pod.started_at + job.spec.pod.deadline, FailureCause.ITEM_TIMEOUT
        stop_at = job.spec.pod.stop_at
        if job.paid and stop_at is not None and stop_at < ends and not pod.run.ignores_stop:
            # A pod of several items ends well in any case: its reports tell what it has done.
            ends, cause = max(pod.started_at, stop_at), None if job.reports else FailureCause.ITEM_TIMEOUT
        return ends, cause

    def _end(self, job: Job, pod: Pod, phase: PodPhase, at: datetime, cause: FailureCause | None) -> None:
        if pod.node is not None and not job.paid:
            self._use(pod.node, job.spec.pod.requests, -1)
            self._room_changed(self.clock.now())
        pod.phase, pod.ended_at, pod.cause = phase, at, cause
        self._note_end(job, pod, at)
        if phase is PodPhase.SUCCEEDED and not job.reports:
            self._did(job, pod)
            if job.marked or job.status.condition is not None:
                self.world.struck(Fault.LATE_OUTCOME)
        # A group whose containers have all succeeded has stopped by itself; one that failed may still run.
        leaks = CORRECTED_AFTER if pod.run.corrects_itself else pod.run.leaks
        self.meter.pod_ended(pod.uid, at, leaks if cause else timedelta(0))
        self._look_soon(job, at)
        self._pod_changed(pod)

    def _note_end(self, job: Job, pod: Pod, at: datetime) -> None:
        if job.reports:
            key = job.spec.name, pod.index
            self.index_ended[key] = max(at, self.index_ended.get(key, at))

    def _did(self, job: Job, pod: Pod) -> None:
        assert pod.item is not None  # a pod without its item never starts
        self.succeeded.add((pod.item.message_id, pod.item.digest))
        self.succeeded_numbers.add(pod.item.number)

    def _mark_pod(self, job: Job, pod: Pod, now: datetime) -> None:
        if pod.marked:
            return
        pod.marked = True
        pod.gone_at = now if pod.ended or pod.started_at is None else now + pod.run.grace
        self._look_soon(job, now)
        self._pod_changed(pod)
        job.next_at = now

    def _leave(self, job: Job, pod: Pod, now: datetime) -> None:
        """The pod goes, unless the controller must count it first: its finalizer holds it until then."""
        counts = not job.marked and not job.released and job.status.condition is None
        if not pod.ended:
            if job.spec.replaces_ended_pods_only:
                self._end(job, pod, PodPhase.FAILED, now, FailureCause.CANCELLED)
            elif pod.node is not None and not job.paid:
                self._use(pod.node, job.spec.pod.requests, -1)
                self._room_changed(now)
        if counts and not pod.counted:
            self._control(job, now)
            if not pod.counted:
                pod.gone_at = now + SECOND
                return
        if not pod.ended:
            self._note_end(job, pod, now)
        del job.pods[pod.uid]
        self.meter.pod_gone(pod.uid, now, pod.run.leaks)
        self._look_soon(job, now)
        self._changed_pods.pop(pod.uid, None)
        self.version += 1
        for watch in self.watches:
            watch.push(News(now, pod_gone=pod.uid))

    # --- nodes

    def _use(self, node: str, requests: Resources, pods: int) -> None:
        used = self._used.setdefault(node, [0, 0, 0])
        used[0] += requests.cpu_millis * pods
        used[1] += requests.memory_bytes * pods
        used[2] += pods

    def headroom(self) -> NodeHeadroom:
        """What is free on each node that is there."""
        rooms = []
        for node in self.nodes:
            if node.name not in self.lost_nodes:
                cpu, memory, pods = self._used.get(node.name, (0, 0, 0))
                free = Resources(node.free.cpu_millis - cpu, node.free.memory_bytes - memory)
                rooms.append(NodeRoom(node.name, free, node.pods_free - pods))
        return NodeHeadroom(tuple(rooms))

    def _fitting_node(self, requests: Resources) -> str | None:
        for room in self.headroom().nodes:
            if requests.fits_in(room.free) and room.pods_free > 0:
                return room.name
        return None

    def _room_changed(self, now: datetime) -> None:
        for job in self.jobs.values():
            if not job.paid and any(pod.node is None for pod in job.pods.values()):
                job.next_at = now

    def lose_node(self, name: str, until: datetime) -> None:
        """A node is gone for a while; what ran on it has failed."""
        now = self.clock.now()
        self.lost_nodes[name] = until
        for job in self.jobs.values():
            for pod in job.pods.values():
                if pod.node == name and not pod.ended and not job.paid:
                    pod.run = Run(pod.run.start_delay, pod.run.run_time, FailureCause.NODE_LOST, disrupted=True)
                    self._end(job, pod, PodPhase.FAILED, now, FailureCause.NODE_LOST)
        self.tell()

    # --- the controller

    def _look_soon(self, job: Job, at: datetime) -> None:
        if job.status.condition is not None or job.marked or job.released:
            return
        soon = at if job.last_turn is None else max(at, job.last_turn + STATUS_LAG)
        job.turn_at = soon if job.turn_at is None else min(job.turn_at, soon)
        job.next_at = job.turn_at if job.next_at is None else min(job.next_at, job.turn_at)

    def _control(self, job: Job, now: datetime) -> None:
        job.turn_at = None
        if job.marked:
            return
        job.last_turn = now
        pods = [
            JobPod(pod.uid, pod.index, pod.phase, pod.marked, pod.counted, pod.run.disrupted, pod.ended_at)
            for pod in job.pods.values()
        ]
        before = job.status
        turn = take_turn(job.spec, job.status, pods, self.backoff, now)
        job.status = turn.status
        for uid in turn.counted:
            job.pods[uid].counted = True
        for uid in turn.delete:
            self._mark_pod(job, job.pods[uid], now)
        for index in turn.create:
            self._make_pod(job, index, now)
        if turn.again_at is not None:
            job.turn_at = turn.again_at
        if job.status.ending and job.status.condition is None:
            self._look_soon(job, now + STATUS_LAG)
        if before != job.status or turn.create or turn.delete:
            self._job_changed(job)

    def _make_pod(self, job: Job, index: int, now: datetime) -> None:
        self._count += 1
        uid = f"pod-{self._count}"
        carried = job.carried(index)
        if job.paid and job.spec.pod.record not in self.store.records:
            carried = []
        item = carried[0][1] if carried else None
        if item is None:
            run = _without_its_items(job.spec.pod.record)
        elif job.reports:
            run = self.carry(carried, job.spec.placement, _item_timeout(job.spec))
        else:
            run = self.behave(item, job.spec.placement)
        pod = Pod(uid, job.spec.name, index, _VIRTUAL if job.paid else None, now, run, item)
        if item is not None and job.pods_made[index]:
            self.tries.update(each.number for _, each in carried)
        job.pods_made[index] += 1
        job.pods[uid] = pod
        if job.paid and item is not None:  # without its volume's contents no group is ever asked for
            started = None if run.bills_after is None else now + run.bills_after
            self.meter.pod_made(
                Group(
                    uid,
                    job.spec.name,
                    job.spender,
                    job.spec.pod.requests,
                    made_at=now,
                    starts_at=started,
                    bills_until_max=job.created_at + (job.spec.deadline or timedelta(0)),
                    beyond_tail=run.beyond_tail,
                    exempt=self.meter.lost_at is not None and job.created_at <= self.meter.lost_at,
                )
            )
        self._pod_changed(pod)

    # --- what is told

    def _job_changed(self, job: Job) -> None:
        job.seen = None
        self._changed_jobs[job.uid] = job
        self.version += 1

    def _pod_changed(self, pod: Pod) -> None:
        pod.seen = None
        self._changed_pods[pod.uid] = pod
        self.version += 1

    def tell(self) -> None:
        """Hands what has changed to every watch."""
        if not self._changed_jobs and not self._changed_pods:
            return
        now = self.clock.now()
        jobs, pods = self._changed_jobs, self._changed_pods
        self._changed_jobs, self._changed_pods = {}, {}
        for job in jobs.values():
            news = News(now, job_gone=job.spec.name) if job.released else News(now, job=self.job_seen(job))
            for watch in self.watches:
                watch.push(news)
        for pod in pods.values():
            for watch in self.watches:
                watch.push(News(now, pod=self.pod_seen(pod)))

    def job_seen(self, job: Job) -> JobSeen:
        """The Job, as a read shows it."""
        if job.seen is None:
            status = job.status
            pods = [JobPod(pod.uid, pod.index, pod.phase, pod.marked) for pod in job.pods.values()]
            job.seen = JobSeen(
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
        return job.seen

    def pod_seen(self, pod: Pod) -> PodSeen:
        """The pod, as a read shows it."""
        if pod.seen is None:
            pod.seen = PodSeen(
                name=pod.uid,
                uid=pod.uid,
                job=pod.job,
                index=pod.index,
                phase=pod.phase,
                created_at=pod.created_at,
                started_at=pod.started_at,
                finished_at=pod.ended_at,
                node=pod.node,
                reason="ProviderFailed" if pod.cause and pod.run.refused and pod.node == _VIRTUAL else "",
                message=(pod.run.message or f"simulated {pod.cause}") if pod.cause else "",
                cause=pod.cause,
                marked_for_deletion=pod.marked,
                disrupted=pod.run.disrupted and pod.phase is PodPhase.FAILED,
            )
        return pod.seen

    def everything(self) -> ClusterSeen:
        """All Jobs and pods, consistent."""
        jobs = tuple(self.job_seen(job) for job in self.jobs.values())
        pods = tuple(self.pod_seen(pod) for job in (*self.jobs.values(), *self.ghosts) for pod in job.pods.values())
        return ClusterSeen(jobs, pods)

    # --- acts

    def create(self, manifest: Mapping[str, Any]) -> Created:
        """A Job under its own name."""
        try:
            spec = read_manifest(manifest)
        except BadManifest as error:
            return Created(Answer.REFUSED, text=str(error))
        known = self.jobs.get(spec.name)
        if known is not None:
            return Created(Answer.DONE, self.job_seen(known), already=True)
        self._count += 1
        now = self.clock.now()
        record = self.store.records.get(spec.pod.record)
        items, spender = _items_of(record.data) if record else ((), Spender("?", "?"))
        self.tries.update(item.number for item in items)
        job = Job(spec, f"job-{self._count}", now, JobStatus(now), spender, items)
        job.turn_at = job.next_at = now + timedelta(milliseconds=200)
        self.jobs[spec.name] = job
        for told in self.on_create:
            told(job)
        self._job_changed(job)
        self.tell()
        return Created(Answer.DONE, self.job_seen(job))

    def refused(self, manifest: Mapping[str, Any]) -> None:
        """A Job that the API server will not have: a try of each of its items all the same."""
        numbers = manifest["metadata"]["annotations"][ANNOTATION_SEQUENCE_NUMBERS]
        self.tries.update(int(number) for number in numbers.split(","))

    def mark(self, ref: ObjectRef) -> Answer:
        """Marks a Job for deletion; its finalizer keeps it readable."""
        job = self.jobs.get(ref.name)
        if job is None:
            return Answer.NOT_FOUND
        if job.uid != ref.uid:
            return Answer.CONFLICT
        if not job.marked:
            job.marked, job.turn_at = True, None
            self._job_changed(job)
            self.tell()
        return Answer.DONE

    def release(self, ref: ObjectRef) -> Answer:
        """Takes a Job away; its pods follow."""
        job = self.jobs.get(ref.name)
        if job is None:
            return Answer.NOT_FOUND
        if job.uid != ref.uid:
            return Answer.CONFLICT
        now = self.clock.now()
        job.released, job.turn_at = True, None
        del self.jobs[ref.name]
        self.ghosts.append(job)
        self._job_changed(job)
        for pod in list(job.pods.values()):
            self._mark_pod(job, pod, now)
        self._step_job(job, now)
        self.tell()
        return Answer.DONE

    def delete_pod(self, ref: ObjectRef) -> Answer:
        """Whatever it is doing."""
        found = self._pod_named(ref.name)
        if found is None:
            return Answer.NOT_FOUND
        job, pod = found
        if pod.uid != ref.uid:
            return Answer.CONFLICT
        self._mark_pod(job, pod, self.clock.now())
        self._step_job(job, self.clock.now())
        self.tell()
        return Answer.DONE

    def _pod_named(self, name: str) -> tuple[Job, Pod] | None:
        """A pod and its Job. Uids are names here: no pod is ever made again under an old one."""
        for job in (*self.jobs.values(), *self.ghosts):
            if name in job.pods:
                return job, job.pods[name]
        return None

    def has_pod(self, uid: str) -> bool:
        """Whether that pod is there."""
        return self._pod_named(uid) is not None

    def log_of(self, ref: ObjectRef) -> str:
        """All that a pod has printed; nothing where there is no such pod, or it has not run."""
        found = self._pod_named(ref.name)
        return "" if found is None or found[1].uid != ref.uid or found[1].started_at is None else found[1].run.log


def _item_timeout(spec: JobSpec) -> timedelta:
    return timedelta(seconds=int(str(dict(spec.pod.environment)["BURST_ITEM_TIMEOUT"])))


def _report_of(job: Job, pod: Pod, step: Step, at: datetime) -> ItemReport:
    _, batch, attempt = job.spec.name.split("-")
    return ItemReport(
        batch=batch,
        attempt=int(attempt),
        pod=pod.uid,
        position=step.position,
        queue="work",
        sequence_number=step.item.number,
        digest=step.item.digest,
        outcome=ReportedOutcome.FAILED if step.cause else ReportedOutcome.DONE,
        cause=step.cause,
        message=f"simulated {step.cause}" if step.cause else "",
        finished_at=at,
    )


def _items_of(data: Mapping[str, str]) -> tuple[tuple[WorkFile, ...], Spender]:
    files = [json.loads(data[f"{index}.json"]) for index in range(len(data))]
    items = tuple(WorkFile(file["sequence_number"], file["id"], file["digest"], file["params"]) for file in files)
    return items, Spender(files[0]["tenant"], files[0]["task"]) if files else Spender("?", "?")
