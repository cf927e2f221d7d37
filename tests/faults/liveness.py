"""Whether it shows that the consumer is stuck, and whether it comes back: every connection is frozen, new ones too.

The SDK's calls hang then: a receive comes back empty as if the queue were empty, everything else never.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import aiohttp

from dispatcher.embedded.broker import Fault

from .arrivals import Arrivals
from .broker_process import Steering, a_broker
from .burst import a_dispatcher, queue_config

_LOCK_SECONDS = 6.0
_LOOK_EVERY_SECONDS = 0.05
_ENDS_WITHIN_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Liveness:
    """What was seen."""

    watchdog_seconds: float
    noticed_seconds: float
    """From the first freeze to /healthz saying so."""
    said: str
    clients_rebuilt: int
    """While it was stuck."""
    recovered_seconds: float
    """From the last freeze to /healthz being well and every item settled."""


async def stick(
    items: int = 100,
    watchdog_seconds: float = 4.0,
    operation_timeout_seconds: float = 1.5,
    tell: Callable[[str], None] = lambda _: None,
) -> Liveness:
    """Freezes all until it shows and the client was made anew, then lets go. Raises TimeoutError if it never comes."""
    async with asyncio.timeout(_ENDS_WITHIN_SECONDS), a_broker(_LOCK_SECONDS) as steering:
        config = queue_config(
            steering.connection_string,
            watchdog_seconds=watchdog_seconds,
            operation_timeout_seconds=operation_timeout_seconds,
            check_seconds=min(watchdog_seconds / 4, 1.0),
            close_timeout_seconds=1.0,
            lock_margin=timedelta(seconds=_LOCK_SECONDS / 4),
        )
        arrivals = Arrivals(queue_config(steering.connection_string), items, lambda: items)
        async with a_dispatcher(config, _LOCK_SECONDS) as burst, aiohttp.ClientSession(burst.url) as http:
            await arrivals.fill(items)
            await _until_settled(steering, items)
            tell("frozen")
            frozen_at = time.monotonic()
            said, noticed_at = "", frozen_at
            while not said or not burst.queue.health().clients_rebuilt:
                await steering.strike(Fault.FREEZE_CONNECTIONS)
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
                if not said and (said := await _faults(http)):
                    noticed_at = time.monotonic()
            tell("let go")
            rebuilt, let_go_at = burst.queue.health().clients_rebuilt, time.monotonic()
            await arrivals.fill(2 * items)
            while await _faults(http):  # noqa: ASYNC110 - it is another process's word that is waited for
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
            await _until_settled(steering, 2 * items)
            return Liveness(watchdog_seconds, noticed_at - frozen_at, said, rebuilt, time.monotonic() - let_go_at)


async def _faults(http: aiohttp.ClientSession) -> str:
    async with http.get("/healthz") as answer:
        return "" if answer.status == 200 else "; ".join((await answer.json())["faults"])


async def _until_settled(steering: Steering, items: int) -> None:
    while (counts := await steering.counts()).removed + counts.buried < items:  # noqa: ASYNC110 - as above
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
