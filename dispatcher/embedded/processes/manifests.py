"""A batch/v1 Job manifest, read into what the embedded cluster acts on.

Decides what of a manifest is understood; a manifest that asks for more is refused with the field's name instead of
half obeyed. Image, security and scheduling fields mean nothing to a process and are left unread. Knows nothing of
running Jobs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dispatcher.core.jobs import FINALIZER
from dispatcher.core.observations import PLACEMENT_ANNOTATION, Placement
from dispatcher.core.units import Resources, cpu_millis, from_text, memory_bytes

_SPEC_FIELDS = {
    "completionMode", "completions", "parallelism", "backoffLimitPerIndex", "activeDeadlineSeconds", "template",
    "podFailurePolicy",
}  # fmt: skip
_FIELD_REFS = {"metadata.name", "metadata.namespace", "metadata.uid"}
_REFERENCE = re.compile(r"\$(\$|\([A-Za-z_][A-Za-z0-9_.-]*\))")
STOP_AT = "BURST_STOP_AT"


class BadManifest(ValueError):
    """The manifest cannot be obeyed as written; the text names the field."""


@dataclass(frozen=True, slots=True)
class FieldRef:
    """A variable whose value is a field of the pod itself."""

    path: str


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """What each pod of a Job runs."""

    command: tuple[str, ...]
    environment: tuple[tuple[str, str | FieldRef], ...]
    requests: Resources
    record: str
    """The record that is mounted as the pod's items."""
    deadline: timedelta | None
    stop_at: datetime | None


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A Job as it was asked for."""

    name: str
    namespace: str
    annotations: Mapping[str, str]
    kept_by_us: bool
    """It carries our finalizer, so a delete only marks it."""
    placement: Placement
    completions: int
    parallelism: int
    backoff_limit_per_index: int
    deadline: timedelta | None
    ignores_disruptions: bool
    """Its podFailurePolicy does not count pods that carry DisruptionTarget."""
    replaces_ended_pods_only: bool
    """A pod under deletion is counted and replaced only when it has ended; a podFailurePolicy brings this with it."""
    pod: PodTemplate


def read_manifest(manifest: Mapping[str, Any]) -> JobSpec:
    """Reads a manifest. Raises BadManifest."""
    try:
        return _read(manifest)
    except BadManifest:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise BadManifest(f"the manifest is not a Job as this product makes them: {error!r}") from error


def _read(manifest: Mapping[str, Any]) -> JobSpec:
    metadata, spec = manifest["metadata"], manifest["spec"]
    if unknown := set(spec) - _SPEC_FIELDS:
        raise BadManifest(f"spec.{min(unknown)}: the embedded cluster does not know this field")
    if spec.get("completionMode") != "Indexed":
        raise BadManifest("spec.completionMode: only Indexed is known here")
    policy = spec.get("podFailurePolicy")
    annotations = dict(metadata.get("annotations", {}))
    return JobSpec(
        name=metadata["name"],
        namespace=metadata.get("namespace", "default"),
        annotations=annotations,
        kept_by_us=FINALIZER in metadata.get("finalizers", ()),
        placement=Placement(annotations.get(PLACEMENT_ANNOTATION, Placement.NODE_POOL)),
        completions=_count(spec, "completions"),
        parallelism=_count(spec, "parallelism"),
        backoff_limit_per_index=_count(spec, "backoffLimitPerIndex"),
        deadline=_seconds(spec),
        ignores_disruptions=policy is not None and _ignores_disruptions(policy),
        replaces_ended_pods_only=policy is not None,
        pod=_pod(spec["template"]["spec"]),
    )


def _count(spec: Mapping[str, Any], name: str) -> int:
    value = spec.get(name)
    if not isinstance(value, int) or value < 0:
        raise BadManifest(f"spec.{name}: a whole number is needed, not {value!r}")
    return value


def _seconds(spec: Mapping[str, Any]) -> timedelta | None:
    seconds = spec.get("activeDeadlineSeconds")
    return None if seconds is None else timedelta(seconds=int(seconds))


def _ignores_disruptions(policy: Mapping[str, Any]) -> bool:
    known = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    if [{**rule, "onPodConditions": [{"type": c["type"]} for c in rule["onPodConditions"]]}
            for rule in policy["rules"]] != [known]:  # fmt: skip
        raise BadManifest("spec.podFailurePolicy: only Ignore on DisruptionTarget is known here")
    return True


def _pod(spec: Mapping[str, Any]) -> PodTemplate:
    if len(spec["containers"]) != 1 or spec.get("initContainers"):
        raise BadManifest("spec.template.spec.containers: one container is all that a process can be")
    container = spec["containers"][0]
    if container.get("envFrom"):
        raise BadManifest(
            "spec.template.spec.containers[0].envFrom: the embedded cluster holds no Secrets or ConfigMaps"
        )
    if not container.get("command"):
        raise BadManifest("spec.template.spec.containers[0].command: a command is needed, images are not run here")
    volumes = [volume["configMap"] for volume in spec.get("volumes", ()) if "configMap" in volume]
    if len(volumes) != 1 or volumes[0].get("optional") is not False:
        raise BadManifest("spec.template.spec.volumes: one configMap with 'optional: false' is needed, the items")
    requests = container["resources"]["requests"]
    environment = tuple(_variable(entry) for entry in container.get("env", ()))
    stop_at = dict(environment).get(STOP_AT)
    return PodTemplate(
        command=(*container["command"], *container.get("args", ())),
        environment=environment,
        requests=Resources(cpu_millis(str(requests["cpu"])), memory_bytes(str(requests["memory"]))),
        record=volumes[0]["name"],
        deadline=_seconds(spec),
        stop_at=from_text(stop_at) if isinstance(stop_at, str) else None,
    )


def _variable(entry: Mapping[str, Any]) -> tuple[str, str | FieldRef]:
    source = entry.get("valueFrom")
    if source is None:
        return entry["name"], str(entry.get("value", ""))
    path = source.get("fieldRef", {}).get("fieldPath")
    if path not in _FIELD_REFS:
        raise BadManifest(f"env {entry['name']}: valueFrom can only be a fieldRef to one of {sorted(_FIELD_REFS)}")
    return entry["name"], FieldRef(path)


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Puts variables into a word as Kubernetes does: ``$(NAME)``; ``$$`` is ``$``; unknown names stay as written."""

    def value(match: re.Match[str]) -> str:
        found = match[1]
        return "$" if found == "$" else environment.get(found[1:-1], match[0])

    return _REFERENCE.sub(value, text)
