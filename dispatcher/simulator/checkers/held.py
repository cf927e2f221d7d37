"""Law 6. Every held item has a reason and is looked at again; no tenant starves.

An item that waits for some cycles of the leader is named in a hold of its lane. Starving is looked at where it shows:
no lane is passed over for more than so much of other tenants' work of the same task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from dispatcher.core.batching import LaneKey
from dispatcher.core.verdicts import HoldReason
from dispatcher.memory import Memory
from dispatcher.simulator.checkers.law import Law
from dispatcher.simulator.world import World

TURNS_MAX = 16
"""So many full batches of others may go by: weights are at most 3, and who was held by its own budget catches up."""
UNEXPLAINED_MAX = 5
"""A launch whose record could not be written leaves its items where they were, without a hold, for that cycle."""
_OWN = {
    HoldReason.TENANT_PARALLELISM,
    HoldReason.BUDGET_EXHAUSTED,
    HoldReason.LINGER,
    HoldReason.WAITING_TO_SPILL,
    HoldReason.NODES_IN_TIME,
    HoldReason.VIRTUAL_NODE_BOUND,
    HoldReason.STEADY_WORK,
}
"""Reasons that are the lane's own affair: another tenant's work does not take its turn."""


class HeldWithReason(Law):
    """Looks after each cycle of the leader."""

    name = "law 6: held with a reason"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._before: dict[LaneKey, set[int]] = {}
        self._cycle = (0, "")
        self._took_over_at: datetime | None = None
        self._unexplained: Counter[LaneKey] = Counter()
        self._passed: Counter[tuple[LaneKey, int]] = Counter()
        self._launched: list[tuple[str, str, int]] = []
        world.hears.append(self._hear)

    def _hear(self, who: str, event: str, facts: Mapping[str, Any]) -> None:
        if event == "batch.launched" and facts["attempt"] == 1:
            self._launched.append((facts["task"], facts["tenant"], facts["items"]))

    def look(self) -> None:
        """The lanes of the leader, after a cycle."""
        leader = self.world.leader
        memory, cycle = leader.memory, (leader.cycles, leader.who)
        launched, self._launched = self._launched, []
        if memory is None or cycle == self._cycle:
            self._before = {}
            return
        if leader.who != self._cycle[1] or memory.took_over_at != self._took_over_at:
            self._passed.clear()  # whose turn it is a new leader does not know
        self._cycle, self._took_over_at = cycle, memory.took_over_at
        lanes = {lane.key: {item.sequence_number for item in lane.items.values()} for lane in memory.inflight.lanes()}
        held = {LaneKey(hold.task, hold.tenant, hold.priority): hold.held.reason for hold in memory.holds}
        for key, numbers in self._before.items():
            stayed = numbers & lanes.get(key, set())
            self._unexplained[key] = self._unexplained[key] + 1 if stayed and key not in held else 0
            if self._unexplained[key] > UNEXPLAINED_MAX:
                raise self.broken(f"messages {sorted(stayed)[:5]} of {key} wait without a reason")
        self._starving(memory, lanes, held, launched)
        self._before = lanes

    def _starving(
        self,
        memory: Memory,
        lanes: Mapping[LaneKey, set[int]],
        held: Mapping[LaneKey, HoldReason],
        launched: list[tuple[str, str, int]],
    ) -> None:
        active = self.world.leader.reconciler.snapshot(memory).active_of_tenant if launched else {}
        for key, numbers in lanes.items():
            if held.get(key) in _OWN:
                continue
            if active.get(key.tenant):
                del self._passed[key, min(numbers)]  # it has its share already, as far as there is one
                continue
            oldest = min(numbers)
            others = sum(items for task, tenant, items in launched if task == key.task and tenant != key.tenant)
            self._passed[key, oldest] += others
            batch = self.world.scenario.policy.tasks[key.task].batch_size_max
            if self._passed[key, oldest] > TURNS_MAX * batch:
                raise self.broken(f"message {oldest} of {key} was passed over for {self._passed[key, oldest]} others")
