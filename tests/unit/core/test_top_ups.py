"""Money that people add, and where an account is going."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dispatcher.core.budgets import TEXT_MAX, Account, Budget, Scope, Spender, account_for, checked_top_up
from dispatcher.core.forecast import forecast
from dispatcher.core.ledger import Draft, Ledger, NoRoom, PodNote
from dispatcher.core.units import NO_MONEY, Money
from dispatcher.core.windows import BusinessHours, WindowKind
from tests.builders import HOUR, MINUTE, NOW, SECOND, a_budget, a_draft, a_ledger, a_shape, an_entry

TWO = Money.from_usd(2)
DAILY = a_budget("1")


def topped_up(ledger: Ledger, budget: Budget = DAILY, name: str = "t1", amount: Money = TWO) -> Ledger:
    draft = Draft(ledger, (budget,), 5 * MINUTE)
    draft.top_up(*account_for((budget,), budget.name, None, NOW), checked_top_up(name, NOW, amount, "Ann", "reports"))
    return draft.finish(NOW)


# --- adding it ------------------------------------------------------------------------------------------------------


def test_what_had_no_room_has_room_once_money_was_added() -> None:
    dear = an_entry(shape=a_shape(100))
    with pytest.raises(NoRoom):
        a_draft(dear, budgets=(DAILY,))
    draft = Draft(topped_up(Ledger(epoch=1)), (DAILY,), 5 * MINUTE)
    draft.open(dear)
    assert draft.entries[dear.name].reserved


def test_it_lasts_over_a_change_of_leader_and_of_the_limit_and_ends_with_its_window() -> None:
    ledger = topped_up(Ledger(epoch=1))
    draft = Draft(ledger, (replace(DAILY, limit=Money.from_usd("0.5")),), 5 * MINUTE)
    draft.take_over()
    (account,) = draft.finish(NOW).accounts.values()
    assert account.limit == Money.from_usd("2.5")
    assert [each.author for each in account.top_ups] == ["Ann"]
    tomorrow, untouched = account_for((DAILY,), "daily", None, NOW + 24 * HOUR)
    assert tomorrow not in ledger.accounts
    assert untouched.limit == DAILY.limit


def test_it_is_read_as_it_was_written_and_an_account_without_it_is_written_as_ever() -> None:
    (account,) = topped_up(Ledger(epoch=1)).accounts.values()
    assert Account.from_json(account.to_json()) == account
    assert "topUps" not in replace(account, top_ups=()).to_json()


def test_a_percentage_that_was_told_is_told_again_if_it_is_passed_of_the_higher_limit() -> None:
    budget = a_budget("1", warn_at=(50,))
    ledger = a_ledger(an_entry(shape=a_shape(10)), budgets=(budget,))
    (account_id,) = ledger.accounts
    spent = replace(ledger.accounts[account_id], spent=Money.from_usd("0.8"))
    draft = Draft(replace(ledger, accounts={account_id: spent}), (budget,), 5 * MINUTE)
    assert [percent for _, percent in (draft.finish(NOW), draft.warnings)[1]] == [50]
    raised = Draft(draft.finish(NOW), (budget,), 5 * MINUTE)
    raised.top_up(account_id, spent, checked_top_up("t", NOW, Money.from_usd("0.5"), "Ann", "more"))
    raised.finish(NOW)
    assert [percent for _, percent in raised.warnings] == [50]


# --- whose account --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "owner", "sentence"),
    [
        (a_budget(name="other"), None, "there is no budget 'daily'; known are other"),
        (a_budget(scope=Scope.TENANT), None, "has an account for each tenant; say which, with --tenant"),
        (a_budget(scope=Scope.TASK), None, "has an account for each task; say which, with --task"),
        (a_budget(scope=Scope.TENANT, tenant="acme"), Spender("globex", ""), "has no account for tenant 'globex'"),
        (a_budget(scope=Scope.TASK, task="report"), Spender("", "resize"), "no account for task 'resize' alone"),
        (a_budget(), Spender("acme", ""), "has no account for tenant 'acme' alone; leave the tenant out"),
    ],
)
def test_an_account_that_cannot_be_meant_is_refused_with_the_remedy(
    budget: Budget, owner: Spender | None, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        account_for((budget,), "daily", owner, NOW)


@pytest.mark.parametrize(
    ("budget", "owner", "whose"),
    [
        (a_budget(), None, "*"),
        (a_budget(scope=Scope.TENANT), Spender("acme", ""), "acme"),
        (a_budget(scope=Scope.TENANT, tenant="acme"), None, "acme"),
        (a_budget(scope=Scope.TENANT_TASK, task="report"), Spender("acme", ""), "acme/report"),
    ],
)
def test_the_account_is_the_one_that_spending_is_booked_to(budget: Budget, owner: Spender | None, whose: str) -> None:
    account_id, account = account_for((budget,), "daily", owner, NOW)
    assert account_id.owner == whose
    assert account.window.start <= NOW < account.window.end


@pytest.mark.parametrize(
    ("amount", "author", "reason", "sentence"),
    [
        (NO_MONEY, "Ann", "x", "add nothing"),
        (Money(-5), "Ann", "x", "add nothing"),
        (TWO, "  ", "x", "author: is missing; say your name"),
        (TWO, "Ann", "\n", "reason: is missing; say what the money is for"),
        (TWO, "Ann", "x" * (TEXT_MAX + 1), "reason: must be at most"),
        (TWO, "Ann\x1b[2J", "x", "author: must be at most 200 printable characters"),
    ],
)
def test_without_author_reason_or_amount_it_is_refused(amount: Money, author: str, reason: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        checked_top_up("t1", NOW, amount, author, reason)


def test_a_top_up_needs_a_name_of_its_own() -> None:
    with pytest.raises(ValueError, match="id: is missing"):
        checked_top_up("", NOW, TWO, "Ann", "x")


# --- where it is going ----------------------------------------------------------------------------------------------


def spending(budget: Budget, running: int, spent: str) -> Ledger:
    """Groups that have been running for ten minutes, beside what was charged before."""
    notes = {f"pod-{n}": PodNote(NOW - 10 * MINUTE) for n in range(running)}
    entry = an_entry(shape=a_shape(max(running, 1)), pods=notes, written=NOW - 11 * MINUTE)
    ledger = a_ledger(entry, budgets=(budget,))
    accounts = {name: replace(each, spent=Money.from_usd(spent)) for name, each in ledger.accounts.items()}
    return replace(ledger, accounts=accounts)


def test_what_runs_now_costs_its_rate_and_has_cost_what_it_ran() -> None:
    ledger = spending(DAILY, 4, "0.3")
    ((account_id, account),) = ledger.accounts.items()
    found = forecast(ledger, account_id, account, NOW)
    rate = Money.from_usd("0.0000146")
    assert found.burn_per_hour == rate * (4 * 3600)
    assert found.accrued == rate * (4 * 600)
    # 09:20: of the day 33,600 s are over and 52,800 s are to come.
    used = found.accrued + account.spent
    assert found.mean_per_hour == Money(used.picos * 3600 // 33_600)
    assert found.at_end == used + Money(found.mean_per_hour.picos * 52_800 // 3600)


def test_it_says_when_the_limit_is_reached_if_it_goes_on_as_now() -> None:
    ledger = spending(DAILY, 10, "0.5")
    ((account_id, account),) = ledger.accounts.items()
    found = forecast(ledger, account_id, account, NOW)
    assert found.empty_at is not None
    left = account.limit - account.spent - found.accrued
    hours = (found.empty_at - NOW) / HOUR
    assert abs(hours * float(found.burn_per_hour.usd) - float(left.usd)) < 0.001
    idle = forecast(spending(DAILY, 0, "0.5"), account_id, account, NOW)
    assert (idle.burn_per_hour, idle.empty_at) == (NO_MONEY, None)


def test_what_is_used_up_is_empty_now() -> None:
    ledger = spending(DAILY, 0, "1")
    ((account_id, account),) = ledger.accounts.items()
    assert forecast(ledger, account_id, account, NOW).empty_at == NOW


def test_a_window_that_has_only_just_begun_is_forecast_from_what_runs() -> None:
    hourly = a_budget("5", window=WindowKind.HOUR)
    entry = an_entry(shape=a_shape(2), pods={"a": PodNote(NOW), "b": PodNote(NOW)}, written=NOW)
    ledger = a_ledger(entry, budgets=(hourly,))
    account_id = min(ledger.accounts)
    account = ledger.accounts[account_id]
    at = account.window.start + 30 * SECOND
    found = forecast(ledger, account_id, account, at)
    assert found.mean_per_hour is None
    assert found.at_end == found.accrued + Money(found.burn_per_hour.picos * 3570 // 3600)


def test_only_the_hours_that_count_are_reckoned_with() -> None:
    budget = a_budget("1", hours=BusinessHours())
    ledger = spending(budget, 4, "0.1")
    ((account_id, account),) = ledger.accounts.items()
    found = forecast(ledger, account_id, account, NOW)
    used = found.accrued + account.spent
    # From 08:00 to 18:00: 80 minutes are over, 520 are to come.
    assert found.mean_per_hour == Money(used.picos * 3600 // 4_800)
    assert found.at_end == used + Money(found.mean_per_hour.picos * 31_200 // 3600)
    assert found.empty_at is None
