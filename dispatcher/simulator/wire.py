"""The wire between one dispatcher process and the world: every act and every read passes here, and faults strike here.

Decides, by the dice of the seed, whether an act happens, when, and what the process hears of it. An act that got no
answer may land later, long after the process that sent it has died or was deposed; the world then accepts or refuses it
by version, uid, name or lock, as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from datetime import timedelta
from itertools import accumulate
from random import Random
from typing import Any, Protocol, TypeVar

from dispatcher.errors import Deposed, LookFailed
from dispatcher.simulator.faults import NO_FAULTS, PER_ACT, Fault, FaultPlan, Killed
from dispatcher.simulator.trace import Trace

T = TypeVar("T")

API_REQUEST_MAX = timedelta(seconds=60)
"""The API server ends every request by then: what it has not done by then it never does."""
BROKER_LATE_MAX = timedelta(seconds=400)
_TIMEOUT_SECONDS = 10.0


class Surroundings(Protocol):
    """What the wire needs of the world."""

    def let_pass(self, span: timedelta) -> None:
        """Lets time pass."""
        ...

    def land_later(self, after: timedelta, what: str, perform: Callable[[], object]) -> None:
        """Keeps an act that is under way and lands later."""
        ...

    def struck(self, fault: Fault) -> None:
        """Counts a fault."""
        ...


class _Pause:
    """Awaited where a process stalls: its coroutine stands still until it is sent on."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class Wire:
    """One process's connections."""

    def __init__(self, who: str, world: Surroundings, trace: Trace, random: Random) -> None:
        self.who = who
        self.acts = 0
        self._world = world
        self._trace = trace
        self._random = random
        self._plan = NO_FAULTS
        self._limits: list[tuple[float, Fault]] = []
        self._any = 0.0
        self._read_fails = 0.0
        self._stalls = 0.0

    def set_faults(self, plan: FaultPlan) -> None:
        """From now on these faults strike."""
        self._plan = plan
        sums = accumulate(plan.rate(fault) for fault in PER_ACT)
        self._limits = list(zip(sums, PER_ACT, strict=True))
        self._any = self._limits[-1][0]
        self._read_fails = plan.rate(Fault.FAILED_READ)
        self._stalls = plan.rate(Fault.STALLED_LEADER)

    def _fault(self) -> Fault | None:
        if not self._any:
            return None
        dice = self._random.random()
        if dice >= self._any:
            return None
        return next(fault for limit, fault in self._limits if dice < limit)

    async def act(
        self,
        what: str,
        perform: Callable[[], T],
        unknown: Callable[[], T],
        *,
        late_max: timedelta = API_REQUEST_MAX,
    ) -> T:
        """Performs an act, or not, now or later; ``unknown`` gives the answer that nobody knows."""
        self.acts += 1
        fault = self._fault()
        if fault is None:
            return self._performed(what, perform)
        self._world.struck(fault)
        self._trace.line(f"{self.who} ! {fault}: {what}")
        match fault:
            case Fault.CRASH_BEFORE:
                raise Killed(what)
            case Fault.CRASH_AFTER:
                self._perform_unseen(what, perform)
                raise Killed(what)
            case Fault.STALLED_LEADER:
                await _Pause()
                return self._performed(what, perform)
            case Fault.SLOW_ANSWER:
                self._wait()
                return self._performed(what, perform)
            case Fault.LOST_ANSWER:
                self._perform_unseen(what, perform)
            case Fault.LATE_ACT:
                after = timedelta(seconds=self._random.uniform(0.0, late_max.total_seconds()))
                self._world.land_later(after, f"{self.who} {what}", perform)
            case _:
                pass  # lost: it never happens
        if self._random.random() < 0.5:
            self._wait()
        return unknown()

    def _performed(self, what: str, perform: Callable[[], T]) -> T:
        try:
            answer = perform()
        except Deposed:
            self._trace.line(f"{self.who} {what} -> refused")
            raise
        told: Any = getattr(answer, "answer", answer)
        self._trace.line(f"{self.who} {what} -> {told}")
        return answer

    def _perform_unseen(self, what: str, perform: Callable[[], object]) -> None:
        try:
            perform()
        except Deposed:
            self._trace.line(f"{self.who} {what} -> refused, unseen")

    def _wait(self) -> None:
        self._world.let_pass(timedelta(seconds=round(self._random.uniform(0.1, _TIMEOUT_SECONDS), 3)))

    async def read(self, what: str) -> None:
        """A read that may fail, or before which the process may stall. Raises LookFailed."""
        if self._stalls and self._random.random() < self._stalls:
            self._world.struck(Fault.STALLED_LEADER)
            self._trace.line(f"{self.who} ! {Fault.STALLED_LEADER}: before {what}")
            await _Pause()
        if self._read_fails and self._random.random() < self._read_fails:
            self._world.struck(Fault.FAILED_READ)
            self._trace.line(f"{self.who} ! {Fault.FAILED_READ}: {what}")
            raise LookFailed(what)
