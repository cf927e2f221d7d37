"""The worlds that the Lease contract is held against: each is one lease, two contenders, and a way to let it run out.

To hold another implementation to the contract, write a world for it and name it in WORLDS.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dispatcher.embedded.lease import EmbeddedLease
from dispatcher.embedded.objects import ObjectStore
from dispatcher.ports import Lease
from dispatcher.simulator.store import Lease as SimulatedLease
from dispatcher.simulator.store import LeasePort

LASTS = timedelta(seconds=15)


@dataclass
class World:
    """Two contenders for one lease."""

    first: Lease
    second: Lease
    run_out: Callable[[], Awaitable[None]]
    """Lets so much time pass that a lease which nobody renewed is free."""


class HandClock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.at = datetime(2026, 3, 1, tzinfo=UTC)

    def now(self) -> datetime:
        """The present instant."""
        return self.at


@asynccontextmanager
async def embedded() -> AsyncIterator[World]:
    """One SQLite file, opened twice."""
    clock = HandClock()

    async def run_out() -> None:
        clock.at += LASTS

    with tempfile.TemporaryDirectory() as name:
        async with AsyncExitStack() as stack:
            leases = []
            for _ in range(2):
                store = ObjectStore(Path(name) / "objects.db")
                await store.open()
                stack.push_async_callback(store.close)
                leases.append(EmbeddedLease(store, clock, lasts=LASTS))
            yield World(*leases, run_out)


@asynccontextmanager
async def simulated() -> AsyncIterator[World]:
    """The simulator's lease: it lasts until the world takes it away, as it does from a process that stalls or dies."""
    lease = SimulatedLease()

    async def run_out() -> None:
        lease.holder = None

    yield World(LeasePort(lease, "p1"), LeasePort(lease, "p2"), run_out)


WORLDS: dict[str, Callable[[], AbstractAsyncContextManager[World]]] = {"embedded": embedded, "simulated": simulated}
