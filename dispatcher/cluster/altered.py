"""What others changed of a Job on its way into the cluster, and whether that breaks a promise.

Decides which changes are none of our business (labels, annotations, finalizers, a suspension, what a sidecar asks of a
node) and which are: those that make a paid Job cost more than was set aside for it, and those by which we would lose
sight of a Job or it would run elsewhere. Mutating webhooks and policies do this between our request and what is stored.
Pure. Knows nothing of how a Job is sent, or of what follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dispatcher.cluster.reading import pod_requests
from dispatcher.core.observations import PLACEMENT_ANNOTATION, Placement

Raw = Mapping[str, Any]

_NUMBERS = ("completions", "parallelism", "backoffLimitPerIndex", "activeDeadlineSeconds")
"""What the worst case of a Job is reckoned from."""


def is_paid(job: Raw) -> bool:
    """Whether its pods are paid for by the second."""
    annotations = job["metadata"].get("annotations") or {}
    return bool(annotations.get(PLACEMENT_ANNOTATION) == Placement.VIRTUAL_NODE)


def broken_promises(sent: Raw, stored: Raw) -> list[str]:
    """Each change that breaks a promise, in words that name the field; empty where there is none."""
    return [
        *_lost_sight(sent, stored),
        *_other_numbers(sent, stored),
        *_other_place(sent, stored),
        *_dearer(sent, stored),
    ]


def _lost_sight(sent: Raw, stored: Raw) -> Iterator[str]:
    for what, before, now in (
        ("metadata", sent["metadata"], stored["metadata"]),
        ("spec.template.metadata", _template(sent)["metadata"], _template(stored).get("metadata") or {}),
    ):
        for kind in ("labels", "annotations"):
            there = now.get(kind) or {}
            for name, value in (before.get(kind) or {}).items():
                if there.get(name) != value:
                    yield f"{what}.{kind}: {name} is {there.get(name)!r} instead of {value!r}"
    for finalizer in set(sent["metadata"].get("finalizers") or ()) - set(stored["metadata"].get("finalizers") or ()):
        yield f"metadata.finalizers: {finalizer} is missing"


def _other_numbers(sent: Raw, stored: Raw) -> Iterator[str]:
    for name in _NUMBERS:
        before, now = sent["spec"].get(name), stored["spec"].get(name)
        if before != now:
            yield f"spec.{name}: {now} instead of {before}"
    if is_paid(sent) and "podFailurePolicy" in stored["spec"] and "podFailurePolicy" not in sent["spec"]:
        yield "spec.podFailurePolicy: was added; pods that it ignores are replaced without end"


def _other_place(sent: Raw, stored: Raw) -> Iterator[str]:
    """Where pods may run may be narrowed by others, never widened."""
    before, now = _template(sent)["spec"], _template(stored)["spec"]
    selector = now.get("nodeSelector") or {}
    for name, value in (before.get("nodeSelector") or {}).items():
        if selector.get(name) != value:
            yield f"spec.template.spec.nodeSelector: {name} is {selector.get(name)!r} instead of {value!r}"
    if before.get("affinity") and not now.get("affinity"):
        yield "spec.template.spec.affinity: is missing; it keeps pods off the virtual node"
    if now.get("restartPolicy") != before.get("restartPolicy"):
        yield f"spec.template.spec.restartPolicy: {now.get('restartPolicy')} instead of {before.get('restartPolicy')}"


def _dearer(sent: Raw, stored: Raw) -> Iterator[str]:
    if not is_paid(sent):
        return  # what pods ask of nodes is counted when they are there; nobody pays by the second
    before, now = _template(sent)["spec"], _template(stored)["spec"]
    for kind in ("containers", "initContainers"):
        known = {each["name"] for each in before.get(kind) or ()}
        for each in now.get(kind) or ():
            if each["name"] not in known:
                yield f"spec.template.spec.{kind}: {each['name']} was added; nothing is set aside for it"
    asked, asks = pod_requests({"spec": before}), pod_requests({"spec": now})
    if asks.cpu_millis > asked.cpu_millis or asks.memory_bytes > asked.memory_bytes:
        yield (
            f"spec.template.spec: a pod asks for {asks.cpu_millis}m and {asks.memory_bytes} bytes "
            f"instead of {asked.cpu_millis}m and {asked.memory_bytes} bytes"
        )


def _template(job: Raw) -> Raw:
    template: Raw = job["spec"]["template"]
    return template
