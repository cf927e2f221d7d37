"""The embedded broker in a process of its own, so that it takes no time from what is measured, steered over HTTP."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp
import structlog

from dispatcher.embedded.broker import Broker, BrokerConfig, Fault, QueueConfig, QueueCounts
from dispatcher.embedded.broker.control import FaultControl

QUEUE = "work"
_STARTS_WITHIN_SECONDS = 30.0
_ANSWERS_WITHIN = aiohttp.ClientTimeout(total=10.0)


@dataclass(slots=True)
class Steering:
    """What is done to the broker, and asked of it, from outside."""

    connection_string: str
    pid: int
    _http: aiohttp.ClientSession

    async def counts(self) -> QueueCounts:
        """The broker's own counts of the queue."""
        async with self._http.get(f"/queues/{QUEUE}") as answer:
            return QueueCounts(**await answer.json())

    async def fired(self, fault: Fault) -> int:
        """How often the broker says that the fault has bitten."""
        async with self._http.get("/faults") as answer:
            return int((await answer.json())[fault]["fired"])

    async def arm(self, fault: Fault, **how: Any) -> None:
        """Arms a standing fault."""
        await self._done("PUT", f"/faults/{fault}", how)

    async def disarm(self) -> None:
        """Disarms all."""
        await self._done("DELETE", "/faults", {})

    async def strike(self, fault: Fault, **how: Any) -> int:
        """Strikes once; how many were hit."""
        return int((await self._done("POST", f"/faults/{fault}", how))["hit"])

    async def _done(self, method: str, path: str, how: dict[str, Any]) -> dict[str, Any]:
        async with self._http.request(method, path, json=how) as answer:
            said: dict[str, Any] = await answer.json()
            if answer.status != 200:
                raise RuntimeError(f"{method} {path}: {said}")
            return said


@asynccontextmanager
async def a_broker(lock_seconds: float = 20.0) -> AsyncIterator[Steering]:
    """A broker with one queue, as long as the block lasts."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, str(lock_seconds), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the broker's process has no pipes")
        async with asyncio.timeout(_STARTS_WITHIN_SECONDS):
            url, connection_string = (await process.stdout.readline()).decode().split()
        async with aiohttp.ClientSession(url, timeout=_ANSWERS_WITHIN) as http:
            yield Steering(connection_string, process.pid, http)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _serve(lock_seconds: float) -> None:
    queue = QueueConfig(
        QUEUE,
        lock_duration=timedelta(seconds=lock_seconds),
        max_delivery_count=100,
        duplicate_detection_window=timedelta(days=1),  # what a sender sends again after a doubt counts once
    )
    config = BrokerConfig(queues=(queue,))
    async with Broker(config) as broker, FaultControl(broker) as control:
        sys.stdout.write(f"{control.url} {broker.connection_string}\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until whoever started it is gone


if __name__ == "__main__":
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    asyncio.run(_serve(float(sys.argv[1])))
