"""Jobs and pods of the embedded cluster, as they are kept: plain values with their JSON.

Decides what is remembered of each. Knows nothing of what happens to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from dispatcher.core.failures import FailureCause
from dispatcher.core.observations import JobCondition, JobSeen, Placement, PodPhase, PodSeen
from dispatcher.core.units import Resources, from_text, to_text
from dispatcher.embedded.processes.controller import IndexTally, JobPod, JobStatus
from dispatcher.embedded.processes.manifests import JobSpec, read_manifest
from dispatcher.embedded.processes.virtual_node import Counters, Group, Meter


class Ending(StrEnum):
    """Why the cluster itself ends a pod's process."""

    NOT = ""
    DELETED = "deleted"
    DEADLINE = "deadline"
    """The pod's own deadline on a node."""


@dataclass(frozen=True, slots=True)
class Job:
    """A Job: what was asked for, and what the controller concluded."""

    spec: JobSpec
    manifest: Mapping[str, Any]
    uid: str
    created_at: datetime
    status: JobStatus
    marked: bool = False

    @property
    def name(self) -> str:
        """Its name."""
        return self.spec.name

    def seen(self, *, active: int, uncounted: bool) -> JobSeen:
        """As the cluster shows it."""
        status = self.status
        return JobSeen(
            self.name, self.uid, self.created_at, annotations=self.spec.annotations, marked_for_deletion=self.marked,
            condition=status.condition, reason=status.reason, active=active, succeeded=status.succeeded,
            failed=status.failed, completed_indexes=status.completed, failed_indexes=status.failed_indexes,
            uncounted=uncounted,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod. ``generation`` 0: it has not been started; more: that claim decides which process is its own."""

    uid: str
    name: str
    job: str
    job_uid: str
    index: int
    placement: Placement
    requests: Resources
    created_at: datetime
    phase: PodPhase = PodPhase.PENDING
    node: str | None = None
    bound_at: datetime | None = None
    start_at: datetime | None = None
    """When its process is due, once it has a place."""
    generation: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    reason: str = ""
    message: str = ""
    cause: FailureCause | None = None
    exit_code: int | None = None
    marked: bool = False
    disrupted: bool = False
    counted: bool = False
    ending: Ending = Ending.NOT

    @property
    def finished(self) -> bool:
        """Whether its phase is final."""
        return self.phase in (PodPhase.SUCCEEDED, PodPhase.FAILED)

    @property
    def virtual(self) -> bool:
        """Whether it is a container group, rather than a pod on a node."""
        return self.placement is Placement.VIRTUAL_NODE

    def seen(self) -> PodSeen:
        """As the cluster shows it."""
        return PodSeen(
            self.name, self.uid, self.job, self.index, self.phase, self.created_at, started_at=self.started_at,
            finished_at=self.finished_at, node=self.node, reason=self.reason, message=self.message, cause=self.cause,
            exit_code=self.exit_code, marked_for_deletion=self.marked, disrupted=self.disrupted,
        )  # fmt: skip

    def for_the_controller(self) -> JobPod:
        """As the Job controller sees it."""
        return JobPod(
            self.uid, self.index, self.phase, marked=self.marked, counted=self.counted, disrupted=self.disrupted,
            ended_at=self.finished_at,
        )  # fmt: skip

    def failed(
        self, at: datetime, *, reason: str, message: str, cause: FailureCause, exit_code: int | None = None
    ) -> Pod:
        """The same pod, failed."""
        failed = replace(self, phase=PodPhase.FAILED, finished_at=at)
        return replace(failed, reason=reason, message=message, cause=cause, exit_code=exit_code)


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else to_text(instant)


def _instant(text: str | None) -> datetime | None:
    return None if text is None else from_text(text)


def job_to_json(job: Job) -> dict[str, Any]:
    """A Job as JSON."""
    status = job.status
    return {
        "manifest": job.manifest,
        "created_at": to_text(job.created_at),
        "marked": job.marked,
        "status": {
            "started_at": to_text(status.started_at),
            "condition": status.condition,
            "reason": status.reason,
            "ending": status.ending,
            "succeeded": status.succeeded,
            "failed": status.failed,
            "completed": sorted(status.completed),
            "failed_indexes": sorted(status.failed_indexes),
            "tallies": [[i, t.failures, t.ignored, _text(t.last_at)] for i, t in status.tallies.items()],
        },
    }


def job_from_json(uid: str, body: Mapping[str, Any]) -> Job:
    """A Job from its JSON."""
    status = body["status"]
    return Job(
        spec=read_manifest(body["manifest"]),
        manifest=body["manifest"],
        uid=uid,
        created_at=from_text(body["created_at"]),
        marked=body["marked"],
        status=JobStatus(
            started_at=from_text(status["started_at"]),
            condition=None if status["condition"] is None else JobCondition(status["condition"]),
            reason=status["reason"],
            ending=status["ending"],
            succeeded=status["succeeded"],
            failed=status["failed"],
            completed=frozenset(status["completed"]),
            failed_indexes=frozenset(status["failed_indexes"]),
            tallies={i: IndexTally(failures, ignored, _instant(at)) for i, failures, ignored, at in status["tallies"]},
        ),
    )


def pod_to_json(pod: Pod) -> dict[str, Any]:
    """A pod as JSON."""
    return {
        "name": pod.name, "job": pod.job, "job_uid": pod.job_uid, "index": pod.index, "placement": pod.placement,
        "cpu_millis": pod.requests.cpu_millis, "memory_bytes": pod.requests.memory_bytes,
        "created_at": to_text(pod.created_at), "phase": pod.phase, "node": pod.node, "bound_at": _text(pod.bound_at),
        "start_at": _text(pod.start_at), "generation": pod.generation, "started_at": _text(pod.started_at),
        "finished_at": _text(pod.finished_at), "reason": pod.reason, "message": pod.message, "cause": pod.cause,
        "exit_code": pod.exit_code, "marked": pod.marked, "disrupted": pod.disrupted, "counted": pod.counted,
        "ending": pod.ending,
    }  # fmt: skip


def pod_from_json(uid: str, body: Mapping[str, Any]) -> Pod:
    """A pod from its JSON."""
    return Pod(
        uid=uid,
        name=body["name"],
        job=body["job"],
        job_uid=body["job_uid"],
        index=body["index"],
        placement=Placement(body["placement"]),
        requests=Resources(body["cpu_millis"], body["memory_bytes"]),
        created_at=from_text(body["created_at"]),
        phase=PodPhase(body["phase"]),
        node=body["node"],
        bound_at=_instant(body["bound_at"]),
        start_at=_instant(body["start_at"]),
        generation=body["generation"],
        started_at=_instant(body["started_at"]),
        finished_at=_instant(body["finished_at"]),
        reason=body["reason"],
        message=body["message"],
        cause=None if body["cause"] is None else FailureCause(body["cause"]),
        exit_code=body["exit_code"],
        marked=body["marked"],
        disrupted=body["disrupted"],
        counted=body["counted"],
        ending=Ending(body["ending"]),
    )


def group_to_json(group: Group) -> dict[str, Any]:
    """A container group as JSON."""
    return {
        "name": group.name, "cpu_millis": group.cpu_millis, "created_at": to_text(group.created_at),
        "billed_from": to_text(group.billed_from), "stopped_at": _text(group.stopped_at),
        "gone_at": _text(group.gone_at),
    }  # fmt: skip


def group_from_json(uid: str, body: Mapping[str, Any]) -> Group:
    """A container group from its JSON."""
    return Group(
        uid, body["name"], body["cpu_millis"], from_text(body["created_at"]), from_text(body["billed_from"]),
        _instant(body["stopped_at"]), _instant(body["gone_at"]),
    )  # fmt: skip


def rates_to_json(meter: Meter) -> dict[str, Any]:
    """The meter without its groups, which are objects of their own, as JSON."""
    counters = meter.counters
    return {
        "creates": [to_text(at) for at in meter.creates],
        "deletes": [to_text(at) for at in meter.deletes],
        "counters": [counters.creates, counters.refused, counters.addresses_peak],
    }


def rates_from_json(body: Mapping[str, Any], groups: Mapping[str, Group]) -> Meter:
    """The meter from its JSON and its groups."""
    return Meter(
        groups,
        tuple(map(from_text, body["creates"])),
        tuple(map(from_text, body["deletes"])),
        Counters(*body["counters"]),
    )
