"""Pods that carry several items: what their reports mean, and when silence is taken for an answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from dispatcher.core.attempts import Attempt, Stage
from dispatcher.core.failures import FailureCause
from dispatcher.core.hearing import (
    Heard,
    Means,
    failure_in,
    heard,
    heard_out_at,
    note_ends,
    rulings_of_silence,
)
from dispatcher.core.jobs import manifest
from dispatcher.core.observations import JobCondition, JobSeen, PodPhase, PodSeen
from dispatcher.core.records import (
    FORMAT_OF_REPORTS,
    Record,
    Ruling,
    RulingKind,
    decode,
    next_record,
    to_annotations,
    to_data,
)
from dispatcher.core.reports import ItemReport, ReportedOutcome
from dispatcher.core.retries import Failure, Tries
from dispatcher.core.work import Placement
from tests.builders import NOW, SECOND, a_job_seen, a_pod_seen, a_policy, a_record, a_shape, a_task, an_attempt

TASK = a_task(items_per_pod=3, backoff_limit=2)
POLICY = a_policy(TASK)
GRACE = POLICY.report_grace
C, K, P = FailureCause, RulingKind, PodPhase
DONE = Ruling(K.DONE)
RETRY = Ruling(K.RETRY, Tries(platform=1, cause=C.UNREPORTED), NOW)
LATER = NOW + GRACE + SECOND


def carried(count: int = 6, pods: int = 2, attempt: int = 1, **changes: object) -> Record:
    """So many items shared out among so many pods: position p is done by pod p % pods."""
    record = a_record(count, attempt=attempt, **changes)
    numbers = tuple(item.sequence_number for item in record.items)
    job = manifest(
        TASK, a_shape(pods), placement=Placement.NODE_POOL, batch_id=record.batch, attempt=attempt,
        sequence_numbers=numbers,
    )  # fmt: skip
    return replace(record, job=job)


def of_pods(record: Record | None = None, *pods: PodSeen, job: JobSeen | None = None) -> Attempt:
    return an_attempt(record or carried(), job or a_job_seen(), pods)


def a_report(record: Record, position: int, **changes: object) -> ItemReport:
    item = record.items[position]
    report = ItemReport(
        record.batch, record.attempt, "pod-0", position, item.queue, item.sequence_number, item.digest,
        ReportedOutcome.DONE,
    )  # fmt: skip
    return replace(report, **changes)  # type: ignore[arg-type]


def failed(record: Record, position: int, **changes: object) -> ItemReport:
    return a_report(record, position, outcome=ReportedOutcome.FAILED, cause=C.APPLICATION, **changes)


def ended(attempt: Attempt, at: datetime = NOW) -> Attempt:
    note_ends(attempt, GRACE, at)
    return attempt


def silence(attempt: Attempt, now: datetime = LATER, emptied: datetime | None = LATER) -> dict[int, Ruling]:
    return rulings_of_silence(attempt, TASK, POLICY, emptied, now)


def causes(rulings: dict[int, Ruling]) -> dict[int, FailureCause | None]:
    return {position: ruling.tries.cause for position, ruling in rulings.items()}


# --- the record -------------------------------------------------------------------------------------------------------


def test_a_record_knows_which_pod_has_which_item() -> None:
    record = carried(5, pods=2)
    assert [record.index_of(position) for position in range(5)] == [0, 1, 0, 1, 0]
    assert list(record.positions_of(0)) == [0, 2, 4]
    assert list(record.positions_of(1)) == [1, 3]


def test_without_reports_the_index_is_the_position() -> None:
    record = a_record(3)
    assert [record.index_of(position) for position in range(3)] == [0, 1, 2]
    assert list(record.positions_of(1)) == [1]


def test_what_was_reported_is_read_as_it_was_written_and_no_earlier_version_reads_it() -> None:
    record = replace(carried(), reported={1: {"pod-1": Failure(C.APPLICATION, "exit code 3", "tail")}})
    annotations = to_annotations(record)
    assert decode(to_data(record), annotations) == record
    assert annotations["burst-dispatcher.io/format"] == str(FORMAT_OF_REPORTS)


def test_whoever_failed_by_itself_goes_last_in_the_next_attempt() -> None:
    guilty = Ruling(K.RETRY, Tries(own=1, cause=C.APPLICATION), NOW)
    following = next_record(replace(carried(3, pods=1), rulings={0: guilty, 1: RETRY, 2: RETRY}), 1, NOW)
    assert following is not None
    first = carried(3).items[0].sequence_number
    assert [item.sequence_number for item in following.items][-1] == first
    assert following.tries[-1].own == 1


# --- what a report means ----------------------------------------------------------------------------------------------


def test_done_is_ruled_while_the_pod_runs_on() -> None:
    attempt = of_pods(None, a_pod_seen(0))
    assert heard(a_report(attempt.record, 2), [attempt]) == Heard(Means.RULE_DONE, attempt, 2)


def test_what_is_done_already_means_nothing_more() -> None:
    attempt = of_pods(carried(rulings={2: DONE}))
    assert heard(a_report(attempt.record, 2), [attempt]).means is Means.NOTHING


def test_done_after_the_item_was_given_up_is_too_late() -> None:
    attempt = of_pods(carried(rulings={2: Ruling(K.DEAD)}))
    assert heard(a_report(attempt.record, 2), [attempt]).means is Means.TOO_LATE
    assert heard(failed(attempt.record, 2), [attempt]).means is Means.NOTHING


def test_done_follows_retry_from_attempt_to_attempt() -> None:
    first = of_pods(carried(3, rulings={0: DONE, 1: RETRY, 2: RETRY}))
    first.carried_on = True
    record = next_record(first.record, 1, NOW)
    assert record is not None
    second = an_attempt(record, None)
    second.stage = Stage.HELD
    assert heard(a_report(first.record, 2), [second, first]) == Heard(Means.RULE_DONE, second, 1)


def test_done_waits_for_the_record_that_its_item_goes_on_into() -> None:
    attempt = of_pods(carried(3, rulings={0: DONE, 1: RETRY, 2: RETRY}))
    assert heard(a_report(attempt.record, 2), [attempt]).means is Means.WAIT


def test_done_waits_while_the_next_job_is_about_to_be_created() -> None:
    attempt = of_pods()
    attempt.stage = Stage.OPENED
    assert heard(a_report(attempt.record, 0), [attempt]).means is Means.WAIT


def test_a_report_never_leaves_its_batch_and_what_nobody_claims_is_settled() -> None:
    attempt = of_pods()
    other = replace(a_report(attempt.record, 0), digest="0" * 64)
    assert heard(other, [attempt]) == Heard(Means.NOTHING)
    assert heard(a_report(attempt.record, 0), []) == Heard(Means.NOTHING)


def test_done_of_a_newer_attempt_says_nothing_of_an_older_one() -> None:
    attempt = of_pods()
    assert heard(a_report(attempt.record, 0, attempt=2), [attempt]) == Heard(Means.NOTHING)


def test_a_failure_is_evidence_of_the_newest_pod_alone() -> None:
    old, new = a_pod_seen(0, uid="old"), a_pod_seen(0, uid="new", created_at=NOW + SECOND)
    attempt = of_pods(None, old, new)
    assert heard(failed(attempt.record, 0, pod="old"), [attempt]).means is Means.NOTHING
    assert heard(failed(attempt.record, 0, pod="new"), [attempt]).means is Means.NOTE_FAILURE


def test_a_failure_of_an_older_attempt_is_none() -> None:
    first, second = of_pods(carried(rulings=dict.fromkeys(range(6), RETRY))), of_pods(carried(attempt=2))
    assert heard(failed(first.record, 0), [first, second]).means is Means.NOTHING


def test_a_failure_that_comes_before_its_pod_was_seen_counts() -> None:
    attempt = of_pods()
    assert heard(failed(attempt.record, 0, pod="unseen"), [attempt]).means is Means.NOTE_FAILURE


def test_a_failure_without_words_tells_its_exit_code() -> None:
    record = carried()
    assert failure_in(failed(record, 0, exit_code=3)) == Failure(C.APPLICATION, "exit code 3", "")


# --- silence ----------------------------------------------------------------------------------------------------------


def completed(*indexes: int, over: bool = False) -> JobSeen:
    condition = JobCondition.COMPLETE if over else None
    return a_job_seen(completed_indexes=frozenset(indexes), condition=condition)


def test_no_item_is_done_for_its_pod_having_succeeded() -> None:
    attempt = ended(of_pods(None, job=completed(0, 1, over=True)))
    assert {ruling.kind for ruling in silence(attempt).values()} == {K.RETRY}


@pytest.mark.parametrize("short_of", [SECOND, timedelta(milliseconds=1)])
def test_silence_is_no_answer_within_the_grace(short_of: timedelta) -> None:
    attempt = ended(of_pods(None, job=completed(0, 1, over=True)))
    assert silence(attempt, now=NOW + GRACE - short_of) == {}
    assert silence(attempt, now=NOW + GRACE) != {}


@pytest.mark.parametrize("emptied", [None, NOW, NOW + GRACE - SECOND])
def test_silence_is_no_answer_while_a_report_may_be_on_the_queue(emptied: datetime | None) -> None:
    attempt = ended(of_pods(None, job=completed(0, 1, over=True)))
    assert silence(attempt, emptied=emptied) == {}


def test_it_is_known_until_when_reports_may_come() -> None:
    attempt = ended(of_pods(carried(4, rulings={1: DONE, 3: DONE}), job=completed(0, 1)))
    assert heard_out_at(attempt, GRACE) == [NOW + GRACE]


def test_nothing_is_retried_while_the_job_may_start_the_item_again() -> None:
    attempt = ended(of_pods(None, a_pod_seen(1), job=completed(0)))
    assert silence(attempt) == {}
    assert attempt.ended_since == {0: NOW}


def test_a_pod_that_is_being_deleted_is_waited_for_until_it_has_gone_but_not_for_ever() -> None:
    job = a_job_seen(failed_indexes=frozenset({0}))
    attempt = of_pods(None, a_pod_seen(0, phase=P.RUNNING, marked_for_deletion=True), job=job)
    ended(attempt)
    assert attempt.ended_since == {}
    ended(attempt, NOW + GRACE)
    assert attempt.ended_since == {0: NOW + GRACE}


def test_a_pod_that_ended_well_without_a_word_is_the_platforms_failure() -> None:
    attempt = ended(of_pods(carried(2, pods=1), job=completed(0, over=True)))
    assert causes(silence(attempt)) == {0: C.UNREPORTED, 1: C.UNREPORTED}
    assert all(ruling.tries.own == 0 for ruling in silence(attempt).values())


def stopped(record: Record, phase: PodPhase = P.FAILED) -> Attempt:
    pods = [a_pod_seen(index, uid=f"pod-{index}", phase=phase) for index in range(record.pods)]
    return ended(of_pods(record, *pods, job=a_job_seen(condition=JobCondition.FAILED)))


def test_what_a_pod_reported_of_an_item_counts_for_that_item() -> None:
    record = carried(2, pods=1, reported={1: {"pod-0": Failure(C.ITEM_TIMEOUT, "too long")}}, rulings={0: DONE})
    assert causes(silence(stopped(record, P.SUCCEEDED))) == {1: C.ITEM_TIMEOUT}


def test_a_poison_item_that_brings_its_pod_down_is_blamed_alone() -> None:
    record = carried(4, pods=1, rulings={0: DONE}, evidence={0: {"pod-0": Failure(C.APPLICATION, "exit code 137")}})
    found = silence(stopped(record))
    assert causes(found) == {1: C.APPLICATION, 2: C.CANCELLED, 3: C.CANCELLED}
    assert [found[position].tries.own for position in (1, 2, 3)] == [1, 0, 0]


def test_where_a_pod_was_told_to_stop_nobody_is_blamed_for_its_end() -> None:
    record = carried(
        3, pods=1, reported={0: {"pod-0": Failure(C.CANCELLED)}},
        evidence={0: {"pod-0": Failure(C.APPLICATION, "exit code 143")}},
    )  # fmt: skip
    assert causes(silence(stopped(record))) == dict.fromkeys(range(3), C.CANCELLED)


def test_what_the_platform_did_to_a_pod_it_did_to_all_its_items() -> None:
    record = carried(2, pods=1, evidence={0: {"pod-0": Failure(C.NODE_LOST)}})
    assert causes(silence(stopped(record))) == dict.fromkeys(range(2), C.NODE_LOST)


def test_an_item_out_of_its_allowance_is_given_up_and_its_company_goes_on() -> None:
    spent = Tries(own=2, cause=C.APPLICATION)
    record = carried(
        2, pods=1, tries=(Tries(), spent), rulings={0: DONE}, reported={1: {"pod-0": Failure(C.APPLICATION)}}
    )
    assert {at: ruling.kind for at, ruling in silence(stopped(record)).items()} == {1: K.DEAD}


def test_without_a_task_there_is_nothing_left_to_try() -> None:
    found = rulings_of_silence(stopped(carried(2, pods=1)), None, POLICY, LATER, LATER)
    assert {ruling.kind for ruling in found.values()} == {K.DEAD}
