"""What each try of an item does, drawn when its pod is made: as its message says, and as the faults will have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from random import Random

from dispatcher.core.failures import FailureCause
from dispatcher.core.policy import Policy
from dispatcher.core.work import Placement
from dispatcher.simulator.cluster import Run, Step, WorkFile
from dispatcher.simulator.faults import NO_FAULTS, Fault, FaultPlan
from dispatcher.simulator.wire import Surroundings

_REFUSALS = (
    FailureCause.ACI_QUOTA, FailureCause.ACI_CAPACITY, FailureCause.SUBNET_FULL, FailureCause.THROTTLED,
)  # fmt: skip
_NEVER = timedelta(hours=6)


class Behaviour:
    """The dice of all tries."""

    def __init__(self, random: Random, world: Surroundings, policy: Policy) -> None:
        self._random = random
        self._world = world
        self._tail = policy.virtual_node.tail if policy.virtual_node else timedelta(0)
        self._failed_once: set[int] = set()
        self.faults: FaultPlan = NO_FAULTS

    def _strikes(self, fault: Fault) -> bool:
        rate = self.faults.rate(fault)
        if rate and self._random.random() < rate:
            self._world.struck(fault)
            return True
        return False

    def _seconds(self, least: float, most: float) -> timedelta:
        return timedelta(seconds=round(self._random.uniform(least, most), 2))

    def behave(self, item: WorkFile, placement: Placement) -> Run:
        """What this try does."""
        paid = placement is Placement.VIRTUAL_NODE
        delay = self._seconds(1.0, 8.0)
        grace = self._seconds(0.1, 12.0)
        if paid and self._strikes(Fault.POD_REFUSED):
            return Run(delay, timedelta(0), self._random.choice(_REFUSALS), refused=True, bills_after=None)
        kind = item.params["kind"]
        if kind in ("image", "template"):
            cause = FailureCause.IMAGE if kind == "image" else FailureCause.TEMPLATE
            return Run(delay, timedelta(0), cause, refused=True, bills_after=delay / 2 if kind == "image" else None)
        if self._strikes(Fault.POD_STUCK):
            bills = delay if self._random.random() < 0.5 else None  # an image that is pulled for ever is billed
            return Run(_NEVER, timedelta(0), bills_after=bills, grace=grace)
        if self._strikes(Fault.POD_SLOW):
            delay = self._seconds(8.0, 60.0)
        run_time = self._seconds(1.0, 15.0)
        failure = self._failure(item.number, kind)
        disrupted = False
        if failure is None and self._strikes(Fault.POD_EVICTED):
            failure, disrupted = FailureCause.EVICTED, not paid
        if kind == "slow":
            run_time = timedelta(minutes=30)
        corrects = failure is not None and paid and self._strikes_silently(Fault.CONTRADICTORY)
        beyond = paid and self._strikes(Fault.GROUP_BEYOND_TAIL)
        leaks = self._seconds(0.0, 3.0)
        if paid and self._strikes(Fault.GROUP_LEAKED):
            leaks = self._seconds(3.0, self._tail.total_seconds())
        return Run(
            delay, run_time, failure, disrupted=disrupted, bills_after=delay * self._random.random(), leaks=leaks,
            beyond_tail=beyond, grace=grace, corrects_itself=corrects,
        )  # fmt: skip

    def carry(self, items: Sequence[tuple[int, WorkFile]], placement: Placement, item_timeout: timedelta) -> Run:
        """What this try of several items does, one after another; the positions come with them."""
        ordinary = {"kind": "ok"}
        pod = self.behave(items[0][1]._replace(params=ordinary), placement)
        if pod.refused or pod.start_delay == _NEVER:
            return pod
        at, steps, failure = timedelta(0), [], None
        for position, item in items:
            run_time, cause = self._seconds(1.0, 15.0), self._failure(item.number, item.params["kind"])
            if item.params["kind"] == "template":
                cause = FailureCause.TEMPLATE
            if item.params["kind"] == "slow":
                run_time, cause = item_timeout, FailureCause.ITEM_TIMEOUT
            at += run_time
            if item.params["kind"] == "bad" and item.number % 2:
                self._world.struck(Fault.POD_KILLED)
                failure = FailureCause.APPLICATION
                break
            steps.append(Step(item, position, at, cause, self._arrivals()))
        if pod.failure is not None:  # taken away on the way
            at, failure = at * self._random.random(), pod.failure
        return replace(pod, run_time=at, failure=failure, corrects_itself=False, steps=tuple(steps))

    def _arrivals(self) -> tuple[timedelta, ...]:
        """When a report reaches its queue, after its item has ended."""
        if self._strikes(Fault.REPORT_LOST):
            return ()
        first = self._seconds(0.05, 1.0)
        if self._strikes(Fault.REPORT_LATE):
            first = self._seconds(1.0, 25.0 if self._random.random() < 0.7 else 200.0)
        if self._strikes(Fault.REPORT_TWICE):
            return first, first + self._seconds(0.0, 100.0)
        return (first,)

    def _failure(self, number: int, kind: str) -> FailureCause | None:
        if kind == "bad":
            return FailureCause.APPLICATION
        if kind == "flaky" and number not in self._failed_once:
            self._failed_once.add(number)
            return FailureCause.APPLICATION
        return None

    def _strikes_silently(self, fault: Fault) -> bool:
        """It is counted when it shows."""
        rate = self.faults.rate(fault)
        return bool(rate) and self._random.random() < rate
