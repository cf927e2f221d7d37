"""Law 3, cover. What a window has really cost so far never exceeds what the ledger has spent and reserved in it.

The real cost is the meter's, by the second. With admission this makes: real cost <= limit, at every instant.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from dispatcher.core.units import from_text
from dispatcher.simulator.checkers.admission import reserved_of
from dispatcher.simulator.checkers.law import Law
from dispatcher.simulator.world import World

_MICROS = 10**6


class Covered(Law):
    """Looks whenever time has passed and whenever the ledger was written."""

    name = "law 3: cover"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        world.after_time.append(self.look)
        world.store.on_ledger.append(self._written)
        self._reserved = reserved_of({"entries": {}})
        self._ends: dict[str, datetime] = {}

    def _written(self, before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> None:
        self._reserved = reserved_of(now)
        self._ends.update(
            (account_id, from_text(account["window"][1])) for account_id, account in now["accounts"].items()
        )
        self._check(now)

    def look(self) -> None:
        """The bill so far, against the ledger that stands."""
        meter = self.world.meter
        if not meter.running:
            return
        meter.read(self.world.clock.now())
        if self.world.store.ledger is not None:
            self._check(self.world.store.ledger.document)

    def _check(self, document: Mapping[str, Any]) -> None:
        accounts = document["accounts"]
        for account_id, cost in self.world.meter.cost.items():
            account = accounts.get(account_id)
            if account is None and self._is_past(account_id):
                continue
            covered = (account["spent"] if account else 0) + self._reserved[account_id]
            if cost > covered * _MICROS:
                raise self.broken(f"{account_id} has cost {cost // _MICROS} picodollars; spent and reserved {covered}")

    def _is_past(self, account_id: str) -> bool:
        """Accounts are dropped two days after their window has ended."""
        ended = self._ends.get(account_id)
        return ended is not None and self.world.clock.now() - ended > timedelta(hours=47)
