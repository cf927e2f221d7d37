"""The vocabulary of routing: where a batch goes, or why it is held.

Decides the words alone. Their values are metric labels, so they stay few.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dispatcher.core.failures import FailureCause
from dispatcher.core.jobs import JobShape
from dispatcher.core.units import Money
from dispatcher.core.work import Placement


class HoldReason(StrEnum):
    """Why work is not launched in this cycle."""

    LINGER = "linger"
    """A small batch waits a moment for company, or a full one for more room, while its task has work in flight."""
    TASK_PARALLELISM = "task_parallelism"
    """The task runs as many pods as it may."""
    TENANT_PARALLELISM = "tenant_parallelism"
    """The tenant has as many pods in flight as it may."""
    NODE_HEADROOM = "node_headroom"
    """No node has room, and the task may run nowhere else (or there is nowhere else)."""
    WAITING_TO_SPILL = "waiting_to_spill"
    """No node has room; the work has not waited long enough yet to go to the virtual node."""
    NODES_IN_TIME = "nodes_in_time"
    """No node has room, but one is expected to have it early enough for the task's start_by."""
    VIRTUAL_NODE_BOUND = "virtual_node_bound"
    """The task has as many pods on the virtual node as it may have there."""
    STEADY_WORK = "steady_work"
    """It runs so much of the time that it belongs on nodes, and operators want it to wait for them."""
    SUBNET_ADDRESSES = "subnet_addresses"
    ACI_GROUP_QUOTA = "aci_group_quota"
    ACI_CORE_QUOTA = "aci_core_quota"
    ACI_CREATE_RATE = "aci_create_rate"
    BUDGET_EXHAUSTED = "budget_exhausted"
    CIRCUIT_OPEN = "circuit_open"
    """The virtual node failed several times in a row and is left alone for a while."""
    RETRY_DELAY = "retry_delay"
    """A failed item waits before its next attempt."""
    VIRTUAL_NODE_FROZEN = "virtual_node_frozen"
    """The ledger was lost: an operator must look first. (An overrun shows as a budget that is exhausted.)"""
    LEAKED_GROUPS = "leaked_groups"
    """A container group bills on without a pod: nothing is spent beside it until it has stopped or is gone."""
    LEDGER_FULL = "ledger_full"
    CLOCK_BEHIND = "clock_behind"
    """Our clock is before the ledger's last write: until it has caught up nobody can tell which window it is."""
    CLOCKS_APART = "clocks_apart"
    """This machine's clock and the cluster's are more than 5 s apart: nobody can tell which is right, and with it which
    window money is spent in."""
    LAUNCHES_PER_CYCLE = "launches_per_cycle"
    """This cycle has launched as much as one may; the next goes on at once."""


class Why(StrEnum):
    """Why a batch was placed where it was."""

    NODES_HAVE_ROOM = "nodes_have_room"
    WAITED_TOO_LONG = "waited_too_long"
    """Nodes had no room within the task's spill_after."""
    NODES_TOO_LATE = "nodes_too_late"
    """Nodes are not expected to have room early enough for the task's start_by."""
    NO_NODES_ALLOWED = "no_nodes_allowed"
    """The task may run on the virtual node only."""


@dataclass(frozen=True, slots=True)
class Placed:
    """It goes there, in this shape, and costs at most so much."""

    where: Placement
    shape: JobShape
    cost_max: Money
    why: Why
    items_per_pod: int = 1
    """How many items each of its pods does at most."""

    @property
    def items_max(self) -> int:
        """How many items it has room for."""
        return self.shape.completions * self.items_per_pod


@dataclass(frozen=True, slots=True)
class Rejected:
    """It is never launched: operators want such work in the dead-letter queue."""

    cause: FailureCause
    detail: str


@dataclass(frozen=True, slots=True)
class Held:
    """Not now, for that reason. ``detail`` has the numbers; ``until`` is when it may change by itself."""

    reason: HoldReason
    until: datetime | None = None
    detail: str = ""
