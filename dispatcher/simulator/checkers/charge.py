"""Law 3, charge. In the end each Job was charged at least what ACI billed for it; exactly that where ACI can be read.

Exactly is asked for where ACI showed each group as stopped before its pod was taken away, and nothing went wrong in
between.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from dispatcher.core.units import Money
from dispatcher.simulator.checkers.law import Law
from dispatcher.simulator.meter import Group
from dispatcher.simulator.world import World


class ChargedInFull(Law):
    """Hears what each attempt is closed with, and reckons the bill at the end."""

    name = "law 3: charge"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._charged: dict[str, Decimal] = {}
        self._estimated: set[str] = set()
        world.hears.append(self._hear)

    def _hear(self, who: str, event: str, facts: Mapping[str, Any]) -> None:
        if event == "attempt.closed":
            cost = Decimal(facts["cost_usd"])  # told again by who was deposed in the middle of it, with less
            self._charged[facts["job"]] = max(cost, self._charged.get(facts["job"], cost))
        elif event == "pods.estimated":
            self._estimated.add(facts["job"])

    def finish(self) -> None:
        """Every Job's bill against its charge, where all of them are over."""
        if not self.world.drained:
            return
        groups: dict[str, list[Group]] = defaultdict(list)
        for group in self.world.meter.groups.values():
            groups[group.job].append(group)
        for job, of_job in groups.items():
            if any(group.exempt or group.beyond_tail for group in of_job):
                continue
            bill = sum((self.world.meter.bill(group) for group in of_job), start=Money(0)).usd
            charged = self._charged.get(job)
            if charged is None:
                raise self.broken(f"{job} was billed ${bill} and never closed")
            if charged < bill:
                raise self.broken(f"{job} was billed ${bill} and charged ${charged}")
            if charged > bill and self._must_be_exact(of_job):
                raise self.broken(f"{job} was billed ${bill} and charged ${charged}, though ACI could be read")

    def _must_be_exact(self, of_job: list[Group]) -> bool:
        scenario = self.world.scenario
        if not scenario.with_account or scenario.faults.rates:
            return False
        return all(group.shown_stopped for group in of_job)
