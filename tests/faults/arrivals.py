"""Items that go on coming: whatever the broker says to their sender, each is sent until it is confirmed.

Decides how many wait. A chunk that was refused or got no answer is sent again under the same ids; the queue's duplicate
detection keeps one of each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dispatcher.errors import OutcomeUnknown
from dispatcher.queue import Producer, ServiceBusConfig, to_body

_CHUNK = 500
_LOOK_EVERY_SECONDS = 0.1


class Arrivals:
    """Keeps ``level`` items waiting at the broker; ``waiting`` tells how many do."""

    def __init__(self, config: ServiceBusConfig, level: int, waiting: Callable[[], int]) -> None:
        self.sent: list[str] = []
        """Ids of what was confirmed."""
        self.refused = 0
        """How often a chunk was not confirmed."""
        self._config = config
        self._level = level
        self._waiting = waiting
        self._made = 0
        self._since_look = 0

    async def fill(self, count: int) -> None:
        """Sends so many."""
        async with Producer(self._config) as producer:
            while len(self.sent) < count:
                await self._send(producer, min(_CHUNK, count - len(self.sent)))

    async def run(self, stop: asyncio.Event) -> None:
        """Goes on until it is told to stop; what was begun is confirmed before it ends."""
        async with Producer(self._config) as producer:
            while not stop.is_set():
                missing = self._level - self._waiting()
                if missing > 0:
                    await self._send(producer, min(_CHUNK, missing))
                await asyncio.sleep(_LOOK_EVERY_SECONDS)

    async def _send(self, producer: Producer, count: int) -> None:
        ids = [f"item-{number:07}" for number in range(self._made, self._made + count)]
        self._made += count
        messages = [(item, to_body("report", {"item": item}, "acme")) for item in ids]
        while True:
            try:
                await producer.send(messages)
            except OutcomeUnknown:
                self.refused += 1
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
                continue
            self.sent += ids
            return
