"""The ledger: reservations, charges, addresses, tokens, and what a new leader does with them."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from dispatcher.core.budgets import Scope, Spender
from dispatcher.core.ledger import (
    FIVE_MINUTES,
    ONE_HOUR,
    Draft,
    Entry,
    EntryState,
    Ledger,
    NoRoom,
    PodNote,
    Tokens,
    accounts_of,
)
from dispatcher.core.units import NO_MONEY, Money
from dispatcher.core.windows import WindowKind, window_at
from dispatcher.core.work import Placement
from tests.builders import HOUR, MINUTE, NOW, SECOND, a_budget, a_draft, a_ledger, a_shape, an_entry, seconds

RATE = an_entry().rate
WORST = RATE * (600 + 120)
"""What the entry of one pod reserves."""


def money_of(draft: Draft) -> list[tuple[Money, Money]]:
    """Spent and reserved of every account, in order of the accounts' names."""
    ledger = draft.peek()
    reserved = ledger.reserved()
    return [(account.spent, reserved.get(name, NO_MONEY)) for name, account in sorted(ledger.accounts.items())]


def reloaded(draft: Draft) -> Ledger:
    """The ledger as the next leader reads it."""
    return Ledger.from_document(json.loads(json.dumps(draft.finish(NOW).to_document())))


# --- opening ----------------------------------------------------------------------------------------------------------


def test_opening_sets_the_worst_case_aside_in_every_account_it_touches() -> None:
    budgets = (a_budget(), a_budget(name="hourly", window=WindowKind.HOUR), a_budget(name="mine", scope=Scope.TENANT))
    draft = a_draft(an_entry(), budgets=budgets)
    assert money_of(draft) == [(NO_MONEY, WORST)] * 3
    assert draft.changed


def test_a_launch_beyond_an_account_is_refused_and_changes_nothing() -> None:
    budgets = (a_budget(), a_budget(str((WORST - Money(1)).usd), name="tight"))
    draft = a_draft(budgets=budgets)
    with pytest.raises(NoRoom, match="tight"):
        draft.open(an_entry())
    assert not draft.changed
    assert draft.peek() == Ledger(epoch=1)


def test_the_last_unit_of_money_can_be_set_aside() -> None:
    assert a_draft(an_entry(), budgets=(a_budget(str(WORST.usd)),)).entries


def test_two_launches_of_one_cycle_do_not_share_the_same_money() -> None:
    draft = a_draft(an_entry("b1"), budgets=(a_budget(str((WORST * 2 - Money(1)).usd)),))
    with pytest.raises(NoRoom):
        draft.open(an_entry("b2"))


def test_a_name_is_opened_once() -> None:
    draft = a_draft(an_entry())
    with pytest.raises(NoRoom, match="open already"):
        draft.open(an_entry())


def test_a_job_on_nodes_claims_its_entry_and_no_money_and_no_address() -> None:
    draft = a_draft(an_entry(placement=Placement.NODE_POOL), budgets=(a_budget("0"),))
    assert draft.peek().accounts == {}
    assert draft.peek().addresses(NOW) == 0


def test_a_launch_just_before_midnight_sets_money_aside_on_both_sides() -> None:
    budget = a_budget()
    midnight = window_at(budget.window, budget.zone, NOW).end
    assert len(money_of(a_draft(an_entry(written=midnight - MINUTE), budgets=(budget,)))) == 2


def test_a_launch_just_after_midnight_sets_money_aside_for_a_bill_whose_clock_is_behind() -> None:
    budget = a_budget()
    midnight = window_at(budget.window, budget.zone, NOW).end
    yesterday, today = money_of(a_draft(an_entry(written=midnight + 2 * SECOND), budgets=(budget,)))
    assert yesterday == (NO_MONEY, RATE * (3 + 3))
    assert today == (NO_MONEY, WORST)


def test_tenants_with_accounts_of_their_own_do_not_use_up_each_others() -> None:
    budgets = (a_budget(str(WORST.usd), scope=Scope.TENANT),)
    draft = a_draft(an_entry("b1", tenant="acme"), an_entry("b2", tenant="globex"), budgets=budgets)
    assert money_of(draft) == [(NO_MONEY, WORST)] * 2
    with pytest.raises(NoRoom):
        draft.open(an_entry("b3", tenant="acme"))


# --- renewing ---------------------------------------------------------------------------------------------------------


def test_renewing_moves_the_reservation_to_a_later_time() -> None:
    budgets = (a_budget(str(WORST.usd)),)
    draft = a_draft(an_entry(), budgets=budgets)
    draft.renew("burst-b1-1", NOW + 5 * MINUTE)
    assert draft.entries["burst-b1-1"].written == NOW + 5 * MINUTE
    assert money_of(draft) == [(NO_MONEY, WORST)]


def test_renewing_in_the_next_window_gives_the_old_ones_reservation_back() -> None:
    draft = a_draft(an_entry(), budgets=(a_budget(window=WindowKind.HOUR),))
    draft.renew("burst-b1-1", NOW + 2 * HOUR)
    assert money_of(draft) == [(NO_MONEY, NO_MONEY), (NO_MONEY, WORST)]


def test_a_renewal_without_room_changes_nothing() -> None:
    budgets = (a_budget(str(WORST.usd), window=WindowKind.HOUR),)
    draft = a_draft(an_entry("b1"), an_entry("b2", written=NOW + 2 * HOUR), budgets=budgets)
    before = draft.peek().to_document()
    with pytest.raises(NoRoom):
        draft.renew("burst-b1-1", NOW + 2 * HOUR)
    assert draft.peek().to_document() == before
    with pytest.raises(NoRoom):
        draft.open(an_entry("b3"))  # its own reservation stands as before


def test_renewing_a_job_on_nodes_costs_nothing() -> None:
    draft = a_draft(an_entry(placement=Placement.NODE_POOL, epoch=0))
    draft.renew("burst-b1-1", NOW + MINUTE)
    entry = draft.entries["burst-b1-1"]
    assert (entry.written, entry.epoch, entry.reserved) == (NOW + MINUTE, 1, {})


# --- pods, addresses, tokens ------------------------------------------------------------------------------------------


def test_an_address_is_held_for_a_group_that_may_come_that_is_there_and_for_the_release_hold_after() -> None:
    draft = a_draft(an_entry(shape=a_shape(2)), release_hold=5 * MINUTE)

    def addresses(at: object = NOW) -> int:
        return draft.peek().addresses(at)  # type: ignore[arg-type]

    assert addresses() == 2
    draft.pod_seen("burst-b1-1", "p", NOW, None)
    assert addresses() == 2
    draft.pod_seen("burst-b1-1", "p", NOW, NOW + MINUTE)
    assert addresses() == 2  # finished pods hold their address until they are deleted
    draft.pod_gone("burst-b1-1", "p", NOW + MINUTE)
    assert addresses(NOW + 6 * MINUTE - SECOND) == 2
    assert addresses(NOW + 6 * MINUTE) == 1
    draft.no_more_pods("burst-b1-1")
    assert addresses(NOW + 6 * MINUTE) == 0


def test_every_retry_inside_a_job_may_take_an_address_of_its_own() -> None:
    draft = a_draft(an_entry(shape=a_shape(2, backoff_limit_per_index=3)))
    assert draft.peek().addresses(NOW) == 8


def test_a_pod_is_noted_once_however_often_it_is_seen() -> None:
    draft = a_draft(an_entry(shape=a_shape(3)))
    for _ in range(3):
        draft.pod_seen("burst-b1-1", "p", NOW, None)
    entry = draft.entries["burst-b1-1"]
    assert (entry.noted, entry.may_come, entry.creates_to_come) == (1, 2, 3)


def test_a_create_counts_from_when_it_had_been_asked_for_not_from_its_pod() -> None:
    draft = a_draft(an_entry(shape=a_shape(3)))
    for _ in range(2):
        draft.pod_seen("burst-b1-1", "p", NOW, None)
    assert (draft.entries["burst-b1-1"].creates_to_come, draft.peek().creates.count(NOW, ONE_HOUR)) == (3, 0)
    for _ in range(2):
        draft.pod_seen("burst-b1-1", "p", NOW, None, NOW + 2 * MINUTE)
    assert draft.entries["burst-b1-1"].creates_to_come == 2
    assert draft.peek().creates.count(NOW + 6 * MINUTE, FIVE_MINUTES) == 1
    # It never started, and ended or went: it may have been asked for as late as that.
    draft.pod_seen("burst-b1-1", "q", NOW, NOW + 3 * MINUTE)
    draft.pod_seen("burst-b1-1", "r", NOW, None)
    draft.pod_gone("burst-b1-1", "r", NOW + 4 * MINUTE)
    assert draft.entries["burst-b1-1"].creates_to_come == 0
    assert draft.peek().creates.count(NOW + 8 * MINUTE - SECOND, FIVE_MINUTES) == 2
    written = draft.finish(NOW).to_document()
    assert Ledger.from_document(written).to_document() == written


def test_what_an_earlier_version_wrote_of_a_pod_has_been_asked_for() -> None:
    draft = a_draft(an_entry())
    draft.pod_seen("burst-b1-1", "p", NOW, None)
    document = draft.finish(NOW).to_document()
    [note] = document["entries"]["burst-b1-1"]["pods"].values()
    del note[4:]
    assert Ledger.from_document(document).entries["burst-b1-1"].creates_to_come == 0


def test_a_pod_has_its_first_end_and_goes_once() -> None:
    draft = a_draft(an_entry())
    draft.pod_seen("burst-b1-1", "p", NOW, NOW + MINUTE)
    draft.pod_seen("burst-b1-1", "p", NOW, NOW + HOUR)
    draft.pod_gone("burst-b1-1", "p", NOW + MINUTE)
    draft.pod_gone("burst-b1-1", "p", NOW + HOUR)
    draft.pod_gone("burst-b1-1", "never seen", NOW)
    entry = draft.entries["burst-b1-1"]
    assert entry.pods["p"] == PodNote(NOW, NOW + MINUTE, gone_at=NOW + MINUTE)
    assert entry.holds == ((NOW + 6 * MINUTE, 1),)


def test_more_pods_than_the_job_could_make_leave_no_negative_count() -> None:
    draft = a_draft(an_entry())
    draft.pod_seen("burst-b1-1", "p", NOW, None)
    draft.pod_seen("burst-b1-1", "doubled by a failover", NOW, None)
    assert draft.entries["burst-b1-1"].may_come == 0
    assert draft.peek().addresses(NOW) == 2


def test_what_has_not_changed_needs_no_write() -> None:
    ledger = a_ledger(replace(an_entry(), placement=Placement.NODE_POOL))
    draft = Draft(ledger, (), timedelta(0))
    draft.no_more_pods("burst-b1-1")
    draft.ended_seen("burst-b1-1", 0)
    assert not draft.changed
    draft.job_seen("burst-b1-1", "uid")
    draft.ended_seen("burst-b1-1", 2)
    written = draft.finish(NOW)
    again = Draft(written, (), timedelta(0))
    again.job_seen("burst-b1-1", "uid")
    again.ended_seen("burst-b1-1", 1)
    assert not again.changed
    assert (written.entries["burst-b1-1"].job_uid, written.entries["burst-b1-1"].ended) == ("uid", 2)


def test_a_create_counts_for_an_hour_from_its_own_time() -> None:
    tokens = Tokens().add(NOW).add(NOW + 10 * MINUTE, 2)
    assert tokens.count(NOW + 10 * MINUTE, ONE_HOUR) == 3
    assert tokens.count(NOW + 12 * MINUTE, FIVE_MINUTES) == 2
    assert tokens.count(NOW + 65 * MINUTE, ONE_HOUR) == 2
    assert tokens.pruned(NOW + 65 * MINUTE).count(NOW + HOUR, ONE_HOUR) == 2


def test_a_steady_stream_of_creates_goes_out_of_the_window_as_it_came_into_it() -> None:
    tokens = Tokens()
    for number in range(200):
        tokens = tokens.add(NOW + number * 4 * SECOND)
    last = NOW + 199 * 4 * SECOND
    # 75 in five minutes, and at most one grain's worth more.
    assert 75 <= tokens.count(last, FIVE_MINUTES) <= 77


def test_a_create_that_is_noted_late_counts_from_its_own_time() -> None:
    tokens = Tokens().add(NOW).add(NOW - 30 * MINUTE)
    assert tokens.count(NOW, FIVE_MINUTES) == 1
    assert tokens.count(NOW, ONE_HOUR) == 2


def test_tokens_are_kept_by_the_grain_and_never_counted_too_short() -> None:
    tokens = Tokens()
    for number in range(1000):
        tokens = tokens.add(NOW + number * seconds(0.01))
    assert len(tokens.used) <= 3
    assert tokens.count(NOW + FIVE_MINUTES - SECOND, FIVE_MINUTES) == 1000


def test_a_delete_counts_from_when_its_pod_was_gone_whoever_deleted_it() -> None:
    draft = a_draft(an_entry(shape=a_shape(5)))
    for uid in ("p", "q"):
        draft.pod_seen("burst-b1-1", uid, NOW, NOW)
        draft.pod_gone("burst-b1-1", uid, NOW + MINUTE)
        draft.pod_gone("burst-b1-1", uid, NOW + 2 * MINUTE)
    assert draft.deletes.count(NOW + 6 * MINUTE - SECOND, FIVE_MINUTES) == 2
    assert draft.deletes.count(NOW + 6 * MINUTE + 5 * SECOND, FIVE_MINUTES) == 0
    draft.pods_unseen("burst-b1-1", 3, NOW + 7 * MINUTE)
    assert draft.deletes.count(NOW + 7 * MINUTE, FIVE_MINUTES) == 3


# --- charging ---------------------------------------------------------------------------------------------------------


def charged_draft() -> Draft:
    draft = a_draft(an_entry(), budgets=(a_budget(),))
    draft.pod_seen("burst-b1-1", "p", NOW, NOW + 5 * MINUTE, NOW)
    draft.charge("burst-b1-1", "p", NOW, NOW + 5 * MINUTE)
    return draft


def test_a_charge_moves_money_from_reserved_to_spent() -> None:
    cost = RATE * 300
    draft = charged_draft()
    assert money_of(draft) == [(cost, WORST - cost)]
    assert draft.entries["burst-b1-1"].spent == cost


def test_charging_in_a_cycle_leaves_the_rest_of_the_account_to_the_launches_of_that_cycle() -> None:
    draft = a_draft(an_entry("b1"), budgets=(a_budget(str((WORST * 2).usd)),))
    draft.pod_seen("burst-b1-1", "p", NOW, NOW)
    draft.charge("burst-b1-1", "p", NOW, NOW + MINUTE)
    draft.open(an_entry("b2"))
    draft.settle_money("burst-b1-1")
    with pytest.raises(NoRoom):
        draft.open(an_entry("b3"))


def test_a_pod_is_charged_once() -> None:
    draft = charged_draft()
    before = draft.peek().to_document()
    assert draft.charge("burst-b1-1", "p", NOW, NOW + HOUR) == NO_MONEY
    assert draft.peek().to_document() == before


def test_each_window_is_charged_its_own_seconds() -> None:
    budget = a_budget(window=WindowKind.HOUR)
    end_of_hour = window_at(budget.window, budget.zone, NOW).end
    draft = a_draft(an_entry(written=end_of_hour - 2 * MINUTE), budgets=(budget,))
    draft.pod_seen("burst-b1-1", "p", end_of_hour - MINUTE, None)
    draft.charge("burst-b1-1", "p", end_of_hour - MINUTE, end_of_hour + 2 * MINUTE)
    assert [spent for spent, _ in money_of(draft)] == [RATE * 60, RATE * 120]


def test_a_charge_beyond_what_is_set_aside_is_an_overrun_and_closes_the_account() -> None:
    draft = a_draft(an_entry(), budgets=(a_budget(),))
    draft.pod_seen("burst-b1-1", "p", NOW, None)
    draft.charge("burst-b1-1", "p", NOW, NOW + HOUR)
    [account] = draft.peek().accounts
    assert draft.overruns == [("burst-b1-1", account)]
    assert money_of(draft) == [(RATE * 3600, NO_MONEY)]
    with pytest.raises(NoRoom):
        draft.open(an_entry("b2"))


def test_an_overrun_stays_until_a_person_has_looked() -> None:
    budgets = (a_budget(),)
    draft = a_draft(an_entry(), budgets=budgets)
    draft.pod_seen("burst-b1-1", "p", NOW, None)
    draft.charge("burst-b1-1", "p", NOW, NOW + HOUR)
    with pytest.raises(NoRoom):
        Draft(reloaded(draft), budgets, MINUTE).open(an_entry("b2"))


def test_a_group_seen_after_its_money_was_settled_is_an_overrun() -> None:
    draft = charged_draft()
    draft.settle_money("burst-b1-1")
    draft.pod_seen("burst-b1-1", "late", NOW, NOW)
    draft.charge("burst-b1-1", "late", NOW, NOW + SECOND)
    assert [name for name, _ in draft.overruns] == ["burst-b1-1"]
    assert money_of(draft) == [(RATE * 301, NO_MONEY)]


def test_an_estimated_end_is_no_proof_of_an_overrun() -> None:
    draft = a_draft(an_entry(), budgets=(a_budget(),))
    draft.pod_seen("burst-b1-1", "p", NOW, None)
    assert draft.charge("burst-b1-1", "p", NOW, NOW + HOUR, estimated=True) == WORST
    assert draft.overruns == []
    assert money_of(draft) == [(WORST, NO_MONEY)]


def test_estimates_together_cost_no_more_than_what_is_set_aside() -> None:
    draft = a_draft(an_entry(), budgets=(a_budget(),))
    for uid in ("p", "q"):
        draft.pod_seen("burst-b1-1", uid, NOW, None)
        draft.charge("burst-b1-1", uid, NOW, NOW + 10 * MINUTE, estimated=True)
    assert draft.overruns == []
    assert money_of(draft) == [(WORST, NO_MONEY)]


def test_a_charged_pod_that_is_gone_is_forgotten_and_its_address_is_not() -> None:
    draft = charged_draft()
    draft.pod_gone("burst-b1-1", "p", NOW + 5 * MINUTE)
    entry = draft.entries["burst-b1-1"]
    assert (entry.pods, entry.noted, entry.addresses(NOW + 5 * MINUTE)) == ({}, 1, 1)


def test_where_nothing_has_a_price_nothing_is_set_aside() -> None:
    draft = a_draft(an_entry(rate=NO_MONEY), budgets=(a_budget("0"),))
    assert money_of(draft) == []
    assert draft.peek().addresses(NOW) == 1


# --- settling, closing ------------------------------------------------------------------------------------------------


def test_settling_gives_back_what_is_left() -> None:
    draft = charged_draft()
    assert draft.settle_money("burst-b1-1") == NO_MONEY
    assert money_of(draft) == [(RATE * 300, NO_MONEY)]
    assert draft.entries["burst-b1-1"].money_settled


def test_a_pod_that_ended_unseen_is_charged_at_its_worst() -> None:
    draft = a_draft(an_entry(shape=a_shape(2)), budgets=(a_budget(),))
    draft.pod_seen("burst-b1-1", "p", NOW, NOW)
    draft.charge("burst-b1-1", "p", NOW, NOW + SECOND)
    draft.ended_seen("burst-b1-1", 2)
    assert draft.settle_money("burst-b1-1") == WORST
    assert money_of(draft) == [(WORST + RATE, NO_MONEY)]


def test_pods_that_may_have_come_and_gone_keep_their_create_their_address_and_their_worst_cost() -> None:
    draft = a_draft(an_entry(shape=a_shape(3)), budgets=(a_budget(),), release_hold=5 * MINUTE)
    draft.pod_seen("burst-b1-1", "p", NOW, NOW)
    draft.pods_unseen("burst-b1-1", 9, NOW)
    draft.no_more_pods("burst-b1-1")
    ledger = draft.peek()
    assert (ledger.creates.count(NOW, ONE_HOUR), ledger.addresses(NOW)) == (3, 3)
    assert ledger.addresses(NOW + 5 * MINUTE) == 1
    draft.charge("burst-b1-1", "p", NOW, NOW)
    assert draft.settle_money("burst-b1-1") == WORST * 2


def test_where_no_pod_could_come_none_was_missed() -> None:
    draft = a_draft(an_entry())
    draft.no_more_pods("burst-b1-1")
    before = draft.peek().to_document()
    draft.pods_unseen("burst-b1-1", 1, NOW)
    assert draft.peek().to_document() == before


def test_unseen_pods_are_charged_at_most_what_is_set_aside() -> None:
    draft = a_draft(an_entry(), budgets=(a_budget(),))
    draft.ended_seen("burst-b1-1", 5)
    draft.settle_money("burst-b1-1")
    assert money_of(draft) == [(WORST, NO_MONEY)]


def test_closing_keeps_money_and_addresses_and_happens_once() -> None:
    draft = a_draft(an_entry(), budgets=(a_budget(),))
    draft.close("burst-b1-1")
    assert draft.entries["burst-b1-1"].state is EntryState.CLOSING
    assert money_of(draft) == [(NO_MONEY, WORST)]
    again = Draft(draft.finish(NOW), (), MINUTE)
    again.close("burst-b1-1")
    assert not again.changed


def test_a_dropped_entry_holds_nothing() -> None:
    budgets = (a_budget(str(WORST.usd)),)
    draft = a_draft(an_entry("b1"), budgets=budgets)
    draft.drop("burst-b1-1")
    assert money_of(draft) == [(NO_MONEY, NO_MONEY)]
    draft.open(an_entry("b2"))
    assert draft.peek().addresses(NOW) == 1


# --- a new leader, other limits ---------------------------------------------------------------------------------------


def test_taking_over_raises_the_epoch() -> None:
    draft = a_draft()
    draft.take_over()
    assert draft.finish(NOW).epoch == 2


def test_a_lowered_limit_stops_opening_and_leaves_what_runs_alone() -> None:
    ledger = a_ledger(an_entry("b1"), budgets=(a_budget(),))
    lower = (a_budget("0.001"),)
    draft = Draft(ledger, lower, MINUTE)
    draft.take_over()
    assert money_of(draft) == [(NO_MONEY, WORST)]
    with pytest.raises(NoRoom):
        draft.open(an_entry("b2"))


def test_a_raised_limit_makes_room() -> None:
    ledger = a_ledger(an_entry("b1"), budgets=(a_budget(str(WORST.usd)),))
    draft = Draft(ledger, (a_budget("100"),), MINUTE)
    draft.take_over()
    draft.open(an_entry("b2"))
    assert money_of(draft) == [(NO_MONEY, WORST * 2)]


def test_a_budget_that_was_taken_away_is_enforced_until_its_window_ends() -> None:
    ledger = a_ledger(an_entry("b1"), budgets=(a_budget(str(WORST.usd)),))
    draft = Draft(ledger, (), MINUTE)
    draft.take_over()
    with pytest.raises(NoRoom):
        draft.open(an_entry("b2"))
    draft.open(an_entry("b3", written=NOW + 24 * HOUR))


def test_a_new_budget_starts_with_what_open_attempts_have_set_aside() -> None:
    ledger = a_ledger(an_entry("b1"), an_entry("b2", placement=Placement.NODE_POOL), budgets=(a_budget(),))
    both = (a_budget(), a_budget("0.01", name="new"))
    draft = Draft(ledger, both, MINUTE)
    draft.take_over()
    assert money_of(draft) == [(NO_MONEY, WORST), (NO_MONEY, WORST)]


def test_a_new_budget_does_not_count_other_tenants_and_settled_money() -> None:
    open_draft = a_draft(an_entry("b1"), an_entry("b2", tenant="globex"))
    open_draft.settle_money("burst-b1-1")
    new = (a_budget(name="new", scope=Scope.TENANT, tenant="acme"),)
    draft = Draft(open_draft.finish(NOW), new, MINUTE)
    draft.take_over()
    assert money_of(draft) == []


def test_the_charge_of_an_attempt_that_is_older_than_the_budget_is_no_overrun() -> None:
    ledger = a_ledger(an_entry())
    new = (a_budget(), a_budget(name="hourly", window=WindowKind.HOUR))
    draft = Draft(ledger, new, MINUTE)
    draft.take_over()  # its pods are over, and not charged yet
    draft.pod_seen("burst-b1-1", "p", NOW, NOW + 5 * MINUTE)
    draft.charge("burst-b1-1", "p", NOW, NOW + 5 * MINUTE)
    assert draft.overruns == []
    assert money_of(draft) == [(RATE * 300, WORST - RATE * 300)] * 2


def test_taking_over_twice_adopts_once() -> None:
    new = (a_budget(),)
    draft = Draft(a_ledger(an_entry()), new, MINUTE)
    draft.take_over()
    again = Draft(draft.finish(NOW), new, MINUTE)
    again.take_over()
    assert money_of(again) == [(NO_MONEY, WORST)]


def test_a_new_leader_leaves_accounts_that_are_known_as_they_are() -> None:
    budgets = (a_budget(),)
    draft = Draft(charged_draft().finish(NOW), budgets, MINUTE)
    before = money_of(draft)
    draft.take_over()
    assert money_of(draft) == before


def test_a_freeze_stands_in_the_ledger() -> None:
    draft = a_draft()
    draft.freeze("the ledger was lost")
    assert draft.changed
    assert reloaded(draft).frozen == "the ledger was lost"


# --- the document -----------------------------------------------------------------------------------------------------


def test_a_ledger_is_read_as_it_was_written() -> None:
    draft = charged_draft()
    draft.pod_seen("burst-b1-1", "q", NOW, NOW + MINUTE)
    draft.pod_gone("burst-b1-1", "q", NOW + MINUTE)
    ledger = draft.finish(NOW)
    assert Ledger.from_document(json.loads(json.dumps(ledger.to_document()))) == ledger


def the_golden_ledger() -> Ledger:
    """Something of everything that a ledger can hold."""
    draft = charged_draft()
    draft.pod_seen("burst-b1-1", "q", NOW, NOW + MINUTE, NOW)
    draft.pod_gone("burst-b1-1", "q", NOW + MINUTE)
    draft.close("burst-b1-1")
    draft.freeze("an operator must look")
    return replace(draft.finish(NOW), deletes=Tokens().add(NOW, 3))


def test_a_ledger_is_written_and_read_as_ever_in_this_format() -> None:
    golden = json.loads((Path(__file__).with_name("golden") / "ledger-1.json").read_text(encoding="utf-8"))
    assert the_golden_ledger().to_document() == golden
    assert Ledger.from_document(golden) == the_golden_ledger()


def test_a_ledger_of_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="this version reads 1"):
        Ledger.from_document({**Ledger().to_document(), "format": 2})


def test_the_time_of_writing_never_goes_back() -> None:
    ledger = a_ledger(now=NOW)
    assert Draft(ledger, (), MINUTE).finish(NOW - HOUR).written == NOW
    assert Draft(ledger, (), MINUTE).finish(NOW + HOUR).written == NOW + HOUR


def test_an_account_is_forgotten_two_days_after_its_window_unless_an_entry_touches_it() -> None:
    ledger = a_ledger(an_entry("b1"), budgets=(a_budget(),))
    [account] = ledger.accounts
    end = ledger.accounts[account].window.end
    still_held = Draft(ledger, (), MINUTE)
    assert account in still_held.finish(end + 72 * HOUR).accounts
    settled = Draft(ledger, (), MINUTE)
    settled.drop("burst-b1-1")
    assert account in settled.finish(end + 48 * HOUR - SECOND).accounts
    assert account not in settled.finish(end + 48 * HOUR).accounts


def test_accounts_of_a_tenant_are_its_own_and_those_of_all() -> None:
    budgets = (a_budget(), a_budget(name="each", scope=Scope.TENANT))
    ledger = a_ledger(an_entry("b1"), an_entry("b2", tenant="globex"), budgets=budgets)
    found = accounts_of(ledger.accounts, (), Spender("acme", "report"), NOW, NOW + MINUTE)
    assert sorted(account.owner for account in found) == ["*", "acme"]


def test_an_entry_is_read_as_it_was_written() -> None:
    entry = an_entry(job_uid="uid", state=EntryState.CLOSING, holds=((NOW, 2),), money_settled=True)
    assert Entry.from_json(json.loads(json.dumps(entry.to_json()))) == entry
