"""The section `azure` of dispatcher.yaml: read access to what Azure itself says of container groups. Optional.

Decides the keys, their types, bounds and defaults. Knows nothing of requests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from dispatcher.settings.tasks import Section
from dispatcher.settings.values import PositiveCount, PositiveDuration, parse_duration

PUBLIC_CLOUD = "https://management.azure.com"


class AzureSettings(Section):
    """Read access to the container groups of the virtual node. Without it charges are upper bounds."""

    subscription: str = Field(
        pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
        examples=["11111111-2222-3333-4444-555555555555"],
    )
    """The subscription that container groups are made in."""
    resource_group: str = Field(
        pattern=r"^[A-Za-z0-9_().-]{0,89}[A-Za-z0-9_()-]$", examples=["MC_burst_cluster_eastus"]
    )
    """The resource group that they are made in: of the AKS add-on, the cluster's node resource group."""
    region: str | None = Field(default=None, pattern=r"^[a-z0-9]+$", examples=["eastus"])
    """Whose quotas of groups and cores are read, in place of virtual_node's; empty: those are not asked for."""
    identity: Literal["workload", "managed", "cli"] = "workload"
    """Whose tokens are used: the pod's workload identity, the machine's managed one, or the CLI's login."""
    client_id: str | None = Field(default=None, min_length=1, examples=["11111111-2222-3333-4444-555555555555"])
    """Which identity, where there are several; empty: what the environment says."""
    token_file: Path | None = Field(default=None, examples=["/var/run/secrets/azure/token"])
    """A file with a bearer token, in place of an identity; it is read again for every request."""
    endpoint: str = Field(
        default=PUBLIC_CLOUD, pattern=r"^https?://[A-Za-z0-9.\[\]:-]+/?$", examples=["https://management.azure.com"]
    )
    """Where Azure Resource Manager answers: another one in a sovereign cloud."""
    look_every: PositiveDuration = Field(default=parse_duration("15s"), ge=parse_duration("1s"), examples=["15s"])
    """How often all groups are listed while nothing in particular is wanted."""
    requests_per_second: PositiveCount = 5
    """Most requests in a second; Azure gives an identity 25 reads."""
    request_timeout: PositiveDuration = Field(default=parse_duration("10s"), le=parse_duration("60s"), examples=["10s"])
    """How long one try of a request may take."""

    @model_validator(mode="after")
    def _tokens_stay_secret(self) -> Self:
        parts = urlsplit(self.endpoint)
        if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise ValueError("names an endpoint to which tokens would go unencrypted; write https://")
        return self
