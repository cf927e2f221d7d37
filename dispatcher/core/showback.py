"""Showback: what whose work has cost, by day, tenant, task and place, and what it would have cost elsewhere.

Decides how closed attempts are added up and how the same work is priced all on nodes and all on the virtual node.
Listens to events, and can be made anew from the event log at any time: nothing rests on it. A day is that of UTC on
which an attempt was closed; budgets count each second in its own window, so that the two may differ around midnight.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

from dispatcher.core.policy import Policy
from dispatcher.core.pricing import SECONDS_AN_HOUR, group_rate
from dispatcher.core.units import NO_MONEY, UTC, Money
from dispatcher.core.work import Placement

DAYS_KEPT = 35
_JOBS_REMEMBERED = 100_000
CLOSED = "attempt.closed"


class By(StrEnum):
    """What rows can be told apart by."""

    DAY = "day"
    TENANT = "tenant"
    TASK = "task"
    PLACEMENT = "placement"


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """What a row is about; empty: all of them together."""

    day: str = ""
    tenant: str = ""
    task: str = ""
    placement: str = ""


@dataclass(frozen=True, slots=True)
class Sums:
    """What attempts have come to."""

    attempts: int = 0
    items: int = 0
    pods: int = 0
    pod_seconds: int = 0
    """From the making of each pod to its end, as far as seen."""
    cost: Money = NO_MONEY
    set_aside: Money = NO_MONEY
    """Their worst case, once; beside the cost it shows how much more is set aside than spent."""

    def plus(self, other: Sums) -> Sums:
        """Both together."""
        return Sums(
            self.attempts + other.attempts,
            self.items + other.items,
            self.pods + other.pods,
            self.pod_seconds + other.pod_seconds,
            self.cost + other.cost,
            self.set_aside + other.set_aside,
        )


Row = tuple[Key, Sums]


class Showback:
    """Adds up the attempts of the last days."""

    def __init__(self) -> None:
        self._rows: dict[Key, Sums] = {}
        self._jobs: OrderedDict[str, None] = OrderedDict()

    def __call__(self, event: str, at: datetime, facts: Mapping[str, Any]) -> None:
        """Adds an attempt that was closed; the same one once, since a crash may have it told twice."""
        job = str(facts.get("job"))
        if event != CLOSED or job in self._jobs:
            return
        self._jobs[job] = None
        if len(self._jobs) > _JOBS_REMEMBERED:
            self._jobs.popitem(last=False)
        day = at.astimezone(UTC).date()
        key = Key(day.isoformat(), *(str(facts.get(name) or "") for name in ("tenant", "task", "placement")))
        sums = Sums(
            1,
            int(facts.get("items") or 0),
            int(facts.get("pods") or 0),
            int(facts.get("pod_seconds") or 0),
            Money.from_usd(str(facts.get("cost_usd") or 0)),
            Money.from_usd(str(facts.get("reserved_usd") or 0)),
        )
        if key not in self._rows:
            self._forget_before(day - timedelta(days=DAYS_KEPT))
        self._rows[key] = self._rows.get(key, Sums()).plus(sums)

    def _forget_before(self, day: date) -> None:
        self._rows = {key: sums for key, sums in self._rows.items() if key.day >= day.isoformat()}

    def rows(self) -> list[Row]:
        """All rows, the finest there are, in order."""
        return sorted(self._rows.items())


def summed(rows: Iterable[Row], by: Iterable[By]) -> list[Row]:
    """Rows added up to what they are told apart by."""
    columns = set(by)
    found: dict[Key, Sums] = {}
    for key, sums in rows:
        coarse = replace(key, **{each.value: "" for each in By if each not in columns})
        found[coarse] = found.get(coarse, Sums()).plus(sums)
    return sorted(found.items())


def within(rows: Iterable[Row], since: date | None, until: date | None) -> Iterator[Row]:
    """Rows of the days from the first to the last, both included."""
    for key, sums in rows:
        if (since is None or key.day >= since.isoformat()) and (until is None or key.day <= until.isoformat()):
            yield key, sums


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What the same pods would have cost in one place alone, at present prices."""

    all_virtual: Money
    """As container groups, each for as long as its pod took."""
    all_nodes: Money | None
    """On nodes packed full and used for nothing else meanwhile, to the second; None: no price of a node is known, or a
    pod fits on none. Nodes that stand idle between, start or scale down come on top."""


def elsewhere(rows: Iterable[Row], policy: Policy) -> Elsewhere:
    """The same work, all on the virtual node and all on nodes. Needs rows that tell tasks and places apart.

    What ran on the virtual node counts there as it was billed. Tasks that are not known any more count as they were.
    """
    node, profile = policy.node_pool.price, policy.virtual_node
    virtual, on_nodes, known = NO_MONEY, NO_MONEY, True
    for key, sums in rows:
        task = policy.tasks.get(key.task)
        paid = key.placement == Placement.VIRTUAL_NODE
        if task is None or profile is None or paid:
            virtual += sums.cost
        else:
            virtual += group_rate(profile.of_group(task.requests), profile.rates) * sums.pod_seconds
        an_hour = node.pod_hour(task.requests) if node is not None and task is not None else None
        if an_hour is None:
            known = False
        else:
            on_nodes += Money(-(-an_hour.picos * sums.pod_seconds // SECONDS_AN_HOUR))
    return Elsewhere(virtual, on_nodes if known else None)


def together(prices: Iterable[Elsewhere]) -> Elsewhere:
    """The prices of parts as that of the whole."""
    virtual, on_nodes, known = NO_MONEY, NO_MONEY, True
    for price in prices:
        virtual += price.all_virtual
        on_nodes += price.all_nodes or NO_MONEY
        known = known and price.all_nodes is not None
    return Elsewhere(virtual, on_nodes if known else None)


def elsewhere_json(price: Elsewhere) -> dict[str, str | None]:
    """Plain data; amounts are dollars."""
    nodes = None if price.all_nodes is None else str(price.all_nodes)
    return {"all_virtual_usd": str(price.all_virtual), "all_nodes_usd": nodes}


def elsewhere_of(data: Mapping[str, Any]) -> Elsewhere:
    """Reads what :func:`elsewhere_json` wrote."""
    nodes = data["all_nodes_usd"]
    return Elsewhere(Money.from_usd(data["all_virtual_usd"]), None if nodes is None else Money.from_usd(nodes))


def row_json(row: Row) -> dict[str, Any]:
    """A row as plain data; amounts are dollars."""
    key, sums = row
    return {
        **{name: value for name in ("day", "tenant", "task", "placement") if (value := getattr(key, name))},
        "attempts": sums.attempts,
        "items": sums.items,
        "pods": sums.pods,
        "pod_seconds": sums.pod_seconds,
        "cost_usd": str(sums.cost),
        "set_aside_usd": str(sums.set_aside),
    }


def row_of(data: Mapping[str, Any]) -> Row:
    """Reads what :func:`row_json` wrote."""
    key = Key(*(str(data.get(name, "")) for name in ("day", "tenant", "task", "placement")))
    attempts, items, pods, seconds = (int(data[name]) for name in ("attempts", "items", "pods", "pod_seconds"))
    return key, Sums(
        attempts, items, pods, seconds, Money.from_usd(data["cost_usd"]), Money.from_usd(data["set_aside_usd"])
    )
