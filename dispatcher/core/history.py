"""What has happened lately: the events of items, attempts and kinds of work, kept for explanations, within bounds.

Decides what of an event is worth keeping, for whom, and for how long: the oldest subject goes first. Rests on nothing
and nothing rests on it; the event log has everything.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

ITEMS_MAX = 10_000
ATTEMPTS_MAX = 3_000
KINDS_MAX = 500
PER_SUBJECT_MAX = 12
_ITEM_EVENTS = ("item.received", "item.retried", "item.done", "item.dead_lettered", "item.rejected")
_ATTEMPT_EVENTS = ("batch.launched", "attempt.closed", "attempt.cancelled", "job.refused", "job.create_unanswered")
_KEPT = frozenset(
    {
        "job", "task", "tenant", "placement", "cause", "allowance", "message", "reason", "description", "attempts",
        "waited_seconds", "items", "why", "considered", "reserved_usd", "cost_usd", "parallelism", "text", "until",
        "detail", "batch", "attempt",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Told:
    """One event, as far as it is kept."""

    at: datetime
    event: str
    facts: Mapping[str, Any]


class _Shelf:
    """Events by subject, the subjects in the order in which something last happened to them."""

    def __init__(self, subjects_max: int) -> None:
        self._subjects_max = subjects_max
        self._told: OrderedDict[str, deque[Told]] = OrderedDict()

    def put(self, subject: str, told: Told) -> None:
        self._told.setdefault(subject, deque(maxlen=PER_SUBJECT_MAX)).append(told)
        self._told.move_to_end(subject)
        if len(self._told) > self._subjects_max:
            self._told.popitem(last=False)

    def of(self, subject: str) -> tuple[Told, ...]:
        return tuple(self._told.get(subject, ()))

    def names(self) -> tuple[str, ...]:
        return tuple(self._told)


class History:
    """Listens to all events and answers what happened to whom."""

    def __init__(self) -> None:
        self._items = _Shelf(ITEMS_MAX)
        self._attempts = _Shelf(ATTEMPTS_MAX)
        self._kinds = _Shelf(KINDS_MAX)

    def __call__(self, event: str, at: datetime, facts: Mapping[str, Any]) -> None:
        """Keeps what is worth keeping of one event."""
        if event in _ITEM_EVENTS:
            self._items.put(str(facts.get("item")), _told(event, at, facts))
        elif event in _ATTEMPT_EVENTS:
            self._attempts.put(str(facts.get("job")), _told(event, at, facts))
        if event in ("batch.launched", "batch.held", "item.dead_lettered"):
            self._kinds.put(kind(str(facts.get("task")), str(facts.get("tenant"))), _told(event, at, facts))

    def of_item(self, message_id: str) -> tuple[Told, ...]:
        """What happened to an item, in order."""
        return self._items.of(message_id)

    def of_attempt(self, name: str) -> tuple[Told, ...]:
        """What happened to an attempt, in order."""
        return self._attempts.of(name)

    def of_kind(self, task: str, tenant: str) -> tuple[Told, ...]:
        """The verdicts on work of that task and tenant, in order."""
        return self._kinds.of(kind(task, tenant))

    def attempts(self) -> tuple[str, ...]:
        """The attempts that something is known of, the latest last."""
        return self._attempts.names()

    def tenants(self) -> frozenset[str]:
        """Tenants whose work something is known of."""
        return frozenset(name.partition("\n")[2] for name in self._kinds.names())

    def tasks_of(self, tenant: str) -> tuple[str, ...]:
        """Tasks of a tenant that something is known of."""
        pairs = (name.partition("\n") for name in self._kinds.names())
        return tuple(sorted(task for task, _, owner in pairs if owner == tenant))


def kind(task: str, tenant: str) -> str:
    """The subject of work of that task and tenant; neither may hold the separator."""
    return f"{task}\n{tenant}"


def _told(event: str, at: datetime, facts: Mapping[str, Any]) -> Told:
    return Told(at, event, {key: value for key, value in facts.items() if key in _KEPT and value is not None})
