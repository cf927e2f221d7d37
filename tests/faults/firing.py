"""How each fault is fired so often as is asked, by the broker's own count, and with what others it needs company.

Decides nothing about what must come of it. A fault stays for some seconds at least, so that it is felt.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dispatcher.embedded.broker import Fault
from dispatcher.embedded.broker.faults import STRIKES

from .broker_process import QUEUE, Steering

FELT_SECONDS = 3.0
_LOOK_EVERY_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Firing:
    """One fault's way of being fired."""

    fault: Fault
    how: Mapping[str, Any] = field(default_factory=dict)
    """What it is armed or struck with."""
    every_seconds: float = 0.5
    """Between strikes."""
    company: Fault | None = None
    """A strike without which it would find nothing to bite."""
    rounds: int | None = None
    """In so many bursts; None: without end until it has fired often enough."""
    of_queue: bool = True

    @property
    def told(self) -> str:
        """The conditions in words."""
        words = [
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in self.how.items()
        ]
        words += [f"in {self.rounds} bursts"] if self.rounds else []
        words += [f"with {self.company}"] if self.company else []
        return ", ".join(words)


FIRINGS: dict[Fault, Firing] = {
    firing.fault: firing
    for firing in (
        Firing(Fault.THROTTLE, {"value": 200.0}),
        Firing(Fault.DELAY_SETTLEMENT_REPLY, {"value": 1.0}),
        Firing(Fault.LOSE_SETTLEMENT_REPLY, rounds=2),
        Firing(Fault.LOSE_SETTLEMENT, rounds=2),
        Firing(Fault.COALESCE_DISPOSITIONS, {"value": 0.005}),
        Firing(Fault.DROP_LOCKS_WITH_CONNECTION, every_seconds=1.0, company=Fault.RESET_CONNECTIONS, of_queue=False),
        Firing(Fault.DUPLICATE_DELIVERY),
        Firing(Fault.DENY_TOKENS, every_seconds=1.0, company=Fault.RESET_CONNECTIONS),
        Firing(Fault.DISABLE_QUEUE),
        Firing(Fault.FILL_QUOTA),
        Firing(Fault.ADD_ROUND_TRIP, {"value": 0.05}, of_queue=False),
        Firing(Fault.RESET_CONNECTIONS, every_seconds=1.0, of_queue=False),
        Firing(Fault.FREEZE_CONNECTIONS, every_seconds=1.0, of_queue=False),
        Firing(Fault.DETACH_LINKS),
        Firing(Fault.REVOKE_LOCKS, {"count": 5}, every_seconds=0.2),
    )
}


async def fire(firing: Firing, steering: Steering, wanted: int, patience_seconds: float) -> int:
    """Fires until the broker has counted so many, disarms, and answers the count. Raises TimeoutError."""
    where = {"queue": QUEUE} if firing.of_queue else {}
    async with asyncio.timeout(patience_seconds):
        if firing.fault in STRIKES:
            await _strike(firing, steering, wanted, {**firing.how, **where})
        elif firing.rounds:
            await _in_rounds(firing, steering, wanted, firing.rounds, {**firing.how, **where})
        else:
            await _stand(firing, steering, wanted, {**firing.how, **where})
    return await steering.fired(firing.fault)


async def _strike(firing: Firing, steering: Steering, wanted: int, how: Mapping[str, Any]) -> None:
    while await steering.fired(firing.fault) < wanted:
        await steering.strike(firing.fault, **how)
        await asyncio.sleep(firing.every_seconds)


async def _in_rounds(firing: Firing, steering: Steering, wanted: int, rounds: int, how: Mapping[str, Any]) -> None:
    for number in range(1, rounds + 1):
        due = -(-wanted * number // rounds)
        fired = await steering.fired(firing.fault)
        await steering.arm(firing.fault, times=due - fired, **how)
        await _counted(firing.fault, steering, due)
    await steering.disarm()


async def _stand(firing: Firing, steering: Steering, wanted: int, how: Mapping[str, Any]) -> None:
    began = time.monotonic()
    await steering.arm(firing.fault, **how)
    while time.monotonic() - began < FELT_SECONDS or await steering.fired(firing.fault) < wanted:
        if firing.company is not None:
            await steering.strike(firing.company)
            await asyncio.sleep(firing.every_seconds)
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
    await steering.disarm()


async def _counted(fault: Fault, steering: Steering, count: int) -> None:
    while await steering.fired(fault) < count:  # noqa: ASYNC110 - it is another process that counts
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
