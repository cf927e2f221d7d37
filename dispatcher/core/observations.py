"""What the world reported: Jobs, pods, nodes and container groups, reduced to the fields that decisions need.

Decides what may be known of each. Knows nothing of how it was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from dispatcher.core.failures import FailureCause
from dispatcher.core.units import Resources
from dispatcher.core.work import Placement


class JobCondition(StrEnum):
    """How a Job ended. It is set only when all its pods have ended."""

    COMPLETE = "Complete"
    FAILED = "Failed"


class PodPhase(StrEnum):
    """The phase of a pod, as Kubernetes reports it."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class JobSeen:
    """A Job, as last seen."""

    name: str
    uid: str
    created_at: datetime
    annotations: Mapping[str, str] = field(default_factory=dict)
    marked_for_deletion: bool = False
    condition: JobCondition | None = None
    reason: str = ""
    """Why it failed: DeadlineExceeded, FailedIndexes, BackoffLimitExceeded..."""
    active: int = 0
    succeeded: int = 0
    failed: int = 0
    completed_indexes: frozenset[int] = frozenset()
    failed_indexes: frozenset[int] = frozenset()
    uncounted: bool = False
    """Pods have ended that the Job controller has not counted yet."""
    suspended: bool = False
    """Somebody (a person, or a queueing controller) has taken its pods away; it makes none until it is resumed."""


@dataclass(frozen=True, slots=True)
class PodSeen:
    """A pod of one of our Jobs, as last seen."""

    name: str
    uid: str
    job: str
    index: int
    phase: PodPhase
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    node: str | None = None
    reason: str = ""
    message: str = ""
    cause: FailureCause | None = None
    """Why it failed, where it did: the adapter has read the provider's wording."""
    exit_code: int | None = None
    """None where it is not known; on the v1 virtual node it never is."""
    marked_for_deletion: bool = False
    disrupted: bool = False
    """It carries DisruptionTarget: the Job controller does not count this failure where the Job says so."""

    @property
    def finished(self) -> bool:
        """Whether it has ended and will not run again."""
        return self.phase in (PodPhase.SUCCEEDED, PodPhase.FAILED)


@dataclass(frozen=True, slots=True)
class ClusterSeen:
    """All our Jobs and pods, from one consistent read of all pages."""

    jobs: tuple[JobSeen, ...]
    pods: tuple[PodSeen, ...]


@dataclass(frozen=True, slots=True)
class ClusterChanges:
    """What a watch reported since it was last asked.

    ``relisted`` means: this is everything, forget what is not in it.
    """

    jobs: tuple[JobSeen, ...] = ()
    pods: tuple[PodSeen, ...] = ()
    jobs_gone: tuple[str, ...] = ()
    pods_gone: tuple[str, ...] = ()
    """Uids of pods that are no more."""
    relisted: bool = False


@dataclass(frozen=True, slots=True)
class NodeRoom:
    """What is still free on one node: allocatable less the requests of the pods on it."""

    name: str
    free: Resources
    pods_free: int


@dataclass(frozen=True, slots=True)
class NodeHeadroom:
    """What is still free on the real nodes, node by node: a pod must fit on one of them."""

    nodes: tuple[NodeRoom, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupSeen:
    """A container group as ACI itself reports it: one pod's bill."""

    pod_uid: str
    name: str
    started_at: datetime | None
    """When billing began: the first image pull. None: it has not, or was not read."""
    stopped_at: datetime | None
    """When the whole group had stopped. None: it bills on, as far as was read."""
    read_at: datetime | None = None
    """When its own times were read. None: it was only listed."""
    gone: bool = False
    """It is listed no more; its times were read before."""
    namespace: str = ""
    """Where its pod is, or was."""
    pod: str = ""
    """The name of its pod."""
    requests: Resources = Resources(0, 0)
    """What it has and bills."""

    @property
    def job(self) -> str:
        """The Job of its pod, whose name ends with an index and a random part."""
        return self.pod.rsplit("-", 2)[0]


@dataclass(frozen=True, slots=True)
class Quota:
    """A quota of the subscription in the region: what is used, by anybody, and how much may be."""

    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class AccountSeen:
    """What ACI itself says."""

    as_of: datetime
    """When its groups were asked for: what came to be later is not in it."""
    groups: Mapping[str, GroupSeen]
    """By pod uid: those of our Jobs' pods."""
    group_quota: Quota | None = None
    """None: nobody may ask, or no answer came."""
    core_quota: Quota | None = None


PLACEMENT_ANNOTATION = "burst-dispatcher.io/placement"
"""On every Job: the value of :class:`Placement` it was made for."""

__all__ = [
    "PLACEMENT_ANNOTATION",
    "AccountSeen",
    "ClusterChanges",
    "ClusterSeen",
    "GroupSeen",
    "JobCondition",
    "JobSeen",
    "NodeHeadroom",
    "NodeRoom",
    "Placement",
    "PodPhase",
    "PodSeen",
    "Quota",
]
