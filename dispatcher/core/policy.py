"""What operators have decided, as one frozen value that every room of the core reads.

Decides nothing itself; the settings turn a configuration file into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from dispatcher.core.budgets import Budget
from dispatcher.core.jobs import ReportsTo
from dispatcher.core.pricing import NodePrice, Rates
from dispatcher.core.profiles import NODES, VIRTUAL_NODE_V1, Profile
from dispatcher.core.units import Resources
from dispatcher.core.work import Placement, Task


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """Nodes that come and go: how many there may be, and how long one takes to come and to go.

    Defaults are the cluster autoscaler's: "several minutes" for a node, and ten until one that nobody needs is gone.
    """

    nodes_min: int = 0
    nodes_max: int = 10
    start_up: timedelta = timedelta(minutes=3)
    """From the request for a node until a pod runs there."""
    scale_down_after: timedelta = timedelta(minutes=10)
    """How long a node is kept that nobody needs."""


class GuardAction(StrEnum):
    """What becomes of work that is steady enough for nodes."""

    ADVISE = "advise"
    """Operators are told, with the number of nodes and the money."""
    STOP = "stop"
    """They are told, and its steady part spills no more: it waits for the nodes."""


@dataclass(frozen=True, slots=True)
class GuardPolicy:
    """When work on the virtual node is steady: it does not belong there."""

    duty_percent: int = 50
    """The rule of thumb: what runs more than so much of the time belongs on real nodes."""
    window: timedelta = timedelta(hours=24)
    """Over which that is measured."""
    seen_at_least: timedelta = timedelta(hours=1)
    """Nothing is concluded from less."""
    action: GuardAction = GuardAction.ADVISE


@dataclass(frozen=True, slots=True)
class NodePoolPolicy:
    """How much of the real nodes is ours."""

    keep_back: Resources = Resources(0, 0)
    """Left free on every node for other workloads."""
    pods_max: int | None = None
    """At most so many of our pods on all nodes together; None: whatever fits."""
    profile: Profile = NODES
    price: NodePrice | None = None
    """What one node costs; None: nobody has said. Running nodes are paid for anyway: it is for comparisons."""
    autoscaling: Autoscaling | None = None
    """Nodes come and go, and how many are wanted is reckoned at that price; None: there are as many as there are."""


@dataclass(frozen=True, slots=True)
class VirtualNodePolicy:
    """What Azure allows on the virtual node, and what it costs.

    Defaults are ACI's documented ones: 100 groups and 100 cores a region, 100 creates and deletes per 5 minutes, 300
    an hour.
    """

    subnet_prefix: int = 24
    """Length of the delegated subnet's prefix: /24 has 2^8 - 5 = 251 usable addresses."""
    address_headroom: int = 0
    """Addresses that we leave alone."""
    release_hold: timedelta = timedelta(minutes=5)
    """How long an address is not counted on after its group is gone: ACI returns addresses late."""
    groups_max: int = 100
    cores_max: int = 100
    creates_per_5min: int = 100
    creates_per_hour: int = 300
    deletes_per_5min: int = 100
    deletes_per_hour: int = 300
    rate_windows: tuple[timedelta, timedelta] = (timedelta(minutes=5), timedelta(hours=1))
    """The windows of those four limits, Azure's own; never longer than an hour."""
    rates: Rates = field(default_factory=Rates)
    tail: timedelta = timedelta(seconds=180)
    """By how much a group may outlive its pod; 180 s fits Jobs of up to 100 pods."""
    profile: Profile = VIRTUAL_NODE_V1

    def of_group(self, requests: Resources) -> Resources:
        """What a pod's group has and bills: what the pod requests, and what the place adds."""
        return requests + self.profile.surcharge

    @property
    def group_outlives_pod(self) -> timedelta:
        """For how long a group may be there after its pod is gone."""
        return min(self.tail, self.release_hold)

    @property
    def addresses_max(self) -> int:
        """Addresses we may hold: what the subnet can give (Azure keeps five), less the headroom."""
        return max(0, (1 << (32 - self.subnet_prefix)) - 5 - self.address_headroom)


@dataclass(frozen=True, slots=True)
class CircuitPolicy:
    """When the virtual node is left alone after failures of its own, and for how long."""

    failures: int = 5
    """So many platform failures in a row, no success between, open the circuit."""
    cool_down_min: timedelta = timedelta(seconds=60)
    cool_down_max: timedelta = timedelta(minutes=30)
    """It doubles from the one to the other while probes fail."""


class ShareBy(StrEnum):
    """What a tenant's share is counted in."""

    PODS = "pods"
    COST = "cost"
    """What its pods would cost a second on the virtual node, wherever they run: a large pod counts for more."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything that a plan is made under."""

    tasks: Mapping[str, Task]
    node_pool: NodePoolPolicy = NodePoolPolicy()
    virtual_node: VirtualNodePolicy | None = None
    """None: there is no virtual node to spill to."""
    budgets: tuple[Budget, ...] = ()
    circuit: CircuitPolicy = CircuitPolicy()
    guard: GuardPolicy = GuardPolicy()
    lookahead_max: int = 100_000
    """So many items are known to the dispatcher at once; the rest waits on the queue."""
    platform_retries_max: int = 20
    """How many failures of the platform an item may meet before a person must look."""
    retry_delay_min: timedelta = timedelta(seconds=10)
    retry_delay_max: timedelta = timedelta(minutes=10)
    """The wait before an item's next attempt doubles from the one to the other."""
    lock_hold_max: timedelta = timedelta(seconds=10)
    """How long a received item may wait under its lock before it is deferred; far below the lock duration."""
    sweep_every: timedelta = timedelta(minutes=5)
    """How often the queue is searched for deferred messages that nothing claims."""
    reply_hold_max: timedelta = timedelta(minutes=10)
    """How long an outcome that its reply queue does not take keeps its attempt open, before it is given up."""
    lock_duration: timedelta = timedelta(seconds=60)
    """The queue's own lock duration."""
    manifest_bytes_max: int = 100_000
    """The items of one batch are copied into every group's create request, which has a limit."""
    launches_per_cycle_max: int = 50
    report_grace: timedelta = timedelta(seconds=30)
    """How long, after a pod that carries several items has ended, a report of it may still be on its way."""
    reports_to: ReportsTo | None = None
    """How such pods reach the report queue; None: no task has any."""
    share_by: ShareBy = ShareBy.PODS
    """What shares between tenants are counted in."""
    priority_ageing: timedelta | None = timedelta(minutes=10)
    """For every so long that the oldest of a lane has waited it counts as one priority higher, so that no priority
    starves; None: priorities are absolute."""
    tenant_pods_max: Mapping[str, int] = field(default_factory=dict)
    """Most pods of a tenant in flight, all its tasks together; as many as fit where none is named."""
    tenant_weights: Mapping[str, int] = field(default_factory=dict)
    """Shares between tenants when there is not room for all; 1 where none is named."""

    def profile_of(self, placement: Placement) -> Profile:
        """What the placement is like."""
        if placement is Placement.NODE_POOL:
            return self.node_pool.profile
        return self.virtual_node.profile if self.virtual_node else VIRTUAL_NODE_V1
