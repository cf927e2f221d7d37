"""What a sender is told: made from the record alone, always the same, under an id of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from dispatcher.core.attempts import with_runs
from dispatcher.core.failures import FailureCause
from dispatcher.core.observations import PodPhase
from dispatcher.core.outcomes import DESCRIPTION_MAX, WAIT_MAX, OutcomeKind, ReplyLine, letter, outcome_of
from dispatcher.core.records import Ruling, RulingKind, RunSeen, decode, next_record, to_annotations, to_data
from dispatcher.core.retries import Tries
from dispatcher.core.units import Money
from dispatcher.core.work import Placement
from tests.builders import MINUTE, NOW, SECOND, a_job_seen, a_pod_seen, a_record, a_task, an_attempt, an_item, items

RATE = Money.from_usd("0.0000146")
ASKING = tuple(items(2, reply_to="outcomes"))
DEAD = Tries(3, 1, FailureCause.APPLICATION, "exit code 1", "the end of the log")
RUN = RunSeen(NOW, NOW - MINUTE, NOW - SECOND, Money.from_usd("0.001"), Placement.VIRTUAL_NODE)


def test_a_done_item_is_told_with_where_when_and_for_how_much() -> None:
    record = a_record(items=ASKING, attempt=2, rulings={0: Ruling(RulingKind.DONE, run=RUN)})
    outcome = outcome_of(record, 0, "store/1")
    assert (outcome.kind, outcome.message_id, outcome.reply_to) == (OutcomeKind.DONE, "message-1", "outcomes")
    assert (outcome.attempts, outcome.placement, outcome.cost) == (2, Placement.VIRTUAL_NODE, RUN.cost)
    assert (outcome.ruled_at, outcome.started_at, outcome.finished_at) == (NOW, NOW - MINUTE, NOW - SECOND)
    assert (outcome.reason, outcome.description, outcome.result_ref) == (None, None, "store/1")


def test_a_dead_item_is_told_as_its_dead_letter_is_and_has_no_result() -> None:
    record = a_record(items=ASKING, attempt=4, rulings={1: Ruling(RulingKind.DEAD, DEAD, run=RUN)})
    outcome = outcome_of(record, 1, "store/2")
    assert outcome.kind is OutcomeKind.DEAD_LETTERED
    assert (outcome.reason, outcome.description) == letter(record, 1, Placement.VIRTUAL_NODE)
    assert outcome.result_ref is None


def test_a_letter_says_cause_tries_place_and_the_end_of_the_log_within_what_the_broker_takes() -> None:
    record = a_record(attempt=4, rulings={0: Ruling(RulingKind.DEAD, DEAD)})
    assert letter(record, 0, Placement.VIRTUAL_NODE) == (
        "application",
        "Gave up after 4 failed tries in 4 attempts (3 of its own, 1 of the platform's), the last on the virtual node."
        "\nCause: application. exit code 1\nEnd of the log:\nthe end of the log",
    )
    never = a_record(rulings={0: Ruling(RulingKind.DEAD, Tries(cause=FailureCause.EXPIRED, message="too late"))})
    assert letter(never, 0, None) == ("expired", "It was never launched.\nCause: expired. too late")
    long = a_record(rulings={0: Ruling(RulingKind.DEAD, replace(DEAD, log_tail="x" * 9000))})
    assert len(letter(long, 0, None)[1]) == DESCRIPTION_MAX


def test_what_was_never_launched_had_no_attempt() -> None:
    rejected = a_record(items=ASKING, rulings={0: Ruling(RulingKind.DEAD, DEAD, run=RunSeen(NOW))})
    outcome = outcome_of(rejected, 0)
    assert (outcome.attempts, outcome.placement, outcome.cost) == (0, None, Money(0))


def test_an_id_stands_for_one_end_of_one_item() -> None:
    record = a_record(items=ASKING, rulings={0: Ruling(RulingKind.DONE, run=RUN), 1: Ruling(RulingKind.DONE, run=RUN)})
    one = outcome_of(record, 0)
    assert outcome_of(record, 0, "elsewhere").event_id == one.event_id
    others = [
        outcome_of(record, 1),
        replace(one, kind=OutcomeKind.DEAD_LETTERED),
        replace(one, queue="other"),
        replace(one, sequence_number=3),
        replace(one, message_id="message-2"),
        replace(one, enqueued_at=one.enqueued_at + SECOND),  # the queue was made anew and counts from the beginning
    ]
    assert len({one.event_id, *(other.event_id for other in others)}) == len(others) + 1
    assert all(len(each.event_id) == 32 and each.event_id.isalnum() for each in (one, *others))


# --- what a ruling notes of the run ---------------------------------------------------------------------------------


def test_a_ruling_notes_the_run_that_decided_and_what_all_runs_cost() -> None:
    record = a_record(items=ASKING, tries=(Tries(cost=Money.from_usd("0.5")), Tries()))
    failed = a_pod_seen(0, "one", phase=PodPhase.FAILED, created_at=NOW, finished_at=NOW + 10 * SECOND)
    good = a_pod_seen(
        0, "two", phase=PodPhase.SUCCEEDED, created_at=NOW + 20 * SECOND,
        started_at=NOW + 25 * SECOND, finished_at=NOW + 50 * SECOND,
    )  # fmt: skip
    attempt = an_attempt(record, a_job_seen(), [failed, good])
    rulings = {0: Ruling(RulingKind.DONE)}
    [ruled] = with_runs(attempt, rulings, Placement.VIRTUAL_NODE, RATE, NOW + MINUTE).values()
    cost = Money.from_usd("0.5") + RATE * 40
    assert ruled.run == RunSeen(NOW + MINUTE, good.started_at, good.finished_at, cost, Placement.VIRTUAL_NODE)


def test_a_retry_carries_on_what_its_pods_cost_and_a_pod_that_runs_on_counts_so_far() -> None:
    record = a_record(items=ASKING)
    attempt = an_attempt(record, a_job_seen(), [a_pod_seen(0, created_at=NOW)])
    retry = Ruling(RulingKind.RETRY, Tries(own=1))
    [ruled] = with_runs(attempt, {0: retry}, Placement.VIRTUAL_NODE, RATE, NOW + MINUTE).values()
    assert (ruled.run, ruled.tries) == (None, Tries(own=1, cost=RATE * 60))
    following = next_record(replace(record, rulings={0: ruled, 1: Ruling(RulingKind.DONE)}), 1, NOW)
    assert following is not None
    assert following.tries[0].cost == RATE * 60


def test_a_paid_run_that_nobody_saw_has_no_known_cost_and_one_on_nodes_costs_nothing() -> None:
    attempt = an_attempt(a_record(items=ASKING), a_job_seen())
    rulings = {0: Ruling(RulingKind.DONE)}
    [paid] = with_runs(attempt, rulings, Placement.VIRTUAL_NODE, RATE, NOW).values()
    assert paid.run is not None
    assert paid.run.cost is None
    [free] = with_runs(attempt, rulings, Placement.NODE_POOL, Money(0), NOW).values()
    assert free.run is not None
    assert free.run.cost == Money(0)


def test_items_whose_sender_did_not_ask_have_nothing_noted() -> None:
    attempt = an_attempt(a_record(), a_job_seen(), [a_pod_seen()])
    rulings = {0: Ruling(RulingKind.DONE)}
    assert with_runs(attempt, rulings, Placement.VIRTUAL_NODE, RATE, NOW) == rulings


def test_all_of_it_survives_in_the_record() -> None:
    record = a_record(
        items=(*ASKING, an_item(3)),
        tries=(Tries(cost=Money(7)), Tries(), Tries()),
        rulings={
            0: Ruling(RulingKind.DONE, run=RUN),
            1: Ruling(RulingKind.RETRY, replace(DEAD, cost=Money(12)), NOW + MINUTE),
            2: Ruling(RulingKind.DEAD, DEAD, run=RunSeen(NOW, cost=None)),
        },
        confirmed=(0, 2),
    )
    data, annotations = json.loads(json.dumps([to_data(record), to_annotations(record)]))
    assert decode(data, annotations) == record
    assert json.loads(data["0.json"])["reply_to"] == "outcomes"
    assert "reply_to" not in json.loads(data["2.json"])


# --- where results lie, and how a reply queue does ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "ref"),
    [
        (None, None),
        ("store/{tenant}/{task}/{id}.pdf", "store/acme/report/message-1.pdf"),
        ("no names", "no names"),
        ("{other}{id", "{other}{id"),
    ],
)
def test_a_result_lies_where_the_tasks_rule_says(rule: str | None, ref: str | None) -> None:
    assert a_task(result_ref=rule).result_ref_of(an_item()) == ref


def test_what_an_item_is_called_is_not_read_as_a_rule() -> None:
    assert a_task(result_ref="{id}").result_ref_of(an_item(message_id="{tenant}")) == "{tenant}"


def test_a_reply_queue_is_tried_again_ever_more_slowly_until_it_takes_something() -> None:
    line, at = ReplyLine(), NOW
    waits = []
    for _ in range(12):
        assert line.may_send(at)
        line = line.after_failure(at)
        assert not line.may_send(at)
        assert line.again_at is not None
        waits.append(line.again_at - at)
        at = line.again_at
    assert waits[:4] == [timedelta(seconds=2**n) for n in range(4)]
    assert waits[-1] == WAIT_MAX
    assert replace(line, given_up=True).after_success() == ReplyLine()
