"""What all runs share: a control plane, a broker in a process of its own, a starter, a history; and places to run in.

Decides how places are made and used again. A run has two namespaces and a queue of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed.control_plane import ControlPlane

from . import burst
from .broker import BrokerProcess, a_broker
from .history import History, a_history
from .warm import Starter, a_starter


@dataclass(frozen=True)
class Place:
    """Where one run happens: the dispatcher's namespace, and that of its Jobs."""

    own: str
    tasks: str

    @property
    def ledger(self) -> str:
        """The name of the ledger's ConfigMap."""
        return f"{self.own}-ledger"


@dataclass
class World:
    """Everything that runs share."""

    plane: ControlPlane
    broker: BrokerProcess
    starter: Starter
    history: History
    folder: Path
    _free: list[Place] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    async def place(self) -> Place:
        """A place that nobody uses."""
        if self._free:
            return self._free.pop()
        return Place(await self.plane.create_namespace(), await self.plane.create_namespace())

    async def give_back(self, place: Place) -> None:
        """Clears it away for the next run."""
        for namespace in (place.own, place.tasks):
            await self.plane.clear_namespace(namespace)
        async with asyncio.timeout(30):
            while self.left(place) or self._has_ledger(place):  # noqa: ASYNC110 - others delete
                await asyncio.sleep(0.05)
        self.history.forget(place.own, place.tasks)
        self._free.append(place)

    def left(self, place: Place) -> list[str]:
        """Jobs, pods and records that are there."""
        standing = self.history.standing(place.own, place.tasks)
        return [f"{kind} {name}" for kind, name, _ in standing if name.startswith("burst-")]

    def entries(self, place: Place) -> Mapping[str, Any]:
        """The ledger's entries."""
        for _, name, raw in self.history.standing(place.own):
            if name == place.ledger:
                return dict(json.loads(raw["data"]["ledger.json"])["entries"])
        return {}

    def run_folder(self) -> Path:
        """A folder for one run; not made yet."""
        return self.folder / f"run-{next(self._numbers):04}"

    def _has_ledger(self, place: Place) -> bool:
        return any(name == place.ledger for _, name, _ in self.history.standing(place.own))


@asynccontextmanager
async def a_world(plane: ControlPlane, queues: int) -> AsyncIterator[World]:
    """A world for so many runs. Folders of runs that failed are kept."""
    folder = Path(tempfile.mkdtemp(prefix="burst-crash-"))
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(a_broker(folder, queues, burst.LOCK_SECONDS))
        starter = await stack.enter_async_context(a_starter())
        history = await stack.enter_async_context(a_history(plane))
        yield World(plane, broker, starter, history, folder)
    if not await asyncio.to_thread(os.listdir, folder):
        shutil.rmtree(folder)
