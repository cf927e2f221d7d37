"""What there is to do: work items, and the kinds of work (tasks) that they name.

Decides what an item and a task are. Knows nothing of queues, Jobs or money.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from dispatcher.core.trace import TraceContext
from dispatcher.core.units import Resources

_PLACEHOLDER = re.compile(r"\{(id|task|tenant)\}")


TENANT_PATTERN = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
"""What a tenant may be called."""


class ItemId(NamedTuple):
    """Who an item is: the queue it came on and the sequence number that the broker gave it there."""

    queue: str
    sequence_number: int

    def __str__(self) -> str:
        return f"{self.queue}/{self.sequence_number}"


class Placement(StrEnum):
    """Where a batch can run."""

    NODE_POOL = "node_pool"
    VIRTUAL_NODE = "virtual_node"


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One unit of work, as one message brought it."""

    queue: str
    sequence_number: int
    message_id: str
    digest: str
    """SHA-256, hex, of the message body and of what its properties add: copies have one id and one digest."""
    task: str
    tenant: str
    priority: int
    params_json: str
    """The parameters as compact JSON; opaque to the dispatcher, the worker reads them."""
    enqueued_at: datetime
    received_at: datetime
    expires_at: datetime | None = None
    """When the message's time to live ends; a deferred message does not expire on its own, so we look."""
    reply_to: str | None = None
    """The queue on which the sender wants to hear how the item ended; None: it did not ask."""
    trace: TraceContext | None = None
    """The span of whoever sent it, as far as the message tells; carried along, nothing is decided by it."""

    @property
    def id(self) -> ItemId:
        """The identity of the item."""
        return ItemId(self.queue, self.sequence_number)

    @property
    def traceparent(self) -> str | None:
        """For events about the item; None where the message told none."""
        return self.trace.traceparent if self.trace is not None else None


@dataclass(frozen=True, slots=True)
class Task:
    """A kind of work, as operators define it. A message names it and can change nothing in it."""

    name: str
    image: str
    command: tuple[str, ...]
    requests: Resources
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    env_from: tuple[Mapping[str, object], ...] = ()
    image_pull_secrets: tuple[str, ...] = ()
    service_account_name: str | None = None
    namespace: str = "default"
    labels: Mapping[str, str] = field(default_factory=dict)
    item_timeout: timedelta = timedelta(minutes=10)
    """How long one try of one item may run."""
    start_deadline: timedelta = timedelta(seconds=180)
    """How long a pod may take to start before the platform has failed it."""
    backoff_limit: int = 3
    """How many failures of its own an item may have and still be tried again."""
    batch_size_max: int = 50
    items_per_pod: int | None = 1
    """How many items one pod does, one after another; None: as many as the creates that are left ask for."""
    linger: timedelta = timedelta(seconds=1)
    """How long a batch may wait for company while the task has work in flight."""
    parallelism_max: int = 50
    """How many pods of the task may run at once."""
    placements: tuple[Placement, ...] = (Placement.NODE_POOL, Placement.VIRTUAL_NODE)
    spill_after: timedelta = timedelta(seconds=5)
    """How long an item waits for room on the nodes before it may go to the virtual node."""
    start_by: timedelta | None = None
    """The objective: an item's pod has started so long after it came. It spills as soon as nodes are not expected to
    have room in time, and no sooner; None: spill_after alone decides."""
    virtual_pods_max: int | None = None
    """At most so many of its pods on the virtual node at once; None: whatever fits."""
    result_ref: str | None = None
    """Where the result of an item lies, for whoever asked for its outcome: a text with {id}, {task} and {tenant}."""
    params_schema: Mapping[str, object] | None = None
    event_types: tuple[str, ...] = ()
    """Types of CloudEvents that are work for it, beside the type that equals its name."""

    @property
    def reports(self) -> bool:
        """Whether its pods report how each item ended, since one may carry several; else the phase of a pod tells."""
        return self.items_per_pod != 1

    def result_ref_of(self, item: WorkItem) -> str | None:
        """Where the result of that item lies; None where operators gave no rule."""
        if self.result_ref is None:
            return None
        names = {"id": item.message_id, "task": item.task, "tenant": item.tenant}
        return _PLACEHOLDER.sub(lambda found: names[found[1]], self.result_ref)
