"""The ledger's write: one a cycle, by compare-and-swap; and the telling of what it now says.

Decides nothing. A refused write means that another leader has written: everything in memory is void (Deposed goes up).
A write without an answer may have happened: likewise, since taking over again shows which.
"""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

from dispatcher.core.budgets import Account, AccountId, Budget, Scope, Spender
from dispatcher.core.forecast import forecast
from dispatcher.core.ledger import Ledger
from dispatcher.core.policy import Policy
from dispatcher.core.units import NO_MONEY, Money, to_text
from dispatcher.errors import Deposed
from dispatcher.memory import Memory
from dispatcher.ports import Ports

DOCUMENT_BYTES_MAX = 1 << 20
"""A ConfigMap holds 1 MiB."""
_FULL_AT = DOCUMENT_BYTES_MAX * 8 // 10


async def write(memory: Memory, ports: Ports, policy: Policy) -> None:
    """Writes what has changed. Raises Deposed or OutcomeUnknown: then act no more on this memory."""
    if not memory.draft.changed:
        return
    now = ports.clock.now()
    ledger = memory.draft.finish(now)
    overruns, warnings = list(memory.draft.overruns), list(memory.draft.warnings)
    memory.version = await ports.store.write_ledger(ledger.to_document(), memory.version)
    memory.ledger = ledger
    memory.new_draft(policy)
    for account, percent in warnings:
        ports.events.emit(
            "budget.threshold_passed",
            account=account,
            percent=percent,
            spent_usd=str(ledger.accounts[account].spent),
            limit_usd=str(ledger.accounts[account].limit),
        )
    for name, account in overruns:
        ports.events.emit("alarm.raised", what="overrun", job=name, account=account)
    tell(memory, ports, policy)


async def must_be_ours(memory: Memory, ports: Ports) -> None:
    """Raises Deposed if the ledger that stands is not the one we last wrote: another leader, or an operator, did.

    For acts that no version guards, and so that a leader who has nothing to write hears of it too.
    """
    stored = await ports.store.read_ledger()
    if stored is None or stored.version != memory.version:
        raise Deposed("the ledger has been written by another")


def is_full(ledger: Ledger) -> bool:
    """Whether the document is so near the store's limit that attempts must close before others open.

    Reckoned from the number of entries first: a small ledger is not encoded just to be measured.
    """
    if len(ledger.entries) < 200:
        return False
    return len(json.dumps(ledger.to_document())) > _FULL_AT


def tell(memory: Memory, ports: Ports, policy: Policy) -> None:
    """Tells what stands in the accounts and in the address book."""
    now = ports.clock.now()
    rows = account_rows(memory.ledger, policy.budgets, now)
    current = [row for row in rows if row["scope"] == Scope.ALL and row["current"]]
    tightest = min(current, key=lambda row: Decimal(row["limit_usd"]), default=None)
    profile = policy.virtual_node
    ports.events.emit(
        "ledger.written",
        limit_usd=tightest["limit_usd"] if tightest else None,
        spent_usd=tightest["spent_usd"] if tightest else "0",
        reserved_usd=tightest["reserved_usd"] if tightest else "0",
        addresses_in_use=memory.ledger.addresses(now),
        addresses_usable=profile.addresses_max if profile else 0,
        leaks=leak_rows(memory.ledger),
        over_limit=any(row["over_limit"] for row in rows),
        accounts=rows,
    )


def account_rows(ledger: Ledger, budgets: tuple[Budget, ...], now: datetime) -> list[dict[str, Any]]:
    """Every account as plain JSON values, money as decimal strings; also the present ones that nothing touched yet."""
    untouched = {
        budget.account_of(Spender("", ""), window): Account(budget.name, window, budget.limit, NO_MONEY)
        for budget in budgets
        if budget.scope is Scope.ALL
        for window in budget.windows(now, now)
    }
    reserved = ledger.reserved()
    return [
        _row(account_id, account, reserved.get(account_id, NO_MONEY), now)
        for account_id, account in {**untouched, **ledger.accounts}.items()
    ]


def leak_rows(ledger: Ledger) -> list[dict[str, Any]]:
    """Groups without a pod that are still there, as plain JSON values."""
    return [
        {
            "group": leak.group,
            "job": leak.job,
            "since": to_text(leak.since),
            "bills": leak.bills,
            "cost_usd": str(leak.spent),
        }
        for leak in ledger.leaks.values()
        if leak.held_until is None
    ]


def budget_rows(ledger: Ledger, budgets: tuple[Budget, ...], now: datetime) -> list[dict[str, Any]]:
    """The same, with what people have added, and where each account is going."""
    rows = account_rows(ledger, budgets, now)
    for row in rows:
        account = ledger.accounts.get(row["id"])
        if account is not None:
            row["top_ups"] = [
                {"at": to_text(each.at), "amount_usd": str(each.amount), "author": each.author, "reason": each.reason}
                for each in account.top_ups
            ]
            row.update(forecast(ledger, row["id"], account, now).to_json())
    return rows


def _row(account_id: AccountId, account: Account, reserved: Money, now: datetime) -> dict[str, Any]:
    _name, scope, *_ = account_id.split("|")
    return {
        "id": account_id,
        "budget": account.budget,
        "scope": scope,
        "owner": account_id.owner,
        "window": [to_text(account.window.start), to_text(account.window.end)],
        "current": account.window.start <= now < account.window.end,
        "limit_usd": str(account.limit),
        "spent_usd": str(account.spent),
        "reserved_usd": str(reserved),
        "over_limit": account.spent + reserved > account.limit,
        "overrun": account.overrun,
        "leaked_usd": str(account.leaked),
    }
