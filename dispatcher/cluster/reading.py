"""Raw API objects, read into what decisions need.

Decides which fields are taken and what their absence means. Pure. Knows nothing of requests, or of why pods fail
(:mod:`failures`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from math import ceil, floor
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from dispatcher.cluster.failures import cause_of, exit_code_of, reason_and_message
from dispatcher.core.jobs import LABEL_JOB
from dispatcher.core.observations import JobCondition, JobSeen, PodPhase, PodSeen
from dispatcher.core.units import Resources

__all__ = ["allocatable", "indexes", "job_seen", "pod_requests", "pod_seen"]

Raw = Mapping[str, Any]

_COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def indexes(text: str | None) -> frozenset[int]:
    """The Job API's interval text (``1,3-5,7``) as a set."""
    found: set[int] = set()
    for part in (text or "").split(","):
        if part:
            first, _, last = part.partition("-")
            found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def job_seen(raw: Raw) -> JobSeen:
    """A Job. Its condition is the terminal one, which the Job controller writes when all its pods have ended."""
    metadata, status = raw["metadata"], raw.get("status") or {}
    condition, reason = None, ""
    for each in status.get("conditions") or ():
        if each.get("status") == "True" and each.get("type") in (JobCondition.COMPLETE, JobCondition.FAILED):
            condition = JobCondition(each["type"])
            reason = each.get("reason", "") if condition is JobCondition.FAILED else ""
    uncounted = status.get("uncountedTerminatedPods") or {}
    return JobSeen(
        name=metadata["name"],
        uid=metadata["uid"],
        created_at=datetime.fromisoformat(metadata["creationTimestamp"]),
        annotations=metadata.get("annotations") or {},
        marked_for_deletion="deletionTimestamp" in metadata,
        condition=condition,
        reason=reason,
        active=status.get("active", 0),
        succeeded=status.get("succeeded", 0),
        failed=status.get("failed", 0),
        completed_indexes=indexes(status.get("completedIndexes")),
        failed_indexes=indexes(status.get("failedIndexes")),
        uncounted=bool(uncounted.get("succeeded") or uncounted.get("failed")),
        suspended=bool((raw.get("spec") or {}).get("suspend")),
    )


def pod_seen(raw: Raw) -> PodSeen | None:
    """A pod of one of our Jobs; None for one that is no Job's, or has no index."""
    metadata, status = raw["metadata"], raw.get("status") or {}
    job = (metadata.get("labels") or {}).get(LABEL_JOB)
    index = (metadata.get("annotations") or {}).get(_COMPLETION_INDEX)
    if job is None or index is None or not index.isdigit():
        return None
    phase = PodPhase(status.get("phase") or PodPhase.PENDING)
    reason, message = reason_and_message(raw)
    started_at, finished_at = _times(status, phase)
    return PodSeen(
        name=metadata["name"],
        uid=metadata["uid"],
        job=job,
        index=int(index),
        phase=phase,
        created_at=datetime.fromisoformat(metadata["creationTimestamp"]),
        started_at=started_at,
        finished_at=finished_at,
        node=(raw.get("spec") or {}).get("nodeName"),
        reason=reason,
        message=message,
        cause=cause_of(raw),
        exit_code=exit_code_of(raw),
        marked_for_deletion="deletionTimestamp" in metadata,
        disrupted=any(
            each.get("type") == "DisruptionTarget" and each.get("status") == "True"
            for each in status.get("conditions") or ()
        ),
    )


def _times(status: Raw, phase: PodPhase) -> tuple[datetime | None, datetime | None]:
    """When the first container started and, for a pod that has ended, when the last one did.

    A pod that failed before any container ran has its end in the time of its last condition, if anywhere.
    """
    states = [container.get("state") or {} for container in status.get("containerStatuses") or ()]
    ended = [state["terminated"] for state in states if state.get("terminated")]
    began = [*ended, *(state["running"] for state in states if state.get("running"))]
    starts = [at for each in began if (at := _instant(each.get("startedAt"))) is not None]
    if phase not in (PodPhase.SUCCEEDED, PodPhase.FAILED):
        return min(starts, default=None), None
    ends = [at for each in ended if (at := _instant(each.get("finishedAt"))) is not None]
    if not ends:
        conditions = status.get("conditions") or ()
        ends = [at for each in conditions if (at := _instant(each.get("lastTransitionTime"))) is not None]
    return min(starts, default=None), max(ends, default=None)


# --- room -----------------------------------------------------------------------------------------------------------


_quantity: Any = parse_quantity


@lru_cache(maxsize=4096)
def _millis(text: str) -> float:
    return float(_quantity(text) * 1000)


@lru_cache(maxsize=4096)
def _number(text: str) -> float:
    return float(_quantity(text))


def allocatable(node: Raw) -> tuple[Resources, int]:
    """What a node has for pods, rounded down, and how many pods."""
    given = (node.get("status") or {}).get("allocatable") or {}
    room = Resources(floor(_millis(str(given.get("cpu", "0")))), floor(_number(str(given.get("memory", "0")))))
    return room, floor(_number(str(given.get("pods", "0"))))


def pod_requests(pod: Raw) -> Resources:
    """What the scheduler counts for a pod, rounded up.

    The sum of its containers and sidecars, or the largest moment of its start if that is more, and its overhead; a
    request of the pod as a whole replaces the sum.
    """
    spec = pod.get("spec") or {}
    whole = (spec.get("resources") or {}).get("requests") or {}
    totals = []
    for kind, read in (("cpu", _millis), ("memory", _number)):
        running = sum(_request(container, kind, read) for container in spec.get("containers") or ())
        sidecars, start = 0.0, 0.0
        for container in spec.get("initContainers") or ():
            asked = _request(container, kind, read)
            if container.get("restartPolicy") == "Always":
                sidecars += asked
                start = max(start, sidecars)
            else:
                start = max(start, sidecars + asked)
        total = max(running + sidecars, start)
        if kind in whole:
            total = read(str(whole[kind]))
        totals.append(ceil(total + read(str((spec.get("overhead") or {}).get(kind, "0")))))
    return Resources(*totals)


def _request(container: Raw, kind: str, read: Any) -> float:
    requests = (container.get("resources") or {}).get("requests") or {}
    return float(read(str(requests.get(kind, "0"))))
