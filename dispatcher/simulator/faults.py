"""Faults by name, how often each strikes, and what a process that dies raises.

Decides the vocabulary alone. Each seed switches a random subset on: a fault that never meets certain others finds bugs
that the crowd of all faults hides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Killed(BaseException):
    """The dispatcher's process has died here. Not an Exception: nothing in the product may catch it."""


class Fault(StrEnum):
    """What can go wrong. Each is counted when it strikes."""

    CRASH_BEFORE = "crash before an act"
    CRASH_AFTER = "crash after an act, its answer unread"
    LOST_ACT = "act never happened, reported unknown"
    LOST_ANSWER = "act happened, reported unknown"
    LATE_ACT = "act reported unknown, landed later"
    SLOW_ANSWER = "slow answer"
    FAILED_READ = "read failed"
    THROTTLED = "broker throttled"
    LOCK_LOST = "lock lost, message redelivered"
    STALE_WATCH = "stale observations"
    MISSED_EVENT = "missed observation"
    REPEATED_EVENT = "old observation repeated"
    REORDERED_EVENTS = "reordered observations"
    STALLED_LEADER = "leader stalled between two acts, went on after another took over"
    TWO_LEADERS = "lease said yes to two"
    CLOCK_STEP = "host clock stepped"
    CLOCKS_APART = "host clock and cluster's found far apart"
    JOB_DELETED = "Job deleted by a person"
    POD_DELETED = "pod deleted by a person"
    JOB_REFUSED = "Job refused by the API server"
    NODE_LOST = "node lost"
    POD_REFUSED = "pod refused by ACI"
    POD_SLOW = "pod slow to start"
    POD_STUCK = "pod stuck in pending"
    POD_EVICTED = "pod evicted"
    GROUP_LEAKED = "group billed on after its pod"
    GROUP_BEYOND_TAIL = "group billed on beyond the tail (broken assumption)"
    LATE_OUTCOME = "outcome after its Job was stopped"
    CONTRADICTORY = "failed and succeeded pods of one item"
    LEDGER_LOST = "ledger deleted by a person"
    REPLY_REFUSED = "reply queue full or not there"
    REPORT_LOST = "report of a pod of several items never sent"
    REPORT_LATE = "report late"
    REPORT_TWICE = "report sent twice"
    POD_KILLED = "pod of several items brought down by one of them"


PER_ACT = (
    Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.LOST_ACT, Fault.LOST_ANSWER, Fault.LATE_ACT, Fault.SLOW_ANSWER,
    Fault.STALLED_LEADER,
)  # fmt: skip
"""Faults that may strike any act; drawn with one roll of the dice."""


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """How often each fault strikes in this world, per act, read, pod or cycle as the case may be."""

    rates: Mapping[Fault, float] = field(default_factory=dict)

    def rate(self, fault: Fault) -> float:
        """How often it strikes; nothing where it is switched off."""
        return self.rates.get(fault, 0.0)


NO_FAULTS = FaultPlan()
