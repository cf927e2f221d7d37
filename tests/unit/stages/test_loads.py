"""What Jobs still take of the room is counted when something was seen of them, not in every cycle."""

from __future__ import annotations

from datetime import timedelta

from dispatcher.core.attempts import Load, load_of
from dispatcher.core.ledger import Draft
from dispatcher.core.observations import JobCondition, PodPhase
from dispatcher.memory import Memory
from tests.builders import NOW, a_job_seen, a_ledger, a_pod_seen, an_attempt, an_entry

JOB = "burst-b1-1"


def a_memory() -> Memory:
    ledger = a_ledger(an_entry())
    return Memory(ledger, "1", Draft(ledger, (), timedelta(0)), NOW)


def test_a_load_counts_pods_by_their_own_word_and_by_the_jobs() -> None:
    pods = [
        a_pod_seen(0, phase=PodPhase.SUCCEEDED, node="node-0"),
        a_pod_seen(1, node="node-0"),
        a_pod_seen(2, phase=PodPhase.PENDING),
        a_pod_seen(3, node="node-1"),
    ]
    job = a_job_seen(completed_indexes=frozenset({4}), failed_indexes=frozenset({5}))
    attempt = an_attempt(job=job, pods=pods, gone={"pod-3"})
    assert load_of(attempt.sight) == Load(ended=3, placed=1, stopped=False)
    attempt.sight.job = a_job_seen(condition=JobCondition.COMPLETE)
    assert load_of(attempt.sight).stopped


def test_what_was_seen_of_a_job_counts_from_the_end_of_the_cycle_that_saw_it() -> None:
    memory = a_memory()
    assert memory.load(JOB) == Load(0, 0, stopped=False)
    memory.sight(JOB).job = a_job_seen()
    memory.sight(JOB).pods["pod-0"] = a_pod_seen(node="node-0")
    memory.dirty.add(JOB)
    memory.looked_after()
    assert memory.load(JOB) == Load(0, 1, stopped=False)


def test_a_job_of_which_nothing_was_seen_is_not_counted_anew() -> None:
    memory = a_memory()
    first = memory.load(JOB)
    memory.looked_after()
    assert memory.load(JOB) is first


def test_a_job_that_is_looked_at_again_with_the_next_write_stays_dirty() -> None:
    memory = a_memory()
    memory.dirty = {JOB, "burst-dropped-1"}
    memory.looked_after()
    assert memory.dirty == set()
    memory.draft.close(JOB)
    memory.dirty = {JOB, "burst-dropped-1"}
    memory.looked_after()
    assert memory.dirty == {JOB}
    assert set(memory.loads) == set()
