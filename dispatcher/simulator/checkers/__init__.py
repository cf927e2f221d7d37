"""The laws, one small file each. Checkers look at the world from outside, not at what the dispatcher believes."""

from __future__ import annotations

from collections.abc import Sequence

from dispatcher.simulator.checkers.admission import Admission
from dispatcher.simulator.checkers.capacity import WithinCapacity
from dispatcher.simulator.checkers.charge import ChargedInFull
from dispatcher.simulator.checkers.cover import Covered
from dispatcher.simulator.checkers.drains import Drains
from dispatcher.simulator.checkers.heard import ReportsAreHeard
from dispatcher.simulator.checkers.held import HeldWithReason
from dispatcher.simulator.checkers.law import Law, LawBroken
from dispatcher.simulator.checkers.one_job import OneLiveJob
from dispatcher.simulator.checkers.plan import PlanIsBounded
from dispatcher.simulator.checkers.ruled_once import RuledOnce
from dispatcher.simulator.checkers.settled_once import SettledOnce
from dispatcher.simulator.checkers.told import ToldToSenders
from dispatcher.simulator.world import World

__all__ = ["ALL", "Law", "LawBroken", "laws_of"]

ALL: tuple[type[Law], ...] = (
    SettledOnce, RuledOnce, OneLiveJob, Admission, Covered, ChargedInFull, WithinCapacity, PlanIsBounded,
    HeldWithReason, Drains, ToldToSenders, ReportsAreHeard,
)  # fmt: skip
"""Law 7, that the same seed gives the same trace, is not looked at in a run but between two."""


def laws_of(world: World) -> Sequence[Law]:
    """A checker for each law, watching that world."""
    return [law(world) for law in ALL]
