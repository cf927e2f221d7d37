"""Why a pod failed, from what the kubelet, the Job controller, the scheduler or Azure wrote into its status.

Decides the cause by provider wording, all of which lives in this file; the order of the looks matters, the first that
knows wins. Pure: a raw pod goes in, a cause comes out. Knows nothing of retries, or of what follows from a cause.

On the v1 virtual node only phase, reason and message tell anything: a program that fails there shows exit code 0 and
the reason Completed, and a create that Azure refuses shows ``ProviderFailed`` with Azure's own text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dispatcher.core.failures import FailureCause

__all__ = ["cause_of", "exit_code_of", "is_v1", "reason_and_message"]

Raw = Mapping[str, Any]

_AZURE: Sequence[tuple[re.Pattern[str], FailureCause]] = [
    (re.compile(pattern, re.IGNORECASE), cause)
    for pattern, cause in (
        # The most particular wording first: "ServiceUnavailable" alone can mean capacity or a group quota of 0.
        (r"ContainerGroupQuotaReached|quota.{0,80}exceeded|exceeds? .{0,40}quota", FailureCause.ACI_QUOTA),
        (r"SubnetIsFull|does not have enough capacity for \d+ IP", FailureCause.SUBNET_FULL),
        (r"InsufficientCapacity|requested resource is not available in the location", FailureCause.ACI_CAPACITY),
        (r"TooManyRequests|StatusCode=429|RESPONSE 429|Too Many Req|RegistryErrorResponse", FailureCause.THROTTLED),
        (r"InaccessibleImage|InvalidImageRegistryIdentity|OsVersionNotSupported|ImagePull", FailureCause.IMAGE),
        # A record that is gone: the attempt was closed while its Job was still on its way.
        (r"burst-\S+ is required by Pod .{0,300}does not exist", FailureCause.CANCELLED),
        (r"is required by Pod .{0,300}does not exist", FailureCause.TEMPLATE),
        (r"InvalidInput|ContainerLimitGreaterThanContainerGroupTotalRequest|RequestEntityTooLarge|\b413\b",
         FailureCause.TEMPLATE),
        # The connector's own words for what it cannot translate: such a pod never reaches Azure.
        (r"ACI does not support |azure container instances initcontainers do not support |of an unsupported type"
         r"|InvalidVolumeMount|^secret \".*\" not found|requires GPU resource", FailureCause.TEMPLATE),
        (r"LinkedAuthorizationFailed|lacks permission|subnets/join/action|VirtualNetworkNotFound|AuthorizationFailed",
         FailureCause.START_DEADLINE),
        (r"ServiceAssociationLinkNotReady|ContainerGroupTransitioning|ServerTimeout|ErrorJoinVirtualNetwork"
         r"|PrepareNetwork|InternalServerError", FailureCause.START_DEADLINE),
        (r"ServiceUnavailable", FailureCause.ACI_CAPACITY),
    )
]  # fmt: skip
"""Azure's error codes and texts in a ``ProviderFailed`` message. What operators must mend (rights, network) counts as
the platform's, so that no item is given up for it: the circuit opens and tells."""

_POD_REASONS: Mapping[str, FailureCause] = {
    "Evicted": FailureCause.EVICTED,
    "Preempting": FailureCause.EVICTED,
    "NodeLost": FailureCause.NODE_LOST,
    "NodeShutdown": FailureCause.NODE_LOST,
    "Shutdown": FailureCause.NODE_LOST,
    "Terminated": FailureCause.NODE_LOST,
    "NotFound": FailureCause.NODE_LOST,
    # The kubelet would not have the pod that the scheduler sent: the node had changed meanwhile.
    "NodeAffinity": FailureCause.EVICTED,
    "UnexpectedAdmissionError": FailureCause.EVICTED,
    "NodePorts": FailureCause.EVICTED,
}
"""``status.reason`` of the pod itself. ``NotFound`` is v1's word for a group that was deleted behind its back;
``Terminated`` and ``NodeShutdown`` are a node that shuts down."""

_DISRUPTIONS: Mapping[str, FailureCause] = {
    "PreemptionByScheduler": FailureCause.EVICTED,
    "EvictionByEvictionAPI": FailureCause.EVICTED,
    "TerminationByKubelet": FailureCause.EVICTED,
    "DeletionByTaintManager": FailureCause.NODE_LOST,
    "DeletionByPodGC": FailureCause.NODE_LOST,
}
"""Reasons of the DisruptionTarget condition."""

_IMAGE_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
_TEMPLATE_REASONS = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "ContainerCannotRun", "StartError"}
)
"""A container that its runtime would not start: a program that is not there, a Secret that is missing."""
_KILLED = frozenset({137, 143})
"""Ended by a signal: by SIGKILL, by SIGTERM."""
_NEVER_FOUND = frozenset({126, 127})
"""A shell's words for a program that is not executable, or not there."""


def is_v1(pod: Raw) -> bool:
    """Whether it is for the AKS virtual node add-on, whose exit codes mean nothing."""
    selector = pod["spec"].get("nodeSelector") or {}
    return selector.get("type") == "virtual-kubelet" and "virtualization" not in selector


def cause_of(pod: Raw) -> FailureCause | None:
    """Why the pod failed, or why it does not start; None where it did not fail and nothing is wrong yet."""
    status = pod.get("status") or {}
    if status.get("phase") == "Pending":
        return _cause_of_waiting(status)
    if status.get("phase") != "Failed":
        return None
    return (
        _disruption(status)
        or _provider(status)
        or _pod_reason(pod, status)
        or _deleted(pod, status)
        or _containers(pod, status)
        or FailureCause.APPLICATION
    )


def _disruption(status: Raw) -> FailureCause | None:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return _DISRUPTIONS.get(condition.get("reason", ""), FailureCause.EVICTED)
    return None


def _deleted(pod: Raw, status: Raw) -> FailureCause | None:
    """A pod that was deleted while it ran: by a person, or by the Job controller when its Job was suspended."""
    if "deletionTimestamp" not in pod["metadata"]:
        return None
    killed = any((state.get("terminated") or {}).get("exitCode") in _KILLED for state in _states(status))
    return FailureCause.CANCELLED if killed else None


def _provider(status: Raw) -> FailureCause | None:
    if status.get("reason") != "ProviderFailed":
        return None
    return _azure(status.get("message") or "") or FailureCause.UNKNOWN


def _azure(text: str) -> FailureCause | None:
    return next((cause for pattern, cause in _AZURE if pattern.search(text)), None)


def _pod_reason(pod: Raw, status: Raw) -> FailureCause | None:
    reason = status.get("reason") or ""
    if reason == "DeadlineExceeded":
        # The pod's own deadline covers its start and its run.
        started = any(_started(each) for each in _states(status))
        return FailureCause.ITEM_TIMEOUT if started else FailureCause.START_DEADLINE
    if reason.startswith("OutOf"):  # OutOfcpu, OutOfmemory, OutOfpods: there was no room after all
        return FailureCause.EVICTED
    if reason in _POD_REASONS:
        return _POD_REASONS[reason]
    if is_v1(pod) and reason:
        return _azure(f"{reason} {status.get('message') or ''}")
    return None


def _containers(pod: Raw, status: Raw) -> FailureCause | None:
    for state in _states(status):
        waiting = state.get("waiting") or {}
        if waiting.get("reason") in _IMAGE_REASONS:
            return FailureCause.IMAGE
        ended = state.get("terminated") or {}
        if ended.get("reason") in _TEMPLATE_REASONS or waiting.get("reason") in _TEMPLATE_REASONS:
            return FailureCause.TEMPLATE
        if not is_v1(pod) and ended.get("exitCode") in _NEVER_FOUND:
            return FailureCause.TEMPLATE
    return None


def _cause_of_waiting(status: Raw) -> FailureCause | None:
    """A pod that has not started: the reason that its containers give, where it is one that will not pass soon."""
    for state in _states(status):
        reason = (state.get("waiting") or {}).get("reason")
        if reason in _IMAGE_REASONS:
            return FailureCause.IMAGE
        if reason in _TEMPLATE_REASONS:
            return FailureCause.TEMPLATE
    return _provider(status)


def _states(status: Raw) -> Iterator[Raw]:
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        yield container.get("state") or {}


def _started(state: Raw) -> bool:
    return bool((state.get("running") or {}).get("startedAt") or (state.get("terminated") or {}).get("startedAt"))


def exit_code_of(pod: Raw) -> int | None:
    """The exit code of the container that failed, else of one that ended; None where none did, and always on v1."""
    if is_v1(pod):
        return None
    ended = [state["terminated"] for state in _states(pod.get("status") or {}) if state.get("terminated")]
    codes = [code for each in ended if (code := each.get("exitCode")) is not None]
    return next((code for code in codes if code), codes[0] if codes else None)


def _end_of(told: Raw, code: int | None) -> str:
    """What a container says of itself: its exit code first, since the reason is mostly just "Error"."""
    said = told.get("message") or ""
    if told.get("exitCode") != code or not code:
        return said
    why = "" if told["reason"] == "Error" else f", {told['reason']}"
    return f"exit code {code}{why}" + (f": {said}" if said else "")


def reason_and_message(pod: Raw) -> tuple[str, str]:
    """The pod's own reason and message; where it gives none, its containers', then its conditions'."""
    status = pod.get("status") or {}
    reason, message = status.get("reason") or "", status.get("message") or ""
    code = exit_code_of(pod)
    for state in _states(status):
        for told in (state.get("terminated") or {}, state.get("waiting") or {}):
            if told.get("reason") in (None, "", "Completed", "ContainerCreating", "PodInitializing"):
                continue
            reason = reason or told["reason"]
            message = message or _end_of(told, code)
    if status.get("phase") == "Pending" and not message:
        for condition in status.get("conditions") or ():
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                reason, message = reason or condition.get("reason", ""), condition.get("message", "")
    for condition in status.get("conditions") or ():
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True" and not message:
            reason, message = reason or condition.get("reason", ""), condition.get("message", "")
    return reason, message
