"""Explanations: what somebody who has never seen the program reads, situation by situation, as golden files.

After a sentence was changed: WRITE_GOLDEN=1 pytest tests/unit/test_explaining.py writes the files anew; read them.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dispatcher.core.attempts import Attempt, Stage
from dispatcher.core.budgets import Scope, Spender
from dispatcher.core.circuit import Circuit
from dispatcher.core.considered import Considered
from dispatcher.core.failures import FailureCause
from dispatcher.core.history import ITEMS_MAX, PER_SUBJECT_MAX, History
from dispatcher.core.inflight import ItemState
from dispatcher.core.jobs import manifest, verdict_on, with_verdict
from dispatcher.core.ledger import Ledger, Tokens
from dispatcher.core.observations import NodeHeadroom, PodPhase
from dispatcher.core.plan import Plan, plan_cycle
from dispatcher.core.policy import Policy, VirtualNodePolicy
from dispatcher.core.records import Ruling, RulingKind
from dispatcher.core.retries import Tries
from dispatcher.core.telling import dollars, due, held, placed, span
from dispatcher.core.units import NO_MONEY, Money
from dispatcher.core.verdicts import Held, HoldReason, Placed, Why
from dispatcher.core.windows import window_at
from dispatcher.core.work import Placement, Task, WorkItem
from dispatcher.explaining import Explanation, Scene, Subject, explain
from dispatcher.memory import Memory
from dispatcher.render import explanation_view
from tests.builders import (
    HOUR,
    MINUTE,
    NODES_ONLY,
    NOTHING,
    NOW,
    SECOND,
    a_budget,
    a_draft,
    a_headroom,
    a_job_seen,
    a_ledger,
    a_node,
    a_pod_seen,
    a_policy,
    a_record,
    a_retry,
    a_shape,
    a_snapshot,
    a_task,
    an_entry,
    an_item,
    entry_of,
    items,
)

GOLDEN = Path(__file__).parent / "golden_explanations"
JUST_CAME = {"received_at": NOW - 2 * SECOND, "enqueued_at": NOW - 3 * SECOND}


def waiting(
    work: Iterable[WorkItem] = (),
    policy: Policy | None = None,
    ledger: Ledger | None = None,
    headroom: NodeHeadroom = NOTHING,
    **snapshot: Any,
) -> tuple[Scene, Plan]:
    """These items wait, and one plan was made."""
    policy, ledger = policy or a_policy(), ledger or Ledger(epoch=1)
    memory = Memory(ledger, "1", a_draft(ledger=ledger, budgets=policy.budgets), NOW - HOUR)
    lanes: dict[tuple[str, str, int], list[WorkItem]] = {}
    for item in work:
        memory.inflight.arrive(item, ItemState.BACKLOG)
        lanes.setdefault((item.task, item.tenant, item.priority), []).append(item)
    plan = plan_cycle(a_snapshot(*lanes.values(), ledger=ledger, headroom=headroom, **snapshot), policy, NOW)
    memory.holds = plan.holds
    return Scene(memory, policy, History(), NOW), plan


def launched(scene: Scene, plan: Plan, **attempt_changes: Any) -> Attempt:
    """The plan's only launch was carried out a minute ago."""
    (launch,) = plan.launches
    entry = entry_of(launch, "b7", scene.policy, NOW)
    scene.memory.draft.open(entry)
    job = manifest(
        scene.policy.tasks[launch.task],
        launch.placed.shape,
        placement=launch.placed.where,
        batch_id="b7",
        attempt=1,
        sequence_numbers=tuple(item.sequence_number for item in launch.items),
    )
    assert launch.considered is not None
    record = replace(
        a_record(),
        batch="b7",
        items=launch.items,
        tries=(Tries(),) * len(launch.items),
        job=with_verdict(job, launch.placed.why, launch.considered.to_json()),
    )
    attempt = Attempt(record, "uid", "1", Stage.RUNNING)
    attempt.sight.job = a_job_seen(entry.name)
    for name, value in attempt_changes.items():
        setattr(attempt, name, value)
    scene.memory.attempts[entry.name] = attempt
    for item in launch.items:
        scene.memory.inflight.claim(item, ItemState.IN_ATTEMPT)
    return attempt


def shown(explanation: Explanation) -> str:
    out = io.StringIO()
    Console(file=out, width=100, force_terminal=False).print(explanation_view(explanation.to_json()))
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


# --- the situations -------------------------------------------------------------------------------------------------


def waits_for_a_node() -> Explanation:
    scene, _ = waiting(items(3, **JUST_CAME))
    return explain("message-2", None, scene)


def no_money_left() -> Explanation:
    daily, own = a_budget("0.02", name="daily"), a_budget("0.5", name="each-tenant", scope=Scope.TENANT)
    ledger = a_ledger(an_entry(shape=a_shape()), budgets=(daily, own))
    scene, _ = waiting(items(2), a_policy(budgets=(daily, own)), ledger)
    return explain("message-1", None, scene)


def no_address_left() -> Explanation:
    policy = a_policy(virtual_node=VirtualNodePolicy(subnet_prefix=29))
    entry = an_entry(shape=a_shape(3), may_come=3)
    scene, _ = waiting(items(40), policy, a_ledger(entry))
    return explain("work/40", None, scene)


def creates_used_up() -> Explanation:
    ledger = replace(Ledger(epoch=1), creates=Tokens().add(NOW - 3 * MINUTE, 60).add(NOW - MINUTE, 40))
    scene, _ = waiting(items(1), ledger=ledger)
    return explain("message-1", None, scene)


def circuit_open() -> Explanation:
    circuit = Circuit(5, NOW + 45 * SECOND, 60 * SECOND)
    scene, _ = waiting(items(1), circuit=circuit)
    return explain("message-1", None, scene)


def nodes_only_and_full() -> Explanation:
    scene, _ = waiting(items(1), a_policy(a_task(placements=NODES_ONLY)), headroom=a_headroom(a_node(cores=0.5)))
    return explain("message-1", None, scene)


def as_many_as_may() -> Explanation:
    scene, _ = waiting(items(1), a_policy(a_task(parallelism_max=4)), active={"report": 4})
    return explain("message-1", None, scene)


def runs_on_a_node() -> Explanation:
    scene, plan = waiting(items(2), headroom=a_headroom(a_node()))
    attempt = launched(scene, plan)
    pod = a_pod_seen(0, job=attempt.name, node="aks-pool-3", started_at=NOW - 30 * SECOND)
    attempt.sight.pods = {pod.uid: pod}
    scene.history("item.received", NOW - MINUTE, {"item": "message-1", "task": "report", "tenant": "acme"})
    return explain("message-1", None, scene)


def runs_on_the_virtual_node() -> Explanation:
    scene, plan = waiting(items(2), a_policy(budgets=(a_budget("5"),)))
    attempt = launched(scene, plan)
    pod = a_pod_seen(1, job=attempt.name, phase=PodPhase.PENDING, started_at=None, created_at=NOW - 20 * SECOND)
    attempt.sight.pods = {pod.uid: pod}
    return explain("message-2", None, scene)


def waits_to_be_tried_again() -> Explanation:
    scene, _ = waiting(retries=[a_retry(name="burst-b1-2", not_before=NOW + 40 * SECOND)])
    tries = Tries(own=1, platform=2, cause=FailureCause.ACI_QUOTA, message="no quota for one more group")
    record = replace(a_record(2), attempt=2, parent="burst-b1-1", tries=(tries, tries), not_before=NOW + 40 * SECOND)
    scene.memory.attempts[record.name] = Attempt(record, "uid", "1", Stage.HELD)
    for item in record.items:
        scene.memory.inflight.arrive(item, ItemState.BACKLOG)
        scene.memory.inflight.claim(item, ItemState.IN_ATTEMPT)
        scene.memory.inflight.move(item.id, ItemState.HELD_RETRY)
    retried = {"item": "message-1", "job": "burst-b1-1", "cause": "aci_quota", "message": "no quota for one more group"}
    scene.history("item.retried", NOW - 20 * SECOND, retried)
    return explain("message-1", None, scene)


def given_up() -> Explanation:
    scene, _ = waiting()
    facts = {"item": "order-17", "task": "report", "tenant": "acme", "job": "burst-b1-4"}
    for number in range(1, 4):
        failed = {**facts, "job": f"burst-b1-{number}", "cause": "application", "message": "exit code 3"}
        scene.history("item.retried", NOW - (10 - number) * MINUTE, failed)
    ended = {**facts, "cause": "application", "reason": "application", "attempts": 4}
    scene.history("item.dead_lettered", NOW - MINUTE, ended)
    return explain("order-17", None, scene)


def done() -> Explanation:
    scene, plan = waiting(items(1), a_policy(budgets=(a_budget("5"),)))
    (launch,) = plan.launches
    assert isinstance(launch.placed, Placed)
    assert launch.considered is not None
    job = {"job": "burst-b7-1", "task": "report", "tenant": "acme", "placement": "virtual_node"}
    told = {**job, "why": launch.placed.why, "items": 1, "considered": launch.considered.to_json()}
    scene.history("batch.launched", NOW - 5 * MINUTE, {**told, "reserved_usd": "0.014016"})
    scene.history("item.done", NOW - MINUTE, {**job, "item": "order-18", "waited_seconds": 302.4})
    return explain("order-18", None, scene)


def a_whole_batch() -> Explanation:
    scene, plan = waiting(items(8), a_policy(budgets=(a_budget("5"),)))
    attempt = launched(scene, plan)
    attempt.record = replace(attempt.record, rulings={0: Ruling(RulingKind.DONE), 1: Ruling(RulingKind.DONE)})
    pods = [a_pod_seen(n, job=attempt.name, phase=PodPhase.SUCCEEDED if n < 2 else PodPhase.RUNNING) for n in range(8)]
    attempt.sight.pods = {pod.uid: pod for pod in pods}
    return explain("b7", None, scene)


def a_tenant_that_waits() -> Explanation:
    budget = a_budget("0.02")
    ledger = a_ledger(an_entry(shape=a_shape()), budgets=(budget,))
    policy = a_policy(a_task(), a_task("resize", placements=NODES_ONLY), budgets=(budget,), tenant_weights={"acme": 3})
    work = [*items(3), an_item(4, task="resize"), *items(2, first=5, tenant="globex")]
    scene, plan = waiting(work, policy, ledger)
    for hold in plan.holds:
        facts = {"task": hold.task, "tenant": hold.tenant, "items": hold.count, "reason": hold.held.reason}
        scene.history("batch.held", NOW - MINUTE, facts)
    return explain("acme", None, scene)


def nobody_knows() -> Explanation:
    scene, _ = waiting()
    return explain("order-99", None, scene)


SITUATIONS: tuple[Callable[[], Explanation], ...] = (
    waits_for_a_node,
    no_money_left,
    no_address_left,
    creates_used_up,
    circuit_open,
    nodes_only_and_full,
    as_many_as_may,
    runs_on_a_node,
    runs_on_the_virtual_node,
    waits_to_be_tried_again,
    given_up,
    done,
    a_whole_batch,
    a_tenant_that_waits,
    nobody_knows,
)


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda each: each.__name__)
def test_a_situation_reads_as_it_was_read_and_approved(situation: Callable[[], Explanation]) -> None:
    text, path = shown(situation()), GOLDEN / f"{situation.__name__}.txt"
    if os.environ.get("WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_every_answer_to_what_is_under_way_says_where_why_and_when_it_is_looked_at_next() -> None:
    for situation in SITUATIONS:
        explanation = situation()
        if explanation.found:
            assert {"Where it is", "Why"} <= set(explanation.sections), situation.__name__


# --- finding --------------------------------------------------------------------------------------------------------


def test_a_name_that_could_be_several_is_taken_for_what_was_said() -> None:
    scene, _ = waiting([an_item(1, message_id="acme", **JUST_CAME)])
    assert explain("acme", None, scene).title.startswith("item acme")
    assert explain("acme", Subject.TENANT, scene).title == "tenant acme"
    assert not explain("acme", Subject.BATCH, scene).found


def test_a_batch_is_found_by_its_id_and_by_its_job_and_its_latest_attempt_counts() -> None:
    scene, plan = waiting(items(1), headroom=a_headroom(a_node()))
    attempt = launched(scene, plan)
    assert explain(attempt.name, None, scene).title == explain("b7", None, scene).title
    again = Attempt(replace(attempt.record, attempt=2, parent=attempt.name), "uid", "1", Stage.HELD)
    scene.memory.attempts[again.name] = again
    assert "attempt 2" in explain("b7", None, scene).title
    assert "attempt 1" in explain(attempt.name, None, scene).title


def test_a_job_that_an_earlier_version_made_is_explained_without_numbers() -> None:
    scene, plan = waiting(items(1), headroom=a_headroom(a_node()))
    attempt = launched(scene, plan)
    attempt.record = replace(attempt.record, job=None)
    assert "the reason was not written down" in shown(explain("b7", None, scene))


def test_every_reason_to_hold_has_words_of_its_own() -> None:
    task, policy = a_task(start_by=MINUTE), a_policy()
    said = {}
    for reason in HoldReason:
        words = held(Held(reason, detail="as it is"), None, task, policy, NOW)
        assert words.why, reason
        assert words.would_change, reason
        said[reason] = words.why[0]
    alike = {HoldReason.CLOCK_BEHIND, HoldReason.CLOCKS_APART}
    assert len(set(said.values())) == len(said) - len(alike) + 1


def test_every_reason_to_place_has_words_of_its_own() -> None:
    _, plan = waiting(items(1))
    considered = plan.launches[0].considered
    said = {placed(why, Placement.VIRTUAL_NODE, considered, a_task(), a_policy()).why[0] for why in Why}
    assert len(said) == len(Why) - 1  # where there was room on nodes it does not go there


# --- what is kept ---------------------------------------------------------------------------------------------------


def test_a_verdict_and_its_numbers_come_back_from_the_job_as_they_were_written() -> None:
    _, plan = waiting(items(1), a_policy(budgets=(a_budget("5"),)))
    (launch,) = plan.launches
    assert launch.considered is not None
    job = {"metadata": {"annotations": {"other": "1"}}}
    written = with_verdict(job, launch.placed.why, launch.considered.to_json())
    found = verdict_on(written)
    assert found is not None
    why, content = found
    assert why == launch.placed.why
    assert Considered.from_json(content) == launch.considered
    assert verdict_on(job) is None
    assert verdict_on({"metadata": {"annotations": {"burst-dispatcher.io/verdict": "{"}}}) is None


def test_the_history_is_bounded_and_forgets_the_oldest_subject_first() -> None:
    history = History()
    for number in range(ITEMS_MAX + 5):
        history("item.received", NOW, {"item": f"m-{number}"})
    assert history.of_item("m-0") == ()
    assert len(history.of_item("m-5")) == 1
    for _ in range(PER_SUBJECT_MAX + 5):
        history("item.retried", NOW, {"item": "m-5", "cause": "unknown"})
    assert len(history.of_item("m-5")) == PER_SUBJECT_MAX


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0s"), (59, "59s"), (60, "1m"), (61, "1m 1s"), (3600, "1h"), (90_000, "1d 1h")]
)
def test_lengths_of_time_in_words(seconds: int, words: str) -> None:
    assert span(seconds * SECOND) == words


def test_amounts_are_rounded_up_and_end_without_zeros() -> None:
    assert dollars(Money.from_usd("25")) == "$25.00"
    assert dollars(Money.from_usd("0.0140161")) == "$0.014017"
    assert dollars(NO_MONEY) == "$0.00"


def test_an_instant_that_has_come_is_now() -> None:
    assert due(NOW, NOW).endswith("which is now")


def test_a_budget_that_lies_below_what_is_bound_says_by_how_much() -> None:
    budget = a_budget("1")
    ledger = a_ledger(an_entry(shape=a_shape(30)), budgets=(budget,))
    account_id = budget.account_of(Spender("acme", "report"), window_at(budget.window, budget.zone, NOW))
    lowered = replace(ledger.accounts[account_id], limit=Money.from_usd("0.1"))
    ledger = replace(ledger, accounts={account_id: lowered})
    scene, _ = waiting(items(1), a_policy(budgets=(a_budget("0.1"),)), ledger)
    assert "it is $" in shown(explain("message-1", None, scene))


def test_work_of_the_task_that_is_gone_is_explained_too() -> None:
    scene, plan = waiting(items(1, **JUST_CAME))
    scene.memory.holds = plan.holds
    without = replace(
        scene, policy=replace(scene.policy, tasks={"other": Task("other", "x", ("x",), a_task().requests)})
    )
    assert "no task report" in shown(explain("message-1", None, without))


def test_a_paid_attempt_says_what_it_has_cost() -> None:
    scene, plan = waiting(items(1))
    attempt = launched(scene, plan)
    assert scene.memory.draft.entries[attempt.name].placement is Placement.VIRTUAL_NODE
    assert "has cost $0.00 so far" in shown(explain("b7", None, scene))
