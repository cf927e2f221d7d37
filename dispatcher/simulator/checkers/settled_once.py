"""Law 1. Every item received is settled exactly once, or the broker still has it.

Nothing is lost, nothing settles twice.

An item is removed only if its work was really done: some pod of it, or of its copy, has succeeded. What the dispatcher
tells as done or dead-lettered is gone from the queue when it says so. It is told once: by one process, and never twice
by the same; where two take themselves for the leader at the same time both may tell it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dispatcher.simulator.checkers.law import Law
from dispatcher.simulator.faults import Fault
from dispatcher.simulator.queue import Fate
from dispatcher.simulator.world import World, digest_of

_TWO_AT_ONCE = (Fault.STALLED_LEADER, Fault.TWO_LEADERS)
_ENDS = {"item.done": Fate.REMOVED, "item.dead_lettered": Fate.DEAD}


class SettledOnce(Law):
    """Watches every end of a message, and every event that tells one."""

    name = "law 1: settled once"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._checked = 0
        self._told: dict[int, str] = {}
        self._two_at_once = any(world.scenario.faults.rate(fault) for fault in _TWO_AT_ONCE)
        world.hears.append(self._hear)

    def look(self) -> None:
        """What has ended since the last look."""
        broker = self.world.broker
        while self._checked < len(broker.ended):
            number, fate = broker.ended[self._checked]
            self._checked += 1
            if len(broker.fates[number]) > 1:
                raise self.broken(f"message {number} ended as {broker.fates[number]}")
            if fate is Fate.REMOVED and self._work_of(number) not in self.world.cluster.succeeded:
                raise self.broken(f"message {number} was removed though no pod of it succeeded")

    def _work_of(self, number: int) -> tuple[str, str]:
        planned = self.world.scenario.messages[number - 1]
        return planned.message_id, digest_of(planned.body)

    def _hear(self, who: str, event: str, facts: Mapping[str, Any]) -> None:
        if event == "item.found_settled" or event not in _ENDS:
            return
        number = facts["sequence_number"]
        if number in self.world.broker.messages:
            raise self.broken(f"{who} says {event} of message {number}, which the broker still has")
        fates = self.world.broker.fates[number]
        if fates != [_ENDS[event]]:
            raise self.broken(f"{who} says {event} of message {number}, which ended as {fates}")
        before = self._told.get(number)
        if before == who or (before is not None and not self._two_at_once):
            raise self.broken(f"{who} says {event} of message {number}, of which {before} said so before")
        self._told[number] = who

    def finish(self) -> None:
        """Where nothing is left to do, every message has ended."""
        self.look()
        if not self.world.drained:
            return
        missing = [number for number in range(1, self.world.broker.sent + 1) if number not in self.world.broker.fates]
        if missing:
            raise self.broken(f"messages {missing} never ended")
