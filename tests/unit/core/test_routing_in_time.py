"""Routing by an objective: who waits for the nodes, who spills now, and which nodes are filled at all."""

from dataclasses import replace
from datetime import timedelta

import pytest

from dispatcher.core.baseline import SAMPLE
from dispatcher.core.capacity import NodeSpace
from dispatcher.core.circuit import Circuit
from dispatcher.core.experience import Experience, Seen
from dispatcher.core.ledger import Ledger
from dispatcher.core.observations import NodeHeadroom
from dispatcher.core.outlook import Outlook
from dispatcher.core.policy import Autoscaling, GuardAction, GuardPolicy, NodePoolPolicy, Policy
from dispatcher.core.pricing import NodePrice
from dispatcher.core.routing import Demand, Room
from dispatcher.core.units import Money, Resources
from dispatcher.core.verdicts import Held, HoldReason, Placed, Why
from dispatcher.core.work import Placement
from tests.builders import (
    MINUTE,
    NOTHING,
    NOW,
    SECOND,
    a_headroom,
    a_ledger,
    a_node,
    a_policy,
    a_shape,
    a_task,
    an_entry,
    items,
)

TASK = a_task(start_by=2 * MINUTE, spill_after=timedelta(0))
NODE = NodePrice("D8s_v5", Money.from_usd("0.36"), Resources(8000, 32 * 10**9))


def an_experience(policy: Policy, run: timedelta = MINUTE, start: timedelta = 20 * SECOND) -> Experience:
    """Ten pods of the task ran, and started on the virtual node, in that time."""
    experience = Experience(policy)
    for _ in range(10):
        experience.learned.ran("report", Placement.NODE_POOL, run)
        experience.learned.started("report", Placement.VIRTUAL_NODE, start)
    return experience


def verdict(
    count: int,
    *,
    waited: timedelta = timedelta(0),
    on_nodes: int = 10,
    behind: int = 0,
    policy: Policy | None = None,
    experience: Experience | None = None,
    headroom: NodeHeadroom = NOTHING,
    ledger: Ledger | None = None,
) -> Placed | Held:
    policy = policy or a_policy(TASK)
    experience = experience or an_experience(policy)
    outlook = Outlook(policy, experience, len(headroom.nodes), {"report": on_nodes}, NOW)
    nodes = NodeSpace(headroom, policy.node_pool, on_nodes)
    room = Room(policy, ledger or Ledger(), nodes, Circuit(), {"report": on_nodes}, False, NOW, outlook=outlook)
    waiting = items(count, received_at=NOW - waited)
    task = policy.tasks["report"]
    demand = Demand(task, "acme", count, NOW - waited, allowance_left=3, items=waiting, behind=behind)
    found = room.route(demand)
    assert isinstance(found, Placed | Held)
    return found


def test_work_that_nodes_will_start_in_time_waits_for_them_and_says_so() -> None:
    found = verdict(10)  # ten pods of a minute each: in 96 s sixteen of them end
    assert isinstance(found, Held)
    assert found.reason is HoldReason.NODES_IN_TIME
    assert found.until is not None
    assert NOW + 90 * SECOND <= found.until <= NOW + 100 * SECOND
    assert found.detail == "10 wait, 16 starts on nodes are expected in time for start_by"


def test_only_what_nodes_will_not_start_in_time_spills_at_once() -> None:
    found = verdict(20)
    assert isinstance(found, Placed)
    assert (found.where, found.why) == (Placement.VIRTUAL_NODE, Why.NODES_TOO_LATE)
    assert found.shape.completions == 4


def test_those_behind_in_the_lane_wait_for_the_same_nodes() -> None:
    found = verdict(10, behind=20)
    assert isinstance(found, Placed)
    assert found.shape.completions == 10


def test_whoever_would_be_late_spills_whatever_is_hoped_for() -> None:
    found = verdict(5, waited=95 * SECOND)
    assert isinstance(found, Placed)
    assert found.shape.completions == 5


@pytest.mark.parametrize("on_nodes", [0, 10])
def test_where_nothing_is_known_of_run_times_nobody_waits(on_nodes: int) -> None:
    policy = a_policy(TASK)
    assert isinstance(verdict(5, on_nodes=on_nodes, policy=policy, experience=Experience(policy)), Placed)


def test_spill_after_is_the_least_that_work_waits_but_for_the_objective() -> None:
    patient = a_policy(replace(TASK, spill_after=10 * SECOND))
    found = verdict(50, policy=patient)
    assert isinstance(found, Held)
    assert (found.reason, found.until) == (HoldReason.WAITING_TO_SPILL, NOW + 10 * SECOND)
    hasty = a_policy(replace(TASK, spill_after=MINUTE, start_by=30 * SECOND))
    assert isinstance(verdict(50, waited=12 * SECOND, policy=hasty), Placed)


def test_a_task_has_at_most_so_many_pods_on_the_virtual_node() -> None:
    policy = a_policy(replace(TASK, start_by=None, virtual_pods_max=3))
    found = verdict(5, policy=policy)
    assert isinstance(found, Placed)
    assert found.shape.completions == 3
    full = verdict(5, policy=policy, ledger=a_ledger(an_entry(shape=a_shape(3))))
    assert isinstance(full, Held)
    assert full.reason is HoldReason.VIRTUAL_NODE_BOUND


# --- nodes that come and go -------------------------------------------------------------------------------------------


def a_pool_policy(**changes: object) -> Policy:
    pool = NodePoolPolicy(price=NODE, autoscaling=Autoscaling(nodes_max=10))
    return a_policy(replace(TASK, start_by=None), node_pool=pool, **changes)


def none_wanted(policy: Policy) -> Experience:
    experience = an_experience(policy)
    experience.sample(Seen(), NOW - SAMPLE)
    assert experience.wanted is not None
    assert experience.wanted.nodes == 0
    return experience


def test_a_node_that_is_to_go_is_filled_only_by_work_that_costs_more_elsewhere() -> None:
    policy, headroom = a_pool_policy(), a_headroom(a_node(8, 32))
    experience = none_wanted(policy)
    # A node costs $0.0001 a second, a pod there $0.0000146: seven of them cost more.
    small = verdict(6, policy=policy, experience=experience, headroom=headroom, on_nodes=0)
    large = verdict(7, policy=policy, experience=experience, headroom=headroom, on_nodes=0)
    assert isinstance(small, Placed)
    assert isinstance(large, Placed)
    assert (small.where, large.where) == (Placement.VIRTUAL_NODE, Placement.NODE_POOL)


def test_nodes_of_a_pool_that_nobody_scales_are_always_filled() -> None:
    policy = a_policy(replace(TASK, start_by=None))
    found = verdict(1, policy=policy, headroom=a_headroom(a_node(8, 32)), on_nodes=0)
    assert isinstance(found, Placed)
    assert found.where is Placement.NODE_POOL


def test_nodes_that_were_asked_for_count_from_when_they_will_be_there() -> None:
    policy = a_pool_policy()
    policy = replace(policy, tasks={"report": replace(TASK, start_by=10 * MINUTE)})
    experience = an_experience(policy)
    experience.sample(Seen(waiting={"report": 16}, stuck={"report": 16}), NOW - SECOND)
    assert experience.wanted is not None
    assert experience.wanted.nodes == 2
    found = verdict(16, policy=policy, experience=experience, on_nodes=0)
    assert isinstance(found, Held)
    assert found.reason is HoldReason.NODES_IN_TIME
    assert isinstance(verdict(17, policy=policy, experience=experience, on_nodes=0), Placed)


def test_steady_work_waits_for_nodes_where_operators_want_it_so() -> None:
    policy = a_pool_policy(guard=GuardPolicy(seen_at_least=MINUTE, action=GuardAction.STOP))
    experience = an_experience(policy)
    for number in range(60):
        experience.sample(Seen(on_virtual_node={"report": 8}), NOW - 20 * MINUTE + number * SAMPLE)
    found = verdict(3, policy=policy, experience=experience)
    assert isinstance(found, Held)
    assert found.reason is HoldReason.STEADY_WORK
