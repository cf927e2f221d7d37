"""Order: what a person asks for goes through the ledger like everything else, and is answered once it stands there.

Decides nothing but which account is meant. A write that got no answer may have happened: whoever asked is told so, and
may ask again under the same id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dispatcher.core.budgets import Account, AccountId, Spender, account_for, checked_top_up
from dispatcher.core.policy import Policy
from dispatcher.core.units import Money, to_text
from dispatcher.errors import Deposed, OutcomeUnknown
from dispatcher.memory import Memory
from dispatcher.ports import Answer, Ports
from dispatcher.stages import bookkeeping


@dataclass(frozen=True, slots=True)
class Ordered:
    """How an order went, for whoever gave it. REFUSED: nothing has changed; UNKNOWN: it may stand, or may yet."""

    answer: Answer
    text: str = ""
    facts: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TopUpOrder:
    """Somebody wants to add money to the present account of a budget."""

    id: str
    budget: str
    amount: Money
    author: str
    reason: str
    tell: Callable[[Ordered], None]
    owner: Spender | None = None
    """The tenant and the task, where the budget tells them apart."""


async def carry_out(memory: Memory, ports: Ports, policy: Policy, orders: Sequence[TopUpOrder]) -> None:
    """Books all orders in one write. Raises what the write raises, when whoever asked has been told."""
    booked: list[tuple[TopUpOrder, AccountId, bool]] = []
    now = ports.clock.now()
    for order in orders:
        try:
            account_id, untouched = account_for(policy.budgets, order.budget, order.owner, now)
            top_up = checked_top_up(order.id, now, order.amount, order.author, order.reason)
        except ValueError as mistake:
            order.tell(Ordered(Answer.REFUSED, str(mistake)))
        else:
            booked.append((order, account_id, memory.draft.top_up(account_id, untouched, top_up)))
    if not booked:
        return
    try:
        await bookkeeping.write(memory, ports, policy)
    except (Deposed, OutcomeUnknown) as doubt:
        text = f"it is not known whether it was booked ({doubt}); ask again under the same id"
        for order, _, _ in booked:
            order.tell(Ordered(Answer.UNKNOWN, text))
        raise
    for order, account_id, is_new in booked:
        _told(memory, ports, order, account_id, is_new=is_new)


def _told(memory: Memory, ports: Ports, order: TopUpOrder, account_id: AccountId, *, is_new: bool) -> None:
    account: Account | None = memory.ledger.accounts.get(account_id)
    facts = {
        "account": account_id,
        "budget": order.budget,
        "amount_usd": str(order.amount),
        "author": " ".join(order.author.split()),
        "reason": " ".join(order.reason.split()),
        "limit_usd": str(account.limit) if account else None,
        "until": to_text(account.window.end) if account else None,
        "id": order.id,
    }
    if is_new:
        ports.events.emit("budget.topped_up", **facts)
    order.tell(Ordered(Answer.DONE, "" if is_new else "it had been booked before", facts))
