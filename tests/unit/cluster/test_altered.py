"""What others may change of a Job on its way: no paid Job may become dearer, none may be lost of sight."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from dispatcher.cluster import paths
from dispatcher.cluster.altered import broken_promises
from dispatcher.core.jobs import manifest
from dispatcher.core.work import Placement
from tests.builders import a_shape, a_task

Job = dict[str, Any]
PAID, NODES = Placement.VIRTUAL_NODE, Placement.NODE_POOL


def sent(placement: Placement) -> Job:
    made = manifest(a_task(), a_shape(2), placement=placement, batch_id="b", attempt=1, sequence_numbers=(1, 2))
    return paths.marked_as_ours(made, "instance")


def pod(job: Job) -> Job:
    return dict(job["spec"]["template"])["spec"]  # type: ignore[no-any-return]


def changes(placement: Placement, change: Callable[[Job], object]) -> list[str]:
    before = sent(placement)
    after = copy.deepcopy(before)
    change(after)
    return broken_promises(before, after)


def narrowed(job: Job) -> None:
    job["metadata"]["labels"]["team"] = job["spec"]["template"]["metadata"]["labels"]["team"] = "a"
    job["metadata"]["annotations"]["seen"] = "yes"
    job["metadata"]["finalizers"].append("example.com/billing")
    job["spec"]["suspend"] = True
    pod(job).setdefault("nodeSelector", {})["zone"] = "1"
    pod(job).setdefault("tolerations", []).append({"key": "team", "operator": "Exists"})


@pytest.mark.parametrize("placement", [PAID, NODES])
def test_what_narrows_or_only_adds_names_breaks_no_promise(placement: Placement) -> None:
    assert changes(placement, lambda job: None) == []
    assert changes(placement, narrowed) == []


def add_sidecar(job: Job) -> None:
    pod(job)["containers"].append({"name": "mesh", "image": "mesh:1"})


def add_init(job: Job) -> None:
    pod(job)["initContainers"] = [{"name": "setup", "image": "setup:1"}]


def more_memory(job: Job) -> None:
    pod(job)["containers"][0]["resources"]["requests"]["memory"] = "64G"


def add_policy(job: Job) -> None:
    job["spec"]["podFailurePolicy"] = {"rules": [{"action": "Ignore", "onPodConditions": []}]}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (add_sidecar, "spec.template.spec.containers: mesh was added"),
        (add_init, "spec.template.spec.initContainers: setup was added"),
        (more_memory, "spec.template.spec: a pod asks for 1000m and 64000000000 bytes"),
        (add_policy, "spec.podFailurePolicy: was added"),
    ],
)
def test_what_makes_pods_dearer_counts_where_they_are_paid_for(change: Callable[[Job], None], field: str) -> None:
    (told,) = changes(PAID, change)
    assert told.startswith(field)
    assert changes(NODES, change) == []


def less_memory(job: Job) -> None:
    pod(job)["containers"][0]["resources"]["requests"]["memory"] = "1M"


def test_what_makes_a_pod_cheaper_breaks_no_budget() -> None:
    assert changes(PAID, less_memory) == []


def set_number(name: str) -> Callable[[Job], None]:
    return lambda job: job["spec"].update({name: 77})


def drop(part: Callable[[Job], Job], name: str) -> Callable[[Job], object]:
    return lambda job: part(job).pop(name)


@pytest.mark.parametrize("placement", [PAID, NODES])
@pytest.mark.parametrize(
    ("change", "field"),
    [
        *((set_number(each), f"spec.{each}: 77 instead of") for each in ("completions", "parallelism")),
        *((set_number(each), f"spec.{each}: 77") for each in ("backoffLimitPerIndex", "activeDeadlineSeconds")),
        (
            drop(lambda job: job["metadata"]["labels"], paths.LABEL_INSTANCE),
            "metadata.labels: burst-dispatcher.io/inst",
        ),
        (
            drop(lambda job: job["spec"]["template"]["metadata"]["labels"], "burst-dispatcher.io/job"),
            "spec.template.met",
        ),
        (lambda job: job["metadata"]["finalizers"].clear(), "metadata.finalizers: burst-dispatcher.io/settle"),
        (lambda job: pod(job).update(restartPolicy="OnFailure"), "spec.template.spec.restartPolicy: OnFailure"),
    ],
)
def test_what_a_promise_is_reckoned_from_or_found_by_counts_everywhere(
    placement: Placement, change: Callable[[Job], object], field: str
) -> None:
    (told,) = changes(placement, change)
    assert told.startswith(field)


def test_a_job_is_not_sent_elsewhere() -> None:
    (told,) = changes(PAID, lambda job: pod(job)["nodeSelector"].update(type="other"))
    assert told.startswith("spec.template.spec.nodeSelector: type is 'other'")
    (told,) = changes(NODES, drop(pod, "affinity"))
    assert "keeps pods off the virtual node" in told
