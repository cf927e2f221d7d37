"""What ACI and Azure Resource Manager say when they refuse: status, code and text.

Decides the words and nothing else. Where Azure's own words are public they are used as they are; the few that are not
say so in their docstring, so that nobody takes them for Azure's.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

TYPE = "Microsoft.ContainerInstance/containerGroups"


@dataclass(eq=False)
class Refusal(Exception):
    """A request that is not granted."""

    status: int
    code: str
    message: str
    retry_after_seconds: int | None = None

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.message}"

    def body(self) -> dict[str, Any]:
        """As Azure Resource Manager wraps it."""
        return {"error": {"code": self.code, "message": self.message}}


def number(value: Decimal | float) -> str:
    """A figure as ACI writes it: without an exponent or zeros at its end."""
    text = f"{Decimal(str(value)):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def quota(name: str, location: str, limit: float, usage: Decimal | float, requested: Decimal | float) -> Refusal:
    """A quota of the subscription; ``name`` is ``ContainerGroups`` or ``StandardCores``."""
    return Refusal(
        409,
        "ContainerGroupQuotaReached",
        f"Resource type '{TYPE}' container group quota '{name}' exceeded in region '{location}'. "
        f"Limit: '{number(limit)}', Usage: '{number(usage)}' Requested: '{number(requested)}'.",
    )


def no_capacity(location: str, cpu: Decimal, memory_gb: Decimal) -> Refusal:
    """The region has no room, or not for a group of that size."""
    return Refusal(409, "ServiceUnavailable", no_capacity_text(location, cpu, memory_gb))


def no_capacity_text(location: str, cpu: Decimal, memory_gb: Decimal) -> str:
    """The sentence alone: events have it too."""
    return (
        f"The requested resource is not available in the location '{location}' at this moment. Please retry with a "
        f"different resource request or in another location. Resource requested: '{number(cpu)}' CPU "
        f"'{number(memory_gb)}' GB memory 'Linux' OS"
    )


def quota_of_none(location: str) -> Refusal:
    """What a group whose name is asked for in several regions at once is told."""
    return Refusal(
        409,
        "ServiceUnavailable",
        f"Resource type '{TYPE}' container group quota 'ContainerGroups' exceeded in region '{location}'. "
        "Limit: '0', Usage: '0' Requested: '1'.",
    )


def subnet_full(subnet: str, prefix: str) -> Refusal:
    """Azure networking's words; that ACI passes them on as they are is assumed."""
    return Refusal(
        400,
        "SubnetIsFull",
        f"Subnet {subnet} with address prefix {prefix} does not have enough capacity for 1 IP addresses.",
    )


def inaccessible_image(image: str, group: str) -> Refusal:
    """The image or its registry's credential is wrong."""
    return Refusal(
        400,
        "InaccessibleImage",
        f"The image '{image}' in container group '{group}' is not accessible. "
        "Please check the image and registry credential.",
    )


def registry_error(image: str) -> Refusal:
    """The registry answered badly, as Docker Hub does beyond its rate."""
    return Refusal(
        409,
        "RegistryErrorResponse",
        f"An error response is received from the docker registry 'index.docker.io'. Please retry later. ({image})",
    )


def limit_above_request(kind: str, limit: Decimal, container: str, total: Decimal, group: str) -> Refusal:
    """``kind`` is ``Cpu`` or ``Memory``."""
    return Refusal(
        400,
        "ContainerLimitGreaterThanContainerGroupTotalRequest",
        f"The '{kind}' limit '{number(limit)}' in container '{container}' is greater than the total request "
        f"'{number(total)}' of container group '{group}'.",
    )


def transitioning(group: str) -> Refusal:
    """Another operation on that group is under way."""
    return Refusal(
        409, "ContainerGroupTransitioning", f"The container group '{group}' is still transitioning, please retry later."
    )


def link_not_ready(subnet: str) -> Refusal:
    """The subnet's link to ACI is not there yet. The sentence is ours."""
    return Refusal(
        409, "ServiceAssociationLinkNotReady", f"The service association link of subnet '{subnet}' is not ready."
    )


def server_timeout() -> Refusal:
    """The outcome is unknown: the group may exist."""
    return Refusal(
        503, "ServerTimeout", "The request timed out. Diagnostic information: timestamp and tracking id are not given."
    )


def forbidden(action: str, scope: str) -> Refusal:
    """An identity without the right."""
    return Refusal(
        403,
        "AuthorizationFailed",
        f"The client does not have authorization to perform action '{action}' over scope '{scope}' or the scope is "
        "invalid. If access was recently granted, please refresh your credentials.",
    )


def may_not_join(subnet: str) -> Refusal:
    """An identity that may create groups, but not in that subnet."""
    return Refusal(
        403,
        "LinkedAuthorizationFailed",
        f"The client has permission to perform action '{TYPE}/write'; however, it lacks permission to perform action "
        f"'Microsoft.Network/virtualNetworks/subnets/join/action' on the linked scope '{subnet}' or the linked scope "
        "is invalid.",
    )


def too_large(bytes_max: int) -> Refusal:
    """The definition is too big, as with large ConfigMaps in it."""
    return Refusal(
        413,
        "RequestEntityTooLarge",
        f"The request content size exceeds the maximum size of {bytes_max // 1024 // 1024} MB.",
    )


def throttled(action: str, limit: int, interval_seconds: float, wait_seconds: int) -> Refusal:
    """Beyond a rate. The sentence is Azure Resource Manager's for other providers; ACI's own is not public."""
    minutes, seconds = divmod(round(interval_seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return Refusal(
        429,
        "ResourceRequestsThrottled",
        f"Number of requests for action '{TYPE}/{action}' exceeded the limit of '{limit}' for time interval "
        f"'{hours:02}:{minutes:02}:{seconds:02}'. Please try again after '{wait_seconds}' seconds.",
        wait_seconds,
    )


def internal() -> Refusal:
    """Something in Azure broke; a group that answers so needs Azure's support."""
    return Refusal(
        500,
        "InternalServerError",
        "Encountered an internal server error. The tracking activity id is '00000000-0000-0000-0000-000000000000', "
        "correlation id is '00000000-0000-0000-0000-000000000000'.",
    )


def not_found(group: str, resource_group: str) -> Refusal:
    """No such group."""
    return Refusal(
        404,
        "ResourceNotFound",
        f"The Resource '{TYPE}/{group}' under resource group '{resource_group}' was not found. For more details please "
        "go to https://aka.ms/ARMResourceNotFoundFix",
    )


def invalid_update(group: str) -> Refusal:
    """A group that exists is asked for with other properties."""
    return Refusal(
        400,
        "InvalidContainerGroupUpdate",
        f"The updates on container group '{group}' are invalid. If you are going to update the os type, restart "
        "policy, network profile, CPU, memory or GPU resources for a container group, you must delete it first and "
        "then create a new one.",
    )


def invalid(code: str, message: str) -> Refusal:
    """A definition that ACI cannot take. Codes and sentences are ours where the caller says so."""
    return Refusal(400, code, message)
