"""A dry run: the very plan of a cycle, with its cost and time, under the present or another policy; nothing happens."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from dispatcher.core.experience import Experience
from dispatcher.core.learning import KNOWN_FROM
from dispatcher.core.rehearsal import rehearse
from dispatcher.core.units import Money
from dispatcher.core.verdicts import HoldReason
from dispatcher.core.work import Placement
from tests.builders import (
    MINUTE,
    NODES_ONLY,
    NOW,
    SECOND,
    a_budget,
    a_headroom,
    a_ledger,
    a_node,
    a_policy,
    a_retry,
    a_shape,
    a_snapshot,
    a_task,
    an_entry,
    items,
)

RATE = Money.from_usd("0.0000146")
WORST = RATE * (780 + 180)


def test_it_says_what_starts_where_and_what_that_may_cost() -> None:
    snapshot = a_snapshot(items(10), headroom=a_headroom(a_node(cores=4)))
    found = rehearse(snapshot, a_policy(), NOW)
    on_nodes, there = sorted(found.starts, key=lambda each: each.placement)
    assert (on_nodes.placement, on_nodes.items, on_nodes.cost_max.picos) == (Placement.NODE_POOL, 4, 0)
    assert (there.items, there.pods, there.cost_max) == (6, 6, WORST * 6)
    # Nobody has seen one run: the most that the task allows.
    assert (there.learned, there.takes) == (False, timedelta(seconds=780))
    assert there.cost_expected == RATE * 780 * 6
    assert found.holds == ()
    assert found.until_done == timedelta(seconds=780)


def test_what_was_learned_makes_the_estimate() -> None:
    policy = a_policy()
    experience = Experience(policy)
    for _ in range(KNOWN_FROM):
        experience.learned.ran("report", Placement.VIRTUAL_NODE, 30 * SECOND)
        experience.learned.started("report", Placement.VIRTUAL_NODE, 10 * SECOND)
    (there,) = rehearse(a_snapshot(items(2), experience=experience), policy, NOW).starts
    assert there.learned
    assert 38 * SECOND <= there.takes <= 44 * SECOND
    assert there.cost_expected < there.cost_max


def test_the_rest_is_reckoned_in_rounds_of_what_starts_now() -> None:
    policy = a_policy(a_task(parallelism_max=4))
    found = rehearse(a_snapshot(items(10)), policy, NOW)
    assert [hold.held.reason for hold in found.holds] == [HoldReason.TASK_PARALLELISM]
    assert found.until_done == 3 * timedelta(seconds=780)


def test_where_nothing_starts_no_end_is_told() -> None:
    found = rehearse(a_snapshot(items(3)), a_policy(a_task(placements=NODES_ONLY)), NOW)
    assert found.starts == ()
    assert found.until_done is None
    assert found.to_json()["until_done"] is None
    assert rehearse(a_snapshot(), a_policy(), NOW).until_done == timedelta(0)


def test_it_is_not_bound_to_what_one_cycle_launches() -> None:
    policy = a_policy(a_task(batch_size_max=1), launches_per_cycle_max=2)
    assert sum(each.items for each in rehearse(a_snapshot(items(9)), policy, NOW).starts) == 9


def test_another_policy_has_its_own_limits_tasks_and_prices() -> None:
    budget = a_budget("0.02")
    ledger = a_ledger(an_entry(shape=a_shape()), budgets=(budget,))
    snapshot = a_snapshot(items(3), items(2, first=4, task="gone"), ledger=ledger)
    tight = a_policy(a_task(), a_task("gone"), budgets=(budget,))
    assert {hold.held.reason for hold in rehearse(snapshot, tight, NOW).holds} == {HoldReason.BUDGET_EXHAUSTED}
    found = rehearse(snapshot, a_policy(budgets=(replace(budget, limit=Money.from_usd(5)),)), NOW)
    assert (sum(each.items for each in found.starts), found.unknown) == (3, 2)
    assert snapshot.ledger.accounts == ledger.accounts


def test_retries_count_with_all_their_items() -> None:
    (start,) = rehearse(a_snapshot(retries=[a_retry(3, not_before=NOW - MINUTE)]), a_policy(), NOW).starts
    assert (start.items, start.jobs) == (3, 1)
