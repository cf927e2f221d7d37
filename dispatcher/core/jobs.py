"""A launch as a Kubernetes Job: the manifest, as plain data.

Decides what the Job looks like and how long it may take. Knows nothing of who creates it. The same manifest goes to
the Kubernetes API and to the embedded cluster. What places differ in is their :class:`Profile`.

Facts it is made from: on the v1 virtual node a refused create looks like a failed pod and exit codes are lost, so
every failed index comes back to the dispatcher (backoffLimitPerIndex 0) and neither podFailurePolicy nor
podReplacementPolicy may be used; on nodes the Job controller retries and ignores disruptions. Requests equal limits
(ACI refuses limits above requests), rounded up to the steps of the place, memory in decimal units; the command is
always set, service links and the API token are off.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dispatcher.core.observations import PLACEMENT_ANNOTATION
from dispatcher.core.profiles import NODES, VIRTUAL_NODE_V1, Profile
from dispatcher.core.reports import PODS_VARIABLE
from dispatcher.core.trace import TraceContext
from dispatcher.core.units import to_text, whole_seconds
from dispatcher.core.work import Placement, Task

FINALIZER = "burst-dispatcher.io/settle-before-forgetting"
ITEMS_PATH = "/var/run/burst/items"
REPORTS_PATH = "/var/run/burst/reports"
REPORTS_DIR = "BURST_REPORTS_DIR"
REPORTS_KEY = "connection-string"
"""The key of the Secret, and so the file, that lets a pod send its reports."""
REPORTING = timedelta(seconds=30)
"""What a pod that carries several items may take, beside their run times, until its last report was accepted."""
POD_UID = "BURST_POD_UID"
"""The variable that tells a pod which one it is."""
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_JOB = "burst-dispatcher.io/job"
ANNOTATION_RECORD_UID = "burst-dispatcher.io/record-uid"
ANNOTATION_DIGEST = "burst-dispatcher.io/items-digest"
ANNOTATION_EPOCH = "burst-dispatcher.io/epoch"
ANNOTATION_VERDICT = "burst-dispatcher.io/verdict"
"""Why the Job is where it is, with the numbers that this was decided with, as JSON."""
ANNOTATION_SEQUENCE_NUMBERS = "burst-dispatcher.io/sequence-numbers"
ANNOTATION_REPORTS = "burst-dispatcher.io/reports"
"""On a Job whose pods may carry several items and report each; the word of these reports counts, not the phase."""

PROFILES: Mapping[Placement, Profile] = {Placement.NODE_POOL: NODES, Placement.VIRTUAL_NODE: VIRTUAL_NODE_V1}
"""What a placement is where operators have chosen no other profile."""

BACKOFF_FIRST = timedelta(seconds=10)
"""The Job controller's wait before it makes an index's second pod; it doubles from there."""
BACKOFF_LONGEST = timedelta(minutes=10)
"""Where the doubling stops (the controller's constant; the documentation says 6 minutes)."""


def attempt_name(batch_id: str, attempt: int) -> str:
    """The name of record, ledger entry and Job alike: the same batch and attempt give the same name."""
    return f"burst-{batch_id}-{attempt}"


@dataclass(frozen=True, slots=True)
class JobShape:
    """The numbers of one Job: C completions, P at once, b retries inside it, D seconds at most."""

    completions: int
    parallelism: int
    backoff_limit_per_index: int
    deadline: timedelta

    @property
    def pods_max(self) -> int:
        """G: all pods, and so container groups, that the Job can ever make."""
        return self.completions * (1 + self.backoff_limit_per_index)


@dataclass(frozen=True, slots=True)
class ReportsTo:
    """How a pod that carries several items reaches the report queue: by the right to send to it, and no more."""

    secret: str | None = None
    """The Secret in the task's namespace whose key ``connection-string`` is mounted."""
    folder: str | None = None
    """Where a file of that name lies already, for pods that are processes of this machine."""


def backoff_total(retries: int) -> timedelta:
    """How long the Job controller waits in all before an index's last retry."""
    waits = (min(BACKOFF_FIRST * 2**n, BACKOFF_LONGEST) for n in range(retries))
    return sum(waits, start=timedelta(0))


def shape_of(
    task: Task,
    *,
    placement: Placement,
    completions: int,
    parallelism: int,
    allowance_left: int,
    profile: Profile | None = None,
    items_per_pod: int = 1,
) -> JobShape:
    """Deadline = start deadline + waves x item timeout x tries inside the Job + their back-off, in whole seconds.

    Where one pod follows another each of them has its own start to wait for. A pod of several items runs one after
    another, and is never tried again inside the Job: what it has done would be done twice.
    ``allowance_left`` is how many failures the most tried item may still have; where the profile says so (v1) the
    dispatcher itself carries the retries out, and the Job makes none. No profile: the placement's usual one.
    """
    at_once = min(parallelism, completions)
    retries_inside = (profile or PROFILES[placement]).retries_in_job and not task.reports
    retries = allowance_left if retries_inside else 0
    waves = -(-completions // at_once)
    starts_once = placement is Placement.VIRTUAL_NODE and waves == 1 and not retries
    run_time = _run_time(task, items_per_pod)
    per_try = run_time if starts_once else run_time + task.start_deadline
    span = task.start_deadline + per_try * (waves * (1 + retries)) + backoff_total(retries)
    return JobShape(completions, at_once, retries, timedelta(seconds=whole_seconds(span)))


def _run_time(task: Task, items_per_pod: int) -> timedelta:
    """How long one try of one pod may run."""
    return task.item_timeout * items_per_pod + REPORTING if task.reports else task.item_timeout


def _scheduling(profile: Profile) -> dict[str, Any]:
    placed: dict[str, Any] = {}
    if profile.node_selector:
        placed["nodeSelector"] = dict(profile.node_selector)
    if profile.tolerations:
        placed["tolerations"] = [dict(each) for each in profile.tolerations]
    if profile.keep_off:
        required = {"nodeSelectorTerms": [{"matchExpressions": [dict(each) for each in profile.keep_off]}]}
        placed["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    return placed


def _environment(
    task: Task,
    profile: Profile,
    batch_id: str,
    attempt: int,
    trace: TraceContext | None,
    pods: int,
    reports_to: ReportsTo,
) -> list[dict[str, Any]]:
    own = {"BURST_ITEMS_DIR": ITEMS_PATH, "BURST_BATCH": batch_id, "BURST_ATTEMPT": str(attempt)}
    if task.reports:
        own[PODS_VARIABLE] = str(pods)
        own["BURST_ITEM_TIMEOUT"] = str(whole_seconds(task.item_timeout))
        own[REPORTS_DIR] = reports_to.folder or REPORTS_PATH
    if trace is not None:
        own["TRACEPARENT"] = trace.traceparent
        if trace.tracestate is not None:
            own["TRACESTATE"] = trace.tracestate
    variables: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in {**task.env, **own}.items()]
    if profile.pod_uid_by_field:
        variables = [each for each in variables if each["name"] != POD_UID]
        variables.append({"name": POD_UID, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}})
    return variables


def _pod_spec(
    task: Task,
    *,
    profile: Profile,
    batch_id: str,
    attempt: int,
    trace: TraceContext | None,
    pods: int,
    items_per_pod: int,
    reports_to: ReportsTo,
) -> dict[str, Any]:
    requests = {
        "cpu": profile.cpu_text(task.requests.cpu_millis),
        "memory": profile.memory_text(task.requests.memory_bytes),
    }
    container: dict[str, Any] = {
        "name": "worker",
        "image": task.image,
        "command": list(task.command),
        "args": list(task.args),
        "env": _environment(task, profile, batch_id, attempt, trace, pods, reports_to),
        "resources": {"requests": requests, "limits": dict(requests)},
        "volumeMounts": [{"name": "items", "mountPath": ITEMS_PATH, "readOnly": True}],
    }
    if task.env_from:
        container["envFrom"] = [dict(source) for source in task.env_from]
    # optional: false must be written out: then a pod whose record is gone is refused instead of run without its items.
    volume = {"name": "items", "configMap": {"name": attempt_name(batch_id, attempt), "optional": False}}
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [volume],
        **_scheduling(profile),
    }
    if profile.grace_seconds is not None:
        # The connector ends the group at once and keeps the pod, and with it an address, until the grace is over.
        spec["terminationGracePeriodSeconds"] = profile.grace_seconds
    if profile.pod_deadline_counts:
        # v1 ignores the pod's own deadline; there the Job's deadline is what ends it.
        spec["activeDeadlineSeconds"] = whole_seconds(task.start_deadline + _run_time(task, items_per_pod))
    if task.reports and reports_to.secret is not None:
        key = {"key": REPORTS_KEY, "path": REPORTS_KEY}
        secret = {"secretName": reports_to.secret, "items": [key], "optional": False}
        spec["volumes"].append({"name": "reports", "secret": secret})
        container["volumeMounts"].append({"name": "reports", "mountPath": REPORTS_PATH, "readOnly": True})
    if task.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in task.image_pull_secrets]
    if task.service_account_name:
        spec["serviceAccountName"] = task.service_account_name
    return spec


_IGNORE_DISRUPTION = {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}


def manifest(
    task: Task,
    shape: JobShape,
    *,
    placement: Placement,
    batch_id: str,
    attempt: int,
    sequence_numbers: tuple[int, ...],
    trace: TraceContext | None = None,
    profile: Profile | None = None,
    reports_to: ReportsTo | None = None,
) -> dict[str, Any]:
    """The Job, exactly as it is to be created but for what is only known then (record uid, epoch, time to stop).

    ``profile`` is what the placement is like; None: the placement's usual one.

    ``trace`` is the only item's where the Job has one: all its pods share their variables, so that the traces of
    several stand in their files alone. ``reports_to`` is for a task whose pods report; None: by a file that is in the
    image, or mounted by other means.
    """
    name, place = attempt_name(batch_id, attempt), profile or PROFILES[placement]
    labels = {**task.labels, LABEL_MANAGED_BY: "burst-dispatcher", LABEL_JOB: name}
    spec: dict[str, Any] = {
        "completionMode": "Indexed",
        "completions": shape.completions,
        "parallelism": shape.parallelism,
        "backoffLimitPerIndex": shape.backoff_limit_per_index,
        "activeDeadlineSeconds": whole_seconds(shape.deadline),
        "template": {
            "metadata": {"labels": dict(labels)},
            "spec": _pod_spec(
                task,
                profile=place,
                batch_id=batch_id,
                attempt=attempt,
                trace=trace,
                pods=shape.completions,
                items_per_pod=max(1, -(-len(sequence_numbers) // shape.completions)),
                reports_to=reports_to or ReportsTo(),
            ),
        },
    }
    if place.exit_codes_count and placement is Placement.NODE_POOL and not task.reports:
        # Where pods are paid for, one that is replaced without being counted is a group more than was set aside; where
        # they carry several items, the next one would do again what it had done.
        spec["podFailurePolicy"] = _IGNORE_DISRUPTION
    annotations = {
        PLACEMENT_ANNOTATION: placement.value,
        ANNOTATION_SEQUENCE_NUMBERS: ",".join(map(str, sequence_numbers)),
    }
    if task.reports:
        annotations[ANNOTATION_REPORTS] = "each"
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": task.namespace,
            "labels": labels,
            "annotations": annotations,
            "finalizers": [FINALIZER],
        },
        "spec": spec,
    }


def has_reports(recorded: Mapping[str, Any]) -> bool:
    """Whether a recorded Job's pods report how each of their items ended."""
    return ANNOTATION_REPORTS in recorded.get("metadata", {}).get("annotations", {})


def with_verdict(recorded: Mapping[str, Any], why: str, considered: Mapping[str, Any]) -> dict[str, Any]:
    """The Job with the reason for its place, and the numbers, written on it for whoever asks later."""
    metadata = dict(recorded["metadata"])
    verdict = json.dumps({"why": why, **considered}, separators=(",", ":"))
    metadata["annotations"] = {**metadata["annotations"], ANNOTATION_VERDICT: verdict}
    return {**recorded, "metadata": metadata}


def verdict_on(recorded: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """What :func:`with_verdict` wrote on a recorded Job; None: nothing, or nothing that can be read."""
    text = recorded["metadata"]["annotations"].get(ANNOTATION_VERDICT)
    try:
        content = json.loads(text) if text else None
    except ValueError:
        return None
    return (str(content["why"]), content) if isinstance(content, dict) and "why" in content else None


def shape_in(recorded: Mapping[str, Any]) -> JobShape:
    """The numbers of a recorded Job, read back from what :func:`manifest` wrote."""
    spec = recorded["spec"]
    return JobShape(
        spec["completions"],
        spec["parallelism"],
        spec["backoffLimitPerIndex"],
        timedelta(seconds=spec["activeDeadlineSeconds"]),
    )


def ready_to_create(
    recorded: Mapping[str, Any], *, record_uid: str, items_digest: str, epoch: int, stop_at: datetime
) -> dict[str, Any]:
    """The recorded manifest with what belongs to this very create.

    Whose it is, and the time at which to stop by itself.
    """
    metadata = dict(recorded["metadata"])
    metadata["annotations"] = {
        **metadata["annotations"],
        ANNOTATION_RECORD_UID: record_uid,
        ANNOTATION_DIGEST: items_digest,
        ANNOTATION_EPOCH: str(epoch),
    }
    spec = dict(recorded["spec"])
    pod = dict(spec["template"]["spec"])
    container = dict(pod["containers"][0])
    container["env"] = [*container["env"], {"name": "BURST_STOP_AT", "value": to_text(stop_at)}]
    pod["containers"] = [container, *pod["containers"][1:]]
    spec["template"] = {**spec["template"], "spec": pod}
    return {**recorded, "metadata": metadata, "spec": spec}
