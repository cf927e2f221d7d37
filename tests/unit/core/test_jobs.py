"""A launch as a Job, and how long it may take."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from dispatcher.core.jobs import (
    ANNOTATION_DIGEST,
    ANNOTATION_EPOCH,
    ANNOTATION_RECORD_UID,
    ANNOTATION_SEQUENCE_NUMBERS,
    FINALIZER,
    ITEMS_PATH,
    LABEL_JOB,
    POD_UID,
    REPORTING,
    REPORTS_PATH,
    JobShape,
    ReportsTo,
    attempt_name,
    backoff_total,
    has_reports,
    manifest,
    ready_to_create,
    shape_of,
)
from dispatcher.core.observations import PLACEMENT_ANNOTATION
from dispatcher.core.policy import VirtualNodePolicy
from dispatcher.core.profiles import Profile
from dispatcher.core.trace import TraceContext
from dispatcher.core.units import Resources
from dispatcher.core.work import Placement, Task
from tests.builders import NOW, a_shape, a_task, seconds

NODES, VIRTUAL = Placement.NODE_POOL, Placement.VIRTUAL_NODE


def a_manifest(task: Task | None = None, where: Placement = VIRTUAL, shape: JobShape | None = None) -> dict[str, Any]:
    return manifest(
        task or a_task(), shape or a_shape(2), placement=where, batch_id="b1", attempt=2, sequence_numbers=(7, 9)
    )


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    return job["spec"]["template"]["spec"]


def worker_of(job: dict[str, Any]) -> dict[str, Any]:
    [container] = pod_of(job)["containers"]
    return container


def environment_of(job: dict[str, Any]) -> dict[str, str]:
    """What is written there; what comes from a field of the pod is left out."""
    return {variable["name"]: variable["value"] for variable in worker_of(job)["env"] if "value" in variable}


# --- deadlines --------------------------------------------------------------------------------------------------------

TASK = a_task(item_timeout=seconds(600), start_deadline=seconds(180), backoff_limit=3)


def deadline(where: Placement, completions: int, parallelism: int, allowance_left: int = 0) -> int:
    shape = shape_of(
        TASK, placement=where, completions=completions, parallelism=parallelism, allowance_left=allowance_left
    )
    return int(shape.deadline.total_seconds())


def test_one_wave_on_the_virtual_node_has_one_start_and_one_item_to_wait_for() -> None:
    assert deadline(VIRTUAL, 50, 50) == 180 + 600


def test_where_pods_follow_one_another_each_has_a_start_of_its_own() -> None:
    assert deadline(VIRTUAL, 5, 2) == 180 + 3 * (600 + 180)
    assert deadline(NODES, 5, 2) == 180 + 3 * (600 + 180)


def test_retries_inside_a_job_make_it_longer_by_their_tries_and_waits() -> None:
    assert deadline(NODES, 1, 1, allowance_left=3) == 180 + 4 * (600 + 180) + (10 + 20 + 40)


def test_on_the_virtual_node_the_dispatcher_carries_retries_out_itself() -> None:
    shape = shape_of(TASK, placement=VIRTUAL, completions=2, parallelism=2, allowance_left=3)
    assert (shape.backoff_limit_per_index, shape.pods_max) == (0, 2)


def test_no_more_pods_at_once_than_there_are_items() -> None:
    assert shape_of(TASK, placement=NODES, completions=2, parallelism=9, allowance_left=1) == JobShape(
        2, 2, 1, seconds(180 + 2 * 780 + 10)
    )


def test_a_deadline_is_whole_seconds_rounded_up() -> None:
    task = a_task(item_timeout=seconds(0.5), start_deadline=seconds(1))
    shape = shape_of(task, placement=VIRTUAL, completions=1, parallelism=1, allowance_left=0)
    assert shape.deadline == seconds(2)


@pytest.mark.parametrize(("retries", "waits"), [(0, 0), (1, 10), (3, 70), (6, 630), (7, 1230), (8, 1830)])
def test_the_job_controllers_back_off_doubles_up_to_ten_minutes(retries: int, waits: int) -> None:
    assert backoff_total(retries) == seconds(waits)


def test_every_retry_of_every_index_may_make_a_pod() -> None:
    assert JobShape(50, 10, 3, timedelta()).pods_max == 200


# --- the rules of the v1 virtual node ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requests", "cpu", "memory", "memory_on_nodes"),
    [
        (Resources(1000, 2 * 10**9), "1000m", "2000M", "2000M"),
        (Resources(15, 512 * 2**20), "20m", "600M", "537M"),
        (Resources(500, 1), "500m", "100M", "1M"),
    ],
)
def test_requests_are_rounded_up_to_the_steps_of_the_place_and_never_less_than_asked(
    requests: Resources, cpu: str, memory: str, memory_on_nodes: str
) -> None:
    task = a_task(requests=requests)
    assert worker_of(a_manifest(task, VIRTUAL))["resources"]["requests"] == {"cpu": cpu, "memory": memory}
    assert worker_of(a_manifest(task, NODES))["resources"]["requests"] == {"cpu": cpu, "memory": memory_on_nodes}


@pytest.mark.parametrize("where", Placement)
def test_limits_are_what_is_requested(where: Placement) -> None:
    resources = worker_of(a_manifest(where=where))["resources"]
    assert resources["requests"] == resources["limits"]


def test_no_pod_failure_policy_on_the_virtual_node_and_disruptions_ignored_on_nodes() -> None:
    assert "podFailurePolicy" not in a_manifest(where=VIRTUAL)["spec"]
    [rule] = a_manifest(where=NODES)["spec"]["podFailurePolicy"]["rules"]
    assert rule == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}


@pytest.mark.parametrize("where", Placement)
def test_no_replacement_policy_anywhere(where: Placement) -> None:
    assert "podReplacementPolicy" not in a_manifest(where=where)["spec"]


@pytest.mark.parametrize("where", Placement)
def test_a_pod_whose_record_is_gone_is_refused(where: Placement) -> None:
    [volume] = pod_of(a_manifest(where=where))["volumes"]
    assert volume["configMap"] == {"name": "burst-b1-2", "optional": False}
    [mount] = worker_of(a_manifest(where=where))["volumeMounts"]
    assert mount == {"name": "items", "mountPath": ITEMS_PATH, "readOnly": True}


def test_the_command_is_always_set_and_service_links_and_token_are_off() -> None:
    job = a_manifest(a_task(command=("python", "main.py"), args=("--fast",)))
    assert (worker_of(job)["command"], worker_of(job)["args"]) == (["python", "main.py"], ["--fast"])
    pod = pod_of(job)
    assert (pod["enableServiceLinks"], pod["automountServiceAccountToken"], pod["restartPolicy"]) == (
        False,
        False,
        "Never",
    )


def test_the_longest_name_leaves_room_for_a_namespace_of_31_characters() -> None:
    name = attempt_name("a" * 10, 99)
    assert len("n" * 31) + len(name) <= 50


def test_each_placement_is_where_its_pods_go() -> None:
    virtual, nodes = pod_of(a_manifest(where=VIRTUAL)), pod_of(a_manifest(where=NODES))
    assert virtual["nodeSelector"]["type"] == "virtual-kubelet"
    assert {toleration["key"] for toleration in virtual["tolerations"]} == {
        "virtual-kubelet.io/provider",
        "azure.com/aci",
    }
    assert "tolerations" not in nodes
    required = nodes["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    [expression] = required["nodeSelectorTerms"][0]["matchExpressions"]
    assert expression == {"key": "type", "operator": "NotIn", "values": ["virtual-kubelet"]}


def test_only_nodes_know_a_deadline_of_the_pod_itself() -> None:
    assert pod_of(a_manifest(TASK, NODES))["activeDeadlineSeconds"] == 780
    assert "activeDeadlineSeconds" not in pod_of(a_manifest(TASK, VIRTUAL))


def test_a_deleted_pod_of_the_add_on_holds_its_address_for_a_second_and_no_longer() -> None:
    assert pod_of(a_manifest(TASK, VIRTUAL))["terminationGracePeriodSeconds"] == 1
    assert "terminationGracePeriodSeconds" not in pod_of(a_manifest(TASK, NODES))


@pytest.mark.parametrize("where", Placement)
def test_a_pod_learns_its_uid_by_a_field_and_a_task_cannot_set_it(where: Placement) -> None:
    env = worker_of(a_manifest(a_task(env={POD_UID: "forged"}), where))["env"]
    assert [each for each in env if each["name"] == POD_UID] == [
        {"name": POD_UID, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}
    ]


# --- other profiles ---------------------------------------------------------------------------------------------------

ELSEWHERE = Profile(
    name="elsewhere",
    node_selector={"virtualization": "virtualnode2"},
    tolerations=({"key": "virtual-kubelet.io/provider", "operator": "Exists", "effect": "NoSchedule"},),
    pod_uid_by_field=False,
    memory_step_bytes=10**9,
    surcharge=Resources(100, 10**8),
)


def test_a_profile_says_where_pods_go_and_what_they_are_told() -> None:
    job = manifest(
        a_task(), a_shape(1), placement=VIRTUAL, batch_id="b1", attempt=1, sequence_numbers=(7,), profile=ELSEWHERE
    )
    pod = pod_of(job)
    assert pod["nodeSelector"] == {"virtualization": "virtualnode2"}
    assert pod["tolerations"] == [{"key": "virtual-kubelet.io/provider", "operator": "Exists", "effect": "NoSchedule"}]
    assert "affinity" not in pod
    assert POD_UID not in {each["name"] for each in worker_of(job)["env"]}
    assert "activeDeadlineSeconds" in pod


def test_where_pods_are_paid_for_none_is_replaced_without_being_counted() -> None:
    job = manifest(
        a_task(), a_shape(1), placement=VIRTUAL, batch_id="b1", attempt=1, sequence_numbers=(7,), profile=ELSEWHERE
    )
    assert "podFailurePolicy" not in job["spec"]


def test_who_retries_is_the_profiles_to_say() -> None:
    def retries(profile: Profile) -> int:
        shape = shape_of(TASK, placement=NODES, completions=1, parallelism=1, allowance_left=3, profile=profile)
        return shape.backoff_limit_per_index

    assert (retries(ELSEWHERE), retries(replace(ELSEWHERE, retries_in_job=False))) == (3, 0)


def test_what_a_place_adds_to_every_pod_is_part_of_its_group() -> None:
    assert VirtualNodePolicy(profile=ELSEWHERE).of_group(Resources(1000, 2 * 10**9)) == Resources(1100, 21 * 10**8)
    assert VirtualNodePolicy().of_group(Resources(1000, 2 * 10**9)) == Resources(1000, 2 * 10**9)


# --- what every Job says ----------------------------------------------------------------------------------------------


def test_a_job_has_the_numbers_of_its_shape() -> None:
    spec = a_manifest(where=NODES, shape=JobShape(5, 2, 3, seconds(700)))["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 5, 2)
    assert (spec["backoffLimitPerIndex"], spec["activeDeadlineSeconds"]) == (3, 700)


def test_a_job_is_settled_before_it_is_forgotten_and_says_whose_it_is() -> None:
    metadata = a_manifest(a_task(namespace="work", labels={"team": "data"}))["metadata"]
    assert (metadata["name"], metadata["namespace"], metadata["finalizers"]) == ("burst-b1-2", "work", [FINALIZER])
    assert metadata["labels"]["team"] == "data"
    assert metadata["labels"][LABEL_JOB] == "burst-b1-2"
    assert metadata["annotations"] == {PLACEMENT_ANNOTATION: "virtual_node", ANNOTATION_SEQUENCE_NUMBERS: "7,9"}


def test_a_tasks_labels_cannot_make_a_job_look_like_another() -> None:
    job = a_manifest(a_task(labels={LABEL_JOB: "burst-other-1"}))
    assert job["metadata"]["labels"][LABEL_JOB] == "burst-b1-2"
    assert job["spec"]["template"]["metadata"]["labels"][LABEL_JOB] == "burst-b1-2"


def test_the_worker_learns_its_items_and_its_attempt_whatever_the_task_says() -> None:
    environment = environment_of(a_manifest(a_task(env={"LEVEL": "3", "BURST_ATTEMPT": "forged"})))
    assert environment == {"LEVEL": "3", "BURST_ITEMS_DIR": ITEMS_PATH, "BURST_BATCH": "b1", "BURST_ATTEMPT": "2"}


def test_secrets_and_accounts_are_named_only_where_a_task_has_them() -> None:
    bare = a_manifest()
    assert "envFrom" not in worker_of(bare)
    assert {"imagePullSecrets", "serviceAccountName"}.isdisjoint(pod_of(bare))
    source = {"secretRef": {"name": "database"}}
    task = a_task(env_from=(source,), image_pull_secrets=("registry",), service_account_name="worker")
    full = a_manifest(task)
    assert worker_of(full)["envFrom"] == [source]
    assert pod_of(full)["imagePullSecrets"] == [{"name": "registry"}]
    assert pod_of(full)["serviceAccountName"] == "worker"


# --- the create -------------------------------------------------------------------------------------------------------


def test_a_create_adds_whose_it_is_and_when_to_stop_and_leaves_the_record_alone() -> None:
    recorded = a_manifest()
    before = a_manifest()
    created = ready_to_create(recorded, record_uid="uid", items_digest="abc", epoch=4, stop_at=NOW)
    annotations = created["metadata"]["annotations"]
    assert (annotations[ANNOTATION_RECORD_UID], annotations[ANNOTATION_DIGEST], annotations[ANNOTATION_EPOCH]) == (
        "uid", "abc", "4",
    )  # fmt: skip
    assert annotations[PLACEMENT_ANNOTATION] == "virtual_node"
    assert environment_of(created) == {**environment_of(recorded), "BURST_STOP_AT": "2026-03-04T09:20:00.000000Z"}
    assert recorded == before


def test_the_only_item_of_a_job_has_its_trace_in_the_variables_of_its_pod() -> None:
    trace = TraceContext("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "vendor=1")

    def environment(trace: TraceContext | None) -> dict[str, str]:
        numbers = (7,)
        job = manifest(
            a_task(), a_shape(1), placement=VIRTUAL, batch_id="b1", attempt=2, sequence_numbers=numbers, trace=trace
        )
        return environment_of(job)

    assert environment(trace).items() >= {"TRACEPARENT": trace.traceparent, "TRACESTATE": "vendor=1"}.items()
    assert "TRACESTATE" not in environment(TraceContext(trace.traceparent))
    assert not {"TRACEPARENT", "TRACESTATE"} & environment(None).keys()


# --- several items in a pod -------------------------------------------------------------------------------------------

CARRIER = a_task(items_per_pod=5, item_timeout=seconds(60), start_deadline=seconds(120), backoff_limit=3)


def a_carrier(where: Placement = VIRTUAL, reports_to: ReportsTo | None = None, task: Task = CARRIER) -> dict[str, Any]:
    shape = shape_of(task, placement=where, completions=2, parallelism=2, allowance_left=3, items_per_pod=5)
    return manifest(
        task, shape, placement=where, batch_id="b1", attempt=2, sequence_numbers=tuple(range(9)), reports_to=reports_to
    )


@pytest.mark.parametrize("where", Placement)
def test_a_pod_of_several_items_has_the_time_of_all_and_is_never_tried_again_inside_the_job(where: Placement) -> None:
    shape = shape_of(CARRIER, placement=where, completions=2, parallelism=2, allowance_left=3, items_per_pod=5)
    run = 5 * seconds(60) + REPORTING
    starts = seconds(120) if where is VIRTUAL else 2 * seconds(120)
    assert (shape.backoff_limit_per_index, shape.deadline) == (0, run + starts)
    assert shape.pods_max == 2


def test_a_pod_of_several_items_is_told_what_it_needs_to_report_each() -> None:
    told = environment_of(a_carrier())
    assert told["BURST_PODS"] == "2"
    assert told["BURST_ITEM_TIMEOUT"] == "60"
    assert told["BURST_REPORTS_DIR"] == REPORTS_PATH


def test_the_pod_has_the_right_to_send_from_a_secret_and_nothing_else_of_it() -> None:
    job = a_carrier(reports_to=ReportsTo(secret="burst-reports"))
    [volume] = [each for each in pod_of(job)["volumes"] if each["name"] == "reports"]
    item = {"key": "connection-string", "path": "connection-string"}
    assert volume["secret"] == {"secretName": "burst-reports", "items": [item], "optional": False}
    mounts = {each["name"]: each for each in worker_of(job)["volumeMounts"]}
    assert mounts["reports"] == {"name": "reports", "mountPath": REPORTS_PATH, "readOnly": True}


def test_a_process_of_this_machine_is_told_where_the_file_lies_already() -> None:
    job = a_carrier(reports_to=ReportsTo(folder="/srv/reports"))
    assert environment_of(job)["BURST_REPORTS_DIR"] == "/srv/reports"
    assert [each["name"] for each in pod_of(job)["volumes"]] == ["items"]


def test_a_disrupted_pod_of_several_items_is_not_replaced_inside_the_job() -> None:
    assert "podFailurePolicy" in a_manifest(where=NODES)["spec"]
    assert "podFailurePolicy" not in a_carrier(NODES)["spec"]


def test_with_one_item_a_pod_nothing_tells_of_reports() -> None:
    job = a_manifest()
    assert not has_reports(job)
    assert {"BURST_PODS", "BURST_ITEM_TIMEOUT", "BURST_REPORTS_DIR"}.isdisjoint(environment_of(job))
    assert has_reports(a_carrier())
