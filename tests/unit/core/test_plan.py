"""What one cycle launches, in which order, and what it holds."""

from dataclasses import replace

import pytest

from dispatcher.core.batching import manifest_bytes
from dispatcher.core.circuit import Circuit
from dispatcher.core.plan import Hold, after_service, plan_cycle
from dispatcher.core.policy import VirtualNodePolicy
from dispatcher.core.units import Resources
from dispatcher.core.verdicts import Held, HoldReason
from dispatcher.core.work import Placement
from tests.builders import (
    HOUR,
    MINUTE,
    NODES_ONLY,
    NOW,
    SECOND,
    VIRTUAL_ONLY,
    a_budget,
    a_headroom,
    a_node,
    a_policy,
    a_retry,
    a_snapshot,
    a_task,
    after_launches,
    items,
    launched,
    reasons,
)

NODES, VIRTUAL = Placement.NODE_POOL, Placement.VIRTUAL_NODE
ROOMY = a_headroom(a_node(100, 1000, 100))


def test_nothing_waiting_plans_nothing() -> None:
    plan = plan_cycle(a_snapshot([]), a_policy(), NOW)
    assert (plan.launches, plan.holds) == ((), ())


def test_a_backlog_fills_the_nodes_and_the_rest_spills() -> None:
    plan = plan_cycle(a_snapshot(items(5), headroom=a_headroom(a_node(2))), a_policy(), NOW)
    assert launched(plan) == [(NODES, [1, 2]), (VIRTUAL, [3, 4, 5])]


def test_items_of_a_lane_go_in_the_order_in_which_they_came() -> None:
    policy = a_policy(a_task(batch_size_max=2))
    plan = plan_cycle(a_snapshot(items(5), headroom=ROOMY), policy, NOW)
    assert launched(plan) == [(NODES, [1, 2]), (NODES, [3, 4]), (NODES, [5])]


def test_what_finds_no_room_is_held_with_its_number_and_reason() -> None:
    policy = a_policy(a_task(placements=NODES_ONLY))
    plan = plan_cycle(a_snapshot(items(5), headroom=a_headroom(a_node(2))), policy, NOW)
    assert launched(plan) == [(NODES, [1, 2])]
    detail = "no node has room for a pod of report"
    assert plan.holds == (Hold("report", "acme", 0, 3, Held(HoldReason.NODE_HEADROOM, None, detail)),)


# --- order ------------------------------------------------------------------------------------------------------------


def test_the_highest_priority_goes_first() -> None:
    low, high = items(2), items(2, first=10, priority=5)
    plan = plan_cycle(a_snapshot(low, high, headroom=ROOMY), a_policy(), NOW)
    assert launched(plan) == [(NODES, [10, 11]), (NODES, [1, 2])]


def test_the_tenant_that_is_served_least_goes_first() -> None:
    mine, yours = items(1, tenant="acme"), items(1, first=10, tenant="globex")
    snapshot = a_snapshot(mine, yours, headroom=ROOMY, active_of_tenant={"acme": 3, "globex": 1})
    assert launched(plan_cycle(snapshot, a_policy(), NOW)) == [(NODES, [10]), (NODES, [1])]


def test_a_tenant_with_more_weight_is_served_more() -> None:
    mine, yours = items(1, tenant="acme"), items(1, first=10, tenant="globex")
    snapshot = a_snapshot(mine, yours, headroom=ROOMY, active_of_tenant={"acme": 3, "globex": 2})
    policy = a_policy(tenant_weights={"acme": 2})
    assert launched(plan_cycle(snapshot, policy, NOW)) == [(NODES, [1]), (NODES, [10])]


def test_where_nobody_has_anything_in_flight_the_one_that_was_served_least_goes_first() -> None:
    mine, yours = items(1, tenant="acme"), items(1, first=10, tenant="globex")
    snapshot = a_snapshot(mine, yours, headroom=ROOMY, served={"acme": 2000, "globex": 1000})
    assert launched(plan_cycle(snapshot, a_policy(), NOW)) == [(NODES, [10]), (NODES, [1])]


@pytest.mark.parametrize(
    ("served", "waiting", "pods", "weight", "after"),
    [
        ({"acme": 3000}, {"acme"}, 2, 1, 5000),
        ({"acme": 3000}, {"acme"}, 2, 2, 4000),
        ({}, {"acme"}, 1, 1, 1000),
        ({"globex": 7000, "initech": 5000}, {"acme", "globex", "initech"}, 1, 1, 6000),
        ({"globex": 7000}, {"acme"}, 1, 1, 1000),
        ({"acme": 100, "globex": 7000}, {"acme", "globex"}, 1, 1, 1100),
    ],
)
def test_a_tenant_that_comes_new_starts_level_with_the_least_served_that_waits(
    served: dict[str, int], waiting: set[str], pods: int, weight: int, after: int
) -> None:
    assert after_service(served, waiting, "acme", pods, weight) == after


def test_lanes_take_turns_so_that_none_takes_all_the_room() -> None:
    policy = a_policy(a_task(batch_size_max=2))
    mine, yours = items(4, tenant="acme"), items(4, first=10, tenant="globex")
    plan = plan_cycle(a_snapshot(mine, yours, headroom=a_headroom(a_node(6, 99))), policy, NOW)
    nodes = [numbers for where, numbers in launched(plan) if where is NODES]
    assert nodes == [[1, 2], [10, 11], [3, 4]]


def test_retries_go_before_new_work_and_the_longest_waiting_first() -> None:
    young = a_retry(name="burst-young-2", waiting_since=NOW - MINUTE)
    old = a_retry(name="burst-old-2", waiting_since=NOW - HOUR)
    urgent = a_retry(name="burst-urgent-2", waiting_since=NOW - MINUTE, priority=1)
    snapshot = a_snapshot(items(1), retries=(young, old, urgent), headroom=ROOMY)
    plan = plan_cycle(snapshot, a_policy(priority_ageing=None), NOW)
    assert [launch.retry for launch in plan.launches] == ["burst-urgent-2", "burst-old-2", "burst-young-2", None]


# --- company ----------------------------------------------------------------------------------------------------------


def test_an_item_of_an_idle_task_is_launched_at_once() -> None:
    plan = plan_cycle(a_snapshot(items(1, received_at=NOW), headroom=ROOMY), a_policy(), NOW)
    assert launched(plan) == [(NODES, [1])]


def test_a_small_batch_of_a_busy_task_waits_for_company() -> None:
    snapshot = a_snapshot(items(1, received_at=NOW), headroom=ROOMY, active={"report": 1})
    plan = plan_cycle(snapshot, a_policy(), NOW)
    assert plan.holds[0].held == Held(HoldReason.LINGER, NOW + SECOND)
    assert launched(plan_cycle(snapshot, a_policy(), NOW + SECOND)) == [(NODES, [1])]


def test_a_full_batch_of_a_busy_task_waits_for_nobody() -> None:
    policy = a_policy(a_task(batch_size_max=3))
    snapshot = a_snapshot(items(3, received_at=NOW), headroom=ROOMY, active={"report": 1})
    assert launched(plan_cycle(snapshot, policy, NOW)) == [(NODES, [1, 2, 3])]


def test_what_is_left_of_a_lane_after_a_launch_waits_for_company() -> None:
    policy = a_policy(a_task(batch_size_max=3))
    plan = plan_cycle(a_snapshot(items(4, received_at=NOW), headroom=ROOMY), policy, NOW)
    assert launched(plan) == [(NODES, [1, 2, 3])]
    assert reasons(plan) == {HoldReason.LINGER: 1}


def test_a_batch_that_is_full_by_bytes_waits_for_nobody() -> None:
    waiting = items(4, received_at=NOW)
    policy = a_policy(manifest_bytes_max=2 * manifest_bytes(waiting[0]))
    plan = plan_cycle(a_snapshot(waiting, headroom=ROOMY, active={"report": 1}), policy, NOW)
    assert launched(plan)[0] == (NODES, [1, 2])


# --- retries ----------------------------------------------------------------------------------------------------------


def test_a_retry_waits_for_its_time() -> None:
    snapshot = a_snapshot(retries=(a_retry(3, not_before=NOW + MINUTE),), headroom=ROOMY)
    plan = plan_cycle(snapshot, a_policy(), NOW)
    assert plan.holds == (Hold("report", "acme", 0, 3, Held(HoldReason.RETRY_DELAY, NOW + MINUTE)),)
    assert len(plan_cycle(snapshot, a_policy(), NOW + MINUTE).launches) == 1


def test_a_retry_goes_whole_with_what_is_left_of_its_allowance() -> None:
    snapshot = a_snapshot(retries=(a_retry(5, allowance_left=1),), headroom=a_headroom(a_node(2)))
    [launch] = plan_cycle(snapshot, a_policy(), NOW).launches
    assert (launch.retry, launch.items) == ("burst-r1-2", ())
    shape = launch.placed.shape
    assert (shape.completions, shape.parallelism, shape.backoff_limit_per_index) == (5, 2, 1)


def test_a_retry_that_finds_no_room_is_held() -> None:
    snapshot = a_snapshot(retries=(a_retry(5),))
    plan = plan_cycle(snapshot, a_policy(virtual_node=None), NOW)
    assert reasons(plan) == {HoldReason.NODE_HEADROOM: 5}


def test_retries_of_several_items_close_an_open_circuit_even_if_nothing_new_comes() -> None:
    snapshot = a_snapshot(retries=(a_retry(5),), circuit=Circuit(5, NOW - MINUTE, MINUTE))
    assert len(plan_cycle(snapshot, a_policy(), NOW).launches) == 1


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_a_cycle_launches_so_many_attempts_and_the_next_goes_on() -> None:
    policy = a_policy(a_task(batch_size_max=1), launches_per_cycle_max=2)
    snapshot = a_snapshot(items(5), headroom=ROOMY)
    plan = plan_cycle(snapshot, policy, NOW)
    assert launched(plan) == [(NODES, [1]), (NODES, [2])]
    assert reasons(plan) == {HoldReason.LAUNCHES_PER_CYCLE: 3}
    assert launched(plan_cycle(after_launches(snapshot, plan, policy), policy, NOW)) == [(NODES, [3]), (NODES, [4])]


def test_retries_count_against_the_launches_of_a_cycle() -> None:
    policy = a_policy(launches_per_cycle_max=1)
    retries = (a_retry(name="burst-a-2"), a_retry(2, name="burst-b-2"))
    plan = plan_cycle(a_snapshot(items(1), retries=retries, headroom=ROOMY), policy, NOW)
    assert [launch.retry for launch in plan.launches] == ["burst-a-2"]
    assert reasons(plan) == {HoldReason.LAUNCHES_PER_CYCLE: 3}


def test_pods_that_are_starting_keep_their_place_on_the_nodes() -> None:
    one_core = Resources(1000, 10**9)
    snapshot = a_snapshot(items(4), headroom=a_headroom(a_node(3)), starting=((one_core, 2),))
    assert launched(plan_cycle(snapshot, a_policy(), NOW))[0] == (NODES, [1])


def test_a_full_ledger_launches_nothing() -> None:
    plan = plan_cycle(a_snapshot(items(2), headroom=ROOMY, ledger_full=True), a_policy(), NOW)
    assert reasons(plan) == {HoldReason.LEDGER_FULL: 2}


def test_a_clock_that_cannot_be_relied_upon_launches_nothing() -> None:
    plan = plan_cycle(a_snapshot(items(2), headroom=ROOMY, retries=(a_retry(1),), clock_fault="far"), a_policy(), NOW)
    assert reasons(plan) == {HoldReason.CLOCKS_APART: 3}
    assert {hold.held.detail for hold in plan.holds} == {"far"}


def test_planning_again_at_once_with_the_launches_in_the_ledger_launches_nothing() -> None:
    task = a_task(placements=VIRTUAL_ONLY)
    policy = a_policy(task, budgets=(a_budget("0.05"),), virtual_node=VirtualNodePolicy(groups_max=8))
    snapshot = a_snapshot(items(20), retries=(a_retry(2),))
    plan = plan_cycle(snapshot, policy, NOW)
    assert plan.launches
    assert plan_cycle(after_launches(snapshot, plan, policy), policy, NOW).launches == ()


def test_a_single_probe_goes_out_in_a_cycle_however_much_waits() -> None:
    snapshot = a_snapshot(
        items(5), items(5, first=10, tenant="globex"), retries=(a_retry(3),), circuit=Circuit(5, NOW, MINUTE)
    )
    plan = plan_cycle(snapshot, a_policy(), NOW)
    assert sum(launch.placed.shape.parallelism for launch in plan.launches) == 1
    assert plan_cycle(after_launches(snapshot, plan, a_policy()), a_policy(), NOW).launches == ()


def test_an_empty_lane_is_passed_over() -> None:
    snapshot = a_snapshot([], items(1))
    assert launched(plan_cycle(replace(snapshot, headroom=ROOMY), a_policy(), NOW)) == [(NODES, [1])]
