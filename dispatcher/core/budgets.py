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
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from dispatcher.core.jobs import JobShape
from dispatcher.core.units import NO_MONEY, Money, from_text, to_text, whole_seconds
from dispatcher.core.windows import BusinessHours, Window, WindowKind, windows_touching

LAUNCH_SEND = timedelta(seconds=30)
"""How long after its entry was written a Job's create may still be sent."""
CREATE_SETTLES_IN = timedelta(seconds=60)
"""How long after it was begun a create may still land: with all its tries, and the API server's own limit on each."""
LAUNCH_GRACE = LAUNCH_SEND + CREATE_SETTLES_IN
"""From the writing of an entry to the latest instant at which its Job can come to exist, whoever sends the create."""
CLOCK_ERROR = timedelta(seconds=5)
"""How far our clock and the bill's may be apart."""


class Scope(StrEnum):
    """Whose spending a budget counts."""

    ALL = "all"
    TENANT = "tenant"
    TASK = "task"
    TENANT_TASK = "tenant_task"
    """One task of one tenant."""


class WhenExhausted(StrEnum):
    """What becomes of work whose budget is spent for this window. Reserved money comes back, so it only delays."""

    NODES_ONLY = "nodes_only"
    """It goes on on the nodes, which cost nothing more, and spills no more."""
    HOLD = "hold"
    """It waits for the next window, nodes or not."""
    DEAD_LETTER = "dead_letter"
    """It is dead-lettered; a retry that is under way waits instead."""


class Spender(NamedTuple):
    """Whose money it is: the tenant that work is for, and its task."""

    tenant: str
    task: str

    @property
    def owners(self) -> frozenset[str]:
        """The owners of all accounts that this spending may be booked to."""
        return frozenset({ANYONE, self.tenant, f"*/{self.task}", f"{self.tenant}/{self.task}"})


ANYONE = "*"
"""The owner of an account that counts everything."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit on spending. ``tenant`` and ``task`` name the one it is for; None gives each its own account."""

    name: str
    limit: Money
    scope: Scope = Scope.ALL
    window: WindowKind = WindowKind.DAY
    zone: ZoneInfo = ZoneInfo("UTC")
    tenant: str | None = None
    task: str | None = None
    hours: BusinessHours | None = None
    """The hours that it counts; None: all."""
    warn_at: tuple[int, ...] = ()
    """Percentages of the limit; when so much is spent, operators are told, once a window."""
    when_exhausted: WhenExhausted = WhenExhausted.NODES_ONLY

    def counts(self, spender: Spender) -> bool:
        """Whether that spending counts against this budget."""
        if self.scope in (Scope.TENANT, Scope.TENANT_TASK) and self.tenant not in (None, spender.tenant):
            return False
        return self.scope in (Scope.ALL, Scope.TENANT) or self.task in (None, spender.task)

    def account_of(self, spender: Spender, window: Window) -> AccountId:
        """The account that this spending in that window is booked to."""
        owner = {
            Scope.ALL: ANYONE,
            Scope.TENANT: spender.tenant,
            Scope.TASK: f"*/{spender.task}",
            Scope.TENANT_TASK: f"{spender.tenant}/{spender.task}",
        }[self.scope]
        return AccountId("|".join((self.key, owner, to_text(window.start))))

    def windows(self, start: datetime, end: datetime) -> Iterator[Window]:
        """The windows that [start, end) touches."""
        return windows_touching(self.window, self.zone, start, end, self.hours)

    @property
    def key(self) -> str:
        """What makes two budgets the same one: another scope, window, time zone or other hours make another."""
        hours = "all"
        if self.hours is not None:
            days = "".join(str(day) for day in sorted(self.hours.days))
            hours = f"{days}-{self.hours.opens:%H%M}-{self.hours.closes:%H%M}"
        whose = f"{self.tenant or '*'}/{self.task or '*'}"
        return "|".join((self.name, self.scope, whose, self.window, self.zone.key, hours))


class AccountId(str):
    """One budget, one owner, one window, as text: the budget's key, the owner, the window's start."""

    __slots__ = ()

    @property
    def budget_key(self) -> str:
        """The key of the budget that it belongs to."""
        return self.rsplit("|", 2)[0]

    @property
    def owner(self) -> str:
        """Whose account it is: ``*`` for all, a tenant, ``*/task``, or ``tenant/task``."""
        return self.rsplit("|", 2)[1]


@dataclass(frozen=True, slots=True)
class TopUp:
    """Money that a person added to one account, for the rest of its window. It stands in the ledger with its author."""

    id: str
    """Whoever sends it twice, since no answer came, adds it once."""
    at: datetime
    amount: Money
    author: str
    reason: str

    def to_json(self) -> list[Any]:
        """Plain data."""
        return [self.id, to_text(self.at), self.amount.picos, self.author, self.reason]

    @classmethod
    def from_json(cls, data: list[Any]) -> TopUp:
        """Reads what :meth:`to_json` wrote."""
        name, at, picos, author, reason = data
        return cls(name, from_text(at), Money(picos), author, reason)


@dataclass(frozen=True, slots=True)
class Account:
    """A limit in force over one window, and what has been spent of it."""

    budget: str
    window: Window
    limit: Money
    """The budget's, and what was added to it."""
    spent: Money
    warned: int = 0
    """The highest of the budget's ``warn_at`` that operators have been told of."""
    overrun: bool = False
    """A charge went beyond what was reserved; nothing is opened here until a person has looked."""
    leaked: Money = NO_MONEY
    """Of what was spent: on groups without a pod, for which nothing was reserved."""
    top_ups: tuple[TopUp, ...] = ()

    @property
    def topped_up(self) -> Money:
        """How much of the limit people have added."""
        return sum((each.amount for each in self.top_ups), start=NO_MONEY)

    def to_json(self) -> dict[str, Any]:
        """Plain data for the ledger document."""
        start, end, hours = to_text(self.window.start), to_text(self.window.end), self.window.hours
        added = {"topUps": [each.to_json() for each in self.top_ups]} if self.top_ups else {}
        return {
            "budget": self.budget,
            "window": [start, end],
            "hours": None if hours is None else [[to_text(a), to_text(b)] for a, b in hours],
            "limit": self.limit.picos,
            "spent": self.spent.picos,
            "warned": self.warned,
            "overrun": self.overrun,
            **({"leaked": self.leaked.picos} if self.leaked else {}),
            **added,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Account:
        """Reads what :meth:`to_json` wrote."""
        start, end = data["window"]
        hours = data["hours"]
        parts = None if hours is None else tuple((from_text(a), from_text(b)) for a, b in hours)
        window = Window(from_text(start), from_text(end), parts)
        limit, spent = Money(data["limit"]), Money(data["spent"])
        leaked = Money(data.get("leaked", 0))
        added = tuple(TopUp.from_json(each) for each in data.get("topUps", ()))
        return cls(data["budget"], window, limit, spent, data["warned"], data["overrun"], leaked, added)


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
    budgets: tuple[Budget, ...], spender: Spender, start: datetime, end: datetime
) -> Iterator[tuple[Budget, Window, AccountId]]:
    """Every account in which something billed to that spender within [start, end) is booked."""
    for budget in budgets:
        if budget.counts(spender):
            for window in budget.windows(start, end):
                yield budget, window, budget.account_of(spender, window)


TEXT_MAX = 200
"""Longest author and reason of a top-up: they stand in the ledger, which has a bound."""


def account_for(
    budgets: tuple[Budget, ...], name: str, owner: Spender | None, now: datetime
) -> tuple[AccountId, Account]:
    """The present account of that budget, as it is before anything was booked to it.

    ``owner`` names the tenant and the task, as far as the budget tells them apart; None: it tells none apart. Raises
    ValueError that reads "what is wrong; what to do instead".
    """
    budget = next((each for each in budgets if each.name == name), None)
    if budget is None:
        known = ", ".join(sorted(each.name for each in budgets)) or "none"
        raise ValueError(f"there is no budget {name!r}; known are {known}")
    given = owner or Spender("", "")
    named = []
    for what, of, own, scopes in (
        ("tenant", given.tenant, budget.tenant, (Scope.TENANT, Scope.TENANT_TASK)),
        ("task", given.task, budget.task, (Scope.TASK, Scope.TENANT_TASK)),
    ):
        tells_apart = budget.scope in scopes
        if of and (not tells_apart or own not in (None, of)):
            raise ValueError(f"budget {name} has no account for {what} {of!r} alone; leave the {what} out")
        if tells_apart and not (own or of):
            raise ValueError(f"budget {name} has an account for each {what}; say which, with --{what}")
        named.append(own or of)
    spender = Spender(*named)
    window = next(budget.windows(now, now))
    return budget.account_of(spender, window), Account(budget.name, window, budget.limit, NO_MONEY)


def checked_top_up(name: str, at: datetime, amount: Money, author: str, reason: str) -> TopUp:
    """A top-up that may be booked. Raises ValueError that reads "what is wrong; what to do instead"."""
    who, why = " ".join(author.split()), " ".join(reason.split())
    if amount <= NO_MONEY:
        raise ValueError(f"{amount} dollars add nothing; say how many, or lower the limit in the configuration")
    if not name or len(name) > TEXT_MAX:
        raise ValueError("id: is missing or too long; send any short text that is new for each top-up")
    for what, text, example in (("author", who, "your name"), ("reason", why, "what the money is for")):
        if not text:
            raise ValueError(f"{what}: is missing; say {example}, it stands in the audit log")
        if len(text) > TEXT_MAX or not text.isprintable():
            raise ValueError(f"{what}: must be at most {TEXT_MAX} printable characters; write it shorter")
    return TopUp(name, at, amount, who, why)
