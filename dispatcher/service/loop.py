"""One cycle after another, for as long as the service runs.

Decides when the next cycle begins (news, the time that the last one asked for, never sooner than the shortest pause)
and when a cycle counts as stuck. A cycle that breaks makes the service unhealthy and is tried again, ever more slowly:
a service that says what is wrong is of more use than one that is gone. Knows nothing of what a cycle does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Protocol

import structlog

log = structlog.get_logger(__name__)

_BACKOFF_MIN = 1.0
_BACKOFF_MAX = 30.0


class Cycles(Protocol):
    """What is run here: the reconciler."""

    async def cycle(self) -> timedelta:
        """One whole cycle; how long one may sleep before the next unless the bell rings."""
        ...

    def status(self) -> Mapping[str, Any]:
        """Everything as plain JSON."""
        ...


class CycleLoop:
    """Runs cycles until it is told to stop; says how it is doing at any time."""

    def __init__(
        self,
        cycles: Cycles,
        *,
        pause_min: timedelta,
        stuck_after: timedelta,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cycles = cycles
        self._pause_min = pause_min.total_seconds()
        self._stuck_after = stuck_after.total_seconds()
        self._monotonic = monotonic
        self._bell = asyncio.Event()
        self._stop = asyncio.Event()
        self._running_since: float | None = None
        self._fault: str | None = None
        self._failures = 0
        self.completed = 0
        """How many cycles ended well."""
        self.seconds_last: float | None = None
        """How long the last one took."""

    def ring(self) -> None:
        """There is news: the next cycle need not wait."""
        self._bell.set()

    def stop(self) -> None:
        """Begins no other cycle."""
        self._stop.set()
        self._bell.set()

    def faults(self) -> tuple[str, ...]:
        """What is wrong, one line each."""
        return (*(() if self._fault is None else (self._fault,)), *self.stuck())

    def stuck(self) -> tuple[str, ...]:
        """What hangs, one line each: what a restart can mend."""
        age = 0.0 if self._running_since is None else self._monotonic() - self._running_since
        if age <= self._stuck_after:
            return ()
        return (f"the present cycle has been running for {age:.0f} s: something that it waits for is stuck",)

    async def run(self) -> None:
        """Cycles, until :meth:`stop`."""
        while not self._stop.is_set():
            self._bell.clear()
            sleep = await self._one()
            if self._fault is not None:
                await _within(sleep, self._stop)  # news does not mend what broke
                continue
            await _within(self._pause_min, self._stop)
            await _within(sleep - self._pause_min, self._bell)

    async def _one(self) -> float:
        """One cycle; for how many seconds to sleep after it."""
        self._running_since = self._monotonic()
        try:
            sleep = await self._cycles.cycle()
        except Exception as error:  # the line is in the log and in the health, and the next cycle may well work
            self._failures += 1
            self._fault = f"the last cycle broke off ({type(error).__name__}: {error}); the log says where"
            log.exception("cycle.broke_off", failures=self._failures)
            return min(_BACKOFF_MIN * 2.0 ** (self._failures - 1), _BACKOFF_MAX)
        finally:
            self.seconds_last = self._monotonic() - self._running_since
            self._running_since = None
        if self._failures:
            log.info("cycle.works_again", failures=self._failures)
        self._failures, self._fault = 0, None
        self.completed += 1
        return sleep.total_seconds()


async def _within(seconds: float, event: asyncio.Event) -> None:
    """Waits for the event, but not longer than that."""
    if seconds <= 0 or event.is_set():
        return
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
