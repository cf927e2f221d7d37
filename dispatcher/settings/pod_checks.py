"""The pods of every task, as the virtual node would get them, before the judge.

Decides which findings keep the service from starting, and where in tasks.yaml each of them is to be mended. In local
mode pods are processes: there the same findings are warnings. Knows no rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from dispatcher.core.jobs import JobShape, manifest, shape_of
from dispatcher.core.work import Placement
from dispatcher.judge import Finding, Level, Profile, findings_of
from dispatcher.settings.checks import Context, Pieces
from dispatcher.settings.mistakes import Location, Mistake, path_text
from dispatcher.settings.models import Settings
from dispatcher.settings.placements import placement_profile
from dispatcher.settings.tasks import TaskSettings

_CHECKED_ELSEWHERE = frozenset({"group-name", "group-too-large", "group-needs-quota"})
"""What `checks` says better: it knows the region's limits and the longest name that a Job can have."""
_LONGEST_BATCH = "x" * 10
_ENV = re.compile(r"spec\.containers\[0\]\.env\[(\d+)\]")
_ENV_FROM = re.compile(r"spec\.containers\[0\]\.envFrom\[(\d+)\]")
_RESOURCE = re.compile(r"spec\.containers\[0\]\.resources\.\w+\.(cpu|memory)")
_LABEL = re.compile(r"metadata\.labels\['([^']+)'\]")
_FIELDS: tuple[tuple[str, Location], ...] = (
    ("spec.containers[0].image", ("image",)),
    ("spec.containers[0].command", ("command",)),
    ("spec.containers[0].args", ("args",)),
    ("spec.imagePullSecrets", ("image_pull_secrets",)),
    ("metadata.name", ("namespace",)),
)


def pod_mistakes_of(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    """What the virtual node refuses, or would silently leave out."""
    if not context.local:
        yield from _told(pieces, context, Level.ERROR)


def pod_warnings_of(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    """What works otherwise there."""
    if context.local:
        yield from _told(pieces, context, Level.ERROR)
    yield from _told(pieces, context, Level.WARNING)


def pod_of(task: TaskSettings, profile: Profile) -> Mapping[str, Any]:
    """A pod of the task on the virtual node, with the longest name that it can have."""
    job = manifest(
        task.task(),
        JobShape(1, 1, 0, timedelta(seconds=1)),
        placement=Placement.VIRTUAL_NODE,
        batch_id=_LONGEST_BATCH,
        attempt=99,
        sequence_numbers=(),
        profile=profile.place,
    )
    metadata = {**job["spec"]["template"]["metadata"], "namespace": task.namespace}
    metadata["name"] = f"{job['metadata']['name']}-999-xxxxx"
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": job["spec"]["template"]["spec"]}


def jobs_of(settings: Settings) -> Iterator[tuple[str, dict[str, Any]]]:
    """A Job of every task in every place that it may run, as it would be created, and what to call it."""
    policy = settings.policy()
    for task in policy.tasks.values():
        for where in task.placements:
            if where is Placement.VIRTUAL_NODE and policy.virtual_node is None:
                continue
            profile = policy.profile_of(where)
            shape = shape_of(
                task,
                placement=where,
                completions=1,
                parallelism=1,
                allowance_left=task.backoff_limit,
                profile=profile,
            )
            job = manifest(
                task,
                shape,
                placement=where,
                batch_id=_LONGEST_BATCH,
                attempt=99,
                sequence_numbers=(1,),
                profile=profile,
                reports_to=policy.reports_to,
            )
            yield f"task {task.name} on {profile.name}", job


def _told(pieces: Pieces, context: Context, level: Level) -> Iterator[Mistake]:
    if pieces.virtual_node is None or not pieces.spills:
        return
    profile = placement_profile(pieces.virtual_node.profile)
    for position, task in pieces.tasks:
        if Placement.VIRTUAL_NODE not in task.placements:
            continue
        pod = pod_of(task, profile)
        for finding in findings_of(pod, profile) or ():
            if finding.level is level and finding.rule not in _CHECKED_ELSEWHERE:
                location = ("tasks", position, *_field_of(finding, task, pod))
                where = f"on {profile.name}: {finding.message} ({finding.effect}, rule {finding.rule})"
                yield Mistake(path_text(location), where, finding.remedy, context.place_of(location))


def _field_of(finding: Finding, task: TaskSettings, pod: Mapping[str, Any]) -> Location:
    """The task's field that the pod's came from; nothing where it is ours."""
    if match := _ENV.match(finding.path):
        name = pod["spec"]["containers"][0]["env"][int(match[1])]["name"]
        return ("env", name) if name in task.env else ()
    if match := _ENV_FROM.match(finding.path):
        return ("env_from", int(match[1]))
    if match := _RESOURCE.match(finding.path):
        return ("resources", match[1])
    if match := _LABEL.match(finding.path):
        return ("labels", match[1])
    return next((location for path, location in _FIELDS if finding.path.startswith(path)), ())
