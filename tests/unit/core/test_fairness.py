"""Fairness: shares on pods or cost, priorities that age, bounds of tenants; how long a greedy one may delay others."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from dispatcher.core.plan import SERVICE_UNIT, Snapshot, after_service, plan_cycle, share
from dispatcher.core.policy import Policy, ShareBy
from dispatcher.core.units import Resources
from dispatcher.core.verdicts import HoldReason
from tests.builders import (
    HOUR,
    MINUTE,
    NODES_ONLY,
    NOW,
    a_headroom,
    a_node,
    a_policy,
    a_retry,
    a_snapshot,
    a_task,
    items,
    reasons,
)

ONE = a_headroom(a_node(cores=1))
"""Room for a single pod."""


def tenants(snapshot: Snapshot, policy: Policy) -> list[str]:
    return [launch.tenant for launch in plan_cycle(snapshot, policy, NOW).launches]


# --- priorities age -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("waited", "first"), [(19 * MINUTE, "urgent"), (31 * MINUTE, "patient")])
def test_work_that_has_waited_long_enough_overtakes_a_higher_priority(waited: timedelta, first: str) -> None:
    policy = a_policy(a_task(placements=NODES_ONLY), priority_ageing=10 * MINUTE)
    patient = items(1, tenant="patient", received_at=NOW - waited)
    urgent = items(1, first=2, tenant="urgent", priority=2, received_at=NOW)
    assert tenants(a_snapshot(patient, urgent, headroom=ONE), policy)[0] == first


def test_without_ageing_priorities_are_absolute() -> None:
    policy = a_policy(a_task(placements=NODES_ONLY), priority_ageing=None)
    patient = items(1, tenant="patient", received_at=NOW - 100 * HOUR)
    urgent = items(1, first=2, tenant="urgent", priority=1)
    assert tenants(a_snapshot(patient, urgent, headroom=ONE), policy) == ["urgent"]


def test_retries_age_too() -> None:
    policy = a_policy(a_task(placements=NODES_ONLY), priority_ageing=10 * MINUTE)
    old = a_retry(name="burst-old-2", waiting_since=NOW - HOUR)
    new = a_retry(name="burst-new-2", priority=3, waiting_since=NOW)
    plan = plan_cycle(a_snapshot(retries=[new, old], headroom=ONE), policy, NOW)
    assert [launch.retry for launch in plan.launches] == ["burst-old-2"]


# --- bounds of tenants ----------------------------------------------------------------------------------------------


def test_a_tenant_has_no_more_pods_in_flight_than_it_may_and_others_go_on() -> None:
    policy = a_policy(tenant_pods_max={"acme": 5})
    snapshot = a_snapshot(items(8), items(4, first=9, tenant="globex"), active_of_tenant={"acme": 2})
    plan = plan_cycle(snapshot, policy, NOW)
    pods: Counter[str] = Counter()
    for launch in plan.launches:
        pods[launch.tenant] += launch.placed.shape.parallelism
    assert pods == {"acme": 3, "globex": 4}
    assert reasons(plan) == {HoldReason.TENANT_PARALLELISM: 5}
    assert "5 pods of acme in flight, 5 allowed" in plan.holds[0].held.detail


def test_a_retry_goes_in_waves_within_the_bound_and_waits_where_none_is_left() -> None:
    policy = a_policy(tenant_pods_max={"acme": 2})
    (launch,) = plan_cycle(a_snapshot(retries=[a_retry(6)]), policy, NOW).launches
    assert (launch.placed.shape.completions, launch.placed.shape.parallelism) == (6, 2)
    full = plan_cycle(a_snapshot(retries=[a_retry(6)], active_of_tenant={"acme": 2}), policy, NOW)
    assert reasons(full) == {HoldReason.TENANT_PARALLELISM: 6}


# --- shares ---------------------------------------------------------------------------------------------------------


def test_a_share_is_counted_in_pods_or_in_what_they_would_cost() -> None:
    small, large = a_task("small", requests=Resources(500, 10**9)), a_task("large", requests=Resources(2000, 4 * 10**9))
    by_pods, by_cost = a_policy(small, large), a_policy(small, large, share_by=ShareBy.COST)
    assert share(by_pods, large, 3) == share(by_pods, small, 3) == 3
    assert share(by_cost, large, 1) == 4 * share(by_cost, small, 1)
    # Of two tenants with as many pods the one with the small ones has less.
    snapshot = a_snapshot(
        items(1, tenant="with-large"), items(1, first=2, tenant="with-small"), headroom=ONE,
        active_of_tenant={"with-large": 1, "with-small": 1},
    )  # fmt: skip
    shares = {"with-large": share(by_cost, large, 1), "with-small": share(by_cost, small, 1)}
    only_nodes = a_policy(a_task(placements=NODES_ONLY), share_by=ShareBy.COST)
    assert tenants(replace(snapshot, share_of_tenant=shares), only_nodes) == ["with-small"]


# --- the bound ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share_by", list(ShareBy))
@pytest.mark.parametrize("weight", [1, 3])
def test_a_greedy_tenant_delays_another_by_no_more_than_its_weight_in_batches(share_by: ShareBy, weight: int) -> None:
    """Room for one pod frees at a time; a tenant with a thousand items waits beside one that sends a single one."""
    policy = a_policy(
        a_task(placements=NODES_ONLY, batch_size_max=1), share_by=share_by, tenant_weights={"greedy": weight}
    )
    task = policy.tasks["report"]
    backlog, served = items(1000, tenant="greedy"), {}
    for turn in range(200):
        waiting = {"greedy", "modest"} if turn >= 100 else {"greedy"}
        lanes = [backlog[turn:], *([items(1, first=5000, tenant="modest")] if turn >= 100 else [])]
        (first, *_) = tenants(a_snapshot(*lanes, headroom=ONE, served=served), policy)
        if first == "modest":
            break
        got = share(policy, task, 1)
        served[first] = after_service(served, waiting, first, got, policy.tenant_weights.get(first, 1))
    assert first == "modest"
    assert turn - 100 <= weight
    assert weight < SERVICE_UNIT
