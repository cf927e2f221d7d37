"""How to reach the cluster, what in it is ours, and for how long to wait.

Decides the defaults, each with its reason. Refuses to know where settings come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from dispatcher.core.budgets import CREATE_SETTLES_IN
from dispatcher.core.jobs import JobShape, manifest
from dispatcher.core.units import Resources
from dispatcher.core.work import Placement, Task
from dispatcher.errors import BadConfiguration

__all__ = ["KubernetesConfig", "node_profile"]


def node_profile() -> Mapping[str, Any]:
    """Where pods of the node pool may be scheduled, as the core writes it: nodeSelector, affinity, tolerations."""
    shape = JobShape(1, 1, 0, timedelta(seconds=1))
    job = manifest(
        Task("any", "any", ("any",), Resources(0, 0)),
        shape,
        placement=Placement.NODE_POOL,
        batch_id="any",
        attempt=1,
        sequence_numbers=(),
    )
    pod = job["spec"]["template"]["spec"]
    return {key: pod[key] for key in ("nodeSelector", "affinity", "tolerations") if key in pod}


@dataclass(frozen=True, slots=True)
class KubernetesConfig:
    """One dispatcher in one cluster. Raises BadConfiguration for values that cannot work."""

    namespace: str
    """Where the ledger and the lease are; records and Jobs are in the namespaces of their tasks."""
    namespaces: tuple[str, ...]
    """Where records, Jobs and pods are looked for: those of all tasks, and those that tasks have left."""
    instance: str = "burst-dispatcher"
    """Which of several dispatchers in a cluster this is: a label on everything it makes, and what it looks for."""
    kubeconfig: Path | None = None
    """None: the pod's own service account."""
    context: str | None = None
    """Of the kubeconfig; None: its current one."""
    node_profile: Mapping[str, Any] = field(default_factory=node_profile)

    requests_per_second: int = 100
    """Most requests in any second. The API server's own fairness answers 429 beyond what it can take."""
    requests_at_once: int = 16
    """Most requests under way together, watches apart."""
    request_timeout: timedelta = timedelta(seconds=10)
    """How long one try of a request may take, here and at the API server."""
    patience: timedelta = timedelta(seconds=25)
    """How long a request may wait for its turn and take with its tries and the waits that the API server asked for.

    No try is begun later, so that a create lands within this and one ``request_timeout``, or never.
    """
    tries_max: int = 5
    page_size: int = 500
    """Jobs or pods in one page of a list."""
    records_page_size: int = 50
    """Records in one page: each may weigh some 100 KiB."""

    watch_timeout: timedelta = timedelta(minutes=5)
    """After which the API server ends a watch, so that watches spread over its replicas; it goes on at once."""
    watch_stalled_after: timedelta = timedelta(seconds=90)
    """A watch that has said nothing for so long is made anew: the API server sends a bookmark every minute."""
    stale_after: timedelta = timedelta(minutes=2)
    """When nothing of a kind was heard for so long, in spite of new watches, the health says so."""
    relist_every: timedelta = timedelta(hours=1)
    """How often everything is listed anew, in case a watch has left something out; spread by a tenth."""
    watch_backoff_min: timedelta = timedelta(milliseconds=200)
    watch_backoff_max: timedelta = timedelta(seconds=10)

    lease_duration: timedelta = timedelta(seconds=15)
    """How long a leader that is gone is waited for."""
    lease_renew_deadline: timedelta = timedelta(seconds=10)
    """A leader that could not renew for so long leads no more."""
    lease_retry: timedelta = timedelta(seconds=2)
    """How often the lease is looked at and renewed."""
    lease_kept_for: timedelta = timedelta(minutes=2)
    """A leader that has not asked for so long is stuck: its lease is not renewed any more."""

    def __post_init__(self) -> None:
        mistakes = []
        if not self.namespaces:
            mistakes.append("namespaces: is empty; name at least one namespace for Jobs")
        if not self.lease_retry < self.lease_renew_deadline < self.lease_duration:
            mistakes.append(
                "lease_duration: the retry must be shorter than the renew deadline, and that than the duration"
            )
        if self.patience + self.request_timeout > CREATE_SETTLES_IN:
            seconds = f"{CREATE_SETTLES_IN.total_seconds():g} s"
            mistakes.append(
                f"patience: it and request_timeout must be {seconds} together at most, so that a create lands in time"
            )
        if self.requests_per_second < 1:
            mistakes.append("requests_per_second: must be at least 1")
        if mistakes:
            raise BadConfiguration(mistakes)

    @property
    def ledger_name(self) -> str:
        """The ConfigMap that holds the ledger."""
        return f"{self.instance}-ledger"

    @property
    def lease_name(self) -> str:
        """The Lease that says who leads."""
        return f"{self.instance}-leader"
