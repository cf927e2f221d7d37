"""All laws hold where groups outlive their pods by more than anybody assumed and ACI may be read: they are charged too,
and nothing is opened on the virtual node beside them. And where the Job controller retries on the virtual node.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from dispatcher.core.profiles import VIRTUAL_NODE_V1
from dispatcher.simulator.faults import Fault, FaultPlan
from dispatcher.simulator.run import run
from dispatcher.simulator.scenario import Scenario, draw

SEEDS = 12
LEAKING = FaultPlan(
    {Fault.GROUP_BEYOND_TAIL: 0.4, Fault.POD_EVICTED: 0.2, Fault.POD_DELETED: 0.05, Fault.GROUP_LEAKED: 0.3}
)


def leaking(seed: int) -> Scenario:
    return replace(draw(seed), with_account=True, faults=LEAKING)


def test_leaks_are_found_and_resolved_and_no_law_is_broken() -> None:
    found = resolved = 0
    for seed in range(SEEDS):
        lines: list[str] = []
        result = run(leaking(seed), lines.append)
        assert result.held, f"seed {seed}: {result.law}: {result.text}"
        found += sum(" group.leaked " in line for line in lines)
        resolved += sum(" leak.resolved " in line for line in lines)
    assert found == resolved > SEEDS


def test_without_access_nobody_knows_of_them() -> None:
    for seed in range(3):
        lines: list[str] = []
        assert run(replace(leaking(seed), with_account=False), lines.append).held
        assert not any(" group.leaked " in line for line in lines)


@pytest.mark.parametrize("first", range(0, 16, 8))
def test_laws_hold_where_the_job_controller_retries_on_the_virtual_node(first: int) -> None:
    retries = replace(VIRTUAL_NODE_V1, name="retries", retries_in_job=True, exit_codes_count=True)
    for seed in range(first, first + 8):
        world = draw(seed)
        assert world.policy.virtual_node is not None
        node = replace(world.policy.virtual_node, profile=retries)
        result = run(replace(world, policy=replace(world.policy, virtual_node=node)))
        assert result.held, f"seed {seed}: {result.law}: {result.text}"
