"""The end of a process is noticed once, soon, and without pidfds too."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from pathlib import Path

import pytest
from cluster_kit import a_job, a_place, name_of

from dispatcher.core.observations import JobCondition
from dispatcher.embedded.identity import ProcessIdentity
from dispatcher.embedded.processes.exits import ExitWatch


def no_pidfds(pid: int) -> int:
    raise OSError(38, "Function not implemented")


def a_process(*command: str) -> ProcessIdentity:
    process = subprocess.Popen(command)
    process.returncode = 0
    identity = ProcessIdentity.of(process.pid)
    assert identity is not None
    return identity


@pytest.mark.parametrize("pidfds", [True, False])
async def test_an_end_is_noticed_within_a_tenth_of_a_second(monkeypatch: pytest.MonkeyPatch, pidfds: bool) -> None:
    if not pidfds:
        monkeypatch.setattr(os, "pidfd_open", no_pidfds)
    watch = ExitWatch()
    ended = asyncio.Event()
    process = a_process("sleep", "60")
    watch.watch(process, ended.set)
    os.kill(process.pid, 9)
    before = time.perf_counter()
    async with asyncio.timeout(5):
        await ended.wait()
    assert time.perf_counter() - before < 0.1
    watch.close()


@pytest.mark.parametrize("pidfds", [True, False])
async def test_a_process_that_is_another_by_now_has_ended(monkeypatch: pytest.MonkeyPatch, pidfds: bool) -> None:
    if not pidfds:
        monkeypatch.setattr(os, "pidfd_open", no_pidfds)
    watch = ExitWatch()
    ended = asyncio.Event()
    watch.watch(ProcessIdentity(os.getpid(), "another start", "another boot"), ended.set)
    async with asyncio.timeout(1):
        await ended.wait()
    watch.close()


async def test_jobs_run_without_pidfds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pidfd_open", no_pidfds)
    async with a_place(tmp_path) as place:
        await place.launch(a_job("true", completions=3))
        assert (await place.ended(name_of("b"))).condition is JobCondition.COMPLETE


async def test_fifty_pods_are_started_without_holding_up_the_event_loop(tmp_path: Path) -> None:
    stretches: list[float] = []

    async def feel() -> None:
        """How long the loop's thread works between two chances of ours; other processes do not count."""
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.001)
            stretches.append(time.thread_time() - before)

    async with a_place(tmp_path) as place:
        feeler = asyncio.create_task(feel())
        await place.launch(a_job("sleep 0.1", completions=50))
        await place.ended(name_of("b"))
        feeler.cancel()
    assert max(stretches) < 0.02
