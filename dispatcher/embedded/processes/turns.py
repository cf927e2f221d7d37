"""One turn of the embedded cluster: from what stands and what was learned to what stands next. Pure.

Decides, pod by pod, what an end means, who is placed where, who starts, who is ended and who is forgotten; the Job
controller, the node pool and the virtual node are asked in their order until nothing changes any more. Knows nothing
of processes or files: it says that a pod is to run (its generation) or to end (its ending), others make it so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from dispatcher.core.failures import FailureCause
from dispatcher.core.observations import Placement, PodPhase
from dispatcher.core.units import Resources
from dispatcher.embedded.processes.config import ProcessClusterConfig
from dispatcher.embedded.processes.controller import Backoff, take_turn
from dispatcher.embedded.processes.manifests import JobSpec
from dispatcher.embedded.processes.node_pool import Node, first_fit, rooms, taking
from dispatcher.embedded.processes.pods import Ending, Job, Pod
from dispatcher.embedded.processes.virtual_node import Meter, Refusal

_ROUNDS_MAX = 10
_KILLED = 137
_SHELL_SAYS = {126: "it cannot be executed", 127: "there is no such command"}


@dataclass(frozen=True, slots=True)
class World:
    """All that the embedded cluster holds."""

    jobs: Mapping[str, Job] = field(default_factory=dict)
    """By name."""
    pods: Mapping[str, Pod] = field(default_factory=dict)
    """By uid."""
    meter: Meter = field(default_factory=Meter)


@dataclass(frozen=True, slots=True)
class Started:
    """A pod's process runs."""

    uid: str
    at: datetime


@dataclass(frozen=True, slots=True)
class NotStarted:
    """A pod's process could not be started, and never will be."""

    uid: str
    at: datetime
    reason: str
    message: str
    cause: FailureCause
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """A pod's process is gone."""

    uid: str
    at: datetime
    code: int | None
    """None: it was killed together with whoever would have written its code down."""
    stopped: bool = False
    """It was ended at its time to stop."""
    disrupted: bool = False
    """The machine went down under it."""


Fact = Started | NotStarted | Ended


@dataclass(frozen=True, slots=True)
class Rules:
    """What does not change from turn to turn."""

    config: ProcessClusterConfig
    nodes: tuple[Node, ...]
    new_uid: Callable[[], str]

    @property
    def backoff(self) -> Backoff:
        """The waits between the pods of one index."""
        return Backoff(self.config.backoff_first, self.config.backoff_longest)


def records_needed(world: World) -> frozenset[str]:
    """The records that must be looked for before the turn: a container group is refused where its own is missing."""
    specs = {job.uid: job.spec for job in world.jobs.values()}
    waiting = (pod for pod in world.pods.values() if pod.virtual and pod.node is None and not pod.finished)
    return frozenset(specs[pod.job_uid].pod.record for pod in waiting if pod.job_uid in specs) | frozenset(
        job.spec.pod.record
        for job in world.jobs.values()
        if job.spec.placement is Placement.VIRTUAL_NODE and not job.marked and job.status.condition is None
    )


def take_cluster_turn(
    rules: Rules, world: World, facts: Iterable[Fact], records: frozenset[str], now: datetime
) -> tuple[World, datetime | None]:
    """What stands after the turn, and when time alone will change it again."""
    turn = _Turn(rules, world, records, now)
    for fact in facts:
        turn.learn(fact)
    for _ in range(_ROUNDS_MAX):
        if not turn.round():
            return turn.world(), turn.again_at
    return turn.world(), now


class _Turn:
    """The working copy of one turn."""

    def __init__(self, rules: Rules, world: World, records: frozenset[str], now: datetime) -> None:
        self._rules = rules
        self._config = rules.config
        self._jobs = dict(world.jobs)
        self._pods = dict(world.pods)
        self._meter = world.meter
        self._records = records
        self._now = now
        self.again_at: datetime | None = None

    def world(self) -> World:
        meter = self._meter
        if self._config.virtual_node is not None:
            meter = meter.forgetting(self._config.virtual_node, self._now)
        return World(self._jobs, self._pods, meter)

    def round(self) -> bool:
        """One pass over everything; whether it changed anything."""
        before = (dict(self._jobs), dict(self._pods), self._meter)
        self.again_at = None
        self._control()
        self._collect_orphans()
        self._enforce_deadlines()
        self._end_and_forget()
        self._place()
        self._start()
        return before != (self._jobs, self._pods, self._meter)

    def learn(self, fact: Fact) -> None:
        pod = self._pods.get(fact.uid)
        if pod is None or pod.finished or pod.finished_at is not None:
            return
        at = max(fact.at, pod.started_at or pod.created_at)
        match fact:
            case Started():
                self._put(replace(pod, phase=PodPhase.RUNNING, started_at=at))
                return
            case NotStarted(reason=reason, message=message, cause=cause):
                code = None if pod.virtual else fact.exit_code
                self._put(pod.failed(at, reason=reason, message=message, cause=cause, exit_code=code))
            case Ended():
                self._put(_ended_group(pod, fact, at) if pod.virtual else self._ended_pod(pod, fact, at))
        if pod.virtual:
            self._meter = self._meter.stopped(pod.uid, at)

    def _ended_pod(self, pod: Pod, end: Ended, at: datetime) -> Pod:
        code = _KILLED if end.code is None else end.code
        if end.disrupted:
            lost = replace(pod, disrupted=True)
            text = "the machine was restarted under the pod"
            return lost.failed(at, reason="NodeLost", message=text, cause=FailureCause.NODE_LOST)
        if pod.ending is Ending.DEADLINE:
            text = "Pod was active on the node longer than the specified deadline"
            return pod.failed(
                at, reason="DeadlineExceeded", message=text, cause=FailureCause.ITEM_TIMEOUT, exit_code=code
            )  # fmt: skip
        if end.stopped:
            text = "the pod reached its time to stop"
            return pod.failed(at, reason="Error", message=text, cause=FailureCause.ITEM_TIMEOUT, exit_code=code)
        if code == 0:
            return replace(pod, phase=PodPhase.SUCCEEDED, finished_at=at, exit_code=0)
        if pod.ending is Ending.DELETED:
            text = "the pod was deleted"
            return pod.failed(at, reason="Error", message=text, cause=FailureCause.CANCELLED, exit_code=code)
        if code in _SHELL_SAYS:
            job = self._jobs.get(pod.job)
            command = job.spec.pod.command[0] if job is not None else "the command"
            text = f"exit code {code}, a shell's word for: {_SHELL_SAYS[code]} ({command})"
            return pod.failed(at, reason="Error", message=text, cause=FailureCause.TEMPLATE, exit_code=code)
        text = f"exit code {code}" if end.code is not None else "its processes were killed from outside"
        return pod.failed(at, reason="Error", message=text, cause=FailureCause.APPLICATION, exit_code=code)

    def _control(self) -> None:
        pods_of: dict[str, list[Pod]] = {}
        for pod in self._pods.values():
            pods_of.setdefault(pod.job_uid, []).append(pod)
        for job in list(self._jobs.values()):
            if job.marked or job.status.condition is not None:
                continue
            pods = [pod.for_the_controller() for pod in pods_of.get(job.uid, ())]
            result = take_turn(job.spec, job.status, pods, self._rules.backoff, self._now)
            self._again(result.again_at)
            if result.status != job.status:
                self._jobs[job.name] = replace(job, status=result.status)
            for uid in result.counted:
                self._put(replace(self._pods[uid], counted=True))
            for uid in result.delete:
                self._put(replace(self._pods[uid], marked=True))
            for index in result.create:
                self._put(self._new_pod(job, index))

    def _new_pod(self, job: Job, index: int) -> Pod:
        uid = self._rules.new_uid()
        return Pod(
            uid, f"{job.name}-{index}-{uid[:5]}", job.name, job.uid, index, job.spec.placement, job.spec.pod.requests,
            self._now,
        )  # fmt: skip

    def _collect_orphans(self) -> None:
        uids = {job.uid for job in self._jobs.values()}
        for pod in list(self._pods.values()):
            if pod.job_uid not in uids and not pod.marked:
                self._put(replace(pod, marked=True))

    def _enforce_deadlines(self) -> None:
        for pod in list(self._pods.values()):
            job = self._jobs.get(pod.job)
            if job is None or job.uid != pod.job_uid or job.spec.pod.deadline is None or pod.virtual:
                continue
            if pod.bound_at is None or pod.finished or pod.ending is not Ending.NOT:
                continue
            if self._is_due(pod.bound_at + job.spec.pod.deadline):
                self._put(replace(pod, ending=Ending.DEADLINE))

    def _end_and_forget(self) -> None:
        for pod in [pod for pod in self._pods.values() if pod.marked]:
            if pod.virtual and not self._may_delete_group(pod):
                continue
            ending = replace(self._pods[pod.uid], ending=Ending.DELETED)
            if ending != pod and pod.ending is Ending.NOT:
                self._put(ending)
            if pod.generation > 0 and pod.finished_at is None:
                continue  # its process ends first
            if pod.counted or not self._is_counted_by_a_job(pod):
                del self._pods[pod.uid]
                self._meter = self._meter.gone(pod.uid, self._now)

    def _may_delete_group(self, pod: Pod) -> bool:
        """Deletes of groups have a rate of their own; until one is accepted the group runs on and is billed."""
        group = self._meter.groups.get(pod.uid)
        if group is None or self._config.virtual_node is None or pod.ending is Ending.DELETED:
            return True
        if not self._is_due(self._meter.delete_possible_at(self._config.virtual_node, self._now)):
            return False
        self._meter = self._meter.deleting(self._now)
        return True

    def _is_counted_by_a_job(self, pod: Pod) -> bool:
        job = self._jobs.get(pod.job)
        return job is not None and job.uid == pod.job_uid and not job.marked and job.status.condition is None

    def _place(self) -> None:
        waiting = [p for p in self._pods.values() if p.node is None and not p.finished and not p.marked]
        room = rooms(self._rules.nodes, taken_on_nodes(self._pods.values()))
        for pod in sorted(waiting, key=lambda p: (p.created_at, p.job, p.index)):
            if pod.virtual:
                self._create_group(pod)
                continue
            chosen = first_fit(room, pod.requests)
            if chosen is None:
                text = "no node has room for the pod's requests"
                self._put(replace(pod, reason="Unschedulable", message=text))
                continue
            room = taking(room, chosen, pod.requests)
            self._put(
                replace(pod, node=chosen.name, bound_at=self._now, start_at=self._now, reason="", message="")
            )  # fmt: skip

    def _create_group(self, pod: Pod) -> None:
        virtual = self._config.virtual_node
        if virtual is None:
            self._put(replace(pod, reason="Unschedulable", message="there is no virtual node"))
            return
        job = self._jobs[pod.job]
        if job.spec.pod.record not in self._records:
            self._put(replace(missing_record(pod, job.spec, self._now), node=virtual.name))
            return
        name = f"{job.spec.namespace}-{pod.name}"
        self._meter, result = self._meter.create(virtual, pod.uid, name, pod.requests, self._now)
        if isinstance(result, Refusal):
            refused = pod.failed(self._now, reason="ProviderFailed", message=result.message, cause=result.cause)
            self._put(replace(refused, node=virtual.name))
            return
        start_at = self._now + virtual.start_delay
        self._put(replace(pod, node=virtual.name, bound_at=self._now, start_at=start_at))

    def _start(self) -> None:
        for pod in list(self._pods.values()):
            if pod.start_at is None or pod.generation > 0 or pod.marked or pod.finished:
                continue
            if self._is_due(pod.start_at):
                self._put(replace(pod, generation=1))

    def _is_due(self, at: datetime) -> bool:
        if at <= self._now:
            return True
        self._again(at)
        return False

    def _again(self, at: datetime | None) -> None:
        if at is not None and (self.again_at is None or at < self.again_at):
            self.again_at = at

    def _put(self, pod: Pod) -> None:
        self._pods[pod.uid] = pod


def _ended_group(pod: Pod, end: Ended, at: datetime) -> Pod:
    """The end of a container group: no exit code, and a pod under deletion keeps the phase it had."""
    if pod.ending is Ending.DELETED:
        return replace(pod, finished_at=at)
    if end.code == 0 and not end.stopped:
        return replace(pod, phase=PodPhase.SUCCEEDED, finished_at=at)
    if end.stopped:
        text = "the pod reached its time to stop"
        return pod.failed(at, reason="Failed", message=text, cause=FailureCause.ITEM_TIMEOUT)
    text = "the container group ended as Failed; exit codes are not told there"
    return pod.failed(at, reason="Failed", message=text, cause=FailureCause.APPLICATION)


def missing_record(pod: Pod, spec: JobSpec, now: datetime) -> Pod:
    """The pod, failed because the record that it mounts is gone: it must never run without its items."""
    name = spec.pod.record
    if pod.virtual:
        reason, text = "ProviderFailed", f"ConfigMap {name} is required by Pod {pod.name} and does not exist"
    else:
        reason, text = "CreateContainerConfigError", f'configmap "{name}" not found'
    return pod.failed(now, reason=reason, message=text, cause=FailureCause.CANCELLED)


def taken_on_nodes(pods: Iterable[Pod]) -> Iterable[tuple[str | None, Resources]]:
    """What the pods on nodes take, by node."""
    return ((pod.node, pod.requests) for pod in pods if not pod.virtual and not pod.finished)
