"""Groups without a pod in the ledger: charged once for each second, counted until their address is free, and nothing
spills beside one that bills.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from dispatcher.core.addresses import AddressBook
from dispatcher.core.budgets import Scope
from dispatcher.core.capacity import NodeSpace
from dispatcher.core.circuit import Circuit
from dispatcher.core.leaks import Leak, covered_until, is_leaked
from dispatcher.core.ledger import Draft, Ledger
from dispatcher.core.observations import NodeHeadroom
from dispatcher.core.policy import VirtualNodePolicy
from dispatcher.core.routing import Demand, Room
from dispatcher.core.units import Money
from dispatcher.core.verdicts import Held, HoldReason
from tests.builders import HOUR, MINUTE, NOW, SECOND, a_budget, a_draft, a_policy, a_task, seconds

A_CENT = Money.from_usd("0.01")


def a_leak(**changes: Any) -> Leak:
    leak = Leak("work-burst-b1-1-0-x", "burst-b1-1", "acme", "report", A_CENT, 1000, since=NOW, charged_until=NOW)
    return replace(leak, **changes)


def leaking(*leaks: Leak, limit: str = "1") -> Draft:
    budgets = (a_budget(limit), a_budget(limit, name="each", scope=Scope.TENANT))
    draft = a_draft(budgets=budgets)
    for number, leak in enumerate(leaks or (a_leak(),)):
        draft.leak_found(f"uid-{number}", leak)
    return draft


def spent(draft: Draft) -> dict[str, tuple[str, str]]:
    accounts = draft.peek().accounts.values()
    return {account.budget: (str(account.spent), str(account.leaked)) for account in accounts}


def test_a_group_is_leaked_once_it_has_outlived_its_pod_by_more_than_its_tail_and_the_clocks() -> None:
    assert not is_leaked(NOW, 2 * MINUTE, NOW + 2 * MINUTE + seconds(5))
    assert is_leaked(NOW, 2 * MINUTE, NOW + 2 * MINUTE + seconds(6))


def test_what_was_set_aside_covers_a_tail_after_the_pod_and_never_more_than_the_jobs_deadline_and_a_tail() -> None:
    assert covered_until(NOW, NOW + MINUTE, 10 * MINUTE, 2 * MINUTE) == NOW + 3 * MINUTE
    assert covered_until(NOW, NOW + HOUR, 10 * MINUTE, 2 * MINUTE) == NOW + 12 * MINUTE
    assert covered_until(NOW, NOW - HOUR, 10 * MINUTE, 2 * MINUTE) == NOW


def test_each_second_is_charged_once_to_everybody_who_pays_for_it() -> None:
    draft = leaking()
    for until in (10, 10, 20.5, 20.9):
        draft.leak_seen("uid-0", NOW + seconds(until))
    assert spent(draft) == {"daily": ("0.2", "0.2"), "each": ("0.2", "0.2")}
    draft.leak_stopped("uid-0", NOW + seconds(20.95))
    assert spent(draft)["daily"] == ("0.21", "0.21")
    assert str(draft.leaks["uid-0"].spent) == "0.21"


def test_one_that_has_stopped_costs_no_more_and_is_counted_until_its_address_is_free() -> None:
    draft = leaking()
    draft.leak_stopped("uid-0", NOW + seconds(3))
    draft.leak_gone("uid-0", NOW + HOUR)
    assert spent(draft)["daily"] == ("0.03", "0.03")
    assert draft.peek().addresses(NOW + HOUR) == 1
    draft.forget_leaks(NOW + HOUR + 5 * MINUTE - SECOND)
    assert draft.leaks
    draft.forget_leaks(NOW + HOUR + 5 * MINUTE)
    assert not draft.leaks
    assert draft.peek().addresses(NOW + HOUR + 5 * MINUTE) == 0


def test_one_that_was_gone_at_the_next_look_is_charged_up_to_it() -> None:
    draft = leaking()
    draft.leak_gone("uid-0", NOW + seconds(15))
    assert spent(draft)["daily"] == ("0.15", "0.15")
    assert not draft.leaks["uid-0"].bills


def test_it_is_charged_beyond_a_limit_since_it_is_billed_all_the_same() -> None:
    draft = leaking(limit="0.1")
    draft.leak_seen("uid-0", NOW + MINUTE)
    assert spent(draft)["daily"] == ("0.6", "0.6")


def test_one_of_which_nobody_knows_whose_it_is_is_charged_to_what_counts_everything() -> None:
    draft = leaking(a_leak(tenant="", task=""))
    draft.leak_seen("uid-0", NOW + seconds(10))
    assert spent(draft) == {"daily": ("0.1", "0.1")}


def test_a_ledger_with_leaks_is_read_as_it_was_written_and_one_without_is_written_as_before() -> None:
    draft = leaking(a_leak(), a_leak(group="other", stopped=True))
    draft.leak_seen("uid-0", NOW + seconds(10))
    draft.leak_gone("uid-1", NOW + seconds(10))
    ledger = draft.finish(NOW)
    document = json.loads(json.dumps(ledger.to_document()))
    assert Ledger.from_document(document) == ledger
    assert "leaks" not in a_draft(budgets=(a_budget(),)).finish(NOW).to_document()


def test_its_address_group_and_cores_are_nobody_elses() -> None:
    policy = VirtualNodePolicy(subnet_prefix=28, groups_max=10, cores_max=10)
    task = a_task()

    def room(*leaks: Leak) -> int:
        return AddressBook(leaking(*leaks).peek(), policy, NOW).fit(task.requests)[0]

    assert room(a_leak(stopped=True)) == room(a_leak()) == 9
    assert room(a_leak(held_until=NOW + MINUTE)) == 10  # its address alone is taken: of eleven
    assert room(a_leak(), a_leak(cpu_millis=4500)) == 4


def verdict_beside(leak: Leak) -> object:
    policy = a_policy()
    nodes = NodeSpace(NodeHeadroom(), policy.node_pool, 0)
    room = Room(policy, leaking(leak).peek(), nodes, Circuit(), {}, ledger_full=False, now=NOW)
    return room.route(Demand(policy.tasks["report"], "acme", 1, NOW - HOUR))


def test_nothing_spills_while_one_bills_and_work_goes_on_once_it_has_stopped() -> None:
    held = verdict_beside(a_leak())
    assert isinstance(held, Held)
    assert held.reason is HoldReason.LEAKED_GROUPS
    assert "work-burst-b1-1-0-x bills on without a pod" in held.detail
    assert not isinstance(verdict_beside(a_leak(stopped=True)), Held)
