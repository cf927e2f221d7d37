"""Records are read as they were written, rulings follow from what was seen, and no allowance is ever overdrawn."""

import json
from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.attempts import (
    LOG_TAIL_BYTES,
    Attempt,
    Sighting,
    Stage,
    cancelled,
    is_stopped,
    next_rulings,
    seems_stopped,
    with_evidence,
)
from dispatcher.core.failures import FailureCause
from dispatcher.core.observations import JobCondition, JobSeen, PodPhase
from dispatcher.core.records import Record, RulingKind, decode, next_record, to_annotations, to_data
from dispatcher.core.retries import (
    RETRY_RULES,
    Failure,
    GiveUp,
    Retry,
    Tries,
    after_failures,
    delay_before,
    own_allowance_left,
)
from tests.builders import NOW, a_job_seen, a_pod_seen, a_policy, a_record, a_task
from tests.property import strategies as some

TASK = a_task(backoff_limit=2)
POLICY = a_policy(TASK, platform_retries_max=4)
COUNT = 3


def written_and_read(record: Record) -> Record:
    data = json.loads(json.dumps(to_data(record)))
    return decode(data, json.loads(json.dumps(to_annotations(record))))


# --- records ----------------------------------------------------------------------------------------------------------


@given(some.records())
def test_a_record_is_read_as_it_was_written_whatever_its_text(record: Record) -> None:
    assert written_and_read(record) == record


@given(some.records())
def test_records_are_plain_unicode_that_any_store_can_keep(record: Record) -> None:
    for text in (*to_data(record).values(), *to_annotations(record).values()):
        assert text.encode().decode() == text


@given(some.records())
def test_workers_read_the_parameters_that_were_sent(record: Record) -> None:
    data = to_data(record)
    for index, item in enumerate(record.items):
        assert json.loads(data[f"{index}.json"])["params"] == json.loads(item.params_json)


@given(some.records(), st.integers(1, 99))
def test_the_next_record_follows_from_the_rulings_alone(record: Record, epoch: int) -> None:
    following = next_record(record, epoch, NOW)
    assert following == next_record(written_and_read(record), epoch, NOW)
    going = [index for index, ruling in sorted(record.rulings.items()) if ruling.goes_on]
    assert (following is None) == (not going)
    if following is not None:
        assert following.items == tuple(record.items[index] for index in going)
        assert following.tries == tuple(record.rulings[index].tries for index in going)
        assert (following.batch, following.attempt) == (record.batch, record.attempt + 1)
        assert following.parent == record.name
        assert following.rulings == {}
        waits = [record.rulings[index].not_before for index in going]
        assert all(
            wait is None or (following.not_before is not None and wait <= following.not_before) for wait in waits
        )


@given(some.records())
def test_a_cancelled_attempt_goes_on_whole_with_unchanged_counts(record: Record) -> None:
    following = next_record(replace(record, rulings=cancelled(record)), 1, NOW)
    assert following is not None
    assert (following.items, following.tries, following.after_cancel) == (record.items, record.tries, True)


# --- rulings ----------------------------------------------------------------------------------------------------------

indexes = st.frozensets(st.integers(0, COUNT - 1))
jobs = st.builds(
    a_job_seen,
    marked_for_deletion=st.booleans(),
    condition=st.none() | st.sampled_from(JobCondition),
    reason=st.sampled_from(["", "DeadlineExceeded", "FailedIndexes"]),
    completed_indexes=indexes,
    failed_indexes=indexes,
    uncounted=st.booleans(),
)


@st.composite
def attempts(draw: st.DrawFn) -> Attempt:
    """Anything that may have been seen of an attempt of three items, consistent or not."""
    evidence = draw(
        st.dictionaries(
            st.integers(0, COUNT - 1),
            st.dictionaries(st.sampled_from("pqr"), some.failures, min_size=1, max_size=3),
            max_size=COUNT,
        )
    )
    ruled = draw(st.dictionaries(st.integers(0, COUNT - 1), some.rulings, max_size=2))
    tries = tuple(draw(st.builds(Tries, own=st.integers(0, 3), platform=st.integers(0, 5))) for _ in range(COUNT))
    pods = {
        f"pod-{number}": a_pod_seen(
            draw(st.integers(0, COUNT - 1)),
            f"pod-{number}",
            phase=draw(st.sampled_from(PodPhase)),
            started_at=draw(st.sampled_from([None, NOW])),
            marked_for_deletion=draw(st.booleans()),
        )
        for number in range(draw(st.integers(0, 4)))
    }
    job: JobSeen | None = draw(st.none() | jobs)
    sight = Sighting(
        job=job,
        pods=pods,
        gone={uid for uid in pods if draw(st.booleans())},
        job_gone=draw(st.booleans()),
        confirmed_stopped=draw(st.booleans()),
    )
    record = a_record(COUNT, evidence=evidence, rulings=ruled, tries=tries)
    stopping = draw(st.none() | st.just(FailureCause.START_DEADLINE))
    return Attempt(record, "uid", "1", Stage.RUNNING, sight, stopping=stopping)


def proven_done(attempt: Attempt, index: int) -> bool:
    sight = attempt.sight
    completed = sight.job.completed_indexes if sight.job else frozenset()
    return index in completed or any(
        pod.index == index and pod.phase is PodPhase.SUCCEEDED for pod in sight.pods.values()
    )


@given(attempts())
def test_done_is_ruled_exactly_where_it_is_proven(attempt: Attempt) -> None:
    rulings = next_rulings(attempt, TASK, POLICY, NOW)
    seen = attempt.sight.job is not None or attempt.sight.job_gone
    for index in attempt.unruled():
        ruling = rulings.get(index)
        is_done = ruling is not None and ruling.kind is RulingKind.DONE
        assert is_done == (seen and proven_done(attempt, index))


@given(attempts())
def test_a_retry_is_ruled_only_when_the_job_can_start_nothing_any_more(attempt: Attempt) -> None:
    rulings = next_rulings(attempt, TASK, POLICY, NOW)
    if any(ruling.kind is RulingKind.RETRY for ruling in rulings.values()):
        assert is_stopped(attempt.sight)
    if is_stopped(attempt.sight):
        assert set(rulings) == set(attempt.unruled())


@given(attempts())
def test_dead_is_ruled_only_for_an_index_that_is_finished_and_out_of_allowance(attempt: Attempt) -> None:
    failed = attempt.sight.job.failed_indexes if attempt.sight.job else frozenset()
    for index, ruling in next_rulings(attempt, TASK, POLICY, NOW).items():
        if ruling.kind is RulingKind.DEAD:
            assert index in failed or is_stopped(attempt.sight)
            tries = ruling.tries
            bounded = tries.cause is not None and RETRY_RULES[tries.cause].retries_max is not None
            assert tries.own > TASK.backoff_limit or tries.platform > POLICY.platform_retries_max or bounded


@given(attempts())
def test_no_ruling_is_made_twice_and_none_is_ever_cancelled_here(attempt: Attempt) -> None:
    rulings = next_rulings(attempt, TASK, POLICY, NOW)
    assert not set(rulings) & set(attempt.record.rulings)
    assert all(ruling.kind is not RulingKind.CANCELLED for ruling in rulings.values())
    attempt.record = replace(attempt.record, rulings={**attempt.record.rulings, **rulings})
    assert next_rulings(attempt, TASK, POLICY, NOW) == {}


@given(attempts())
def test_what_is_certain_also_seems_so(attempt: Attempt) -> None:
    assert not is_stopped(attempt.sight) or attempt.sight.job_gone or seems_stopped(attempt.sight)


@given(st.text(max_size=3000), some.records())
def test_a_log_tail_is_never_longer_than_1_kib(log: str, record: Record) -> None:
    tail = with_evidence(record, {"u": (a_pod_seen(0, "u"), log)})[0]["u"].log_tail
    assert len(tail.encode()) <= LOG_TAIL_BYTES
    assert log.encode(errors="replace").endswith(tail.encode())


# --- retries ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.lists(some.failures, min_size=1, max_size=3), min_size=1, max_size=40))
def test_an_item_is_tried_again_only_within_both_of_its_allowances(history: list[list[Failure]]) -> None:
    tries, attempts_made = Tries(), 0
    for failures in history:
        verdict = after_failures(tries, failures, TASK, POLICY, NOW)
        attempts_made += 1
        assert verdict.tries.failures == tries.failures + len(failures)
        assert verdict.tries.cause is failures[-1].cause
        if isinstance(verdict, GiveUp):
            break
        tries = verdict.tries
        assert tries.own <= TASK.backoff_limit
        assert tries.platform <= POLICY.platform_retries_max
        assert own_allowance_left(tries, TASK) == TASK.backoff_limit - tries.own
        assert NOW + POLICY.retry_delay_min <= verdict.not_before <= NOW + POLICY.retry_delay_max
    assert attempts_made <= 1 + TASK.backoff_limit + POLICY.platform_retries_max


@given(some.tries, st.lists(some.failures, min_size=1, max_size=4))
def test_failures_one_by_one_count_like_failures_together(before: Tries, failures: list[Failure]) -> None:
    roomy, task = replace(POLICY, platform_retries_max=1000), a_task(backoff_limit=1000)
    together = after_failures(before, failures, task, roomy, NOW)
    tries = before
    for failure in failures:
        tries = after_failures(tries, [failure], task, roomy, NOW).tries
    assert together.tries == tries


@given(st.integers(0, 10_000))
def test_waits_grow_and_end_at_the_longest(failures: int) -> None:
    assert delay_before(failures, POLICY) <= delay_before(failures + 1, POLICY) <= POLICY.retry_delay_max
    assert delay_before(failures, POLICY) >= timedelta(seconds=10)


@given(some.tries, some.failures)
def test_without_a_task_nothing_is_tried_again(tries: Tries, failure: Failure) -> None:
    assert not isinstance(after_failures(tries, [failure], None, POLICY, NOW), Retry)
