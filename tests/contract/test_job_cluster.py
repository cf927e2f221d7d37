"""What every JobCluster does. One suite, held against all of `cluster_worlds.WORLDS` and a real control plane."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import kubernetes_worlds
import pytest
from cluster_worlds import FAILS, REQUESTS, SUCCEEDS, WAITS, WORLDS, Act, World
from kubernetes_worlds import KUBERNETES, world_of

from dispatcher.core.observations import PLACEMENT_ANNOTATION, ClusterSeen, JobCondition, JobSeen, Placement, PodSeen
from dispatcher.ports import Answer, ObjectRef

BOTH = pytest.mark.parametrize("placement", list(Placement))


def ref(thing: JobSeen | PodSeen) -> ObjectRef:
    return ObjectRef(thing.name, thing.uid)


@pytest.fixture(params=[*WORLDS, KUBERNETES])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with world_of(request, WORLDS, kubernetes_worlds.jobs) as made:
        yield made


# --- creating -------------------------------------------------------------------------------------------------------


async def test_a_created_job_can_be_read_by_its_name_with_its_annotations(world: World) -> None:
    made = await world.launch(world.job(WAITS, placement=Placement.VIRTUAL_NODE))
    job = await world.cluster.get_job(made.name)
    assert job is not None
    assert (job.uid, job.created_at) == (made.uid, made.created_at)
    assert job.annotations[PLACEMENT_ANNOTATION] == "virtual_node"
    assert job.condition is None


async def test_a_job_that_was_never_made_is_none(world: World) -> None:
    assert await world.cluster.get_job("burst-none-1") is None


async def test_a_name_that_exists_answers_with_the_job_that_has_it(world: World) -> None:
    first = await world.launch(world.job(WAITS))
    (again,) = await world.cluster.create_jobs([world.job(FAILS, completions=3)])
    assert (again.answer, again.already) == (Answer.DONE, True)
    assert again.job is not None
    assert again.job.uid == first.uid


async def test_jobs_are_answered_in_the_order_in_which_they_were_asked_for(world: World) -> None:
    await world.launch(world.job(WAITS, batch="one"))
    answers = await world.cluster.create_jobs([world.job(SUCCEEDS, batch=batch) for batch in ("zero", "one", "two")])
    assert [answer.already for answer in answers] == [False, True, False]
    assert [answer.job and answer.job.name for answer in answers] == ["burst-zero-1", "burst-one-1", "burst-two-1"]


async def test_a_manifest_that_is_no_job_is_refused_and_stops_no_other(world: World) -> None:
    broken = world.job(SUCCEEDS, batch="broken")
    del broken["spec"]["template"]["spec"]["containers"]
    refused, made = await world.cluster.create_jobs([broken, world.job(SUCCEEDS, batch="fine")])
    assert refused.answer is Answer.REFUSED
    assert refused.text
    assert made.answer is Answer.DONE


# --- running --------------------------------------------------------------------------------------------------------


@BOTH
async def test_a_job_whose_pods_all_succeed_is_complete_with_all_its_indexes(
    world: World, placement: Placement
) -> None:
    reads = Act(reads=True)
    job = await world.ended(await world.launch(world.job(reads, placement=placement, completions=3)))
    assert (job.condition, job.active, job.succeeded, job.failed) == (JobCondition.COMPLETE, 0, 3, 0)
    assert job.completed_indexes == {0, 1, 2}
    assert not job.uncounted


@BOTH
async def test_one_failed_index_fails_the_job_after_the_others_have_run(world: World, placement: Placement) -> None:
    made = await world.launch(world.job(Act(fails_at=1), placement=placement, completions=3, parallelism=1))
    job = await world.ended(made)
    assert (job.condition, job.reason) == (JobCondition.FAILED, "FailedIndexes")
    assert (job.completed_indexes, job.failed_indexes) == ({0, 2}, {1})


async def test_an_index_is_tried_again_as_often_as_its_limit_says(world: World) -> None:
    job = await world.ended(await world.launch(world.job(FAILS, retries=2)))
    assert (job.failed, job.failed_indexes) == (3, {0})
    assert len({pod.uid for pod in await world.pods(3, "Failed")}) == 3


async def test_no_more_pods_run_at_once_than_parallelism_and_low_indexes_come_first(world: World) -> None:
    await world.launch(world.job(WAITS, completions=5, parallelism=2))
    pods = await world.pods(2, "Running")
    assert [pod.index for pod in pods] == [0, 1]
    job = await world.cluster.get_job("burst-b-1")
    assert job is not None
    assert job.active == 2


@BOTH
async def test_a_job_past_its_deadline_fails_with_that_reason_once_its_pods_have_ended(
    world: World, placement: Placement
) -> None:
    made = await world.launch(world.job(WAITS, placement=placement, deadline=timedelta(seconds=1)))
    job = await world.ended(made)
    assert (job.condition, job.reason, job.active) == (JobCondition.FAILED, "DeadlineExceeded", 0)


@BOTH
async def test_pods_carry_their_times_and_their_place(world: World, placement: Placement) -> None:
    await world.launch(world.job(SUCCEEDS, placement=placement))
    (pod,) = await world.pods(1, "Succeeded")
    assert pod.started_at is not None
    assert pod.finished_at is not None
    assert pod.created_at <= pod.started_at <= pod.finished_at
    assert pod.node
    assert (pod.job, pod.index, pod.finished) == ("burst-b-1", 0, True)


@BOTH
async def test_a_pod_never_runs_without_its_record(world: World, placement: Placement) -> None:
    made = await world.cluster.create_jobs([world.job(SUCCEEDS, placement=placement)])
    assert made[0].job is not None
    if placement is Placement.VIRTUAL_NODE:
        (pod,) = await world.pods(1, "Failed")
        assert pod.reason == "ProviderFailed"
        assert "does not exist" in pod.message
    assert not [pod for pod in (await world.cluster.list_all()).pods if pod.phase == "Succeeded"]


async def test_the_log_of_a_failed_pod_can_be_read_from_its_end(world: World) -> None:
    await world.launch(world.job(Act(prints="first\\nlast\\n", fails=True)))
    (pod,) = await world.pods(1, "Failed")
    assert await world.cluster.log_tail(ref(pod), 5) == "last\n"
    assert await world.cluster.log_tail(ObjectRef("none", "none"), 5) == ""


async def test_headroom_is_what_the_requests_of_pods_leave_free(world: World) -> None:
    before = await world.cluster.headroom()
    await world.launch(world.job(WAITS, completions=2))
    running = await world.pods(2, "Running")
    after = {room.name: room for room in (await world.cluster.headroom()).nodes}
    for room in before.nodes:
        here = sum(pod.node == room.name for pod in running)
        assert after[room.name].free == room.free - REQUESTS.times(here)
        assert after[room.name].pods_free == room.pods_free - here


# --- deleting -------------------------------------------------------------------------------------------------------


@BOTH
async def test_a_job_marked_for_deletion_stays_readable_makes_no_new_pods_and_counts_no_more(
    world: World, placement: Placement
) -> None:
    made = await world.launch(world.job(WAITS, placement=placement, completions=3, parallelism=2))
    running = await world.pods(2, "Running")
    assert await world.cluster.delete_jobs([ref(made)]) == [Answer.DONE]
    assert await world.cluster.delete_jobs([ref(made)]) == [Answer.DONE]
    world.open_gate()
    done = await world.pods(2, "Succeeded")
    assert {pod.uid for pod in done} == {pod.uid for pod in running}
    job = await world.cluster.get_job(made.name)
    assert job is not None
    assert job.marked_for_deletion
    assert (job.succeeded, job.completed_indexes, job.condition) == (0, frozenset(), None)
    assert not job.uncounted
    assert len((await world.cluster.list_all()).pods) == 2


@BOTH
async def test_a_released_job_goes_with_what_is_left_of_its_pods(world: World, placement: Placement) -> None:
    made = await world.launch(world.job(WAITS, placement=placement, completions=2))
    await world.pods(2, "Running")
    assert await world.cluster.release_jobs([ref(made)]) == [Answer.DONE]
    await world.until(lambda seen: not seen.pods and not seen.jobs)
    assert await world.cluster.get_job(made.name) is None
    assert await world.cluster.release_jobs([ref(made)]) == [Answer.NOT_FOUND]


@BOTH
async def test_a_released_job_makes_no_more_pods(world: World, placement: Placement) -> None:
    made = await world.launch(world.job(WAITS, placement=placement, completions=4, parallelism=1, retries=2))
    (first,) = await world.pods(1, "Running")
    await world.cluster.changes()
    assert await world.cluster.release_jobs([ref(made)]) == [Answer.DONE]
    enough = world.now() + timedelta(seconds=1) + 1.5 * world.retry_delay

    async def look() -> bool:
        """Whether all is gone, and long enough has been looked; nothing but the first pod may show meanwhile."""
        changes = await world.cluster.changes()
        assert {pod.uid for pod in changes.pods} <= {first.uid}
        seen = await world.cluster.list_all()
        return not seen.pods and not seen.jobs and world.now() >= enough

    last = world.now() + world.patience
    while not await look():
        assert world.now() < last, "pods of the released Job are still there"
        await world.news()


async def test_deletes_count_only_for_the_uid_that_was_meant(world: World) -> None:
    made = await world.launch(world.job(WAITS))
    (pod,) = await world.pods(1, "Running")
    other = ObjectRef(made.name, "another-uid")
    assert await world.cluster.delete_jobs([other]) == [Answer.CONFLICT]
    assert await world.cluster.release_jobs([other]) == [Answer.CONFLICT]
    assert await world.cluster.delete_pods([ObjectRef(pod.name, "another-uid")]) == [Answer.CONFLICT]
    assert await world.cluster.delete_jobs([ObjectRef("burst-none-1", made.uid)]) == [Answer.NOT_FOUND]
    assert not (await world.cluster.list_all()).jobs[0].marked_for_deletion


async def test_a_name_can_be_used_again_once_the_job_is_gone(world: World) -> None:
    first = await world.launch(world.job(WAITS))
    await world.pods(1, "Running")
    await world.cluster.release_jobs([ref(first)])
    await world.until(lambda seen: not seen.jobs)
    second = await world.ended(await world.launch(world.job(SUCCEEDS)))
    assert second.uid != first.uid
    assert second.condition is JobCondition.COMPLETE


@BOTH
async def test_a_deleted_pod_goes_and_its_index_is_made_again_while_it_may(world: World, placement: Placement) -> None:
    await world.launch(world.job(WAITS, placement=placement, retries=1))
    (first,) = await world.pods(1, "Running")
    assert await world.cluster.delete_pods([ref(first)]) == [Answer.DONE]

    def replaced(seen: ClusterSeen) -> bool:
        return [pod.phase for pod in seen.pods if pod.uid != first.uid] == ["Running"] and len(seen.pods) == 1

    await world.until(replaced)
    job = (await world.cluster.list_all()).jobs[0]
    assert (job.failed, job.failed_indexes) == (1, frozenset())


# --- looking --------------------------------------------------------------------------------------------------------


async def test_the_first_changes_are_everything_and_the_next_only_what_is_new(world: World) -> None:
    one = await world.launch(world.job(SUCCEEDS, batch="one"))
    await world.ended(one)
    first = await world.cluster.changes()
    assert first.relisted
    assert [job.name for job in first.jobs] == [one.name]
    quiet = await world.cluster.changes()
    assert (quiet.relisted, quiet.jobs, quiet.pods) == (False, (), ())
    two = await world.launch(world.job(SUCCEEDS, batch="two"))
    await world.ended(two)
    later = await world.cluster.changes()
    assert {job.uid for job in later.jobs} == {two.uid}
    assert {pod.job for pod in later.pods} == {two.name}


async def test_changes_tell_what_is_gone(world: World) -> None:
    made = await world.launch(world.job(SUCCEEDS))
    await world.ended(made)
    (pod,) = await world.pods(1, "Succeeded")
    await world.cluster.changes()
    await world.cluster.release_jobs([ref(made)])
    await world.until(lambda seen: not seen.pods and not seen.jobs)
    changes = await world.cluster.changes()
    assert set(changes.jobs_gone) == {made.name}
    assert set(changes.pods_gone) == {pod.uid}


async def test_changes_added_up_are_what_a_list_shows(world: World) -> None:
    made = await world.launch(world.job(Act(fails_at=2), completions=6, parallelism=2, retries=1))
    jobs: dict[str, JobSeen] = {}
    pods: dict[str, PodSeen] = {}
    ended = False
    while not ended:
        seen = await world.cluster.changes()
        jobs |= {job.name: job for job in seen.jobs}
        pods |= {pod.uid: pod for pod in seen.pods}
        ended = made.name in jobs and jobs[made.name].condition is not None
        if not ended:
            await world.news()
    listed = await world.cluster.list_all()
    assert {job.name: job for job in listed.jobs} == jobs
    assert {pod.uid: pod for pod in listed.pods} == pods


async def test_a_pod_is_there_under_its_own_uid_until_it_has_gone(world: World) -> None:
    manifest = world.job(WAITS)
    job = await world.launch(manifest)
    (pod,) = await world.pods(1, "Running")
    namespace = manifest["metadata"]["namespace"]
    assert await world.cluster.has_pod(namespace, ref(pod))
    assert not await world.cluster.has_pod(namespace, ObjectRef(pod.name, "another"))
    assert not await world.cluster.has_pod(namespace, ObjectRef("none", "none"))
    await world.cluster.release_jobs([ref(job)])
    await world.until(lambda seen: not seen.pods or None)
    assert not await world.cluster.has_pod(namespace, ref(pod))
