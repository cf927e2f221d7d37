"""What occurred in a run: faults, hold reasons, failure causes, placements; and what must occur in enough seeds.

Decides what is counted and which few things cannot occur here by design, each with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dispatcher.core.failures import FailureCause
from dispatcher.core.verdicts import HoldReason
from dispatcher.core.work import Placement
from dispatcher.ports import StoredRecord
from dispatcher.simulator.faults import Fault
from dispatcher.simulator.store import EVIDENCE
from dispatcher.simulator.world import World

LEAST_SHARE = 0.02
CANNOT_OCCUR = {
    f"hold {HoldReason.LEDGER_FULL}": "takes over 200 open attempts; worlds here are small, a unit test fills a ledger",
    f"hold {HoldReason.STEADY_WORK}": "takes minutes of measuring by one leader; leaders die sooner here",
}
EXPECTED: tuple[str, ...] = (
    *(f"fault {fault}" for fault in Fault),
    *(f"hold {reason}" for reason in HoldReason),
    *(f"cause {cause}" for cause in FailureCause),
    *(f"placement {placement}" for placement in Placement),
)


def count_into(world: World) -> None:
    """Counts what the product tells and what stands in its records, into the world's own counter."""

    def hear(who: str, event: str, facts: Mapping[str, Any]) -> None:
        if event == "batch.held":
            world.occurred[f"hold {facts['reason']}"] += 1
        elif event == "batch.launched":
            world.occurred[f"placement {facts['placement']}"] += 1
        elif event in ("item.retried", "item.dead_lettered"):
            world.occurred[f"cause {facts['cause']}"] += 1
        else:
            world.occurred[f"event {event}"] += 1

    def changed(before: StoredRecord, now: StoredRecord) -> None:
        evidence = now.annotations[EVIDENCE]
        if evidence != before.annotations[EVIDENCE]:
            for cause in FailureCause:
                if f'"{cause.value}"' in evidence:
                    world.occurred[f"cause {cause}"] += 1

    world.hears.append(hear)
    world.store.on_record.append(changed)
