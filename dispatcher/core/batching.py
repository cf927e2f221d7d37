"""Which items travel together, and when a batch stops waiting for company.

Decides how many items from the front of a lane form the next batch. A lane holds the backlog of one task, tenant and
priority, oldest first, so that a batch is always of one kind. Knows nothing of where a batch will run.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple, Protocol

from dispatcher.core.work import Task, WorkItem

_ITEM_OVERHEAD_BYTES = 400
"""What an item's manifest adds to its parameters: ids, times and field names."""
_TRACE_BYTES = 110
"""What its trace adds besides the tracestate: the traceparent and the field names."""


class LaneKey(NamedTuple):
    """What the items of a batch have in common."""

    task: str
    tenant: str
    priority: int


class LaneItems(Protocol):
    """The items of a lane in order, by identity. Read only while a plan is made."""

    def values(self) -> Collection[WorkItem]:
        """The items, oldest first."""
        ...

    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Lane:
    """A backlog lane, as the plan sees it."""

    key: LaneKey
    items: LaneItems


def manifest_bytes(item: WorkItem) -> int:
    """What the item adds to its batch's manifest, about."""
    trace = len(item.trace.tracestate or "") + _TRACE_BYTES if item.trace is not None else 0
    return len(item.params_json.encode()) + _ITEM_OVERHEAD_BYTES + trace


def next_batch(lane: Lane, skip: int, task: Task, bytes_max: int) -> list[WorkItem]:
    """The items behind the first ``skip`` that travel together next: bounded by count and by manifest bytes.

    An item that alone is over the bound travels alone: a message's size has its own limit, at the door.
    """
    batch: list[WorkItem] = []
    total = 0
    for item in islice(lane.items.values(), skip, skip + task.batch_size_max):
        total += manifest_bytes(item)
        if batch and total > bytes_max:
            break
        batch.append(item)
    return batch


LONGEST_POD = timedelta(hours=1)
"""A pod that may run longer gains nothing: by then the creates of an hour are there again."""


def items_in_a_pod(task: Task, waiting: int, creates_left: int | None) -> int:
    """How many items a pod of the task is to do, with so many waiting in all.

    ``auto`` shares what waits among the creates that are left of the hour (ACI gives 300), so that a burst larger than
    these need not wait for the next ones; where no creates are counted (``creates_left`` is None: the nodes), or there
    are enough, each item has a pod of its own and none waits for another.
    """
    if task.items_per_pod is not None:
        return task.items_per_pod
    if creates_left is None:
        return 1
    within = max(1, LONGEST_POD // task.item_timeout)
    return min(within, max(1, -(-waiting // max(1, creates_left))))


def pods_for(count: int, per_pod: int) -> int:
    """How many pods so many items need."""
    return -(-count // per_pod)


def has_lingered(oldest: WorkItem, task: Task, now: datetime) -> bool:
    """A batch waits for company only as long as its oldest item has patience."""
    return now - oldest.received_at >= task.linger
