"""Where a demand goes, or why it is held and until when."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from dispatcher.core.budgets import CLOCK_ERROR, Account, Scope, Spender
from dispatcher.core.capacity import NodeSpace
from dispatcher.core.circuit import Circuit
from dispatcher.core.ledger import Ledger, Tokens
from dispatcher.core.observations import NodeHeadroom
from dispatcher.core.policy import Policy, VirtualNodePolicy
from dispatcher.core.pricing import Rates
from dispatcher.core.profiles import VIRTUAL_NODE_V1
from dispatcher.core.routing import Demand, Room
from dispatcher.core.units import NO_MONEY, Money
from dispatcher.core.verdicts import Held, HoldReason, Placed, Why
from dispatcher.core.windows import window_at
from dispatcher.core.work import Placement, Task
from tests.builders import (
    HOUR,
    MINUTE,
    NODES_ONLY,
    NOTHING,
    NOW,
    SECOND,
    VIRTUAL_ONLY,
    a_budget,
    a_draft,
    a_headroom,
    a_ledger,
    a_node,
    a_policy,
    a_shape,
    a_task,
    an_entry,
    seconds,
)

TASK = a_task()
R = HoldReason
CLOSED = Circuit()
ONE_POD = Money.from_usd("0.0000146") * (780 + 180)
"""One core and 2 GB for start deadline, item timeout and tail."""


def a_demand(count: int = 1, task: Task = TASK, **changes: object) -> Demand:
    demand = Demand(task, "acme", count, waiting_since=NOW - HOUR, allowance_left=task.backoff_limit)
    return replace(demand, **changes)  # type: ignore[arg-type]


def a_room(
    policy: Policy | None = None,
    headroom: NodeHeadroom = NOTHING,
    ledger: Ledger | None = None,
    circuit: Circuit = CLOSED,
    active: int = 0,
    full: bool = False,
    now: datetime = NOW,
    clock_fault: str | None = None,
) -> Room:
    policy = policy or a_policy()
    nodes = NodeSpace(headroom, policy.node_pool, 0)
    return Room(policy, ledger or Ledger(), nodes, circuit, {"report": active}, full, now, clock_fault)


def held(verdict: Placed | Held) -> tuple[HoldReason, datetime | None]:
    assert isinstance(verdict, Held)
    return verdict.reason, verdict.until


def placed(verdict: Placed | Held) -> Placed:
    assert isinstance(verdict, Placed), verdict
    return verdict


# --- to the nodes -----------------------------------------------------------------------------------------------------


def test_baseline_goes_to_the_nodes_and_costs_nothing_more() -> None:
    verdict = placed(a_room(headroom=a_headroom(a_node(4))).route(a_demand(3)))
    assert (verdict.where, verdict.why, verdict.cost_max) == (Placement.NODE_POOL, Why.NODES_HAVE_ROOM, NO_MONEY)
    assert (verdict.shape.completions, verdict.shape.parallelism) == (3, 3)


def test_a_batch_shrinks_to_what_starts_at_once() -> None:
    assert placed(a_room(headroom=a_headroom(a_node(2))).route(a_demand(5))).shape.completions == 2


def test_a_retry_goes_whole_in_waves_where_nodes_have_less_room() -> None:
    shape = placed(a_room(headroom=a_headroom(a_node(2))).route(a_demand(5, whole=True, allowance_left=1))).shape
    assert (shape.completions, shape.parallelism, shape.backoff_limit_per_index) == (5, 2, 1)


def test_room_on_nodes_is_used_up() -> None:
    room = a_room(a_policy(a_task(placements=NODES_ONLY)), a_headroom(a_node(2)))
    task = a_task(placements=NODES_ONLY)
    assert placed(room.route(a_demand(2, task))).shape.completions == 2
    assert held(room.route(a_demand(1, task))) == (R.NODE_HEADROOM, None)


# --- to the virtual node ----------------------------------------------------------------------------------------------


def test_what_finds_no_node_in_time_spills() -> None:
    verdict = placed(a_room().route(a_demand(3)))
    assert (verdict.where, verdict.why) == (Placement.VIRTUAL_NODE, Why.WAITED_TOO_LONG)
    assert verdict.cost_max == ONE_POD * 3
    assert verdict.shape.backoff_limit_per_index == 0


def test_a_task_for_the_virtual_node_only_waits_for_no_node() -> None:
    task = a_task(placements=VIRTUAL_ONLY)
    room = a_room(a_policy(task), a_headroom(a_node(4)))
    assert placed(room.route(a_demand(1, task, waiting_since=NOW))).why is Why.NO_NODES_ALLOWED


def test_work_waits_for_a_node_before_it_spills() -> None:
    demand = a_demand(waiting_since=NOW - SECOND)
    assert held(a_room().route(demand)) == (R.WAITING_TO_SPILL, NOW + 4 * SECOND)
    assert placed(a_room().route(replace(demand, may_spill_at_once=True)))
    assert placed(a_room(now=NOW + 4 * SECOND).route(demand))


# --- every reason, with the time at which it may end by itself --------------------------------------------------------


def test_nowhere_to_go_is_held_until_a_node_has_room() -> None:
    assert held(a_room(a_policy(virtual_node=None)).route(a_demand())) == (R.NODE_HEADROOM, None)
    task = a_task(placements=NODES_ONLY)
    assert held(a_room(a_policy(task)).route(a_demand(1, task))) == (R.NODE_HEADROOM, None)


def test_a_task_runs_at_most_so_many_pods() -> None:
    assert held(a_room(active=50).route(a_demand())) == (R.TASK_PARALLELISM, None)
    assert placed(a_room(active=48).route(a_demand(5))).shape.completions == 2


def test_pods_placed_in_this_plan_count_too() -> None:
    room = a_room(a_policy(a_task(parallelism_max=3)), a_headroom(a_node(2)))
    task = a_task(parallelism_max=3)
    assert placed(room.route(a_demand(5, task))).where is Placement.NODE_POOL
    assert placed(room.route(a_demand(5, task))).shape.completions == 1
    assert held(room.route(a_demand(5, task)))[0] is R.TASK_PARALLELISM


def test_a_full_subnet_holds_until_an_address_is_free() -> None:
    draft = a_draft(an_entry(shape=a_shape(11)))
    draft.pod_seen("burst-b1-1", "p", NOW, NOW)
    draft.pod_gone("burst-b1-1", "p", NOW)
    room = a_room(a_policy(virtual_node=VirtualNodePolicy(subnet_prefix=28)), ledger=draft.finish(NOW))
    assert held(room.route(a_demand())) == (R.SUBNET_ADDRESSES, NOW + 5 * MINUTE)


def test_quotas_of_groups_and_cores_hold_until_a_group_ends() -> None:
    ledger = a_ledger(an_entry(shape=a_shape(4), cpu_millis=1000))
    groups = a_policy(virtual_node=VirtualNodePolicy(groups_max=4))
    cores = a_policy(virtual_node=VirtualNodePolicy(cores_max=4))
    assert held(a_room(groups, ledger=ledger).route(a_demand())) == (R.ACI_GROUP_QUOTA, None)
    assert held(a_room(cores, ledger=ledger).route(a_demand())) == (R.ACI_CORE_QUOTA, None)


def test_the_create_rate_holds_until_a_create_is_old_enough() -> None:
    ledger = Ledger(creates=Tokens().add(NOW - MINUTE, 100))
    assert held(a_room(ledger=ledger).route(a_demand())) == (R.ACI_CREATE_RATE, NOW + 4 * MINUTE)


def test_an_exhausted_budget_holds_until_its_window_has_ended_on_every_clock() -> None:
    budget = a_budget(str((ONE_POD - Money(1)).usd))
    verdict = a_room(a_policy(budgets=(budget,))).route(a_demand())
    assert held(verdict) == (R.BUDGET_EXHAUSTED, window_at(budget.window, budget.zone, NOW).end + CLOCK_ERROR)
    assert isinstance(verdict, Held)
    assert "budget daily" in verdict.detail
    assert f"one more pod reserves ${ONE_POD}" in verdict.detail


def test_a_budget_shrinks_a_batch_to_what_it_can_pay() -> None:
    budgets = (a_budget(), a_budget(str((ONE_POD * 3 - Money(1)).usd), name="tight"))
    room = a_room(a_policy(budgets=budgets))
    assert placed(room.route(a_demand(5))).shape.completions == 2
    assert held(room.route(a_demand(1)))[0] is R.BUDGET_EXHAUSTED


def test_where_nothing_has_a_price_no_budget_speaks() -> None:
    free = VirtualNodePolicy(rates=Rates(NO_MONEY, NO_MONEY))
    room = a_room(a_policy(virtual_node=free, budgets=(a_budget("0"),)))
    assert placed(room.route(a_demand(5))).shape.completions == 5


def test_one_tenants_budget_does_not_hold_another() -> None:
    room = a_room(a_policy(budgets=(a_budget(str(ONE_POD.usd), scope=Scope.TENANT),)))
    assert placed(room.route(a_demand(1)))
    assert held(room.route(a_demand(1)))[0] is R.BUDGET_EXHAUSTED
    assert placed(room.route(a_demand(1, tenant="globex")))


def test_an_account_with_an_overrun_is_closed() -> None:
    budget = a_budget()
    window = window_at(budget.window, budget.zone, NOW)
    overrun = Account("daily", window, budget.limit, NO_MONEY, overrun=True)
    ledger = Ledger(accounts={budget.account_of(Spender("acme", "report"), window): overrun})
    assert held(a_room(a_policy(budgets=(budget,)), ledger=ledger).route(a_demand()))[0] is R.BUDGET_EXHAUSTED


def test_a_plan_counts_what_open_attempts_have_set_aside() -> None:
    entry = an_entry()
    budgets = (a_budget(str((entry.worst_case.total() + ONE_POD).usd)),)
    room = a_room(a_policy(budgets=budgets), ledger=a_ledger(entry, budgets=budgets))
    assert placed(room.route(a_demand(5))).shape.completions == 1


def test_an_open_circuit_holds_until_its_next_probe() -> None:
    circuit = Circuit(5, NOW + MINUTE, MINUTE)
    assert held(a_room(circuit=circuit).route(a_demand())) == (R.CIRCUIT_OPEN, NOW + MINUTE)


def test_one_pod_alone_probes_an_open_circuit() -> None:
    room = a_room(circuit=Circuit(5, NOW, MINUTE))
    assert placed(room.route(a_demand(5))).shape.completions == 1
    assert held(room.route(a_demand(5))) == (R.CIRCUIT_OPEN, NOW + MINUTE)


def test_a_frozen_virtual_node_waits_for_a_person_and_nodes_go_on() -> None:
    frozen = Ledger(frozen="the ledger was lost")
    verdict = a_room(ledger=frozen).route(a_demand())
    assert verdict == Held(R.VIRTUAL_NODE_FROZEN, None, "the ledger was lost")
    assert placed(a_room(headroom=a_headroom(a_node(1)), ledger=frozen).route(a_demand()))


def test_a_full_ledger_holds_everything() -> None:
    assert held(a_room(headroom=a_headroom(a_node(4)), full=True).route(a_demand())) == (R.LEDGER_FULL, None)


# --- retries on the virtual node --------------------------------------------------------------------------------------


def test_a_retry_goes_whole_and_is_held_while_any_of_it_lacks_room() -> None:
    retry = a_demand(5, whole=True)
    short_of_groups = a_policy(virtual_node=VirtualNodePolicy(groups_max=4))
    short_of_money = a_policy(budgets=(a_budget(str((ONE_POD * 5 - Money(1)).usd)),))
    assert held(a_room(short_of_groups).route(retry))[0] is R.ACI_GROUP_QUOTA
    assert held(a_room(short_of_money).route(retry))[0] is R.BUDGET_EXHAUSTED
    assert placed(a_room(a_policy(budgets=(a_budget(str((ONE_POD * 5).usd)),))).route(retry)).shape.parallelism == 5


def test_a_retry_wider_than_its_task_may_run_goes_in_waves() -> None:
    task = a_task(parallelism_max=2)
    shape = placed(a_room(a_policy(task)).route(a_demand(5, task, whole=True))).shape
    assert (shape.completions, shape.parallelism) == (5, 2)
    assert shape.deadline >= 3 * task.item_timeout + 3 * task.start_deadline


def test_a_retry_can_be_the_probe_of_an_open_circuit_one_pod_at_a_time() -> None:
    room = a_room(circuit=Circuit(5, NOW, MINUTE))
    shape = placed(room.route(a_demand(5, whole=True))).shape
    assert (shape.completions, shape.parallelism) == (5, 1)
    assert held(room.route(a_demand(1))) == (R.CIRCUIT_OPEN, NOW + MINUTE)


def test_the_waves_of_a_retry_are_paid_for_in_full() -> None:
    task = a_task(parallelism_max=2)
    budgets = (a_budget("100"),)
    verdict = placed(a_room(a_policy(task, budgets=budgets)).route(a_demand(5, task, whole=True)))
    shape = verdict.shape
    rate = Money.from_usd("0.0000146")
    assert verdict.cost_max == rate * (2 * int(shape.deadline.total_seconds()) + 5 * 180)
    just_short = (a_budget(str((verdict.cost_max - Money(1)).usd)),)
    assert (
        held(a_room(a_policy(task, budgets=just_short)).route(a_demand(5, task, whole=True)))[0] is R.BUDGET_EXHAUSTED
    )


@pytest.mark.parametrize("wait", [seconds(0), HOUR])
def test_a_retry_has_waited_before_and_spills_at_once(wait: object) -> None:
    assert placed(a_room().route(a_demand(2, whole=True, may_spill_at_once=True, waiting_since=NOW - wait)))


def test_with_a_clock_before_the_ledgers_last_write_nothing_is_launched() -> None:
    ledger = Ledger(written=NOW + MINUTE)
    verdict = a_room(headroom=a_headroom(a_node()), ledger=ledger).route(a_demand())
    assert held(verdict) == (HoldReason.CLOCK_BEHIND, NOW + MINUTE)


@pytest.mark.parametrize("whole", [False, True])
def test_while_the_clocks_are_apart_neither_new_work_nor_a_retry_is_launched_and_the_words_are_told(
    whole: bool,
) -> None:
    far = "this machine's clock is 60 s behind the API server's"
    verdict = a_room(headroom=a_headroom(a_node()), clock_fault=far).route(a_demand(whole=whole))
    assert verdict == Held(HoldReason.CLOCKS_APART, None, far)


# --- several items in a pod -------------------------------------------------------------------------------------------


def test_room_and_money_are_counted_by_the_pod() -> None:
    task = a_task(items_per_pod=5, placements=VIRTUAL_ONLY)
    placed = a_room(a_policy(task)).route(a_demand(12, task))
    assert isinstance(placed, Placed)
    assert (placed.shape.completions, placed.items_per_pod, placed.items_max) == (3, 5, 15)


def test_where_fewer_pods_fit_fewer_items_go() -> None:
    task = a_task(items_per_pod=5, placements=NODES_ONLY)
    placed = a_room(a_policy(task), a_headroom(a_node(cores=2))).route(a_demand(50, task))
    assert isinstance(placed, Placed)
    assert (placed.shape.completions, placed.items_max) == (2, 10)


def test_a_retry_goes_whole_in_as_few_pods() -> None:
    task = a_task(items_per_pod=5, placements=VIRTUAL_ONLY)
    placed = a_room(a_policy(task)).route(a_demand(11, task, whole=True))
    assert isinstance(placed, Placed)
    assert placed.shape.completions == 3


def test_what_waits_behind_is_reckoned_with_where_nobody_has_said_how_many() -> None:
    task = a_task(items_per_pod=None, placements=VIRTUAL_ONLY, item_timeout=MINUTE, batch_size_max=50)
    policy = a_policy(task, virtual_node=VirtualNodePolicy(creates_per_5min=300, creates_per_hour=300))
    alone = a_room(policy).route(a_demand(50, task))
    in_company = a_room(policy).route(a_demand(50, task, behind=1150))
    assert isinstance(alone, Placed)
    assert isinstance(in_company, Placed)
    assert (alone.items_per_pod, in_company.items_per_pod) == (1, 4)
    assert in_company.shape.completions == 13


def test_a_load_that_nobody_has_fixed_shrinks_to_what_a_budget_has_room_for() -> None:
    task = a_task(items_per_pod=None, placements=VIRTUAL_ONLY, item_timeout=MINUTE, batch_size_max=8)
    node = VirtualNodePolicy(creates_per_5min=1, creates_per_hour=1)
    rich = a_room(a_policy(task, virtual_node=node)).route(a_demand(8, task))
    assert isinstance(rich, Placed)
    assert rich.items_per_pod == 8
    budget = a_budget(str((Money.from_usd("0.0000146") * (180 + 30 + 3 * 60 + 180)).usd))
    poor = a_room(a_policy(task, virtual_node=node, budgets=(budget,))).route(a_demand(8, task))
    assert isinstance(poor, Placed)
    assert (poor.items_per_pod, poor.items_max) == (2, 2)


# --- retries inside a Job on the virtual node ---

RETRYING = VirtualNodePolicy(profile=replace(VIRTUAL_NODE_V1, name="retries", retries_in_job=True))


def placed_there(count: int = 4, allowance: int = 3, behind: int = 0, **place: Any) -> Placed:
    task = a_task(placements=VIRTUAL_ONLY)
    policy = a_policy(task, virtual_node=replace(RETRYING, **place))
    room = Room(policy, a_ledger(), NodeSpace(NOTHING, policy.node_pool, 0), Circuit(), {}, ledger_full=False, now=NOW)
    verdict = room.route(Demand(task, "acme", count, NOW - HOUR, allowance_left=allowance, behind=behind))
    assert isinstance(verdict, Placed)
    return verdict


def test_where_the_place_has_its_job_controller_retry_the_job_has_what_is_left_of_the_allowance() -> None:
    for allowance in (0, 1, 3):
        assert placed_there(allowance=allowance).shape.backoff_limit_per_index == allowance


def test_every_retry_is_set_aside_as_a_group_of_its_own_with_a_start_of_its_own() -> None:
    once, thrice = placed_there(allowance=0), placed_there(allowance=2)
    assert thrice.shape.pods_max == 3 * once.shape.pods_max
    task = a_task()
    assert thrice.shape.deadline >= 3 * (task.start_deadline + task.item_timeout)
    assert thrice.cost_max > once.cost_max * 2


def test_retries_take_no_room_from_what_waits_and_what_the_job_does_not_retry_comes_back() -> None:
    assert placed_there(groups_max=11).shape.backoff_limit_per_index == 1
    assert placed_there(groups_max=11, behind=4).shape.backoff_limit_per_index == 0
    assert placed_there(groups_max=4).shape.completions == 4


def test_the_add_on_has_no_retries_in_a_job_whatever_is_left() -> None:
    assert placed_there(profile=VIRTUAL_NODE_V1).shape.backoff_limit_per_index == 0
