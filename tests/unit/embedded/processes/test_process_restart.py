"""A dispatcher killed with SIGKILL, and the one that comes after it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cluster_kit import (
    KERNEL_TICK,
    WallClock,
    a_config,
    a_job,
    a_place,
    comes_true,
    is_gone,
    name_of,
    pid_in,
    ref,
    runs,
)
from doomed import PODS

from dispatcher.core.failures import FailureCause
from dispatcher.core.observations import JobCondition
from dispatcher.core.units import to_text
from dispatcher.core.work import Placement
from dispatcher.embedded.objects import ObjectStore
from dispatcher.embedded.processes import ProcessCluster
from dispatcher.embedded.processes.folders import PodFolders
from dispatcher.ports import Answer

BOTH = pytest.mark.parametrize("placement", list(Placement))
HERE = Path(__file__).parent


async def a_doomed_dispatcher(
    folder: Path, moment: str, placement: Placement, command: str
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, HERE / "doomed.py", folder, moment, placement.value, command,
        env={**os.environ, "PYTHONPATH": f"{HERE}:{HERE.parents[3]}"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip


async def dies(dispatcher: asyncio.subprocess.Process) -> None:
    """Its end is by SIGKILL, and its pipe is closed then: no worker holds it."""
    async with asyncio.timeout(20):
        assert dispatcher.stdout is not None
        output = (await dispatcher.stdout.read()).decode()
    assert await dispatcher.wait() == -signal.SIGKILL, output


def runs_by_index(folder: Path) -> Counter[str]:
    log = folder / "runs"
    return Counter(log.read_text().split()) if log.exists() else Counter()


def told(folder: Path, then: str) -> str:
    return f"echo $JOB_COMPLETION_INDEX >> {folder}/runs; {then}"


def lose_the_store(folder: Path) -> None:
    for file in folder.glob("objects.db*"):
        file.unlink()


ONCE_EACH = Counter({str(index): 1 for index in range(PODS)})


@BOTH
async def test_pods_that_run_when_the_dispatcher_dies_are_found_again_and_run_on(
    tmp_path: Path, placement: Placement
) -> None:
    command = told(tmp_path, f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done")
    await dies(await a_doomed_dispatcher(tmp_path, "while_running", placement, command))
    async with a_place(tmp_path) as place:
        pods = await place.pods(PODS, "Running")
        assert all(pod.started_at is not None for pod in pods)
        (tmp_path / "go").touch()
        job = await place.ended(name_of("b"))
        assert job.completed_indexes == frozenset(range(PODS))
    assert runs_by_index(tmp_path) == ONCE_EACH


@BOTH
async def test_pods_that_ended_while_no_dispatcher_lived_are_counted_by_their_exit_code_and_time(
    tmp_path: Path, placement: Placement
) -> None:
    command = told(tmp_path, f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; exit $JOB_COMPLETION_INDEX")
    await dies(await a_doomed_dispatcher(tmp_path, "while_running", placement, command))
    (tmp_path / "go").touch()
    folders = tmp_path / "cluster" / "pods"
    await comes_true(lambda: all((path / "outcome").is_symlink() for path in folders.iterdir()))
    restarted_at = datetime.now(UTC)
    async with a_place(tmp_path) as place:
        seen = await place.cluster.list_all()
        ends = {pod.index: (pod.phase, pod.exit_code) for pod in seen.pods}
        codes = range(PODS) if placement is Placement.NODE_POOL else [None] * PODS
        phases = ["Succeeded", *["Failed"] * (PODS - 1)]
        expected = [code if code != 0 or placement is Placement.NODE_POOL else None for code in codes]
        assert [ends[index] for index in range(PODS)] == list(zip(phases, expected, strict=True))
        assert all(pod.finished_at is not None and pod.finished_at < restarted_at for pod in seen.pods)
        assert (seen.jobs[0].succeeded, seen.jobs[0].failed) == (1, PODS - 1)
        if placement is Placement.VIRTUAL_NODE:
            stops = {group.stopped_at for group in (await place.cluster.look(())).groups.values()}
            assert stops == {pod.finished_at for pod in seen.pods}
    assert runs_by_index(tmp_path) == ONCE_EACH


@BOTH
@pytest.mark.parametrize("moment", ["before_spawning", "after_spawning", "before_the_wrapper_claims"])
async def test_a_dispatcher_killed_in_the_middle_of_a_start_never_leads_to_two_processes_of_one_pod(
    tmp_path: Path, moment: str, placement: Placement
) -> None:
    await dies(await a_doomed_dispatcher(tmp_path, moment, placement, told(tmp_path, "sleep 0.3")))
    async with a_place(tmp_path) as place:
        job = await place.ended(name_of("b"))
        assert job.condition is JobCondition.COMPLETE
        if moment == "before_the_wrapper_claims":
            await asyncio.sleep(0.8)  # until the late wrapper has come, found its claim taken and gone
    assert runs_by_index(tmp_path) == ONCE_EACH


async def test_groups_that_were_pulling_keep_their_place_in_the_meter(tmp_path: Path) -> None:
    await dies(await a_doomed_dispatcher(tmp_path, "while_pulling", Placement.VIRTUAL_NODE, told(tmp_path, "true")))
    async with a_place(tmp_path) as place:
        assert place.cluster.counters.creates == PODS
        groups = (await place.cluster.look(())).groups
        assert len(groups) == PODS
        assert all(group.stopped_at is None for group in groups.values())
        pods = await place.pods(PODS, "Pending")
        await place.cluster.delete_pods([ref(pod) for pod in pods])
        await place.until(lambda seen: not seen.pods)
        ended = (await place.cluster.look(())).groups.values()
        assert all(group.started_at is not None and group.stopped_at is not None for group in ended)
    assert not runs_by_index(tmp_path)


@pytest.mark.parametrize("seed", range(4))
async def test_a_dispatcher_killed_at_any_instant_starts_no_pod_twice(tmp_path: Path, seed: int) -> None:
    placement = random.Random(seed).choice(list(Placement))
    dispatcher = await a_doomed_dispatcher(tmp_path, "while_running", placement, told(tmp_path, "sleep 0.2"))
    await comes_true((tmp_path / "objects.db").exists)
    await asyncio.sleep(random.Random(seed).uniform(0, 0.15))
    with contextlib.suppress(ProcessLookupError):  # it may be ahead of us
        os.kill(dispatcher.pid, signal.SIGKILL)
    await dies(dispatcher)
    async with a_place(tmp_path) as place:
        if await place.cluster.get_job(name_of("b")) is None:
            await place.launch(a_job(told(tmp_path, "true"), placement=placement, completions=PODS))
        assert (await place.ended(name_of("b"))).condition is JobCondition.COMPLETE
    assert runs_by_index(tmp_path) == ONCE_EACH


@BOTH
async def test_a_pod_keeps_its_time_to_stop_when_no_dispatcher_lives(tmp_path: Path, placement: Placement) -> None:
    async with a_place(tmp_path, ends_pods=False) as place:
        stop_at = datetime.now(UTC) + timedelta(seconds=1)
        await place.launch(a_job(f"echo $$ > {tmp_path}/pid; exec sleep 60", placement=placement, stop_at=stop_at))
        await place.pods(1, "Running")
        pid = await pid_in(tmp_path / "pid")
    assert runs(pid)
    await is_gone(pid)
    assert datetime.now(UTC) >= stop_at
    async with a_place(tmp_path) as place:
        (pod,) = await place.pods(1, "Failed")  # its wrapper may still be writing that down
        assert pod.cause is FailureCause.ITEM_TIMEOUT
        assert pod.finished_at is not None
        assert -KERNEL_TICK <= pod.finished_at - stop_at < timedelta(seconds=1), to_text(stop_at)


async def test_a_delete_that_was_under_way_is_finished_after_a_restart(tmp_path: Path) -> None:
    config = a_config(tmp_path, kill_grace=timedelta(seconds=30))
    async with a_place(tmp_path, config, ends_pods=False) as place:
        await place.launch(a_job(f"trap '' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.1; done"))
        (pod,) = await place.pods(1, "Running")
        pid = await pid_in(tmp_path / "pid")
        assert await place.cluster.delete_pods([ref(pod)]) == [Answer.DONE]
    assert runs(pid)
    async with a_place(tmp_path) as place:
        await place.until(lambda seen: all(p.uid != pod.uid for p in seen.pods))
        await is_gone(pid)


async def test_a_machine_that_was_restarted_has_lost_its_pods_without_a_failure_of_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_place(tmp_path) as place:
        await place.launch(a_job(f"echo $$ > {tmp_path}/pid; sleep 60"))
        await pid_in(tmp_path / "pid")
    (folder,) = (tmp_path / "cluster" / "pods").iterdir()
    (folder / "outcome").unlink(missing_ok=True)
    claim = str((folder / "claim-1").readlink()).rpartition(" ")[0]
    (folder / "claim-1").unlink()
    (folder / "claim-1").symlink_to(f"{claim} another-boot")
    async with a_place(tmp_path) as place:
        lost = next(pod for pod in (await place.cluster.list_all()).pods if pod.uid == folder.name)
        assert lost.disrupted
        assert lost.cause is FailureCause.NODE_LOST
        job = await place.cluster.get_job(name_of("b"))
        assert job is not None
        assert (job.failed, job.condition) == (0, None)
        await place.pods(1, "Running")


async def test_a_process_of_a_pod_that_the_store_does_not_know_is_ended_with_its_folder(tmp_path: Path) -> None:
    async with a_place(tmp_path, ends_pods=False) as place:
        await place.launch(a_job(f"echo $$ > {tmp_path}/pid; exec sleep 60"))
        pid = await pid_in(tmp_path / "pid")
    lose_the_store(tmp_path)
    async with a_place(tmp_path):
        await is_gone(pid)
        assert list((tmp_path / "cluster" / "pods").iterdir()) == []


async def test_the_first_changes_after_a_restart_are_everything(tmp_path: Path) -> None:
    async with a_place(tmp_path) as place:
        await place.launch(a_job("true"))
        await place.ended(name_of("b"))
    async with a_place(tmp_path) as place:
        changes = await place.cluster.changes()
        assert changes.relisted
        assert (len(changes.jobs), len(changes.pods)) == (1, 1)
        assert not (await place.cluster.changes()).jobs


async def test_a_claim_is_made_once_whoever_comes_first(tmp_path: Path) -> None:
    folder = PodFolders(tmp_path).of("pod")
    assert folder.forbid(1)
    assert not folder.forbid(1)
    assert folder.claim(1) is not None
    assert folder.claim(2) is None


async def test_a_start_that_fails_leaves_the_folder_to_the_next_one(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path / "objects.db")  # never opened, so nothing can be read
    cluster = ProcessCluster(a_config(tmp_path), store, WallClock())
    with pytest.raises(Exception, match="not open"):
        await cluster.start()
    async with a_place(tmp_path) as place:
        assert (await place.cluster.list_all()).jobs == ()
