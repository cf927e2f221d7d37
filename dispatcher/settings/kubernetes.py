"""The section `kubernetes` of dispatcher.yaml: which cluster, and what in it is this dispatcher's.

Decides the keys, their types, bounds and defaults. Knows nothing of requests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from dispatcher.settings.tasks import Section
from dispatcher.settings.values import DnsLabel, PositiveCount, PositiveDuration, parse_duration

INSTANCE_LENGTH_MAX = 50
"""It is a label, and the beginning of names that objects have."""


class KubernetesSettings(Section):
    """The cluster that Jobs run in. Local mode plays its own and leaves this unread."""

    namespace: DnsLabel | None = None
    """Where the ledger and the lease are; empty: the namespace that the dispatcher itself runs in."""
    instance: DnsLabel = Field(
        default="burst-dispatcher", max_length=INSTANCE_LENGTH_MAX, examples=["burst-dispatcher"]
    )
    """Which of several dispatchers this is; a label on all that it makes, and all that it looks for. Never change it
    while work is under way."""
    former_namespaces: tuple[DnsLabel, ...] = Field(default=(), examples=["[old-batch]"])
    """Namespaces that tasks have moved away from: Jobs that are still there are brought to their end."""
    kubeconfig: Path | None = Field(default=None, examples=["/home/me/.kube/config"])
    """Credentials for a dispatcher that runs outside of the cluster; empty: the pod's own service account."""
    context: str | None = Field(default=None, min_length=1, examples=["staging"])
    """Which context of the kubeconfig; empty: its current one."""
    requests_per_second: PositiveCount = 100
    """Most requests to the API server in a second, watches apart."""
    request_timeout: PositiveDuration = Field(default=parse_duration("10s"), le=parse_duration("30s"), examples=["10s"])
    """How long one try of a request may take."""
    lease_duration: PositiveDuration = Field(
        default=parse_duration("15s"), ge=parse_duration("2s"), le=parse_duration("5m"), examples=["15s"]
    )
    """After how long without a sign of life another replica takes over."""
    relist_every: PositiveDuration = Field(default=parse_duration("1h"), ge=parse_duration("1m"), examples=["1h"])
    """How often everything is listed anew, in case a watch has left something out."""

    @model_validator(mode="after")
    def _context_of_a_file(self) -> Self:
        if self.context is not None and self.kubeconfig is None:
            raise ValueError("names a context but no kubeconfig; name the file, or take the context out")
        return self
