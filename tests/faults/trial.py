"""One fault, from the first item to the verdict.

    fill, begin ─▶ rate before ─▶ fire, so often as is asked ─▶ rate after ─▶ no more arrivals, drain ─▶ judge

Before, during and after the faults the same number of items waits at the broker, so that the rates compare.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta

from dispatcher.embedded.broker import Fault, QueueCounts
from dispatcher.queue.dead_letters import DeadLetterQueue

from .arrivals import Arrivals
from .broker_process import Steering, a_broker
from .burst import Burst, a_dispatcher, fails, queue_config
from .fair_clock import FairClock
from .firing import FIRINGS, fire
from .rates import Recovery, Sample, recovery, steady_rate
from .referee import Evidence, Verdict, judge

_SAMPLE_EVERY_SECONDS = 0.25
_DRAINS_WITHIN_SECONDS = 180.0
_NEARLY = 0.9
_FIRES_WITHIN_SECONDS = 240.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much of it."""

    waiting: int = 5_000
    """Items that wait at the broker all the time."""
    fired: int = 20
    """How often the fault must fire at least."""
    warm_up_seconds: float = 4.0
    before_seconds: float = 8.0
    after_seconds: float = 8.0
    """For how long the rate is measured once it is back."""
    recovers_within_seconds: float = 30.0
    """For how long it is waited for that."""
    lock_seconds: float = 20.0
    operation_timeout_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it."""

    fault: Fault
    conditions: str
    fired: int
    fired_for_seconds: float
    items: int
    rate_before: float
    recovery: Recovery
    receivers_rebuilt: int
    verdict: Verdict

    @property
    def passed(self) -> bool:
        """Nothing lost, nothing twice, all counts agree, and as fast as before in time."""
        return self.verdict.is_clean and self.recovery.seconds is not None


class Trial:
    """Runs once."""

    def __init__(self, fault: Fault, size: Size, tell: Callable[[str], None] = lambda _: None) -> None:
        self._firing = FIRINGS[fault]
        self._size = size
        self._tell = tell
        self._samples: list[Sample] = []
        self._counts: QueueCounts | None = None
        self._until = math.inf  # what came later is not measured
        self._full_at = 0.0  # when as many items waited again as before the faults

    async def run(self) -> Result:
        """From the first item to the verdict. Raises TimeoutError if it does not end."""
        async with AsyncExitStack() as stack:
            self._tell("starting")
            steering = await stack.enter_async_context(a_broker(self._size.lock_seconds))
            config = queue_config(
                steering.connection_string,
                lock_margin=timedelta(seconds=self._size.lock_seconds / 4),
                operation_timeout_seconds=self._size.operation_timeout_seconds,
            )
            arrivals = Arrivals(config, self._size.waiting, self._waiting)
            await arrivals.fill(self._size.waiting)
            burst = await stack.enter_async_context(a_dispatcher(config, self._size.lock_seconds))
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                sampling = group.create_task(self._sample(steering, burst))
                coming = group.create_task(arrivals.run(stop))
                began_at, before = await self._steady()
                self._tell("under fire")
                fired = await fire(self._firing, steering, self._size.fired, _FIRES_WITHIN_SECONDS)
                ended_at = time.monotonic()
                self._tell("recovering")
                await self._recovered(before, ended_at)
                self._tell("draining")
                stop.set()
                await coming
                await self._drained()
                sampling.cancel()
            self._tell("judging")
            verdict = await verdict_of(steering, burst, arrivals)
            return Result(
                fault=self._firing.fault,
                conditions=self._firing.told,
                fired=fired,
                fired_for_seconds=ended_at - began_at,
                items=len(arrivals.sent),
                rate_before=before,
                recovery=self._recovery(before, ended_at),
                receivers_rebuilt=burst.queue.health().receivers_rebuilt,
                verdict=verdict,
            )

    def _waiting(self) -> int:
        return self._counts.active if self._counts is not None else self._size.waiting

    async def _sample(self, steering: Steering, burst: Burst) -> None:
        clock = FairClock(steering.pid)
        while True:
            self._counts = await steering.counts()
            self._samples.append(Sample(*clock.read(), self._counts.removed + self._counts.buried))
            if faults := burst.cycle_faults():
                raise RuntimeError(f"the dispatcher itself is broken: {'; '.join(faults)}")
            await asyncio.sleep(_SAMPLE_EVERY_SECONDS)

    async def _steady(self) -> tuple[float, float]:
        """When the faults may begin, and the rate until then."""
        self._tell("warming up")
        async with asyncio.timeout(_DRAINS_WITHIN_SECONDS):
            while not self._samples or not self._samples[-1].count:  # noqa: ASYNC110 - another process counts
                await asyncio.sleep(_SAMPLE_EVERY_SECONDS)
        await asyncio.sleep(self._size.warm_up_seconds)
        self._tell("measuring before")
        begin = time.monotonic()
        await asyncio.sleep(self._size.before_seconds)
        now = time.monotonic()
        return now, steady_rate(self._samples, begin, now)

    async def _recovered(self, before: float, ended_at: float) -> None:
        """Waits until the rate is back and as many items wait as before, and on for as long as it is measured then; or
        until it is too late for that."""
        size, enough = self._size, self._size.waiting * _NEARLY
        full_at = math.inf
        while (now := time.monotonic()) - ended_at < size.recovers_within_seconds + size.after_seconds:
            await asyncio.sleep(_SAMPLE_EVERY_SECONDS)
            if full_at == math.inf and self._waiting() >= enough:
                full_at = self._full_at = now
            back = self._recovery(before, ended_at).seconds
            if back is not None and now >= max(ended_at + back, full_at) + size.after_seconds:
                break
        self._until = time.monotonic()

    def _recovery(self, before: float, ended_at: float) -> Recovery:
        seen = [each for each in self._samples if each.at <= self._until]
        return recovery(seen, before, ended_at, self._size.recovers_within_seconds, self._full_at)

    async def _drained(self) -> None:
        async with asyncio.timeout(_DRAINS_WITHIN_SECONDS):
            while self._counts is None or left_at(self._counts):  # noqa: ASYNC110 - as above
                await asyncio.sleep(_SAMPLE_EVERY_SECONDS)


def left_at(counts: QueueCounts) -> int:
    """How many messages the broker still has, dead letters aside."""
    return counts.active + counts.locked + counts.deferred + counts.scheduled


async def verdict_of(steering: Steering, burst: Burst, arrivals: Arrivals) -> Verdict:
    """Judges what became of the items, once all should be settled."""
    counts = await steering.counts()
    async with DeadLetterQueue(queue_config(steering.connection_string)) as dead_letters:
        dead = [each.message.message_id async for page in dead_letters.pages() for each in page]
    ids = burst.told.ids
    verdict = judge(
        Evidence(
            sent=arrivals.sent,
            must_die=[item for number, item in ids.items() if fails(number)],
            ran={ids.get(number, f"number {number}"): times for number, times in burst.cluster.ran.items()},
            entered=counts.entered,
            removed=counts.removed,
            buried=counts.buried,
            left=left_at(counts),
            in_dead_letter_queue=dead,
            told_done=burst.told.done,
            told_dead=burst.told.dead,
        )
    )
    return Verdict(verdict.lost, verdict.duplicated, (*verdict.lines, *burst.told.alarms))
