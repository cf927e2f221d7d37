"""Law 3, admission. No write of the ledger raises spent + reserved of an account above the limit that stands in it.

Looked at in every document that the store accepts. An overrun may go beyond, but only where an assumption of the
product was really broken, and nothing is opened on such an account before a person has looked. What groups without a
pod are charged may go beyond too, for the same reason alone, and nothing is opened on the virtual node while one bills.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from dispatcher.core.work import Placement
from dispatcher.simulator.checkers.law import Law
from dispatcher.simulator.world import World


def reserved_of(document: Mapping[str, Any]) -> Counter[str]:
    """What is set aside in a ledger document, by account."""
    totals: Counter[str] = Counter()
    for entry in document["entries"].values():
        for account, picos in entry["reserved"].items():
            totals[account] += picos
    return totals


class Admission(Law):
    """Watches every accepted write of the ledger."""

    name = "law 3: admission"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        world.store.on_ledger.append(self._written)

    def _written(self, before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> None:
        reserved = reserved_of(now)
        was_reserved: Counter[str] | None = None
        for account_id, account in now["accounts"].items():
            was = before["accounts"].get(account_id) if before else None
            leaked = account.get("leaked", 0)
            total = account["spent"] + reserved[account_id] - leaked
            self._overrun(account_id, account, was)
            self._leaked(account_id, leaked)
            if total <= account["limit"]:
                continue
            if was_reserved is None:
                was_reserved = reserved_of(before) if before else Counter()
            total_before = (was["spent"] - was.get("leaked", 0) if was else 0) + was_reserved[account_id]
            if total > total_before and not account["overrun"]:
                raise self.broken(f"{account_id}: {total} picodollars of {account['limit']}, before {total_before}")
        self._nothing_opened_on_overruns(before, now)
        self._nothing_opened_beside_leaks(before, now)

    def _overrun(self, account_id: str, account: Mapping[str, Any], was: Mapping[str, Any] | None) -> None:
        if not account["overrun"] or (was is not None and was["overrun"]):
            return
        if not any(group.beyond_tail for group in self.world.meter.groups.values()):
            raise self.broken(f"{account_id}: an overrun, though every group kept to what was assumed of it")

    def _leaked(self, account_id: str, leaked: int) -> None:
        if leaked and not any(group.beyond_tail for group in self.world.meter.groups.values()):
            raise self.broken(f"{account_id}: charged for a leak, though every group kept to what was assumed of it")

    def _nothing_opened_beside_leaks(self, before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> None:
        leaks = now.get("leaks", {})
        known = (before or {}).get("leaks", {})
        if before is None or all(
            uid not in known or leak["stopped"] or leak["heldUntil"] for uid, leak in leaks.items()
        ):
            return
        for name, entry in now["entries"].items():
            if name not in before["entries"] and entry["placement"] == Placement.VIRTUAL_NODE and entry["reserved"]:
                raise self.broken(f"{name} was opened while a group bills on without a pod")

    def _nothing_opened_on_overruns(self, before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> None:
        if before is None:
            return
        over = {account_id for account_id, account in before["accounts"].items() if account["overrun"]}
        if not over:
            return
        for name, entry in now["entries"].items():
            if name not in before["entries"] and not over.isdisjoint(entry["reserved"]):
                raise self.broken(f"{name} was opened on an account with an open overrun")
