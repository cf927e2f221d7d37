"""What is read out of raw Jobs, pods and nodes. The samples are what an API server of 1.36 answered, cut to size."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from dispatcher.cluster.config import node_profile
from dispatcher.cluster.nodes import Occupied, Rooms, node_row, occupied
from dispatcher.cluster.reading import indexes, job_seen, pod_requests, pod_seen
from dispatcher.core.observations import JobCondition, PodPhase
from dispatcher.core.units import Resources


def at(second: int) -> datetime:
    return datetime(2026, 3, 1, 12, 0, second, tzinfo=UTC)


def text(second: int) -> str:
    return f"2026-03-01T12:00:{second:02}Z"


# --- Jobs -----------------------------------------------------------------------------------------------------------


def raw_job(status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "burst-b-1",
            "namespace": "work",
            "uid": "u",
            "resourceVersion": "7",
            "creationTimestamp": text(0),
            "annotations": {"a": "b"},
            **metadata,
        },
        "spec": {},
        "status": status,
    }


def test_intervals_are_read_as_a_set() -> None:
    assert indexes("1,3-5,7") == {1, 3, 4, 5, 7}
    assert indexes("") == indexes(None) == frozenset()


def test_a_job_that_was_just_made_has_no_status_yet() -> None:
    job = job_seen(raw_job({}))
    assert (job.name, job.uid, job.created_at, job.annotations) == ("burst-b-1", "u", at(0), {"a": "b"})
    assert (job.condition, job.active, job.succeeded, job.failed, job.uncounted) == (None, 0, 0, 0, False)
    assert not job.marked_for_deletion


def test_a_failed_job_tells_why_and_which_indexes() -> None:
    job = job_seen(
        raw_job(
            {
                "succeeded": 8,
                "failed": 4,
                "completedIndexes": "0-2,4-6,8,9",
                "failedIndexes": "3,7",
                "conditions": [
                    {"type": "FailureTarget", "status": "True", "reason": "FailedIndexes"},
                    {
                        "type": "Failed",
                        "status": "True",
                        "reason": "FailedIndexes",
                        "message": "Job has failed indexes",
                    },
                ],
                "uncountedTerminatedPods": {},
            }
        )
    )
    assert (job.condition, job.reason) == (JobCondition.FAILED, "FailedIndexes")
    assert (job.succeeded, job.failed) == (8, 4)
    assert (job.completed_indexes, job.failed_indexes) == ({0, 1, 2, 4, 5, 6, 8, 9}, {3, 7})
    assert not job.uncounted


@pytest.mark.parametrize("early", ["FailureTarget", "SuccessCriteriaMet", "Suspended"])
def test_a_condition_that_comes_before_the_end_is_not_the_end(early: str) -> None:
    job = job_seen(raw_job({"active": 1, "conditions": [{"type": early, "status": "True", "reason": "Any"}]}))
    assert (job.condition, job.reason, job.active) == (None, "", 1)


def test_a_condition_that_is_false_is_none() -> None:
    assert job_seen(raw_job({"conditions": [{"type": "Complete", "status": "False"}]})).condition is None


@pytest.mark.parametrize("which", ["succeeded", "failed"])
def test_pods_that_the_controller_has_not_counted_yet_are_told(which: str) -> None:
    assert job_seen(raw_job({"uncountedTerminatedPods": {which: ["uid-1"]}})).uncounted


def test_a_mark_for_deletion_is_seen() -> None:
    assert job_seen(raw_job({}, deletionTimestamp=text(5), deletionGracePeriodSeconds=0)).marked_for_deletion


def test_a_suspended_job_is_seen_as_such() -> None:
    raw = raw_job({})
    raw["spec"]["suspend"] = True
    assert job_seen(raw).suspended
    assert not job_seen(raw_job({})).suspended


# --- pods -----------------------------------------------------------------------------------------------------------


def raw_pod(status: dict[str, Any], *, spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "burst-b-1-3-x7k2p",
            "namespace": "work",
            "uid": "p",
            "resourceVersion": "9",
            "creationTimestamp": text(0),
            "labels": {"burst-dispatcher.io/job": "burst-b-1"},
            "annotations": {"batch.kubernetes.io/job-completion-index": "3"},
            **metadata,
        },
        "spec": {"containers": [], **(spec or {})},
        "status": status,
    }


def test_a_running_pod_has_its_place_and_its_start() -> None:
    pod = pod_seen(
        raw_pod(
            {
                "phase": "Running",
                "startTime": text(1),
                "containerStatuses": [{"name": "worker", "state": {"running": {"startedAt": text(2)}}}],
            },
            spec={"nodeName": "node-1"},
        )
    )
    assert pod is not None
    assert (pod.job, pod.index, pod.node, pod.phase) == ("burst-b-1", 3, "node-1", PodPhase.RUNNING)
    assert (pod.started_at, pod.finished_at, pod.cause) == (at(2), None, None)


def test_a_pod_that_ended_has_all_its_times() -> None:
    ended = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": text(2), "finishedAt": text(9)}}
    pod = pod_seen(raw_pod({"phase": "Succeeded", "containerStatuses": [{"state": ended}]}))
    assert pod is not None
    assert (pod.started_at, pod.finished_at, pod.exit_code, pod.cause) == (at(2), at(9), 0, None)
    assert (pod.reason, pod.message) == ("", "")


def test_a_pod_that_failed_before_any_container_ran_ended_with_its_last_condition() -> None:
    pod = pod_seen(
        raw_pod(
            {
                "phase": "Failed",
                "reason": "OutOfcpu",
                "message": "Pod was rejected: Node didn't have enough resource: cpu",
                "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": text(4)}],
            }
        )
    )
    assert pod is not None
    assert (pod.started_at, pod.finished_at) == (None, at(4))


def test_a_pod_without_a_status_is_pending() -> None:
    pod = pod_seen(raw_pod({}))
    assert pod is not None
    assert (pod.phase, pod.node) == (PodPhase.PENDING, None)


def test_a_pod_that_no_node_takes_says_why() -> None:
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes"}
    pod = pod_seen(raw_pod({"phase": "Pending", "conditions": [unschedulable]}))
    assert pod is not None
    assert (pod.reason, pod.message, pod.cause) == ("Unschedulable", "0/2 nodes", None)


@pytest.mark.parametrize(
    "metadata",
    [
        {"labels": {}},
        {"annotations": {}},
        {"annotations": {"batch.kubernetes.io/job-completion-index": "none"}},
    ],
)
def test_a_pod_without_a_job_or_an_index_is_none_of_ours(metadata: dict[str, Any]) -> None:
    assert pod_seen(raw_pod({"phase": "Running"}, **metadata)) is None


# --- room -----------------------------------------------------------------------------------------------------------


def requests(cpu: str, memory: str, **more: Any) -> dict[str, Any]:
    return {"resources": {"requests": {"cpu": cpu, "memory": memory}}, **more}


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"containers": [requests("500m", "1Gi"), requests("0.25", "512M")]}, Resources(750, 2**30 + 512 * 10**6)),
        ({"containers": [{}]}, Resources(0, 0)),
        # An init container that asks for more than all that run later counts instead of them.
        ({"containers": [requests("1", "1Gi")], "initContainers": [requests("2", "1Ki")]}, Resources(2000, 2**30)),
        # A sidecar runs beside everything that comes after it.
        (
            {
                "containers": [requests("1", "0")],
                "initContainers": [requests("300m", "0", restartPolicy="Always"), requests("900m", "0")],
            },
            Resources(1300, 0),
        ),
        ({"containers": [requests("1", "1k")], "overhead": {"cpu": "250m", "memory": "120Mi"}},
         Resources(1250, 1000 + 120 * 2**20)),
        ({"containers": [requests("1", "1k")], "resources": {"requests": {"cpu": "3"}}}, Resources(3000, 1000)),
        ({"containers": [requests("100u", "1e3")]}, Resources(1, 1000)),
    ],
)  # fmt: skip
def test_a_pod_counts_as_the_scheduler_counts_it(spec: dict[str, Any], wanted: Resources) -> None:
    assert pod_requests({"spec": spec}) == wanted


def raw_node(name: str = "node-1", **changes: Any) -> dict[str, Any]:
    node = {
        "metadata": {"name": name, "uid": name, "labels": {"kubernetes.io/os": "linux"}},
        "spec": {},
        "status": {
            "allocatable": {"cpu": "1930m", "memory": "4Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
    for path, value in changes.items():
        target: Any = node
        *steps, last = path.split("__")
        for step in steps:
            target = target[step]
        target[last] = value
    return node


NOT_OURS = [
    {"spec__unschedulable": True},
    {"status__conditions": [{"type": "Ready", "status": "Unknown"}]},
    {"status__conditions": []},
    {"spec__taints": [{"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}]},
    {"spec__taints": [{"key": "virtual-kubelet.io/provider", "value": "azure", "effect": "NoSchedule"}]},
    {"metadata__labels": {"kubernetes.io/os": "windows"}},
    {"metadata__labels": {"kubernetes.io/os": "linux", "type": "virtual-kubelet"}},
    {"metadata__labels": {"kubernetes.io/os": "linux", "virtualization": "virtualnode2"}},
]


@pytest.mark.parametrize("changes", NOT_OURS, ids=lambda changes: str(changes))
def test_nodes_that_our_pods_cannot_go_to_have_no_room(changes: dict[str, Any]) -> None:
    rooms = Rooms()
    rooms.node("a", node_row(raw_node("here"), node_profile()))
    rooms.node("b", node_row(raw_node("there", **changes), node_profile()))
    assert [room.name for room in rooms.headroom().nodes] == ["here"]


def test_a_taint_that_keeps_nobody_away_or_is_tolerated_does_not_matter() -> None:
    soft = [{"key": "dedicated", "value": "gpu", "effect": "PreferNoSchedule"}]
    assert node_row(raw_node(spec__taints=soft), node_profile()).counts
    hard = [{"key": "dedicated", "value": "batch", "effect": "NoSchedule"}]
    for toleration in (
        {"key": "dedicated", "operator": "Exists"},
        {"key": "dedicated", "value": "batch", "effect": "NoSchedule"},
        {"operator": "Exists"},
    ):
        profile = {**node_profile(), "tolerations": [toleration]}
        assert node_row(raw_node(spec__taints=hard), profile).counts
    for toleration in (
        {"key": "dedicated", "value": "web"},
        {"key": "dedicated", "operator": "Exists", "effect": "NoExecute"},
    ):
        profile = {**node_profile(), "tolerations": [toleration]}
        assert not node_row(raw_node(spec__taints=hard), profile).counts


@pytest.mark.parametrize(
    ("expression", "admits"),
    [
        ({"key": "pool", "operator": "In", "values": ["batch", "spot"]}, True),
        ({"key": "pool", "operator": "NotIn", "values": ["batch"]}, False),
        ({"key": "pool", "operator": "Exists"}, True),
        ({"key": "pool", "operator": "DoesNotExist"}, False),
        ({"key": "size", "operator": "Gt", "values": ["4"]}, True),
        ({"key": "size", "operator": "Lt", "values": ["8"]}, False),
        ({"key": "none", "operator": "Gt", "values": ["4"]}, False),
        ({"key": "none", "operator": "NotIn", "values": ["x"]}, True),
    ],
)
def test_node_affinity_is_read_as_the_scheduler_reads_it(expression: dict[str, Any], admits: bool) -> None:
    terms = [{"matchExpressions": [expression]}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    node = raw_node(metadata__labels={"pool": "batch", "size": "8"})
    assert node_row(node, {"affinity": {"nodeAffinity": required}}).counts is admits


def test_room_is_what_pods_leave_and_comes_back_when_they_end() -> None:
    rooms = Rooms()
    rooms.node("a", node_row(raw_node(), node_profile()))
    one, two = Occupied("node-1", Resources(500, 2**30)), Occupied("node-1", Resources(400, 2**29))
    rooms.pod(None, one)
    rooms.pod(None, two)
    (room,) = rooms.headroom().nodes
    assert (room.free, room.pods_free) == (Resources(1030, 4 * 2**30 - 2**30 - 2**29), 108)
    rooms.pod(one, None)
    rooms.pod(two, two)
    (room,) = rooms.headroom().nodes
    assert (room.free, room.pods_free) == (Resources(1530, 4 * 2**30 - 2**29), 109)


def test_a_node_that_is_over_committed_has_nothing_free_rather_than_less() -> None:
    rooms = Rooms()
    rooms.node("a", node_row(raw_node(), node_profile()))
    rooms.pod(None, Occupied("node-1", Resources(5000, 2**40)))
    (room,) = rooms.headroom().nodes
    assert room.free == Resources(0, 0)


@pytest.mark.parametrize(
    ("phase", "takes"), [("Running", True), ("Pending", True), ("Succeeded", False), ("Failed", False)]
)
def test_only_pods_that_have_not_ended_take_room(phase: str, takes: bool) -> None:
    pod = raw_pod({"phase": phase}, spec={"nodeName": "node-1"})
    assert (occupied(pod) is not None) is takes
    assert occupied(raw_pod({"phase": phase})) is None
