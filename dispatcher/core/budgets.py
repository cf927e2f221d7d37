"""Budgets: whose money, over which window, and what a launch must set aside before it exists.

Decides which accounts a launch touches and how much it reserves in each. Knows nothing of how accounts are stored
(that is the ledger) nor of why a launch is wanted (that is routing).

**What a launch reserves.** A Job keeps at most P pods active for at most D seconds, so its active pods bill at most P
x D. Every one of the G groups it can ever make may outlive its pod by the tail. With all of it in one window the worst
case is therefore rate x (P x D + G x tail), and no Job can bill more. "Parallelism x deadline plus one tail" is no
bound: of 60,000 random Jobs it was broken by more than half. The Job may come to exist any time between the writing of
its entry and ``launch_grace`` later, and clocks may differ by ``clock_error``; so for a window w the seconds that
count are those of w within [written - error, written + grace + D + error), and for tails the same with its end one
tail later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from dispatcher.core.jobs import JobShape
from dispatcher.core.units import Money, from_text, to_text, whole_seconds
from dispatcher.core.windows import Window, WindowKind, windows_touching

LAUNCH_SEND = timedelta(seconds=30)
"""How long after its entry was written a Job's create may still be sent."""
LAUNCH_GRACE = LAUNCH_SEND + timedelta(seconds=60)
"""From the writing of an entry to the latest instant at which its Job can come to exist: the API server's own limit
on a request is 60 s."""
CLOCK_ERROR = timedelta(seconds=5)
"""How far our clock and the bill's may be apart."""


class Scope(StrEnum):
    """Whose spending a budget counts."""

    ALL = "all"
    TENANT = "tenant"


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit on spending. ``tenant`` names the one it is for; None, with scope tenant, gives each its own account."""

    name: str
    limit: Money
    scope: Scope = Scope.ALL
    window: WindowKind = WindowKind.DAY
    zone: ZoneInfo = ZoneInfo("UTC")
    tenant: str | None = None

    def counts(self, tenant: str) -> bool:
        """Whether spending for that tenant counts against this budget."""
        return self.scope is Scope.ALL or self.tenant in (None, tenant)

    def account_of(self, tenant: str, window: Window) -> AccountId:
        """The account that spending for that tenant in that window is booked to."""
        whose = "*" if self.scope is Scope.ALL else tenant
        return AccountId("|".join((self.key, whose, to_text(window.start))))

    @property
    def key(self) -> str:
        """What makes two budgets the same one: another scope, window or time zone makes another."""
        return "|".join((self.name, self.scope, self.tenant or "*", self.window, self.zone.key))


class AccountId(str):
    """One budget, one owner, one window, as text: the budget's key, the owner, the window's start."""

    __slots__ = ()

    @property
    def budget_key(self) -> str:
        """The key of the budget that it belongs to."""
        return self.rsplit("|", 2)[0]

    @property
    def owner(self) -> str:
        """The tenant whose account it is; ``*`` for all."""
        return self.rsplit("|", 2)[1]


@dataclass(frozen=True, slots=True)
class Account:
    """A limit in force over one window, and what has been spent of it."""

    budget: str
    window: Window
    limit: Money
    spent: Money
    overrun: bool = False
    """A charge went beyond what was reserved; nothing is opened here until a person has looked."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for the ledger document."""
        start, end = to_text(self.window.start), to_text(self.window.end)
        return {
            "budget": self.budget,
            "window": [start, end],
            "limit": self.limit.picos,
            "spent": self.spent.picos,
            "overrun": self.overrun,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Account:
        """Reads what :meth:`to_json` wrote."""
        start, end = data["window"]
        window = Window(from_text(start), from_text(end))
        limit, spent = Money(data["limit"]), Money(data["spent"])
        return cls(data["budget"], window, limit, spent, data["overrun"])


@dataclass(frozen=True, slots=True)
class WorstCase:
    """All that the cost of one attempt depends on."""

    shape: JobShape
    rate: Money
    """Of one group, for one second."""
    tail: timedelta
    """By how much a group may outlive its pod."""

    def total(self) -> Money:
        """The worst case where all of it falls into one window."""
        return self.rate * (
            self.shape.parallelism * whole_seconds(self.shape.deadline) + self.shape.pods_max * whole_seconds(self.tail)
        )

    def first_second(self, written: datetime) -> datetime:
        """The instant from which this attempt may bill, by a clock that is behind ours."""
        return written - CLOCK_ERROR

    def last_second(self, written: datetime) -> datetime:
        """The instant from which nothing of this attempt can bill any more."""
        return written + LAUNCH_GRACE + self.shape.deadline + self.tail + CLOCK_ERROR

    def within(self, window: Window, written: datetime) -> Money:
        """The worst case of what is billed inside that window, for an entry written at that time."""
        start = self.first_second(written)
        end = written + LAUNCH_GRACE + self.shape.deadline + CLOCK_ERROR
        active = min(whole_seconds(self.shape.deadline), whole_seconds(window.overlap(start, end)))
        tails = min(whole_seconds(self.tail), whole_seconds(window.overlap(start, end + self.tail)))
        return self.rate * (self.shape.parallelism * active + self.shape.pods_max * tails)


def touched(
    budgets: tuple[Budget, ...], tenant: str, start: datetime, end: datetime
) -> Iterator[tuple[Budget, Window, AccountId]]:
    """Every account in which something billed for that tenant within [start, end) is booked."""
    for budget in budgets:
        if budget.counts(tenant):
            for window in windows_touching(budget.window, budget.zone, start, end):
                yield budget, window, budget.account_of(tenant, window)
