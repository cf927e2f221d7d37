"""Pods that carry five items each, on the local service: the kit runs them, and both sides are killed in between."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.e2e.local_service import (
    QUEUE,
    WORKER,
    LocalService,
    Run,
    enqueue,
    eventually,
    is_worker,
    left_on_queue,
    overlapping,
)

ITEMS = 80
POISON = {"item-7", "item-48"}
KIT = [sys.executable, "-m", "dispatcher.worker", "--", "/bin/sh", str(WORKER)]
SETTINGS = {"reports": {"queue": "reports", "grace": "2s"}}
TASK = {"command": KIT, "items_per_pod": 5, "backoff_limit": 2}


def burst(seed: int) -> dict[str, Any]:
    random = Random(seed)
    bodies: dict[str, Any] = {}
    for number in range(ITEMS):
        name = f"item-{number}"
        params = {"seconds": round(random.uniform(0.05, 0.3), 2), "fail": name in POISON}
        bodies[name] = {"task": "sleep", "params": params}
    return bodies


def kill_one_pod(service: LocalService, killed: list[Run]) -> bool:
    """SIGKILL to all of one pod: the kit, the item that it runs, and what stands between it and the cluster.

    None whose item was killed before: an item that is killed again and again is poison, as far as anybody can tell. Nor
    at one that is poison, so that its own failures can be counted. Answers whether one was killed.
    """
    spared = POISON | {run.item for run in killed}
    for run in reversed(service.runs()):
        if run.end is not None or run.item in spared:
            continue
        with suppress(ProcessLookupError):
            if is_worker(run.pid):
                os.killpg(os.getpgid(run.pid), signal.SIGKILL)
                killed.append(run)
                return True
    return False


async def settled(service: LocalService, connection: str) -> list[Any]:
    """All has ended, and every report is taken; what lies in the dead-letter queue."""
    good = ITEMS - len(POISON)
    await eventually(lambda: len({run.item for run in service.runs() if run.ok}) == good, 150, "good items are done")
    for queue in (QUEUE, "reports"):
        async with asyncio.timeout(120):
            while await left_on_queue(connection, queue=queue):  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.2)
    return await left_on_queue(connection, dead=True)


@pytest.mark.timeout(500)
async def test_kills_of_the_dispatcher_and_of_pods_lose_no_item_and_poison_takes_none_with_it(tmp_path: Path) -> None:
    killed: list[Run] = []
    service = LocalService(tmp_path, SETTINGS, TASK)
    try:
        service.start()
        connection = await service.ready()
        await enqueue(connection, burst(1))
        for moment in (ITEMS // 5, ITEMS // 2):
            await eventually(lambda count=moment: len(service.runs()) >= count, 60, f"{moment} items have started")
            await eventually(lambda: kill_one_pod(service, killed), 60, "a pod is killed")
            service.kill()
            kill_one_pod(service, killed)  # nobody sees it end
            service.start()
            connection = await service.ready()
        dead = await settled(service, connection)
        assert len(killed) >= 2

        assert {message.message_id for message in dead} == POISON
        assert {message.dead_letter_reason for message in dead} == {"application"}
        assert all("told to fail" in message.dead_letter_error_description for message in dead)
        runs = service.runs()
        assert overlapping(runs) == []
        failures = Counter(run.item for run in runs if run.end is not None and not run.ok)
        assert set(failures) == POISON
        assert min(failures.values()) >= 3  # its own allowance, and the first try
        # An item runs again only if it was in a pod that was killed, or its pod's neighbour was: the rest ran once.
        again = [item for item, count in Counter(run.item for run in runs if run.ok).items() if count > 1]
        assert len(again) <= 5 * len(killed)
        pods = {run.pid for run in runs}
        assert len(pods) == len(runs), "every item had a run of its own"
        assert await left_on_queue(connection, queue="reports", dead=True) == []
        assert service.stop() == 0
    finally:
        service.end_all()
