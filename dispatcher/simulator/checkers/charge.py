"""Law 3, charge. In the end each Job was charged at least what ACI billed for it; exactly that where ACI can be read.

Exactly is asked of each pod that was charged from its group's own times, whatever went wrong; and of whole Jobs where
nothing did and each group stopped with its pod, so that its times could be read. A group that bills on beyond what was
assumed of it is charged too, for as long as ACI showed it to somebody, where no process died or stalled meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from dispatcher.core.pricing import cost_of
from dispatcher.core.units import Money
from dispatcher.simulator.checkers.law import Law
from dispatcher.simulator.faults import Fault
from dispatcher.simulator.meter import Group
from dispatcher.simulator.world import World

_OF_THE_WORLD = frozenset(
    {
        Fault.GROUP_BEYOND_TAIL, Fault.GROUP_LEAKED, Fault.NODE_LOST, Fault.POD_DELETED, Fault.POD_EVICTED,
        Fault.POD_REFUSED, Fault.POD_SLOW, Fault.POD_STUCK, Fault.JOB_DELETED,
    }
)  # fmt: skip
"""Faults through which the dispatcher sees and writes on undisturbed."""


FOUND_WITHIN = timedelta(seconds=20)
"""A group that outlives its pod by more than the tail is found by then, at the latest."""


class ChargedInFull(Law):
    """Hears what each attempt is closed with, and reckons the bill at the end."""

    name = "law 3: charge"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._charged: dict[str, Decimal] = {}
        self._leaks: dict[str, Decimal] = {}
        self._pods: dict[str, Decimal] = {}
        self._exact: set[str] = set()
        world.hears.append(self._hear)

    def _hear(self, who: str, event: str, facts: Mapping[str, Any]) -> None:
        if event == "attempt.closed":
            cost = Decimal(facts["cost_usd"])  # told again by who was deposed in the middle of it, with less
            self._charged[facts["job"]] = max(cost, self._charged.get(facts["job"], cost))
        elif event == "pod.charged":
            self._pods[facts["pod"]] = Decimal(facts["cost_usd"])
            (self._exact.discard if facts["estimated"] else self._exact.add)(facts["pod"])
        elif event == "leak.resolved":
            self._leaks[facts["pod"]] = Decimal(facts["cost_usd"])

    def finish(self) -> None:
        """Every Job's bill against its charge, where all of them are over."""
        if not self.world.drained:
            return
        groups: dict[str, list[Group]] = defaultdict(list)
        for group in self.world.meter.groups.values():
            groups[group.job].append(group)
            self._check_alone(group)
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

    def _check_alone(self, group: Group) -> None:
        meter, uid = self.world.meter, group.pod_uid
        if uid in self._exact and self._pods[uid] != meter.bill(group).usd:
            told = f"${self._pods[uid]} was charged as its group's own times"
            raise self.broken(f"{uid} was billed ${meter.bill(group)}, and {told}")
        shown, gone = group.shown_leaking_at, group.pod_gone_at
        if shown is None or gone is None or group.starts_at is None or group.exempt or not self._undisturbed:
            return
        if shown < gone + meter.tail + FOUND_WITHIN:
            return
        billed = cost_of(meter.rate(group), shown - group.starts_at).usd
        charged = self._pods.get(uid, Decimal(0)) + self._leaks.get(uid, Decimal(0))
        if charged < billed:
            raise self.broken(f"{uid} was seen to have billed ${billed}, after its pod too, and ${charged} is charged")

    @property
    def _undisturbed(self) -> bool:
        return self.world.scenario.faults.rates.keys() <= _OF_THE_WORLD

    def _must_be_exact(self, of_job: list[Group]) -> bool:
        scenario = self.world.scenario
        if not scenario.with_account or scenario.faults.rates:
            return False
        return all(group.ended_with_pod for group in of_job)
