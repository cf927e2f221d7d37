"""Budgets of every scope, business hours, warnings, and what becomes of work when a limit is spent."""

from dataclasses import replace
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from dispatcher.core.budgets import Account, Budget, Scope, Spender, WhenExhausted, touched
from dispatcher.core.capacity import NodeSpace
from dispatcher.core.circuit import Circuit
from dispatcher.core.failures import FailureCause
from dispatcher.core.ledger import Draft, Ledger
from dispatcher.core.observations import NodeHeadroom
from dispatcher.core.plan import plan_cycle
from dispatcher.core.policy import Policy, VirtualNodePolicy
from dispatcher.core.routing import Demand, Room
from dispatcher.core.units import UTC, Money
from dispatcher.core.verdicts import Held, HoldReason, Placed, Rejected
from dispatcher.core.windows import BusinessHours, Window, WindowKind, window_at
from dispatcher.core.work import Placement
from tests.builders import HOUR, MINUTE, NOW, a_budget, a_headroom, a_node, a_policy, a_snapshot, a_task, items

BERLIN = ZoneInfo("Europe/Berlin")
ACME_REPORT = Spender("acme", "report")
LIMIT = Money.from_usd("1")


@pytest.mark.parametrize(
    ("budget", "counted"),
    [
        (Budget("b", LIMIT, Scope.ALL), {"acme/report", "acme/thumb", "globex/report", "globex/thumb"}),
        (Budget("b", LIMIT, Scope.TENANT, tenant="acme"), {"acme/report", "acme/thumb"}),
        (Budget("b", LIMIT, Scope.TASK, task="report"), {"acme/report", "globex/report"}),
        (Budget("b", LIMIT, Scope.TENANT_TASK, tenant="acme", task="report"), {"acme/report"}),
        (Budget("b", LIMIT, Scope.TENANT_TASK, task="report"), {"acme/report", "globex/report"}),
    ],
)
def test_a_budget_counts_what_its_scope_names(budget: Budget, counted: set[str]) -> None:
    everyone = [Spender(tenant, task) for tenant in ("acme", "globex") for task in ("report", "thumb")]
    assert {f"{each.tenant}/{each.task}" for each in everyone if budget.counts(each)} == counted


@pytest.mark.parametrize(
    ("scope", "accounts"), [(Scope.ALL, 1), (Scope.TENANT, 2), (Scope.TASK, 2), (Scope.TENANT_TASK, 4)]
)
def test_where_none_is_named_each_has_an_account_of_its_own(scope: Scope, accounts: int) -> None:
    budget = Budget("b", LIMIT, scope)
    everyone = [Spender(tenant, task) for tenant in ("acme", "globex") for task in ("report", "thumb")]
    found = {account_id for each in everyone for _, _, account_id in touched((budget,), each, NOW, NOW)}
    assert len(found) == accounts
    assert all(
        account_id.owner in each.owners for each in everyone for _, _, account_id in touched((budget,), each, NOW, NOW)
    )


def local(*when: int) -> datetime:
    return datetime(*when, tzinfo=BERLIN).astimezone(UTC)  # type: ignore[misc, arg-type]


def test_business_hours_are_those_of_the_calendar_on_both_sides_of_a_clock_change() -> None:
    month = window_at(WindowKind.MONTH, BERLIN, local(2026, 3, 10))
    hours = BusinessHours().within(BERLIN, month)
    assert len(hours) == 22
    assert hours[0] == (local(2026, 3, 2, 8), local(2026, 3, 2, 18))
    assert hours[-1] == (local(2026, 3, 31, 8), local(2026, 3, 31, 18))
    assert {end - start for start, end in hours} == {timedelta(hours=10)}


def test_hours_that_close_after_midnight_belong_to_the_day_on_which_they_open() -> None:
    night = BusinessHours(frozenset({4}), time(22), time(6))
    friday = window_at(WindowKind.DAY, BERLIN, local(2026, 3, 6, 12))
    saturday = window_at(WindowKind.DAY, BERLIN, local(2026, 3, 7, 12))
    assert night.within(BERLIN, friday) == ((local(2026, 3, 6, 22), local(2026, 3, 7)),)
    assert night.within(BERLIN, saturday) == ((local(2026, 3, 7), local(2026, 3, 7, 6)),)


def test_hours_of_every_day_around_the_clock_are_one_interval() -> None:
    always = BusinessHours(frozenset(range(7)), time(0), time(0))
    week = window_at(WindowKind.WEEK, BERLIN, local(2026, 3, 28, 12))
    assert always.within(BERLIN, week) == ((week.start, week.end),)


def test_only_what_is_billed_in_the_hours_is_booked() -> None:
    window = Window(NOW, NOW + 10 * HOUR, ((NOW + HOUR, NOW + 2 * HOUR), (NOW + 3 * HOUR, NOW + 4 * HOUR)))
    assert window.overlap(NOW, NOW + 10 * HOUR) == 2 * HOUR
    assert window.overlap(NOW + HOUR + 30 * MINUTE, NOW + 3 * HOUR + MINUTE) == 31 * MINUTE
    assert window.overlap(NOW + 5 * HOUR, NOW + 6 * HOUR) == timedelta(0)


def test_outside_its_hours_a_budget_bounds_nothing() -> None:
    tight = a_budget("0.000001", hours=BusinessHours(frozenset({5})))  # Saturdays; NOW is a Wednesday
    policy = with_virtual_node((tight,))
    assert isinstance(room(policy).route(demand()), Placed)


def test_other_hours_make_another_budget() -> None:
    assert a_budget("1", hours=BusinessHours()).key != a_budget("1").key


def with_virtual_node(budgets: tuple[Budget, ...]) -> Policy:
    return a_policy(a_task(), virtual_node=VirtualNodePolicy(), budgets=budgets)


def demand(**changes: object) -> Demand:
    usual = Demand(a_task(), "acme", 5, NOW - HOUR)
    return replace(usual, **changes)  # type: ignore[arg-type]


def spent(budget: Budget, usd: str) -> Ledger:
    window = next(budget.windows(NOW, NOW))
    account = Account(budget.name, window, budget.limit, Money.from_usd(usd))
    return Ledger(accounts={budget.account_of(ACME_REPORT, window): account})


def room(policy: Policy, ledger: Ledger | None = None, headroom: NodeHeadroom | None = None) -> Room:
    nodes = NodeSpace(headroom or a_headroom(), policy.node_pool, 0)
    return Room(policy, ledger or Ledger(), nodes, Circuit(), {}, False, NOW)


ON_NODES = a_headroom(a_node())


def test_with_nodes_only_a_spent_budget_leaves_the_nodes_open() -> None:
    budget = a_budget("1", when_exhausted=WhenExhausted.NODES_ONLY)
    verdict = room(with_virtual_node((budget,)), spent(budget, "1"), ON_NODES).route(demand())
    assert isinstance(verdict, Placed)
    assert verdict.where is Placement.NODE_POOL
    elsewhere = room(with_virtual_node((budget,)), spent(budget, "1")).route(demand())
    assert isinstance(elsewhere, Held)
    assert elsewhere.reason is HoldReason.BUDGET_EXHAUSTED


def test_with_hold_a_spent_budget_keeps_work_from_the_nodes_too_until_its_window_ends() -> None:
    budget = a_budget("1", when_exhausted=WhenExhausted.HOLD)
    verdict = room(with_virtual_node((budget,)), spent(budget, "1"), ON_NODES).route(demand())
    assert isinstance(verdict, Held)
    assert verdict.reason is HoldReason.BUDGET_EXHAUSTED
    assert verdict.until is not None
    assert verdict.until >= next(budget.windows(NOW, NOW)).end


def test_with_dead_letter_a_spent_budget_rejects_new_work_and_holds_retries() -> None:
    budget = a_budget("1", when_exhausted=WhenExhausted.DEAD_LETTER)
    policy = with_virtual_node((budget,))
    rejected = room(policy, spent(budget, "1"), ON_NODES).route(demand())
    assert isinstance(rejected, Rejected)
    assert rejected.cause is FailureCause.BUDGET_EXHAUSTED
    assert "$1 of $1" in rejected.detail
    retry = room(policy, spent(budget, "1"), ON_NODES).route(demand(whole=True))
    assert isinstance(retry, Held)


@pytest.mark.parametrize("action", list(WhenExhausted))
def test_money_that_is_only_reserved_exhausts_nothing(action: WhenExhausted) -> None:
    budget = a_budget("1", when_exhausted=action)
    verdict = room(with_virtual_node((budget,)), spent(budget, "0.2"), ON_NODES).route(demand())
    assert isinstance(verdict, Placed)


@pytest.mark.parametrize("action", [WhenExhausted.HOLD, WhenExhausted.DEAD_LETTER])
def test_a_task_that_never_spills_is_not_touched_by_a_spent_budget(action: WhenExhausted) -> None:
    budget = a_budget("1", when_exhausted=action)
    task = a_task(placements=(Placement.NODE_POOL,))
    policy = a_policy(task, virtual_node=VirtualNodePolicy(), budgets=(budget,))
    assert isinstance(room(policy, spent(budget, "1"), ON_NODES).route(demand(task=task)), Placed)


def test_a_limit_below_the_worst_case_of_one_pod_is_spent_from_the_start() -> None:
    budget = a_budget("0.000001", when_exhausted=WhenExhausted.DEAD_LETTER)
    assert isinstance(room(with_virtual_node((budget,)), headroom=ON_NODES).route(demand()), Rejected)


def test_a_plan_rejects_a_whole_lane_in_batches() -> None:
    budget = a_budget("1", when_exhausted=WhenExhausted.DEAD_LETTER)
    policy = a_policy(a_task(batch_size_max=4), virtual_node=VirtualNodePolicy(), budgets=(budget,))
    waiting = items(10)
    plan = plan_cycle(a_snapshot(waiting, ledger=spent(budget, "1"), headroom=ON_NODES), policy, NOW)
    assert plan.launches == ()
    assert [len(rejection.items) for rejection in plan.rejections] == [4, 4, 2]
    assert [item for rejection in plan.rejections for item in rejection.items] == waiting


def test_each_percentage_of_a_limit_is_warned_of_once() -> None:
    budget = a_budget("1", warn_at=(50, 80, 100))

    def after(ledger: Ledger) -> tuple[Ledger, list[int]]:
        draft = Draft(ledger, (budget,), timedelta(0))
        following = draft.finish(NOW)
        return following, [percent for _, percent in draft.warnings]

    assert after(spent(budget, "0.49"))[1] == []
    ledger, told = after(spent(budget, "0.85"))
    assert told == [80]
    assert after(ledger)[1] == []
    account_id, account = next(iter(ledger.accounts.items()))
    full = Ledger(accounts={account_id: replace(account, spent=account.limit)})
    assert after(full)[1] == [100]


def test_hours_and_warnings_survive_the_ledgers_document() -> None:
    budget = a_budget("1", hours=BusinessHours(), warn_at=(50,))
    ledger = Draft(spent(budget, "0.6"), (budget,), timedelta(0)).finish(NOW)
    assert Ledger.from_document(ledger.to_document()) == ledger
    [account] = ledger.accounts.values()
    assert account.warned == 50
    assert account.window.hours
