"""Whose container groups are read, where, and how often.

Decides the defaults, each with its reason. Refuses to know where settings and tokens come from.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

API_VERSION = "2023-05-01"
"""Of Microsoft.ContainerInstance: the newest stable one that both lists and usages have."""
PUBLIC_CLOUD = "https://management.azure.com"

Token = Callable[[], Awaitable[str]]
"""A bearer token that is valid now. Raises LookFailed, with a line for a person, within a bounded time."""


@dataclass(frozen=True, slots=True)
class AccountConfig:
    """One resource group in one subscription."""

    subscription: str
    resource_group: str
    """Where the virtual node makes its groups."""
    namespaces: frozenset[str]
    """Groups of pods in others are none of ours."""
    region: str | None = None
    """Whose quotas are asked for; None: nobody asks."""
    endpoint: str = PUBLIC_CLOUD

    look_every: timedelta = timedelta(seconds=15)
    """How often all groups are listed while nothing in particular is wanted."""
    list_again_after: timedelta = timedelta(seconds=3)
    """The shortest time between two lists, where a group is wanted that the last one does not have."""
    pause_min: timedelta = timedelta(seconds=1)
    """The shortest time between two looks of any kind."""
    quotas_every: timedelta = timedelta(seconds=60)
    requests_per_second: int = 5
    """Azure Resource Manager gives 25 reads a second to an identity, in a subscription and region."""
    requests_at_once: int = 8
    request_timeout: timedelta = timedelta(seconds=10)
    """How long one try may take."""
    patience: timedelta = timedelta(seconds=30)
    """How long one request may take with all its tries and the waits that Azure asked for."""
    tries_max: int = 4
    backoff_max: timedelta = timedelta(minutes=1)
    """The longest wait after looks that failed, where Azure asks for none."""

    @property
    def groups_path(self) -> str:
        """The container groups of the resource group."""
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
            "/providers/Microsoft.ContainerInstance/containerGroups"
        )

    @property
    def usages_path(self) -> str | None:
        """The quotas of the region; None: nobody asks."""
        if self.region is None:
            return None
        return (
            f"/subscriptions/{self.subscription}/providers/Microsoft.ContainerInstance/locations/{self.region}/usages"
        )
