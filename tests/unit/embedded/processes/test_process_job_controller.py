from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cluster_kit import a_job
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.observations import JobCondition, PodPhase
from dispatcher.core.work import Placement
from dispatcher.embedded.processes.controller import Backoff, JobPod, JobStatus, JobTurn, take_turn
from dispatcher.embedded.processes.manifests import JobSpec, read_manifest

START = datetime(2026, 3, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
BACKOFF = Backoff(10 * SECOND, timedelta(minutes=10))
FRESH = JobStatus(START)


def a_spec(placement: Placement = Placement.VIRTUAL_NODE, **wanted: object) -> JobSpec:
    return read_manifest(a_job("true", placement=placement, **wanted))  # type: ignore[arg-type]


def a_pod(index: int, phase: PodPhase = PodPhase.RUNNING, **changes: object) -> JobPod:
    ended_at = START if phase in (PodPhase.SUCCEEDED, PodPhase.FAILED) else None
    return replace(JobPod(f"pod-{index}", index, phase, ended_at=ended_at), **changes)


def turn(
    spec: JobSpec, *pods: JobPod, status: JobStatus = FRESH, after: timedelta = timedelta(0)
) -> JobTurn:  # fmt: skip
    return take_turn(spec, status, pods, BACKOFF, START + after)


def test_a_new_job_gets_pods_for_its_lowest_indexes_up_to_parallelism() -> None:
    assert turn(a_spec(completions=5, parallelism=2)).create == (0, 1)


def test_the_next_free_index_follows_when_a_pod_has_succeeded() -> None:
    spec = a_spec(completions=5, parallelism=2)
    result = turn(spec, a_pod(0, PodPhase.SUCCEEDED), a_pod(1))
    assert result.create == (2,)
    assert result.counted == ("pod-0",)
    assert result.status.completed == {0}


def test_a_job_is_complete_when_every_index_is() -> None:
    spec = a_spec(completions=2)
    result = turn(spec, a_pod(0, PodPhase.SUCCEEDED), a_pod(1, PodPhase.SUCCEEDED))
    assert result.status.condition is JobCondition.COMPLETE


def test_a_failed_index_without_retries_fails_the_job_only_after_the_others_have_finished() -> None:
    spec = a_spec(completions=2)
    first = turn(spec, a_pod(0, PodPhase.FAILED), a_pod(1))
    assert first.status.failed_indexes == {0}
    assert first.status.condition is None
    pods = (a_pod(0, PodPhase.FAILED, counted=True), a_pod(1, PodPhase.SUCCEEDED))
    last = turn(spec, *pods, status=first.status)
    assert (last.status.condition, last.status.reason) == (JobCondition.FAILED, "FailedIndexes")
    assert last.status.completed == {1}


@pytest.mark.parametrize(("failures", "wait_s"), [(1, 10), (2, 20), (3, 40), (6, 320), (7, 600), (40, 600)])
def test_the_back_off_of_an_index_doubles_from_ten_seconds_to_ten_minutes(failures: int, wait_s: int) -> None:
    assert BACKOFF.after(failures) == timedelta(seconds=wait_s)


def test_a_failed_index_is_made_again_after_its_back_off() -> None:
    spec = a_spec(completions=1, retries=1)
    early = turn(spec, a_pod(0, PodPhase.FAILED), after=9 * SECOND)
    assert early.create == ()
    assert early.again_at == START + 10 * SECOND
    late = turn(spec, status=early.status, after=10 * SECOND)
    assert late.create == (0,)


def test_an_index_in_back_off_keeps_its_place_so_a_later_one_does_not_overtake() -> None:
    spec = a_spec(completions=3, parallelism=1, retries=1)
    assert turn(spec, a_pod(0, PodPhase.FAILED), after=SECOND).create == ()


def test_a_disrupted_pod_is_not_counted_where_the_policy_ignores_it() -> None:
    spec = a_spec(Placement.NODE_POOL, completions=1)
    result = turn(spec, a_pod(0, PodPhase.FAILED, disrupted=True))
    assert (result.status.failed, result.status.failed_indexes) == (0, frozenset())
    assert turn(spec, status=result.status, after=10 * SECOND).create == (0,)


def test_a_disrupted_pod_is_counted_where_there_is_no_policy() -> None:
    result = turn(a_spec(completions=1), a_pod(0, PodPhase.FAILED, disrupted=True))
    assert result.status.failed_indexes == {0}


def test_a_running_pod_that_is_deleted_counts_as_failed_at_once_and_is_replaced() -> None:
    spec = a_spec(completions=1, retries=1)
    result = turn(spec, a_pod(0, marked=True))
    assert result.status.failed == 1
    assert turn(spec, a_pod(0, marked=True, counted=True), status=result.status, after=10 * SECOND).create == (0,)


def test_with_a_failure_policy_a_deleted_pod_is_counted_only_when_it_has_ended() -> None:
    spec = a_spec(Placement.NODE_POOL, completions=1, retries=1)
    result = turn(spec, a_pod(0, marked=True), after=20 * SECOND)
    assert (result.counted, result.create) == ((), ())


def test_the_deadline_counts_from_the_start_deletes_what_runs_and_fails_the_job_when_all_has_ended() -> None:
    spec = a_spec(completions=3, parallelism=2, deadline=30 * SECOND)
    pods = (a_pod(0, PodPhase.SUCCEEDED), a_pod(1))
    over = turn(spec, *pods, after=30 * SECOND)
    assert over.delete == ("pod-1",)
    assert over.create == ()
    assert over.status.condition is None
    gone = turn(spec, a_pod(0, PodPhase.SUCCEEDED, counted=True), status=over.status, after=31 * SECOND)
    assert (gone.status.condition, gone.status.reason) == (JobCondition.FAILED, "DeadlineExceeded")
    assert gone.status.completed == {0}


def test_a_job_that_has_ended_changes_no_more() -> None:
    ended = replace(FRESH, condition=JobCondition.FAILED, reason="DeadlineExceeded")
    assert turn(a_spec(completions=2), a_pod(1, PodPhase.SUCCEEDED), status=ended) == JobTurn(ended)


@given(
    completions=st.integers(1, 6),
    parallelism=st.integers(1, 6),
    retries=st.integers(0, 2),
    placement=st.sampled_from(Placement),
    fates=st.lists(st.sampled_from(["succeed", "fail", "disrupt", "delete", "wait"]), max_size=60),
)
def test_whatever_pods_do_the_laws_of_an_indexed_job_hold(
    completions: int, parallelism: int, retries: int, placement: Placement, fates: list[str]
) -> None:
    """At most P pods, one per index, at most 1 + b counted failures of each, and an end that accounts for all."""
    spec = a_spec(
        placement, completions=completions, parallelism=parallelism, retries=retries, deadline=30 * 60 * SECOND
    )
    status, now, pods, made = FRESH, START, {}, 0
    script = iter(fates)
    for _ in range(600):
        result = take_turn(spec, status, list(pods.values()), BACKOFF, now)
        status = result.status
        for uid in result.counted:
            pods[uid] = replace(pods[uid], counted=True)
        for uid in result.delete:
            pods[uid] = replace(pods[uid], marked=True)
        for index in result.create:
            made += 1
            pods[f"p{made}"] = JobPod(f"p{made}", index, PodPhase.RUNNING)
        alive = [pod for pod in pods.values() if not pod.ended and not pod.marked]
        assert len(alive) <= parallelism
        assert len({pod.index for pod in alive}) == len(alive)
        assert not status.completed & status.failed_indexes
        if status.condition is not None:
            break
        now += 7 * SECOND
        ending = [uid for uid, pod in pods.items() if pod.marked and not pod.ended]
        for uid in ending:  # a virtual pod's object just goes, one on a node ends first
            if spec.replaces_ended_pods_only:
                pods[uid] = replace(pods[uid], phase=PodPhase.FAILED, ended_at=now)
            elif pods[uid].counted:
                del pods[uid]
        if alive:
            uid = alive[0].uid
            fate = next(script, "succeed")
            if fate == "delete":
                pods[uid] = replace(pods[uid], marked=True)
            elif fate != "wait":
                phase = PodPhase.SUCCEEDED if fate == "succeed" else PodPhase.FAILED
                pods[uid] = replace(pods[uid], phase=phase, ended_at=now, disrupted=fate == "disrupt")
    assert status.condition is not None
    assert all(tally.failures <= 1 + retries for tally in status.tallies.values())
    if status.reason != "DeadlineExceeded":
        assert status.completed | status.failed_indexes == frozenset(range(completions))
