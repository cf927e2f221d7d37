"""What every simulated world of the contract suites stands on: a clock that moves when told, and a wire without faults.

Time begins at this machine's own, so that claims about the present can be made of every world alike.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random

from dispatcher.simulator.clock import WorldClock
from dispatcher.simulator.faults import Fault
from dispatcher.simulator.trace import Trace
from dispatcher.simulator.wire import Wire


def _nothing_happens() -> None:
    return None


class Surroundings:
    """The world around a place of the simulator, where nothing goes wrong."""

    def __init__(self) -> None:
        self.clock = WorldClock(datetime.now(UTC))
        self.random = Random("contract")
        self.on_time: Callable[[], None] = _nothing_happens
        """Called whenever time has passed."""
        self._trace = Trace(self.clock)
        self._wires = 0

    def wire(self) -> Wire:
        """The connections of another process."""
        self._wires += 1
        return Wire(f"p{self._wires}", self, self._trace, self.random)

    def let_pass(self, span: timedelta) -> None:
        """Lets time pass in small steps, as anything may be due on the way."""
        target = self.clock.now() + span
        while self.clock.now() < target:
            self.clock.move_to(min(target, self.clock.now() + timedelta(milliseconds=50)))
            self.on_time()

    def land_later(self, after: timedelta, what: str, perform: Callable[[], object]) -> None:
        """Only a faulty wire asks for this."""
        raise AssertionError(f"{what} was to land after {after}, although no fault is switched on")

    def struck(self, fault: Fault) -> None:
        """Some of what the simulator counts is ordinary life: a pod that ends after its Job was marked."""
