"""Real processes: what a pod gets, how it ends, and what is left."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from cluster_kit import (
    KERNEL_TICK,
    a_config,
    a_job,
    a_place,
    a_virtual_node,
    comes_true,
    is_gone,
    items_of,
    name_of,
    pid_in,
    ref,
)

from dispatcher.core.failures import FailureCause
from dispatcher.core.observations import ClusterSeen, JobCondition, PodPhase, PodSeen
from dispatcher.core.units import Resources, from_text
from dispatcher.core.work import Placement
from dispatcher.embedded.processes import NodeConfig
from dispatcher.errors import DispatcherError, LookFailed
from dispatcher.ports import Answer, ObjectRef

BOTH = pytest.mark.parametrize("placement", list(Placement))


@BOTH
async def test_a_pod_finds_its_item_in_a_file_and_its_index_in_a_variable(tmp_path: Path, placement: Placement) -> None:
    async with a_place(tmp_path) as place:
        show = 'cat "$BURST_ITEMS_DIR/$JOB_COMPLETION_INDEX.json"; echo " $BURST_BATCH $BURST_ATTEMPT"'
        await place.launch(a_job(show, placement=placement, completions=2))
        job = await place.ended(name_of("b"))
        assert job.condition is JobCondition.COMPLETE
        assert job.completed_indexes == {0, 1}
        pods = await place.pods(2, "Succeeded")
        assert await place.cluster.log_tail(ref(pods[1]), 1000) == '{"index": 1} b 1\n'
        assert await place.cluster.log_tail(ref(pods[1]), 4) == "b 1\n"


async def test_a_worker_sees_the_manifests_variables_and_none_of_the_dispatchers_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_BUS_CONNECTION_STRING", "Endpoint=secret")
    async with a_place(tmp_path) as place:
        job = a_job(["/usr/bin/env"], env={"GREETING": "hello", "TWICE": "$(GREETING) $(GREETING)"})
        await place.launch(job)
        (pod,) = await place.pods(1, "Succeeded")
        log = await place.cluster.log_tail(ref(pod), 100_000)
    assert "TWICE=hello hello" in log
    assert f"PATH={os.environ['PATH']}" in log
    assert "secret" not in log


async def test_a_worker_holds_none_of_the_dispatchers_files_and_leads_its_own_session(tmp_path: Path) -> None:
    with (tmp_path / "held").open("w") as held:
        os.set_inheritable(held.fileno(), True)
        async with a_place(tmp_path) as place:
            await place.launch(a_job("ls -l /proc/self/fd; ps -o sid= -p $$"))
            (pod,) = await place.pods(1, "Succeeded")
            log = await place.cluster.log_tail(ref(pod), 100_000)
    assert "held" not in log
    assert "socket:" not in log
    assert "pipe:" not in log
    assert int(log.split()[-1]) != os.getsid(0)


@BOTH
async def test_a_command_that_does_not_exist_fails_the_pod_with_its_name(tmp_path: Path, placement: Placement) -> None:
    async with a_place(tmp_path) as place:
        await place.launch(a_job(["no-such-program"], placement=placement))
        await place.ended(name_of("b"))
        (pod,) = await place.pods(1, "Failed")
        assert pod.cause is FailureCause.TEMPLATE
        assert '"no-such-program"' in pod.message
        assert pod.exit_code == (127 if placement is Placement.NODE_POOL else None)
        assert pod.started_at is None


async def test_a_command_that_cannot_be_executed_fails_the_pod_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "plain-file").write_text("text")
    async with a_place(tmp_path) as place:
        await place.launch(a_job([str(tmp_path / "plain-file")]))
        (pod,) = await place.pods(1, "Failed")
        assert (pod.exit_code, pod.cause) == (126, FailureCause.TEMPLATE)
        assert "permission denied" in pod.message


async def test_a_shell_that_does_not_find_its_program_is_a_mistake_in_the_template(tmp_path: Path) -> None:
    async with a_place(tmp_path) as place:
        await place.launch(a_job("no-such-program"))
        (pod,) = await place.pods(1, "Failed")
        assert (pod.exit_code, pod.cause) == (127, FailureCause.TEMPLATE)


async def test_nodes_tell_the_exit_code_and_the_virtual_node_does_not(tmp_path: Path) -> None:
    async with a_place(tmp_path) as place:
        await place.launch(a_job("exit 3", batch="n"))
        await place.launch(a_job("exit 3", batch="v", placement=Placement.VIRTUAL_NODE))
        on_node, virtual = sorted(await place.pods(2, "Failed"), key=lambda pod: pod.job)
        assert (on_node.exit_code, on_node.cause) == (3, FailureCause.APPLICATION)
        assert (virtual.exit_code, virtual.cause) == (None, FailureCause.APPLICATION)


@BOTH
async def test_a_pod_never_runs_without_its_record(tmp_path: Path, placement: Placement) -> None:
    async with a_place(tmp_path) as place:
        await place.cluster.create_jobs([a_job(f"touch {tmp_path}/ran", placement=placement)])
        await place.ended(name_of("b"))
        (pod,) = await place.pods(1, "Failed")
        expected = "ProviderFailed" if placement is Placement.VIRTUAL_NODE else "CreateContainerConfigError"
        assert pod.reason == expected
        assert name_of("b") in pod.message
        assert not (tmp_path / "ran").exists()
        assert (await place.cluster.look(())).groups == {}


async def test_a_pods_own_deadline_on_a_node_is_the_items_time_out(tmp_path: Path) -> None:
    async with a_place(tmp_path) as place:
        await place.launch(a_job("sleep 60", item_timeout=timedelta(seconds=1)))
        (pod,) = await place.pods(1, "Failed")
        assert (pod.reason, pod.cause, pod.exit_code) == ("DeadlineExceeded", FailureCause.ITEM_TIMEOUT, 143)
        job = await place.ended(name_of("b"))
        assert job.failed_indexes == {0}


@BOTH
async def test_a_job_past_its_deadline_ends_its_pods_and_fails(tmp_path: Path, placement: Placement) -> None:
    async with a_place(tmp_path) as place:
        await place.launch(
            a_job(f"echo $$ > {tmp_path}/pid; exec sleep 60", placement=placement, deadline=timedelta(seconds=1))
        )
        job = await place.ended(name_of("b"))
        assert (job.condition, job.reason) == (JobCondition.FAILED, "DeadlineExceeded")
        await place.until(lambda seen: not seen.pods)
        await is_gone(await pid_in(tmp_path / "pid"))


async def test_a_failed_index_is_run_again_until_its_limit(tmp_path: Path) -> None:
    async with a_place(tmp_path) as place:
        flaky = f"echo run >> {tmp_path}/$JOB_COMPLETION_INDEX; test $(wc -l < {tmp_path}/$JOB_COMPLETION_INDEX) -ge 3"
        await place.launch(a_job(flaky, completions=2, retries=2))
        job = await place.ended(name_of("b"))
        assert job.condition is JobCondition.COMPLETE
        assert (job.succeeded, job.failed) == (2, 4)


@BOTH
async def test_a_deleted_pod_ends_with_all_it_started_even_if_it_will_not(tmp_path: Path, placement: Placement) -> None:
    stubborn = f"trap '' TERM; (sleep 61 & echo $! > {tmp_path}/child; wait) & echo $$ > {tmp_path}/pid; wait; sleep 60"
    async with a_place(tmp_path) as place:
        await place.launch(a_job(stubborn, placement=placement))
        (pod,) = await place.pods(1, "Running")
        started = [await pid_in(tmp_path / "pid"), await pid_in(tmp_path / "child")]
        assert await place.cluster.delete_pods([ref(pod)]) == [Answer.DONE]
        phases: set[PodPhase] = set()

        def gone(seen: ClusterSeen) -> bool:
            phases.update(p.phase for p in seen.pods if p.uid == pod.uid)
            return all(p.uid != pod.uid for p in seen.pods)

        await place.until(gone)
        for pid in started:
            await is_gone(pid)
        if placement is Placement.VIRTUAL_NODE:
            assert phases == {PodPhase.RUNNING}
        assert (await place.ended(name_of("b"))).failed_indexes == {0}


async def test_a_folder_goes_with_its_pod_and_the_log_can_be_read_before(tmp_path: Path) -> None:
    async with a_place(tmp_path) as place:
        job = await place.launch(a_job("echo why; exit 1"))
        (pod,) = await place.pods(1, "Failed")
        assert await place.cluster.log_tail(ref(pod), 100) == "why\n"
        await place.cluster.release_jobs([ref(job)])
        await place.until(lambda seen: not seen.pods)
        await comes_true(lambda: not any((tmp_path / "cluster" / "pods").iterdir()))
        assert await place.cluster.log_tail(ref(pod), 100) == ""


async def test_what_a_worker_leaves_running_ends_with_it(tmp_path: Path) -> None:
    async with a_place(tmp_path) as place:
        await place.launch(a_job(f"sleep 60 & echo $! > {tmp_path}/child; exit 0"))
        await place.ended(name_of("b"))
        await is_gone(await pid_in(tmp_path / "child"))


async def test_a_pod_killed_from_outside_is_a_failure_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with a_place(tmp_path) as place:
        await place.launch(a_job(f"echo $$ > {tmp_path}/pid; sleep 60"))
        await place.pods(1, "Running")
        worker = await pid_in(tmp_path / "pid")
        os.kill(psutil.Process(worker).ppid(), signal.SIGKILL)
        (pod,) = await place.pods(1, "Failed")
        assert pod.exit_code == 137
        assert "killed from outside" in pod.message
        await is_gone(worker)


@BOTH
async def test_a_pod_ends_by_itself_at_its_time_to_stop(tmp_path: Path, placement: Placement) -> None:
    stop_at = datetime.now(UTC) + timedelta(seconds=1)
    async with a_place(tmp_path) as place:
        await place.launch(a_job("trap '' TERM; while :; do sleep 60; done", placement=placement, stop_at=stop_at))
        (pod,) = await place.pods(1, "Failed")
        assert pod.cause is FailureCause.ITEM_TIMEOUT
        assert pod.finished_at is not None
        assert -KERNEL_TICK <= pod.finished_at - stop_at < timedelta(seconds=2)


async def test_a_pod_whose_time_to_stop_has_passed_does_not_start(tmp_path: Path) -> None:
    async with a_place(tmp_path) as place:
        await place.launch(a_job(f"touch {tmp_path}/ran", stop_at=datetime.now(UTC)))
        (pod,) = await place.pods(1, "Failed")
        assert pod.cause is FailureCause.ITEM_TIMEOUT
        assert not (tmp_path / "ran").exists()


async def test_pods_wait_until_a_node_has_room_for_their_requests(tmp_path: Path) -> None:
    config = a_config(tmp_path, nodes=(NodeConfig("a", Resources(200, 10**9)), NodeConfig("b", Resources(100, 10**9))))
    async with a_place(tmp_path, config) as place:
        await place.launch(a_job(f"until [ -e {tmp_path}/go ]; do sleep 0.05; done", completions=8))
        running = await place.pods(3, "Running")
        assert sorted(pod.node or "" for pod in running) == ["a", "a", "b"]
        assert [room.free.cpu_millis for room in (await place.cluster.headroom()).nodes] == [0, 0]
        waiting = [pod for pod in (await place.cluster.list_all()).pods if pod.phase == "Pending"]
        assert {(pod.reason, pod.node) for pod in waiting} == {("Unschedulable", None)}
        assert len(waiting) == 5
        (tmp_path / "go").touch()
        await place.ended(name_of("b"))
        assert [room.free.cpu_millis for room in (await place.cluster.headroom()).nodes] == [200, 100]


async def test_a_virtual_pod_waits_for_its_group_and_is_billed_by_the_meter(tmp_path: Path) -> None:
    virtual = a_virtual_node(start_delay=timedelta(milliseconds=400), pull_begins_after=timedelta(milliseconds=100))
    async with a_place(tmp_path, a_config(tmp_path, virtual_node=virtual)) as place:
        job = await place.launch(a_job("sleep 0.2", placement=Placement.VIRTUAL_NODE))
        await place.ended(name_of("b"))
        (pod,) = await place.pods(1, "Succeeded")
        assert pod.started_at is not None
        assert pod.started_at - pod.created_at >= timedelta(milliseconds=400) - KERNEL_TICK
        group = (await place.cluster.look(())).groups[pod.uid]
        assert group.name == f"default-{pod.name}"
        assert group.started_at is not None
        assert (
            pod.created_at + timedelta(milliseconds=100)
            <= group.started_at + KERNEL_TICK
            <= pod.started_at + KERNEL_TICK
        )
        assert group.stopped_at == pod.finished_at
        await place.cluster.release_jobs([ref(job)])
        await place.until(lambda seen: not seen.pods)
        later = (await place.cluster.look(())).groups[pod.uid]
        assert (later.started_at, later.stopped_at, later.gone) == (group.started_at, group.stopped_at, True)


async def test_a_full_subnet_refuses_and_the_refusal_is_a_failed_pod(tmp_path: Path) -> None:
    config = a_config(tmp_path, virtual_node=a_virtual_node(subnet_prefix=29))
    async with a_place(tmp_path, config) as place:
        await place.launch(a_job("sleep 0.3", placement=Placement.VIRTUAL_NODE, completions=5))
        job = await place.ended(name_of("b"))
        refused = await place.pods(2, "Failed")
        assert {(pod.reason, pod.cause) for pod in refused} == {("ProviderFailed", FailureCause.SUBNET_FULL)}
        assert job.completed_indexes == {0, 1, 2}
        assert (place.cluster.counters.addresses_peak, place.cluster.counters.refused) == (3, 2)


async def test_a_finished_virtual_pod_keeps_its_address_until_it_is_deleted_and_the_lag_is_over(tmp_path: Path) -> None:
    virtual = a_virtual_node(subnet_prefix=29, groups_max=3, address_release_lag=timedelta(milliseconds=200))

    async def run_one(batch: str) -> PodSeen:
        await place.launch(a_job("true", batch=batch, placement=Placement.VIRTUAL_NODE))
        await place.ended(name_of(batch))
        return next(pod for pod in (await place.cluster.list_all()).pods if pod.job == name_of(batch))

    async with a_place(tmp_path, a_config(tmp_path, virtual_node=virtual)) as place:
        done = [await run_one(f"b{number}") for number in range(3)]
        assert {pod.phase for pod in done} == {PodPhase.SUCCEEDED}
        assert (await run_one("full")).cause is FailureCause.ACI_QUOTA
        await place.cluster.delete_pods([ref(done[0])])
        await place.until(lambda seen: all(pod.uid != done[0].uid for pod in seen.pods))
        assert (await run_one("lag")).cause is FailureCause.SUBNET_FULL
        await asyncio.sleep(0.2)
        assert (await run_one("free")).phase is PodPhase.SUCCEEDED


async def test_the_items_own_time_out_is_not_known_on_the_virtual_node(tmp_path: Path) -> None:
    async with a_place(tmp_path) as place:
        job = a_job("sleep 1.3", placement=Placement.VIRTUAL_NODE)
        job["spec"]["template"]["spec"]["activeDeadlineSeconds"] = 1
        await place.launch(job)
        assert (await place.ended(name_of("b"))).condition is JobCondition.COMPLETE


async def test_a_delete_beyond_the_rate_leaves_the_group_running_and_billed(tmp_path: Path) -> None:
    config = a_config(tmp_path, virtual_node=a_virtual_node(deletes_per_5_min=1))
    async with a_place(tmp_path, config) as place:
        await place.launch(a_job("sleep 60", placement=Placement.VIRTUAL_NODE, completions=2))
        first, second = await place.pods(2, "Running")
        await place.cluster.delete_pods([ref(first), ref(second)])
        await place.until(lambda seen: len(seen.pods) == 1)
        (left,) = (await place.cluster.list_all()).pods
        assert left.marked_for_deletion
        assert (await place.cluster.look(())).groups[left.uid].stopped_at is None


async def test_only_one_dispatcher_runs_the_pods_of_a_folder(tmp_path: Path) -> None:
    async with a_place(tmp_path) as place:
        await place.launch(a_job("true"))
        with pytest.raises(DispatcherError, match="another dispatcher"):
            async with a_place(tmp_path):
                pass
        await place.ended(name_of("b"))


async def test_a_cluster_that_is_stopped_leaves_no_task_behind_and_answers_no_look(tmp_path: Path) -> None:
    async with a_place(tmp_path) as place:
        await place.launch(a_job("true"))
        await place.cluster.stop()
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
        with pytest.raises(LookFailed):
            await place.cluster.list_all()


async def test_a_full_disk_refuses_a_job_by_naming_the_file_and_the_cluster_goes_on(tmp_path: Path) -> None:
    async with a_place(tmp_path) as place:
        await place.launch(a_job("true", batch="first"))
        await place.ended(name_of("first"))
        pages = await place.store.write(lambda seen: seen._connection.execute("PRAGMA page_count").fetchone()[0])
        await place.store.read(lambda seen: seen._connection.execute(f"PRAGMA max_page_count = {pages}"))
        big = a_job("true", batch="second", env={"BIG": "x" * 100_000})
        (created,) = await place.cluster.create_jobs([big])
        assert created.answer is Answer.REFUSED
        assert str(place.store.path) in created.text
        assert await place.cluster.get_job(name_of("second")) is None
        await place.store.read(lambda seen: seen._connection.execute("PRAGMA max_page_count = 1000000"))
        await place.records.create_records([(name_of("second"), items_of(big), {})])
        await place.launch(big)
        assert (await place.ended(name_of("second"))).condition is JobCondition.COMPLETE


async def test_a_stop_time_is_told_to_the_worker(tmp_path: Path) -> None:
    async with a_place(tmp_path) as place:
        await place.launch(a_job("echo $BURST_STOP_AT"))
        (pod,) = await place.pods(1, "Succeeded")
        assert from_text((await place.cluster.log_tail(ref(pod), 100)).strip()) > datetime.now(UTC)


async def test_a_pod_under_another_uid_is_left_alone(tmp_path: Path) -> None:
    async with a_place(tmp_path) as place:
        await place.launch(a_job("sleep 60"))
        (pod,) = await place.pods(1, "Running")
        refs = [ObjectRef(pod.name, "another"), ObjectRef("unknown", pod.uid)]
        assert await place.cluster.delete_pods(refs) == [Answer.CONFLICT, Answer.NOT_FOUND]
        assert not (await place.cluster.list_all()).pods[0].marked_for_deletion


async def test_a_create_that_is_cancelled_leaves_the_store_as_the_cluster_shows_it(tmp_path: Path) -> None:
    async with a_place(tmp_path) as place:
        create = asyncio.create_task(place.cluster.create_jobs([a_job("true", batch="cancelled")]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        create.cancel()
        await asyncio.gather(create, return_exceptions=True)
        await place.launch(a_job("true"))
        await place.ended(name_of("b"))
        shown = {job.name for job in (await place.cluster.list_all()).jobs}
    async with a_place(tmp_path) as place:
        assert {job.name for job in (await place.cluster.list_all()).jobs} == shown
