"""Pods on KWOK nodes do what they are told; the real controllers and the scheduler draw the conclusions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from testbed_jobs import Namespace, condition, job, terminated

from testbed.behaviour import NEVER, PREFIX, told
from testbed.control_plane import ControlPlane, real_node
from testbed.waiting import until


@pytest.fixture
def here(control_plane: ControlPlane, namespace: str) -> Namespace:
    return Namespace(control_plane, namespace)


@pytest_asyncio.fixture
async def doomed_node(control_plane: ControlPlane) -> AsyncIterator[str]:
    """A node that nothing but a pod that names it comes to."""
    await control_plane.create_nodes(real_node("doomed", doomed="yes"))
    yield "doomed"
    await control_plane.delete_nodes("doomed")


def ends(pod: dict[str, Any]) -> bool:
    return pod["status"]["phase"] in ("Succeeded", "Failed")


async def test_an_indexed_job_completes_and_lists_its_indexes(here: Namespace) -> None:
    await here.create(job("plain", told(), completions=5))
    status = await here.ended("plain")
    assert condition(status, "Complete")
    assert (status["succeeded"], status["completedIndexes"]) == (5, "0-4")


async def test_the_indexes_that_are_told_to_fail_are_the_ones_that_fail(here: Namespace) -> None:
    annotations = told(message="no ink", index=1) | told(exit_code=42, index=1) | told(exit_code=3, index=4)
    await here.create(job("some", annotations, completions=6))
    status = await here.ended("some")
    assert condition(status, "Failed")["reason"] == "FailedIndexes"
    assert (status["completedIndexes"], status["failedIndexes"]) == ("0,2,3,5", "1,4")
    by_index = {pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"]: pod for pod in await here.pods()}
    assert {index: terminated(pod)["exitCode"] for index, pod in by_index.items()} == {
        "0": 0, "1": 42, "2": 0, "3": 0, "4": 3, "5": 0,
    }  # fmt: skip
    assert terminated(by_index["1"])["message"] == "no ink"


async def test_labels_steer_as_annotations_do(here: Namespace) -> None:
    await here.create(job("labelled", {}, labels={f"{PREFIX}exit-code.0": "9"}, completions=2))
    status = await here.ended("labelled")
    assert (status["completedIndexes"], status["failedIndexes"]) == ("1", "0")


async def test_a_pod_that_fails_once_succeeds_on_the_job_controllers_retry(here: Namespace) -> None:
    await here.create(job("again", told(exit_code=1, fail_times=1), retries=1))
    status = await here.ended("again")
    assert (status["completedIndexes"], status["failed"]) == ("0", 1)


async def test_a_pod_hangs_pending_and_says_why_until_its_job_is_deleted(here: Namespace) -> None:
    await here.create(job("hangs", told(start_seconds=NEVER, waiting_reason="ImagePullBackOff")))
    pod = await here.pod(lambda pod: "containerStatuses" in pod["status"], "a pod that says why it waits")
    assert pod["status"]["phase"] == "Pending"
    assert pod["status"]["containerStatuses"][0]["state"] == {"waiting": {"reason": "ImagePullBackOff"}}
    assert condition(pod["status"], "PodScheduled")
    await here.plane.kubectl("delete", "job", "hangs", "-n", here.name, "--wait=false")
    await until(lambda: _none_if(here.pods()), "no pods")


async def _none_if(pods: Any) -> bool | None:
    return None if await pods else True


@pytest.mark.parametrize("virtual", [False, True], ids=["real-node", "virtual-node"])
async def test_a_pod_whose_items_are_not_there_never_runs(here: Namespace, virtual: bool) -> None:
    volume = {"name": "items", "configMap": {"name": "items", "optional": False}}
    await here.create(job("without", told(), virtual=virtual, volumes=[volume]))
    pod = await here.pod(lambda pod: "startTime" in pod["status"] or ends(pod), "a pod that has come to its node")
    if virtual:
        assert (pod["status"]["phase"], pod["status"]["reason"]) == ("Failed", "ProviderFailed")
        assert pod["status"]["message"].startswith("ConfigMap items is required by Pod")
    else:
        assert pod["status"]["phase"] == "Pending"
        assert pod["status"]["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}


async def test_a_pod_whose_items_are_there_runs(here: Namespace) -> None:
    body = {"metadata": {"name": "items"}, "data": {"0.json": "{}"}}
    await here.plane.api.post(f"/api/v1/namespaces/{here.name}/configmaps", body)
    volumes = [
        {"name": "items", "configMap": {"name": "items", "optional": False}},
        {"name": "more", "secret": {"secretName": "none", "optional": True}},
    ]
    await here.create(job("within", told(), volumes=volumes))
    assert (await here.ended("within"))["completedIndexes"] == "0"


async def test_a_pod_keeps_its_own_deadline_whether_it_runs_or_waits(here: Namespace) -> None:
    annotations = told(run_seconds=NEVER) | told(start_seconds=NEVER, index=1)
    await here.create(job("late", annotations, completions=2, activeDeadlineSeconds=1))
    assert (await here.ended("late"))["failedIndexes"] == "0,1"
    ran, waited = await here.pods()
    assert {pod["status"]["reason"] for pod in (ran, waited)} == {"DeadlineExceeded"}
    assert terminated(ran)["exitCode"] == 137
    assert waited["status"]["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}


async def test_a_running_pod_is_steered_by_changing_its_annotations(here: Namespace) -> None:
    await here.create(job("steered", told(run_seconds=NEVER)))
    pod = await here.running()
    path = f"/api/v1/namespaces/{here.name}/pods/{pod['metadata']['name']}"
    await here.plane.api.patch(path, {"metadata": {"annotations": told(run_seconds=0, exit_code=7)}})
    await here.ended("steered")
    (pod,) = await here.pods()
    assert terminated(pod)["exitCode"] == 7


async def test_an_eviction_by_the_kubelet_is_a_disruption(here: Namespace) -> None:
    await here.create(job("evicted", told(run_seconds=NEVER, evict_seconds=0)))
    pod = await here.pod(ends, "a pod that has ended")
    assert (pod["status"]["phase"], pod["status"]["reason"]) == ("Failed", "Evicted")
    assert condition(pod["status"], "DisruptionTarget")["reason"] == "TerminationByKubelet"


async def test_an_eviction_by_the_api_is_a_disruption(here: Namespace) -> None:
    await here.create(job("drained", told(run_seconds=NEVER, stop_seconds=NEVER)))
    pod = await here.running()
    await here.plane.evict(here.name, pod["metadata"]["name"])
    (pod,) = await here.pods()
    assert pod["metadata"]["deletionTimestamp"]
    assert condition(pod["status"], "DisruptionTarget")["reason"] == "EvictionByEvictionAPI"


async def test_a_deleted_pod_ends_as_a_kubelet_would_end_it(here: Namespace) -> None:
    await here.create(job("deleted", told(run_seconds=NEVER)))
    pod = await here.running()
    await here.plane.api.delete(f"/api/v1/namespaces/{here.name}/pods/{pod['metadata']['name']}")
    status = await here.ended("deleted")
    assert status["failedIndexes"] == "0"
    assert await here.pods() == []


async def test_a_pod_can_take_its_time_to_go(here: Namespace) -> None:
    await here.create(job("lingers", told(run_seconds=NEVER, stop_seconds=NEVER)))
    pod = await here.running()
    path = f"/api/v1/namespaces/{here.name}/pods/{pod['metadata']['name']}"
    await here.plane.api.delete(path)

    async def look() -> dict[str, Any] | None:
        job = await here.plane.api.get(f"/apis/batch/v1/namespaces/{here.name}/jobs/lingers")
        return job if job["status"].get("terminating") == 1 else None

    # The Job has failed, and is not called Failed for as long as a pod of it may still do something.
    status = (await until(look, "a Job that counts a terminating pod"))["status"]
    assert not condition(status, "Failed")
    await here.plane.api.patch(path, {"metadata": {"annotations": told(stop_seconds=0)}})
    assert (await here.ended("lingers"))["failedIndexes"] == "0"


async def test_the_pods_of_a_node_that_dies_are_evicted_and_stay_terminating(here: Namespace, doomed_node: str) -> None:
    annotations = told(run_seconds=1)
    await here.create(job("orphans", annotations, nodeSelector={"doomed": "yes"}))
    await here.running()
    await here.plane.kill_node(doomed_node)
    pod = await here.pod(lambda pod: "deletionTimestamp" in pod["metadata"], "the eviction")
    assert condition(pod["status"], "DisruptionTarget")["reason"] == "DeletionByTaintManager"
    assert pod["status"]["phase"] == "Running"  # nobody is there to report its end
    node = await here.plane.api.get(f"/api/v1/nodes/{doomed_node}")
    assert {taint["key"] for taint in node["spec"]["taints"]} >= {"node.kubernetes.io/unreachable"}

    await here.plane.revive_node(doomed_node)
    uid = pod["metadata"]["uid"]
    await until(lambda: _none_if(_of(here, uid)), "its end, now that the node is back")


async def _of(here: Namespace, uid: str) -> list[dict[str, Any]]:
    return [pod for pod in await here.pods() if pod["metadata"]["uid"] == uid]


async def test_what_does_not_fit_on_the_nodes_stays_pending(here: Namespace) -> None:
    resources = {"requests": {"cpu": "3"}}
    containers = [{"name": "worker", "image": "any", "resources": resources}]
    await here.create(job("crowd", told(run_seconds=NEVER), completions=3, containers=containers))

    async def look() -> list[dict[str, Any]] | None:
        pods = await here.pods()
        placed = [pod for pod in pods if pod["status"]["phase"] == "Running"]
        refused = [pod for pod in pods if pod["status"].get("conditions", [{}])[0].get("reason") == "Unschedulable"]
        return placed if len(placed) == 2 and len(refused) == 1 else None

    placed = await until(look, "two pods running and one that fits nowhere")
    assert {pod["spec"]["nodeName"] for pod in placed} == {"node-1", "node-2"}


# --- the virtual node -------------------------------------------------------------------------------------------------


async def test_the_virtual_node_takes_only_pods_that_tolerate_it_and_loses_their_exit_codes(here: Namespace) -> None:
    await here.create(job("spilled", told(exit_code=42), virtual=True))
    assert (await here.ended("spilled"))["failedIndexes"] == "0"
    (pod,) = await here.pods()
    assert pod["spec"]["nodeName"] == "virtual-node-aci-linux"
    assert pod["status"]["phase"] == "Failed"
    assert (terminated(pod)["exitCode"], terminated(pod)["reason"]) == (0, "Completed")

    await here.create(job("kept-off", told()))
    await here.ended("kept-off")
    (pod,) = [pod for pod in await here.pods() if pod["metadata"]["name"].startswith("kept-off")]
    assert pod["spec"]["nodeName"] in ("node-1", "node-2")


async def test_the_virtual_node_refuses_with_the_providers_words(here: Namespace) -> None:
    words = "ContainerGroupQuotaReached: quota 'StandardCores' exceeded"
    await here.create(job("refused", told(refused=words), virtual=True))
    await here.ended("refused")
    (pod,) = await here.pods()
    assert (pod["status"]["reason"], pod["status"]["message"]) == ("ProviderFailed", words)
    assert "containerStatuses" not in pod["status"]


async def test_a_pod_that_is_deleted_on_the_virtual_node_takes_no_final_phase(here: Namespace) -> None:
    await here.create(job("stopped", told(run_seconds=NEVER), virtual=True))
    pod = await here.running()
    path = f"/api/v1/namespaces/{here.name}/pods/{pod['metadata']['name']}"
    await here.plane.api.patch(path, {"metadata": {"finalizers": [*pod["metadata"]["finalizers"], "test.io/look"]}})
    await here.plane.api.delete(path)
    pod = await here.pod(lambda pod: "terminated" in pod["status"]["containerStatuses"][0]["state"], "its end")
    assert (pod["status"]["phase"], terminated(pod)["reason"], terminated(pod)["exitCode"]) == (
        "Running",
        "NotFound",
        0,
    )
    await here.plane.api.patch(path, {"metadata": {"finalizers": None}})


# --- what is asked of it ----------------------------------------------------------------------------------------------


async def test_a_pods_log_is_served_with_its_tail(here: Namespace) -> None:
    await here.create(job("talks", told(exit_code=1)))
    await here.ended("talks")
    (pod,) = await here.pods()
    name = pod["metadata"]["name"]
    await here.plane.write_log(here.name, name, "first\nsecond\nthird")
    log = await here.plane.api.get(f"/api/v1/namespaces/{here.name}/pods/{name}/log", tailLines="2")
    assert log.splitlines() == ["second", "third"]


@pytest.mark.parametrize(
    ("field", "value"), [("run_seconds", "soon"), ("start_seconds", -1), ("exit_code", 256), ("fail_times", -1)]
)
def test_what_no_stage_could_read_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        told(**{field: value})
