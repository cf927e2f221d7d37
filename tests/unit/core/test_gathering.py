"""Room that frees pod by pod is gathered for a moment; and whose pods still count as in flight."""

from datetime import datetime, timedelta

import pytest

from dispatcher.core.attempts import Sighting, ended_indexes
from dispatcher.core.capacity import NodeSpace
from dispatcher.core.circuit import Circuit
from dispatcher.core.observations import PodPhase
from dispatcher.core.routing import Demand, Room
from dispatcher.core.verdicts import Held, HoldReason, Placed, Rejected
from dispatcher.core.work import Placement
from tests.builders import (
    HOUR,
    NODES_ONLY,
    NOW,
    SECOND,
    VIRTUAL_ONLY,
    a_headroom,
    a_job_seen,
    a_ledger,
    a_node,
    a_pod_seen,
    a_policy,
    a_task,
    an_entry,
)

TASK = a_task(parallelism_max=50, linger=SECOND)
ROOMY = a_headroom(a_node(cores=1000, gigabytes=4000, pods=1000))


def route(
    count: int,
    active: int,
    *,
    launched_before: timedelta = SECOND / 2,
    placements: tuple[Placement, ...] = NODES_ONLY,
    slots: int = 1000,
    whole: bool = False,
    now: datetime = NOW,
) -> Placed | Held | Rejected:
    task = a_task(parallelism_max=50, linger=SECOND, placements=placements)
    policy = a_policy(task)
    entry = an_entry(placement=placements[0], written=now - launched_before)
    nodes = NodeSpace(a_headroom(a_node(cores=1000, gigabytes=4000, pods=slots)), policy.node_pool, 0)
    room = Room(policy, a_ledger(entry), nodes, Circuit(), {"report": active}, False, now)
    return room.route(Demand(task, "acme", count, waiting_since=now - HOUR, whole=whole))


def test_little_room_of_a_busy_task_is_gathered_until_its_patience_since_the_last_launch_is_over() -> None:
    verdict = route(50, active=45)
    assert isinstance(verdict, Held)
    assert (verdict.reason, verdict.until) == (HoldReason.LINGER, NOW + SECOND / 2)
    assert verdict.detail == "room for 5 pods of report is free, 45 are in flight"


@pytest.mark.parametrize("launched_before", [SECOND, HOUR])
def test_then_it_is_used_however_little_it_is(launched_before: timedelta) -> None:
    verdict = route(50, active=45, launched_before=launched_before)
    assert isinstance(verdict, Placed)
    assert verdict.shape.completions == 5


@pytest.mark.parametrize(("active", "placed"), [(44, 6), (40, 10), (3, 47)])
def test_an_eighth_of_what_is_in_flight_is_worth_a_job_at_once(active: int, placed: int) -> None:
    verdict = route(50, active=active)
    assert isinstance(verdict, Placed)
    assert verdict.shape.completions == placed


def test_work_that_fits_waits_for_no_room() -> None:
    assert isinstance(route(5, active=45), Placed)


def test_little_room_on_nodes_is_gathered_too() -> None:
    verdict = route(10, active=30, slots=3)
    assert isinstance(verdict, Held)
    assert verdict.reason is HoldReason.LINGER
    assert isinstance(route(10, active=30, slots=4), Placed)


def test_on_the_virtual_node_the_tasks_own_limit_is_what_is_gathered() -> None:
    verdict = route(50, active=45, placements=VIRTUAL_ONLY)
    assert isinstance(verdict, Held)
    assert verdict.reason is HoldReason.LINGER


def test_a_retry_that_goes_whole_gathers_nothing() -> None:
    assert isinstance(route(10, active=45, whole=True), Placed)


def test_an_idle_task_gathers_nothing() -> None:
    assert isinstance(route(50, active=0, slots=1), Placed)


def test_what_another_launch_of_the_same_plan_has_left_is_no_reason_to_wait() -> None:
    policy = a_policy(TASK)
    nodes = NodeSpace(ROOMY, policy.node_pool, 0)
    room = Room(policy, a_ledger(an_entry(placement=Placement.NODE_POOL)), nodes, Circuit(), {}, False, NOW)
    first = room.route(Demand(TASK, "acme", 45, waiting_since=NOW))
    second = room.route(Demand(TASK, "globex", 45, waiting_since=NOW))
    assert isinstance(first, Placed)
    assert isinstance(second, Placed)
    assert (first.shape.completions, second.shape.completions) == (45, 5)


# --- what is in flight ------------------------------------------------------------------------------------------------


def test_an_index_has_ended_by_the_jobs_count_or_by_the_word_of_a_pod_that_succeeded() -> None:
    job = a_job_seen(completed_indexes=frozenset({0}), failed_indexes=frozenset({1}))
    pods = [
        a_pod_seen(0, phase=PodPhase.SUCCEEDED),
        a_pod_seen(2, phase=PodPhase.SUCCEEDED),
        a_pod_seen(3, phase=PodPhase.FAILED),  # the Job may make another
        a_pod_seen(4, phase=PodPhase.RUNNING),
    ]
    assert ended_indexes(Sighting(job, {pod.uid: pod for pod in pods})) == {0, 1, 2}


def test_of_a_job_that_was_not_seen_nothing_has_ended() -> None:
    assert ended_indexes(Sighting()) == frozenset()
