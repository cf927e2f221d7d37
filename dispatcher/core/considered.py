"""What a verdict was made from: the room that was left here and there, and the money, at the moment of deciding.

Decides nothing; these are the numbers that explanations are told with. They travel in events and on the Job itself, as
plain JSON, so that a decision can be understood long after the room has changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dispatcher.core.units import Money, from_text, to_text
from dispatcher.core.verdicts import HoldReason


@dataclass(frozen=True, slots=True)
class BudgetRoom:
    """One account that a launch would touch, and what is left in it."""

    budget: str
    owner: str
    """Whose account: ``*`` for all, a tenant, ``*/task``, or ``tenant/task``."""
    until: datetime
    limit: Money
    spent: Money
    reserved: Money
    needed: Money
    """What one more pod sets aside there."""
    overrun: bool = False
    """More was charged than was set aside: nothing is opened until a person has looked."""

    @property
    def left(self) -> Money:
        """What nobody has spent or set aside; below zero where a limit was lowered under what is bound already."""
        return self.limit - self.spent - self.reserved

    @property
    def pods(self) -> int:
        """How many pods it has room for."""
        return 0 if self.overrun else max(0, self.left.picos // self.needed.picos)

    def to_json(self) -> list[Any]:
        """Plain data, short: there is one for every account of every decision."""
        amounts = [each.picos for each in (self.limit, self.spent, self.reserved, self.needed)]
        return [self.budget, self.owner, to_text(self.until), *amounts, self.overrun]

    @classmethod
    def from_json(cls, data: list[Any]) -> BudgetRoom:
        """Reads what :meth:`to_json` wrote."""
        budget, owner, until, limit, spent, reserved, needed, overrun = data
        money = (Money(limit), Money(spent), Money(reserved), Money(needed))
        return cls(budget, owner, from_text(until), *money, overrun)


@dataclass(frozen=True, slots=True)
class VirtualRoom:
    """The virtual node, as it stood for one demand."""

    spill_at: datetime
    """From when on the work may go there rather than wait for a node."""
    groups: int
    """How many more such groups addresses and quotas allow."""
    scarce: HoldReason
    """Which of them is the scarcest."""
    frees_at: datetime | None
    """When time alone brings more of it; None: a group must end first."""
    addresses_in_use: int
    addresses_max: int
    probe_at: datetime | None = None
    """The circuit is open, and a single probe may go then; None: it is closed."""
    failures: int = 0
    """Failures of the virtual node in a row."""
    frozen: str = ""
    budgets: tuple[BudgetRoom, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "spillAt": to_text(self.spill_at),
            "groups": self.groups,
            "scarce": self.scarce.value,
            "freesAt": self.frees_at and to_text(self.frees_at),
            "inUse": self.addresses_in_use,
            "addresses": self.addresses_max,
            "probeAt": self.probe_at and to_text(self.probe_at),
            "failures": self.failures,
            "frozen": self.frozen,
            "budgets": [each.to_json() for each in self.budgets],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> VirtualRoom:
        """Reads what :meth:`to_json` wrote."""
        return cls(
            spill_at=from_text(data["spillAt"]),
            groups=data["groups"],
            scarce=HoldReason(data["scarce"]),
            frees_at=data["freesAt"] and from_text(data["freesAt"]),
            addresses_in_use=data["inUse"],
            addresses_max=data["addresses"],
            probe_at=data["probeAt"] and from_text(data["probeAt"]),
            failures=data["failures"],
            frozen=data["frozen"],
            budgets=tuple(BudgetRoom.from_json(each) for each in data["budgets"]),
        )


@dataclass(frozen=True, slots=True)
class Considered:
    """Everything that one demand was decided with."""

    at: datetime
    waiting_since: datetime
    count: int
    """Items that wanted to start together."""
    in_flight: int
    """Pods of the task."""
    parallelism_max: int
    node_slots: int | None
    """How many such pods would start on the nodes at once; None: the task may not run there."""
    virtual: VirtualRoom | None
    """None: there is no virtual node, or the task may not run there."""

    @property
    def waited(self) -> timedelta:
        """How long it had waited by then."""
        return max(timedelta(0), self.at - self.waiting_since)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "at": to_text(self.at),
            "since": to_text(self.waiting_since),
            "count": self.count,
            "inFlight": self.in_flight,
            "inFlightMax": self.parallelism_max,
            "nodeSlots": self.node_slots,
            "virtual": self.virtual and self.virtual.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Considered:
        """Reads what :meth:`to_json` wrote. Raises KeyError or ValueError for what it did not write."""
        return cls(
            at=from_text(data["at"]),
            waiting_since=from_text(data["since"]),
            count=data["count"],
            in_flight=data["inFlight"],
            parallelism_max=data["inFlightMax"],
            node_slots=data["nodeSlots"],
            virtual=data["virtual"] and VirtualRoom.from_json(data["virtual"]),
        )
