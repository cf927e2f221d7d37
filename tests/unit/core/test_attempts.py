"""What may be ruled of an attempt from what was seen of it, and what must be stopped."""

from dataclasses import replace
from datetime import timedelta

import pytest

from dispatcher.core.attempts import (
    LOG_TAIL_BYTES,
    Attempt,
    cancelled,
    is_stopped,
    makes_no_pods,
    next_rulings,
    outlived,
    refused,
    seems_stopped,
    stuck_pods,
    suspended_too_long,
    unexamined,
    with_evidence,
    without_tails,
)
from dispatcher.core.failures import FailureCause
from dispatcher.core.observations import JobCondition, JobSeen, PodPhase, PodSeen
from dispatcher.core.records import Record, Ruling, RulingKind
from dispatcher.core.retries import Failure, Tries
from dispatcher.core.work import Task
from tests.builders import HOUR, MINUTE, NOW, SECOND, a_job_seen, a_pod_seen, a_policy, a_record, a_task, an_attempt

TASK = a_task(backoff_limit=1)
POLICY = a_policy(TASK)
C, K, P = FailureCause, RulingKind, PodPhase
COMPLETE, FAILED = JobCondition.COMPLETE, JobCondition.FAILED
APPLICATION = Failure(C.APPLICATION, "exit code 1", "tail")


def rulings(attempt: Attempt, task: Task | None = TASK) -> dict[int, Ruling]:
    return next_rulings(attempt, task, POLICY, NOW)


def kinds(attempt: Attempt) -> dict[int, RulingKind]:
    return {index: ruling.kind for index, ruling in rulings(attempt).items()}


UNTRIED = Tries()


def with_failures(*failures: Failure, count: int = 1, tries: Tries = UNTRIED) -> Record:
    evidence = {0: {f"pod-{number}": failure for number, failure in enumerate(failures)}}
    return a_record(count, evidence=evidence, tries=(tries,) * count)


# --- done -------------------------------------------------------------------------------------------------------------


def test_done_as_soon_as_the_index_has_completed() -> None:
    attempt = an_attempt(a_record(2), a_job_seen(completed_indexes=frozenset({1})))
    assert rulings(attempt) == {1: Ruling(K.DONE)}


def test_done_where_a_pod_succeeded_though_a_marked_job_counts_no_more() -> None:
    attempt = an_attempt(
        a_record(2), a_job_seen(marked_for_deletion=True), [a_pod_seen(1, phase=P.SUCCEEDED), a_pod_seen(0)]
    )
    assert kinds(attempt) == {1: K.DONE}


def test_done_where_the_job_is_gone_and_its_pod_had_succeeded() -> None:
    attempt = an_attempt(pods=[a_pod_seen(0, phase=P.SUCCEEDED)], job_gone=True)
    assert kinds(attempt) == {0: K.DONE}


def test_done_beats_failures_of_the_same_index() -> None:
    job = a_job_seen(completed_indexes=frozenset({0}), condition=COMPLETE)
    assert kinds(an_attempt(with_failures(APPLICATION), job)) == {0: K.DONE}


def test_a_ruling_is_made_once() -> None:
    record = a_record(1, rulings={0: Ruling(K.DEAD)})
    attempt = an_attempt(record, a_job_seen(completed_indexes=frozenset({0})))
    assert rulings(attempt) == {}
    assert attempt.unruled() == []


# --- retry, dead ------------------------------------------------------------------------------------------------------


def test_nothing_is_ruled_before_the_job_was_seen() -> None:
    assert rulings(an_attempt(with_failures(APPLICATION))) == {}


def test_a_failed_pod_proves_nothing_while_the_job_may_make_the_next() -> None:
    attempt = an_attempt(with_failures(APPLICATION), a_job_seen(), [a_pod_seen(phase=P.FAILED)])
    assert rulings(attempt) == {}


def test_a_retry_waits_until_the_job_is_stopped() -> None:
    finished = a_job_seen(failed_indexes=frozenset({0}))
    stopped = a_job_seen(failed_indexes=frozenset({0}), condition=FAILED)
    assert rulings(an_attempt(with_failures(APPLICATION), finished)) == {}
    [ruling] = rulings(an_attempt(with_failures(APPLICATION), stopped)).values()
    assert (ruling.kind, ruling.tries.own, ruling.tries.log_tail) == (K.RETRY, 1, "tail")
    assert ruling.not_before == NOW + POLICY.retry_delay_min


def test_an_item_out_of_its_allowance_is_dead_as_soon_as_its_index_is_finished() -> None:
    running = a_job_seen(failed_indexes=frozenset({0}))
    attempt = an_attempt(with_failures(APPLICATION, tries=Tries(own=1)), running)
    assert kinds(attempt) == {0: K.DEAD}


def test_a_finished_index_waits_for_its_pod_to_tell_the_cause() -> None:
    attempt = an_attempt(a_record(), a_job_seen(failed_indexes=frozenset({0})))
    assert rulings(attempt) == {}


def test_an_item_whose_task_was_taken_away_is_dead() -> None:
    attempt = an_attempt(with_failures(APPLICATION), a_job_seen(condition=FAILED))
    assert rulings(attempt, task=None)[0].kind is K.DEAD


def test_every_failure_of_an_index_counts() -> None:
    attempt = an_attempt(with_failures(APPLICATION, APPLICATION), a_job_seen(condition=FAILED))
    [ruling] = rulings(attempt).values()
    assert (ruling.kind, ruling.tries.own) == (K.DEAD, 2)


# --- causes that no pod has told --------------------------------------------------------------------------------------

NEVER_STARTED = [a_pod_seen(phase=P.PENDING, started_at=None)]
STARTED = [a_pod_seen()]


@pytest.mark.parametrize(
    ("job", "pods", "stopping", "cause"),
    [
        (a_job_seen(condition=FAILED), NEVER_STARTED, C.START_DEADLINE, C.START_DEADLINE),
        (a_job_seen(condition=FAILED), [], C.START_DEADLINE, C.START_DEADLINE),
        (a_job_seen(condition=FAILED), STARTED, C.START_DEADLINE, C.CANCELLED),
        (a_job_seen(condition=FAILED, reason="DeadlineExceeded"), STARTED, None, C.ITEM_TIMEOUT),
        (a_job_seen(condition=FAILED, reason="DeadlineExceeded"), NEVER_STARTED, None, C.START_DEADLINE),
        (a_job_seen(marked_for_deletion=True), [], None, C.CANCELLED),
        (a_job_seen(condition=FAILED, reason="FailedIndexes"), [], None, C.UNKNOWN),
        (None, [], None, C.UNKNOWN),
    ],
)
def test_an_index_that_left_no_failed_pod_has_failed_for_what_is_known(
    job: JobSeen | None, pods: list[PodSeen], stopping: FailureCause | None, cause: FailureCause
) -> None:
    attempt = an_attempt(a_record(), job, pods, stopping=stopping, job_gone=job is None, confirmed_stopped=True)
    # A pod that still runs keeps a Job that is marked from being stopped; here it is long gone.
    attempt.sight.gone |= set(attempt.sight.pods)
    [ruling] = rulings(attempt).values()
    assert ruling.tries.cause is cause
    assert ruling.tries.message


# --- stopped ----------------------------------------------------------------------------------------------------------


def marked(*pods: PodSeen, uncounted: bool = False, gone: set[str] | None = None, confirmed: bool = True) -> Attempt:
    job = a_job_seen(marked_for_deletion=True, uncounted=uncounted)
    return an_attempt(a_record(), job, pods, gone=gone or set(), confirmed_stopped=confirmed)


@pytest.mark.parametrize(
    ("attempt", "seems", "certain"),
    [
        (an_attempt(), False, False),
        (an_attempt(job_gone=True), False, True),
        (an_attempt(job=a_job_seen()), False, False),
        (an_attempt(job=a_job_seen(condition=COMPLETE)), True, True),
        (an_attempt(job=a_job_seen(condition=FAILED)), True, True),
        (marked(), True, True),
        (marked(confirmed=False), True, False),
        (marked(uncounted=True), False, False),
        (marked(a_pod_seen()), False, False),
        (marked(a_pod_seen(phase=P.FAILED)), True, True),
        (marked(a_pod_seen(marked_for_deletion=True)), True, True),
        (marked(a_pod_seen(uid="p"), gone={"p"}), True, True),
        (marked(a_pod_seen(uid="p"), a_pod_seen(uid="q"), gone={"p"}), False, False),
    ],
)
def test_a_job_is_stopped_when_it_can_start_nothing_any_more(attempt: Attempt, seems: bool, certain: bool) -> None:
    assert seems_stopped(attempt.sight) is seems
    assert is_stopped(attempt.sight) is certain


# --- unseen, refused --------------------------------------------------------------------------------------------------


def test_a_cancelled_attempt_counts_against_nobody() -> None:
    tries = Tries(1, 2, C.EVICTED)
    assert cancelled(a_record(2, tries=(tries, Tries()))) == {0: Ruling(K.CANCELLED, tries), 1: Ruling(K.CANCELLED)}


def test_a_job_that_the_server_refuses_as_written_is_not_sent_again() -> None:
    found = refused(an_attempt(a_record(2)), "spec.template: invalid", TASK, POLICY, NOW)
    assert [ruling.kind for ruling in found.values()] == [K.DEAD, K.DEAD]
    assert found[1].tries == Tries(1, 0, C.TEMPLATE, "spec.template: invalid", "", 1)


# --- what must be stopped ---------------------------------------------------------------------------------------------


def test_a_pod_that_has_not_started_by_its_deadline_is_stuck() -> None:
    waiting = {"phase": P.PENDING, "started_at": None}
    pods = [
        a_pod_seen(0, created_at=NOW - MINUTE - SECOND, **waiting),
        a_pod_seen(1, created_at=NOW - MINUTE, **waiting),
        a_pod_seen(2, created_at=NOW - HOUR),
        a_pod_seen(3, created_at=NOW - HOUR, marked_for_deletion=True, **waiting),
        a_pod_seen(4, created_at=NOW - HOUR, phase=P.FAILED),
        a_pod_seen(5, "gone", created_at=NOW - HOUR, **waiting),
    ]
    attempt = an_attempt(a_record(6), a_job_seen(), pods, gone={"gone"})
    assert [pod.index for pod in stuck_pods(attempt, MINUTE, NOW)] == [0]


def test_a_job_that_makes_no_pod_by_the_deadline_is_stuck_too() -> None:
    late = NOW + MINUTE + SECOND
    assert makes_no_pods(an_attempt(job=a_job_seen()), MINUTE, late)
    assert not makes_no_pods(an_attempt(job=a_job_seen()), MINUTE, NOW + MINUTE)
    assert not makes_no_pods(an_attempt(job=a_job_seen(), pods=[a_pod_seen()]), MINUTE, late)
    assert not makes_no_pods(an_attempt(job=a_job_seen(condition=COMPLETE)), MINUTE, late)
    assert not makes_no_pods(an_attempt(job=a_job_seen(marked_for_deletion=True)), MINUTE, late)
    assert not makes_no_pods(an_attempt(), MINUTE, late)


def test_pods_of_a_job_marked_for_deletion_are_stopped_at_its_deadline() -> None:
    pods = [a_pod_seen(0), a_pod_seen(1, marked_for_deletion=True), a_pod_seen(2, phase=P.SUCCEEDED)]
    attempt = an_attempt(a_record(3), a_job_seen(marked_for_deletion=True), pods)
    assert [pod.index for pod in outlived(attempt, HOUR, NOW + HOUR + SECOND)] == [0]
    assert outlived(attempt, HOUR, NOW + HOUR) == []


def test_the_job_controller_itself_stops_what_is_not_marked() -> None:
    assert outlived(an_attempt(job=a_job_seen(), pods=[a_pod_seen()]), HOUR, NOW + 2 * HOUR) == []
    assert outlived(an_attempt(pods=[a_pod_seen()]), HOUR, NOW + 2 * HOUR) == []


# --- evidence ---------------------------------------------------------------------------------------------------------


def test_a_failed_pod_is_examined_once() -> None:
    pods = [a_pod_seen(0, "p", phase=P.FAILED), a_pod_seen(0, "q", phase=P.FAILED), a_pod_seen(1, "r")]
    attempt = an_attempt(a_record(2, evidence={0: {"p": APPLICATION}}), a_job_seen(), pods)
    assert [pod.uid for pod in unexamined(attempt)] == ["q"]


@pytest.mark.parametrize(
    ("pod", "failure"),
    [
        (a_pod_seen(exit_code=3), Failure(C.APPLICATION, "exit code 3", "tail")),
        (a_pod_seen(disrupted=True, reason="Evicted"), Failure(C.EVICTED, "Evicted", "tail")),
        (a_pod_seen(cause=C.IMAGE, message="not found", reason="ErrImagePull"), Failure(C.IMAGE, "not found", "tail")),
        (a_pod_seen(), Failure(C.APPLICATION, "", "tail")),
        (a_pod_seen(message="x" * 900), Failure(C.APPLICATION, "x" * 500, "tail")),
    ],
)
def test_evidence_says_why_a_pod_failed(pod: PodSeen, failure: Failure) -> None:
    assert with_evidence(a_record(), {pod.uid: (pod, "tail")}) == {0: {"pod-0": failure}}


def test_evidence_is_added_to_what_stands_there() -> None:
    record = a_record(2, evidence={0: {"p": APPLICATION}})
    found = with_evidence(record, {"q": (a_pod_seen(0, "q", exit_code=1), "")})
    assert list(found[0]) == ["p", "q"]
    assert record.evidence == {0: {"p": APPLICATION}}


@pytest.mark.parametrize("character", ["x", "é", "東", "🎉"])
def test_a_log_tail_is_the_end_of_the_log_and_at_most_1_kib(character: str) -> None:
    pod = a_pod_seen(exit_code=1)
    tail = with_evidence(a_record(), {"pod-0": (pod, character * 3000 + "end")})[0]["pod-0"].log_tail
    assert tail.endswith(f"{character}end")
    assert LOG_TAIL_BYTES - 4 < len(tail.encode()) <= LOG_TAIL_BYTES


# --- over -------------------------------------------------------------------------------------------------------------


def test_an_attempt_is_over_when_each_item_is_settled_or_carried_on() -> None:
    attempt = an_attempt(a_record(2, rulings={0: Ruling(K.DONE)}))
    assert not attempt.over
    attempt.record = a_record(2, rulings={0: Ruling(K.DONE), 1: Ruling(K.RETRY)})
    attempt.settled.add(0)
    assert not attempt.over
    attempt.carried_on = True
    assert attempt.over
    attempt.settled.clear()
    assert not attempt.over


def test_ruled_items_wait_to_be_settled() -> None:
    attempt = an_attempt(a_record(3, rulings={0: Ruling(K.DONE), 1: Ruling(K.DONE), 2: Ruling(K.DEAD)}))
    attempt.settled.add(0)
    assert [index for index, _ in attempt.positions(K.DONE)] == [1]
    assert [item.sequence_number for _, item in attempt.positions(K.DEAD)] == [3]


def test_an_attempt_is_named_like_its_record() -> None:
    assert an_attempt(a_record(batch="x7", attempt=3)).name == "burst-x7-3"


def test_deadlines_of_days_are_kept_exactly() -> None:
    job = a_job_seen(marked_for_deletion=True)
    attempt = an_attempt(job=job, pods=[a_pod_seen()])
    assert outlived(attempt, timedelta(days=2), NOW + timedelta(days=2)) == []


def test_of_each_position_the_last_failure_alone_keeps_its_tail_and_a_ruled_one_keeps_none() -> None:
    first, second = (a_pod_seen(0, uid, phase=PodPhase.FAILED) for uid in ("u1", "u2"))
    once = replace(a_record(2), evidence=with_evidence(a_record(2), {"u1": (first, "first log")}))
    twice = with_evidence(once, {"u2": (second, "second log")})
    assert [failure.log_tail for failure in twice[0].values()] == ["", "second log"]
    assert [failure.log_tail for failure in without_tails(twice, {0})[0].values()] == ["", ""]
    assert [failure.log_tail for failure in without_tails(twice, {1})[0].values()] == ["", "second log"]


# --- pods that never start, and Jobs that somebody suspends -----------------------------------------------------------


def stopped_for_not_starting(**pod: object) -> Attempt:
    seen = [a_pod_seen(phase=P.PENDING, started_at=None, marked_for_deletion=True, **pod)]
    attempt = an_attempt(a_record(1), a_job_seen(marked_for_deletion=True), seen)
    attempt.stopping = C.START_DEADLINE
    attempt.sight.confirmed_stopped = True
    return attempt


def test_a_pod_that_never_started_says_in_its_own_words_why() -> None:
    attempt = stopped_for_not_starting(reason="Unschedulable", message="0/3 nodes are available")
    tries = rulings(attempt)[0].tries
    assert (tries.cause, tries.platform) == (C.START_DEADLINE, 1)
    assert "Unschedulable: 0/3 nodes are available" in tries.message


def test_an_image_that_cannot_be_pulled_is_told_from_a_platform_that_is_slow() -> None:
    attempt = stopped_for_not_starting(reason="ImagePullBackOff", cause=C.IMAGE)
    assert rulings(attempt)[0].tries.cause is C.IMAGE
    assert rulings(stopped_for_not_starting())[0].tries.cause is C.START_DEADLINE


@pytest.mark.parametrize(
    ("paid", "age", "taken_back"),
    [(True, SECOND, True), (False, SECOND, False), (False, HOUR, False), (False, HOUR + SECOND, True)],
)
def test_a_suspended_job_is_taken_back_at_once_where_it_is_paid_else_at_its_deadline(
    paid: bool, age: timedelta, taken_back: bool
) -> None:
    attempt = an_attempt(a_record(1), a_job_seen(suspended=True, created_at=NOW - age))
    assert suspended_too_long(attempt, HOUR, NOW, paid=paid) is taken_back


def test_a_job_that_runs_or_is_over_is_not_taken_back() -> None:
    for job in (a_job_seen(created_at=NOW - 2 * HOUR), a_job_seen(suspended=True, condition=FAILED)):
        assert not suspended_too_long(an_attempt(a_record(1), job), HOUR, NOW, paid=True)
