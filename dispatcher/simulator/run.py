"""One seed from beginning to end: cycles under faults, then cycles without, until everything is drained.

Decides how time goes on between cycles and how long a world may take to drain. The laws are looked at after every step.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from dispatcher.simulator.checkers import LawBroken, laws_of
from dispatcher.simulator.occurrences import count_into
from dispatcher.simulator.scenario import Scenario, draw
from dispatcher.simulator.world import SHORTEST, World

DRAIN_CYCLES_MAX = 4000
DRAIN_TIME_MAX = timedelta(days=12)
_LONGEST_UNDER_FAULTS = timedelta(seconds=8)
_LONGEST_IN_PEACE = timedelta(seconds=600)


@dataclass(slots=True)
class Result:
    """How a seed went."""

    seed: int
    cycles: int = 0
    drain_cycles: int = 0
    virtual_seconds: float = 0.0
    digest: str = ""
    occurred: Counter[str] = field(default_factory=Counter)
    law: str | None = None
    """The law that was broken; None: all held."""
    text: str = ""
    step: int = 0
    last_lines: tuple[str, ...] = ()

    @property
    def held(self) -> bool:
        """Whether all laws held."""
        return self.law is None


def run_seed(seed: int, tell: Callable[[str], None] | None = None) -> Result:
    """Runs the world of that seed; ``tell`` gets every line of the trace."""
    return run(draw(seed), tell)


def run(scenario: Scenario, tell: Callable[[str], None] | None = None) -> Result:
    """Runs that world."""
    result = Result(scenario.seed)
    world = World(scenario, tell)
    try:
        _run(world, result)
    except LawBroken as broken:
        result.law, result.text = broken.law, broken.text
    except Exception as error:  # noqa: BLE001 - whatever the product breaks with is a finding, not the end of the search
        where = "".join(traceback.format_exception(error)[-4:])
        result.law, result.text = "no law: the product broke", f"{error!r}\n{where}"
    result.step = world.trace.count
    result.digest = world.trace.digest
    result.occurred = world.occurred
    result.virtual_seconds = (world.clock.now() - scenario.start).total_seconds()
    if not result.held:
        result.last_lines = tuple(world.trace.last)
    return result


def _run(world: World, result: Result) -> None:
    laws = laws_of(world)
    count_into(world)

    def cycle() -> bool:
        result.cycles += 1
        did_something = world.turn()
        for law in laws:
            law.look()
        return did_something

    while result.cycles < world.scenario.fault_cycles:
        did_something = cycle()
        world.accidents()
        world.let_pass(_pause(world, did_something))
    world.heal()
    began, idle = world.clock.now(), SHORTEST
    while not world.drained:
        did_something = cycle()
        result.drain_cycles += 1
        if result.drain_cycles % 50 == 0:
            world.operator_looks()
        if result.drain_cycles > DRAIN_CYCLES_MAX or world.clock.now() - began > DRAIN_TIME_MAX:
            break
        asked = max(world.leader.sleep, SHORTEST)
        idle = asked if did_something else min(max(idle, asked) * 1.5, _LONGEST_IN_PEACE)
        world.let_pass(idle)
    world.let_pass(timedelta(hours=1))
    for law in laws:
        law.finish()


def _pause(world: World, did_something: bool) -> timedelta:
    """Mostly what the product asked for; sometimes the process is slow to come back."""
    asked = max(world.leader.sleep, SHORTEST)
    if not did_something:
        asked = max(asked, timedelta(seconds=2))
    if world.random.random() < 0.1:
        asked += timedelta(seconds=round(world.random.uniform(0.0, _LONGEST_UNDER_FAULTS.total_seconds()), 3))
    return asked
