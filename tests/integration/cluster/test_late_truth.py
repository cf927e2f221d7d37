"""What others do to our Jobs: people, quotas, policies, evictions, nodes that die, leaders before us, neighbours."""

from __future__ import annotations

import pytest
from kube_kit import a_job, config_for, kube, ref

from dispatcher.core.failures import FailureCause
from dispatcher.core.observations import Placement, PodPhase
from dispatcher.core.units import Resources
from dispatcher.ports import Answer
from testbed.api_proxy import ApiProxy
from testbed.control_plane import ControlPlane, real_node


async def test_a_job_that_a_person_deletes_stays_readable_and_its_pods_run_to_their_end(
    control_plane: ControlPlane, namespace: str
) -> None:
    async with kube(config_for(control_plane, namespace)) as it:
        job = await it.launch(a_job(namespace, completions=4, parallelism=2, run_seconds=2))
        await it.until(lambda: sum(pod.phase == "Running" for pod in it.pods.values()) == 2)
        await control_plane.kubectl("delete", "job", job.name, "-n", namespace, "--wait=false")
        await it.until(lambda: it.jobs[job.name].marked_for_deletion)
        await it.until(lambda: sum(pod.phase == "Succeeded" for pod in it.pods.values()) == 2)
        assert len(it.pods) == 2
        assert await it.cluster.release_jobs([ref(job)]) == [Answer.DONE]
        await it.until(lambda: job.name in it.gone)


async def test_a_job_that_a_person_suspends_loses_its_pods_and_goes_on_when_it_is_resumed(
    control_plane: ControlPlane, namespace: str
) -> None:
    async with kube(config_for(control_plane, namespace)) as it:
        job = await it.launch(a_job(namespace, run_seconds=3))
        first = await it.pod("Running")
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs/{job.name}"
        await control_plane.api.patch(path, {"spec": {"suspend": True}})
        await it.until(lambda: it.jobs[job.name].suspended and first.uid in it.gone)
        assert it.jobs[job.name].condition is None
        await control_plane.api.patch(path, {"spec": {"suspend": False}})
        ended = await it.ended()
        assert (ended.suspended, ended.succeeded, ended.failed) == (False, 1, 0)


async def test_a_quota_on_jobs_refuses_with_its_numbers_and_may_give_way(
    control_plane: ControlPlane, namespace: str
) -> None:
    quotas = f"/api/v1/namespaces/{namespace}/resourcequotas"
    await control_plane.api.post(quotas, {"metadata": {"name": "few"}, "spec": {"hard": {"count/jobs.batch": "1"}}})
    async with kube(config_for(control_plane, namespace)) as it:
        await _quota_is_known(control_plane, f"{quotas}/few")
        first = await it.launch(a_job(namespace, "one", run_seconds="never"))
        (refused,) = await it.cluster.create_jobs([a_job(namespace, "two")])
        assert (refused.answer, refused.later) == (Answer.REFUSED, True)
        assert "exceeded quota: few" in refused.text
        assert await it.cluster.get_job("burst-two-1") is None
        await control_plane.api.delete(f"{quotas}/few")
        await it.cluster.release_jobs([ref(first)])
        assert (await it.launch(a_job(namespace, "two"))).name == "burst-two-1"


async def test_a_quota_on_pods_leaves_the_job_without_any(control_plane: ControlPlane, namespace: str) -> None:
    quotas = f"/api/v1/namespaces/{namespace}/resourcequotas"
    await control_plane.api.post(quotas, {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}})
    async with kube(config_for(control_plane, namespace)) as it:
        await _quota_is_known(control_plane, f"{quotas}/none")
        job = await it.launch(a_job(namespace))
        await control_plane.api.delete(f"{quotas}/none")
        assert (await it.ended(job.name)).succeeded == 1  # the controller tries again by itself


async def _quota_is_known(plane: ControlPlane, path: str) -> None:
    await plane._wait(lambda: _has_status(plane, path), "the quota")


async def _has_status(plane: ControlPlane, path: str) -> bool:
    return "used" in (await plane.api.get(path)).get("status", {})


async def test_a_policy_that_denies_a_job_refuses_it_for_good(control_plane: ControlPlane, namespace: str) -> None:
    policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    bindings = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": "false", "message": "images must come from our own registry"}],
    }
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    await control_plane.api.post(policies, {"metadata": {"name": namespace}, "spec": spec})
    binding = {
        "policyName": namespace,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": selector},
    }
    await control_plane.api.post(bindings, {"metadata": {"name": namespace}, "spec": binding})
    try:
        async with kube(config_for(control_plane, namespace)) as it:
            number = 0

            async def denied() -> bool:  # policies take effect a moment after they are written
                nonlocal number
                number += 1
                (created,) = await it.cluster.create_jobs([a_job(namespace, f"n{number}")])
                if created.answer is Answer.DONE:
                    return False
                assert (created.answer, created.later) == (Answer.REFUSED, False)
                assert "images must come from our own registry" in created.text
                return True

            await control_plane._wait(denied, "the policy")
    finally:
        await control_plane.api.delete(f"{bindings}/{namespace}")
        await control_plane.api.delete(f"{policies}/{namespace}")


async def test_a_job_that_is_mutated_on_its_way_is_still_ours(control_plane: ControlPlane, namespace: str) -> None:
    """What a mutating webhook leaves: more annotations, labels and finalizers than we wrote."""
    async with kube(config_for(control_plane, namespace)) as it:
        mutated = a_job(namespace, run_seconds="never")
        mutated["metadata"]["annotations"]["example.com/seen"] = "yes"
        mutated["metadata"]["labels"]["example.com/team"] = "a"
        mutated["spec"]["suspend"] = True  # as Kueue does
        job = await it.launch(mutated)
        assert job.suspended
        assert job.annotations["burst-dispatcher.io/record-uid"] == "r"


async def test_a_namespace_that_is_not_there_is_refused_and_may_come(
    control_plane: ControlPlane, namespace: str
) -> None:
    config = config_for(control_plane, namespace, namespaces=(namespace, "not-there"))
    async with kube(config) as it:
        (refused,) = await it.cluster.create_jobs([a_job("not-there")])
        assert (refused.answer, refused.later) == (Answer.REFUSED, True)
        assert "not-there" in refused.text
        (elsewhere,) = await it.cluster.create_jobs([a_job("not-ours")])
        assert elsewhere.answer is Answer.REFUSED


async def test_a_pod_that_is_evicted_says_so_and_does_not_count(control_plane: ControlPlane, namespace: str) -> None:
    async with kube(config_for(control_plane, namespace)) as it:
        await it.launch(a_job(namespace, run_seconds="never"))
        first = await it.pod("Running")
        await control_plane.evict(namespace, first.name)
        evicted = await it.until(lambda: it.pods[first.uid] if it.pods[first.uid].disrupted else None)
        assert evicted.disrupted
        await it.until(lambda: it.pods[first.uid].phase is PodPhase.FAILED)
        assert it.pods[first.uid].cause is FailureCause.EVICTED
        await it.until(lambda: sum(pod.phase == "Running" for pod in it.pods.values()) == 1)
        assert it.jobs["burst-b-1"].failed == 0


async def test_a_pod_that_the_kubelet_evicts_says_so(control_plane: ControlPlane, namespace: str) -> None:
    async with kube(config_for(control_plane, namespace)) as it:
        await it.launch(a_job(namespace, run_seconds="never", evict_seconds=0))
        pod = await it.pod("Failed")
        assert (pod.cause, pod.reason) == (FailureCause.EVICTED, "Evicted")


async def test_a_node_that_dies_has_no_room_and_its_pods_are_lost(control_plane: ControlPlane, namespace: str) -> None:
    name = f"doomed-{namespace}"
    await control_plane.create_nodes(real_node(name))
    try:
        async with kube(config_for(control_plane, namespace)) as it:
            job = a_job(namespace, run_seconds="never")
            job["spec"]["template"]["spec"]["nodeSelector"]["kubernetes.io/hostname"] = name
            await it.launch(job)
            pod = await it.pod("Running")
            assert pod.node == name
            before = {room.name: room for room in (await it.cluster.headroom()).nodes}
            assert before[name].free == Resources(3900, 16 * 2**30 - 10**7)
            await control_plane.kill_node(name)
            marked = await it.until(
                lambda: (
                    it.pods[pod.uid] if it.pods[pod.uid].marked_for_deletion and it.pods[pod.uid].disrupted else None
                )
            )
            assert marked.disrupted
            assert name not in {room.name for room in (await it.cluster.headroom()).nodes}
    finally:
        await control_plane.delete_nodes(name)


async def test_pods_of_others_take_room_until_they_end(control_plane: ControlPlane, namespace: str) -> None:
    async with (
        kube(config_for(control_plane, namespace)) as it,
        kube(config_for(control_plane, namespace, instance="o")) as other,
    ):
        await control_plane._wait(lambda: _no_pods(control_plane), "an empty cluster")
        before = {"node-1": 4000, "node-2": 4000}
        await it.until(lambda: _taken(it, before) == 0)
        await other.launch(a_job(namespace, run_seconds=2, completions=3))
        await it.until(lambda: _taken(it, before) == 300)
        await it.until(lambda: _taken(it, before) == 0)


async def _no_pods(plane: ControlPlane) -> bool:
    return not (await plane.api.get("/api/v1/pods"))["items"]


def _taken(it: object, before: dict[str, int]) -> int:
    rooms = it.cluster._mirror.headroom().nodes  # type: ignore[attr-defined]
    return sum(before[room.name] - room.free.cpu_millis for room in rooms)


@pytest.mark.parametrize("behaviour", [{"start_seconds": "never", "waiting_reason": "ImagePullBackOff"}])
async def test_a_pod_that_hangs_before_its_start_says_why(
    control_plane: ControlPlane, namespace: str, behaviour: dict[str, str]
) -> None:
    async with kube(config_for(control_plane, namespace)) as it:
        await it.launch(a_job(namespace, **behaviour))
        pod = await it.until(lambda: next((pod for pod in it.pods.values() if pod.cause is not None), None))
        assert (pod.phase, pod.cause, pod.reason) == (PodPhase.PENDING, FailureCause.IMAGE, "ImagePullBackOff")


async def test_on_the_virtual_node_the_message_tells_and_no_exit_code_does(
    control_plane: ControlPlane, namespace: str
) -> None:
    async with kube(config_for(control_plane, namespace)) as it:
        full = "SubnetIsFull: Subnet aci does not have enough capacity for 1 IP addresses."
        await it.launch(a_job(namespace, "full", placement=Placement.VIRTUAL_NODE, refused=full))
        await it.launch(a_job(namespace, "fails", placement=Placement.VIRTUAL_NODE, exit_code=42))
        await it.until(lambda: sum(pod.phase == "Failed" for pod in it.pods.values()) == 2)
        by_job = {pod.job: pod for pod in it.pods.values()}
        assert by_job["burst-full-1"].cause is FailureCause.SUBNET_FULL
        assert by_job["burst-full-1"].message == full
        assert by_job["burst-fails-1"].cause is FailureCause.APPLICATION
        assert by_job["burst-fails-1"].exit_code is None


async def test_jobs_of_a_former_leader_are_found_and_those_of_a_neighbour_are_not(
    control_plane: ControlPlane, namespace: str
) -> None:
    config = config_for(control_plane, namespace)
    async with kube(config, started=False) as former:
        await former.launch(a_job(namespace, "ours", run_seconds="never"))
    async with kube(config_for(control_plane, namespace, instance="neighbour"), started=False) as neighbour:
        await neighbour.launch(a_job(namespace, "theirs", run_seconds="never"))
    async with kube(config) as it:
        seen = await it.cluster.list_all()
        assert [job.name for job in seen.jobs] == ["burst-ours-1"]
        await it.pod("Running")
        assert {pod.job for pod in it.pods.values()} == {"burst-ours-1"}


async def test_tasks_in_several_namespaces_are_one_to_the_dispatcher(
    control_plane: ControlPlane, namespace: str, proxy: ApiProxy
) -> None:
    second = await control_plane.create_namespace()
    try:
        config = config_for(control_plane, namespace, namespaces=(namespace, second))
        async with kube(config) as it:
            for where, batch in ((namespace, "one"), (second, "two")):
                await it.launch(a_job(where, batch, run_seconds="never"))
            await it.until(lambda: sum(pod.phase == "Running" for pod in it.pods.values()) == 2)
            assert {job.name for job in (await it.cluster.list_all()).jobs} == {"burst-one-1", "burst-two-1"}
        async with kube(config, started=False) as it:  # one that has seen nothing yet
            for batch in ("one", "two"):
                job = await it.cluster.get_job(f"burst-{batch}-1")
                assert job is not None
                assert await it.cluster.delete_jobs([ref(job)]) == [Answer.DONE]
                assert await it.cluster.release_jobs([ref(job)]) == [Answer.DONE]
            assert await it.cluster.get_job("burst-none-1") is None
    finally:
        await control_plane.clear_namespace(second)
