"""A burst that wants five times the budget spends nearly all of it by the end of the window, and never more."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest

from dispatcher.core.budgets import Budget, Scope, WorstCase
from dispatcher.core.jobs import shape_of
from dispatcher.core.policy import Policy, VirtualNodePolicy
from dispatcher.core.pricing import group_rate
from dispatcher.core.units import UTC, Resources
from dispatcher.core.windows import WindowKind
from dispatcher.core.work import Placement, Task
from dispatcher.simulator.arrivals import Arrivals
from dispatcher.simulator.checkers import laws_of
from dispatcher.simulator.cluster import Run
from dispatcher.simulator.faults import NO_FAULTS
from dispatcher.simulator.scenario import Planned, Scenario
from dispatcher.simulator.world import World

BEGIN, END = datetime(2026, 3, 4, 9, 0, 30, tzinfo=UTC), datetime(2026, 3, 4, 10, tzinfo=UTC)
SECOND = timedelta(seconds=1)
RUN = timedelta(seconds=60)
"""From create to end; the task allows four minutes, and a minute to start."""
WORST_PODS = 20
"""So many pods at their worst are what the budget holds."""
ITEMS = 720
LEAST_SPENT = 0.90


def a_world() -> tuple[World, Budget]:
    plenty = 100_000
    node = VirtualNodePolicy(
        groups_max=plenty, cores_max=plenty, creates_per_5min=plenty, creates_per_hour=plenty,
        deletes_per_5min=plenty, deletes_per_hour=plenty, tail=2 * RUN, release_hold=3 * RUN,
    )  # fmt: skip
    task = Task(
        "render", "simulated", ("work",), Resources(1000, 2 * 10**9), item_timeout=4 * RUN, start_deadline=RUN,
        batch_size_max=10, linger=timedelta(0), placements=(Placement.VIRTUAL_NODE,),
    )  # fmt: skip
    shape = shape_of(task, placement=Placement.VIRTUAL_NODE, completions=1, parallelism=1, allowance_left=0)
    worst = WorstCase(shape, group_rate(task.requests, node.rates), node.tail)
    budget = Budget("hourly", worst.total() * WORST_PODS, Scope.ALL, WindowKind.HOUR)
    wanted = worst.rate * (ITEMS * (RUN // SECOND))
    assert wanted >= budget.limit * 5
    body = json.dumps({"task": task.name, "tenant": "red", "params": {"kind": "good"}}).encode()
    messages = tuple(Planned(SECOND, f"m-{number}", body, "good") for number in range(ITEMS))
    policy = Policy(tasks={task.name: task}, virtual_node=node, budgets=(budget,))
    scenario = Scenario(1, BEGIN, policy, False, (), 20 * SECOND, Arrivals.BURSTY, messages, NO_FAULTS, 0)
    world = World(scenario)
    world.cluster.behave = lambda _item, _placement: Run(5 * SECOND, RUN - 5 * SECOND, bills_after=SECOND)
    return world, budget


@pytest.mark.timeout(180)
def test_a_burst_that_wants_five_times_the_budget_really_spends_nearly_all_of_it() -> None:
    world, budget = a_world()
    laws = laws_of(world)  # among them: what is spent and set aside covers the bill, and never passes the limit
    while world.clock.now() < END:
        world.turn()
        for law in laws:
            law.look()
        world.let_pass(max(world.leader.sleep, 3 * SECOND))
    world.meter.read(END)
    (billed,) = (picos // 10**6 for account, picos in world.meter.cost.items() if "T09:00" in account)
    assert LEAST_SPENT * budget.limit.picos <= billed <= budget.limit.picos
