"""Law 1, in the records: a ruling is written once and never changed.

It alone keeps done, dead and retry from all happening to one item.
"""

from __future__ import annotations

import json

from dispatcher.ports import StoredRecord
from dispatcher.simulator.checkers.law import Law
from dispatcher.simulator.store import RULINGS
from dispatcher.simulator.world import World


class RuledOnce(Law):
    """Watches every accepted change of a record."""

    name = "law 1: ruled once"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        world.store.on_record.append(self._changed)

    def _changed(self, before: StoredRecord, now: StoredRecord) -> None:
        if before.annotations[RULINGS] == now.annotations[RULINGS]:
            return
        ruled = json.loads(before.annotations[RULINGS])
        if not ruled:
            return
        rules = json.loads(now.annotations[RULINGS])
        for index, ruling in ruled.items():
            if rules.get(index) != ruling:
                raise self.broken(f"{now.name} position {index}: ruled {ruling[0]}, then {rules.get(index)}")
