"""Whose money a launch needs, in which windows, and how much at worst."""

from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest

from dispatcher.core.budgets import CLOCK_ERROR, LAUNCH_GRACE, Account, Scope, Spender, WorstCase, touched
from dispatcher.core.jobs import JobShape
from dispatcher.core.units import NO_MONEY, Money
from dispatcher.core.windows import Window, WindowKind, window_at
from tests.builders import HOUR, MINUTE, NOW, a_budget, seconds

RATE = Money.from_usd("0.0000146")
TODAY = window_at(WindowKind.DAY, ZoneInfo("UTC"), NOW)


def fifty_pods(retries: int) -> WorstCase:
    """The documented example: 1 vCPU and 2 GB, 50 pods at once, 600 s, a tail of 120 s."""
    return WorstCase(JobShape(50, 50, retries, seconds(600)), RATE, seconds(120))


@pytest.mark.parametrize(("retries", "pod_seconds", "usd"), [(0, 36_000, "0.5256"), (3, 54_000, "0.7884")])
def test_the_documented_example_reserves_what_it_says(retries: int, pod_seconds: int, usd: str) -> None:
    assert fifty_pods(retries).total() == RATE * pod_seconds == Money.from_usd(usd)
    assert fifty_pods(retries).within(TODAY, NOW) == Money.from_usd(usd)


def test_a_window_that_the_job_cannot_reach_is_left_alone() -> None:
    worst = fifty_pods(0)
    beyond = Window(worst.last_second(NOW), worst.last_second(NOW) + HOUR)
    before = Window(NOW - HOUR, NOW - CLOCK_ERROR)
    assert worst.within(beyond, NOW) == worst.within(before, NOW) == NO_MONEY


def test_a_job_near_the_end_of_a_window_reserves_on_both_sides() -> None:
    worst, written = fifty_pods(0), TODAY.end - MINUTE
    tomorrow = Window(TODAY.end, TODAY.end + timedelta(days=1))
    # 60 s of today and the clock error on either side; tomorrow may see all of it.
    assert worst.within(TODAY, written) == RATE * (50 * 65 + 50 * 65)
    assert worst.within(tomorrow, written) == worst.total()


def test_a_window_that_only_tails_can_reach_sets_tails_aside() -> None:
    worst = fifty_pods(3)
    last_active = NOW + LAUNCH_GRACE + worst.shape.deadline + CLOCK_ERROR
    assert worst.within(Window(last_active, last_active + HOUR), NOW) == RATE * (200 * 120)
    assert worst.within(Window(last_active + MINUTE, last_active + HOUR), NOW) == RATE * (200 * 60)


def test_a_window_shortly_over_counts_for_as_long_as_clocks_may_differ() -> None:
    written = TODAY.end + seconds(2)
    assert fifty_pods(0).within(TODAY, written) == RATE * (50 * 3 + 50 * 3)


def test_nothing_of_an_attempt_bills_after_its_last_second() -> None:
    assert fifty_pods(0).last_second(NOW) == NOW + LAUNCH_GRACE + seconds(600) + seconds(120) + CLOCK_ERROR


def test_a_budget_for_all_counts_everyone_into_one_account() -> None:
    budget = a_budget()
    assert budget.account_of(Spender("acme", "report"), TODAY) == budget.account_of(Spender("globex", "report"), TODAY)
    assert budget.account_of(Spender("acme", "report"), TODAY).owner == "*"


def test_a_budget_for_each_tenant_gives_each_its_own_account() -> None:
    budget = a_budget(scope=Scope.TENANT)
    mine, yours = (
        budget.account_of(Spender("acme", "report"), TODAY),
        budget.account_of(Spender("globex", "report"), TODAY),
    )
    assert (mine.owner, yours.owner) == ("acme", "globex")
    assert mine.budget_key == yours.budget_key == budget.key


def test_a_budget_for_one_tenant_counts_no_other() -> None:
    budget = a_budget(scope=Scope.TENANT, tenant="acme")
    assert budget.counts(Spender("acme", "report"))
    assert not budget.counts(Spender("globex", "report"))
    assert list(touched((budget,), Spender("globex", "report"), NOW, NOW + HOUR)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"scope": Scope.TENANT},
        {"window": WindowKind.HOUR},
        {"zone": ZoneInfo("Europe/Berlin")},
        {"scope": Scope.TENANT, "tenant": "acme"},
    ],
)
def test_another_scope_window_zone_or_tenant_makes_another_budget(change: dict[str, object]) -> None:
    assert a_budget(**change).key != a_budget().key


def test_another_limit_is_the_same_budget() -> None:
    assert a_budget("1").key == a_budget("2").key


def test_a_span_over_midnight_touches_an_account_on_each_side() -> None:
    accounts = [
        account
        for _, _, account in touched((a_budget(),), Spender("acme", "report"), TODAY.end - MINUTE, TODAY.end + MINUTE)
    ]
    assert len(set(accounts)) == 2


def test_an_account_is_read_as_it_was_written() -> None:
    account = Account("daily", TODAY, Money(10**14), Money(7), overrun=True)
    assert Account.from_json(account.to_json()) == account
