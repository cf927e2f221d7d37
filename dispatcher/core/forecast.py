"""Where the money of an account goes: what runs now costs an hour, and where that leads by the end of the window.

Decides how a forecast is reckoned, and that it is none of the ledger's business: nothing is booked by it, and no launch
depends on it. Knows what the ledger knows, no more: groups that were seen, at the price they were reserved at.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dispatcher.core.budgets import Account, AccountId
from dispatcher.core.ledger import Entry, Ledger
from dispatcher.core.pricing import SECONDS_AN_HOUR, cost_of
from dispatcher.core.units import NO_MONEY, Money, to_text

_SECOND = timedelta(seconds=1)
SETTLES_AFTER = timedelta(minutes=1)
"""A mean over less than that of a window says nothing."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """One account, and where it is going."""

    burn_per_hour: Money
    """What the groups that run now cost in an hour."""
    accrued: Money
    """What they have cost in this window so far and is not booked yet: a view, part of what is set aside."""
    mean_per_hour: Money | None
    """Of the window so far; None: it has only just begun, or has not."""
    at_end: Money
    """By the end of the window, if it goes on as on the mean of the window so far (or as now, where there is no mean).
    Not bounded by the limit: what is above it will be held."""
    empty_at: datetime | None
    """When the limit is reached if it goes on as now; None: not within this window."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; amounts are dollars."""
        return {
            "burn_usd_per_hour": str(self.burn_per_hour),
            "accrued_usd": str(self.accrued),
            "mean_usd_per_hour": None if self.mean_per_hour is None else str(self.mean_per_hour),
            "forecast_usd": str(self.at_end),
            "empty_at": self.empty_at and to_text(self.empty_at),
        }


def forecast(ledger: Ledger, account_id: AccountId, account: Account, now: datetime) -> Forecast:
    """Where that account is going."""
    burn, accrued = 0, 0
    for entry in ledger.entries.values():
        if entry.paid and account_id.owner in entry.spender.owners and not entry.money_settled:
            running, cost = _of_entry(entry, account, now)
            burn += entry.rate.picos * running * SECONDS_AN_HOUR
            accrued += cost.picos
    used = account.spent + Money(accrued)
    elapsed = account.window.overlap(account.window.start, now)
    ahead = account.window.overlap(max(now, account.window.start), account.window.end)
    mean = Money(used.picos * SECONDS_AN_HOUR // (elapsed // _SECOND)) if elapsed >= SETTLES_AFTER else None
    pace = Money(burn) if mean is None else mean
    at_end = used + Money(pace.picos * (ahead // _SECOND) // SECONDS_AN_HOUR)
    return Forecast(Money(burn), Money(accrued), mean, at_end, _empty_at(account, used, Money(burn), now))


def _of_entry(entry: Entry, account: Account, now: datetime) -> tuple[int, Money]:
    """How many of its groups run, and what those that are not charged have cost in the account's window."""
    running, cost = 0, NO_MONEY
    for note in entry.pods.values():
        if note.charged:
            continue
        end = note.ended_at or note.gone_at
        running += end is None
        cost += cost_of(entry.rate, account.window.overlap(note.created_at, end or now))
    return running, cost


def _empty_at(account: Account, used: Money, burn: Money, now: datetime) -> datetime | None:
    left = account.limit - used
    if left.picos <= 0:
        return now
    if not burn or account.window.hours is not None:
        return None
    at = now + _SECOND * (left.picos * SECONDS_AN_HOUR // burn.picos)
    return at if at < account.window.end else None
