"""Placement profiles: what a kind of place does with a pod, as values.

Decides what a launch must know of a place: where its pods go, who retries, what is obeyed, how requests are rounded and
what the place adds to the bill. What a place refuses is the judge's to say. The values here are those of the shipped
profiles (the files beside the judge say the same, and a test holds them to it); others come from an operator's file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dispatcher.core.units import Resources

MEGABYTE = 10**6


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of place."""

    name: str
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, str], ...] = ()
    keep_off: tuple[Mapping[str, Any], ...] = ()
    """Terms of a node affinity that every node must satisfy."""
    retries_in_job: bool = True
    """The Job controller tries a failed index again; otherwise each comes back to the dispatcher."""
    exit_codes_count: bool = True
    """A failed pod can be told from a disrupted one, so that a pod failure policy may be used."""
    pod_deadline_counts: bool = True
    """The pod's own activeDeadlineSeconds is obeyed."""
    pod_uid_by_field: bool = True
    """A variable may be the pod's uid."""
    cpu_step_millis: int = 10
    """Requests are rounded up to multiples of it."""
    memory_step_bytes: int = MEGABYTE
    grace_seconds: int | None = None
    """How long a deleted pod may take to end; None: as Kubernetes says, 30 s."""
    surcharge: Resources = Resources(0, 0)
    """What the place adds to every pod, and bills."""

    def cpu_text(self, cpu_millis: int) -> str:
        """Processor time as a manifest for this place has it."""
        return f"{-(-cpu_millis // self.cpu_step_millis) * self.cpu_step_millis}m"

    def memory_text(self, memory_bytes: int) -> str:
        """Memory as a manifest for this place has it: decimal megabytes."""
        asked = -(-memory_bytes // self.memory_step_bytes) * self.memory_step_bytes
        return f"{-(-asked // MEGABYTE)}M"


NODES = Profile(
    name="nodes",
    node_selector={"kubernetes.io/os": "linux"},
    keep_off=({"key": "type", "operator": "NotIn", "values": ["virtual-kubelet"]},),
)
VIRTUAL_NODE_V1 = Profile(
    name="virtual-node-v1",
    node_selector={"kubernetes.io/role": "agent", "kubernetes.io/os": "linux", "type": "virtual-kubelet"},
    tolerations=(
        {"key": "virtual-kubelet.io/provider", "operator": "Exists"},
        {"key": "azure.com/aci", "effect": "NoSchedule"},
    ),
    retries_in_job=False,
    exit_codes_count=False,
    pod_deadline_counts=False,
    memory_step_bytes=100 * MEGABYTE,
    grace_seconds=1,
)
