"""The worlds that the LedgerStore contract is held against: each is one store, and leaders that reach it.

To hold another implementation to the contract, write a world for it and name it in WORLDS.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from simulated import Surroundings

from dispatcher.embedded.ledger_store import EmbeddedLedgerStore
from dispatcher.embedded.objects import ObjectStore
from dispatcher.ports import LedgerStore
from dispatcher.simulator.store import Store, StorePort


@dataclass
class World:
    """Two leaders that reach the same store over connections of their own."""

    store: LedgerStore
    rival: LedgerStore


@asynccontextmanager
async def embedded() -> AsyncIterator[World]:
    """One SQLite file, opened twice."""
    with tempfile.TemporaryDirectory() as name:
        stores = [ObjectStore(Path(name) / "objects.db") for _ in range(2)]
        for store in stores:
            await store.open()
        yield World(*(EmbeddedLedgerStore(store) for store in stores))
        for store in stores:
            await store.close()


@asynccontextmanager
async def simulated() -> AsyncIterator[World]:
    """The simulator's store, over the wires of two processes."""
    around, store = Surroundings(), Store()
    yield World(*(StorePort(store, around.wire()) for _ in range(2)))


WORLDS: dict[str, Callable[[], AbstractAsyncContextManager[World]]] = {"embedded": embedded, "simulated": simulated}
