"""The local service is killed with SIGKILL in the middle of a burst; the run log says what became of each item."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest

from tests.e2e.local_service import LocalService, enqueue, eventually, left_on_queue, overlapping

ITEMS = 500


def burst(seed: int) -> dict[str, object]:
    random = Random(seed)
    return {
        f"item-{number}": {"task": "sleep", "params": {"seconds": round(random.uniform(0.05, 0.4), 2)}}
        for number in range(ITEMS)
    }


async def finish(service: LocalService, connection: str) -> None:
    """Every item has ended well, and the broker and the cluster have nothing left of them."""
    await eventually(lambda: len({run.item for run in service.runs() if run.ok}) == ITEMS, 120, "all items are done")
    for _ in range(200):
        if not await left_on_queue(connection):
            return
    raise AssertionError(f"still on the queue: {len(await left_on_queue(connection))}")


def assert_each_ran_exactly_once(service: LocalService) -> None:
    runs = service.runs()
    assert overlapping(runs) == []
    ended_well = Counter(run.item for run in runs if run.ok)
    assert len(ended_well) == ITEMS
    assert [item for item, count in ended_well.items() if count > 1] == []
    assert [run for run in runs if not run.ok] == []


@pytest.mark.timeout(240)
async def test_a_kill_9_in_the_middle_of_a_burst_loses_nothing_and_runs_nothing_twice(tmp_path: Path) -> None:
    service = LocalService(tmp_path)
    try:
        service.start()
        connection = await service.ready()
        await enqueue(connection, burst(1))
        await eventually(lambda: len(service.runs()) > ITEMS // 4, 60, "a quarter of the items have started")
        service.kill()
        before = len({run.item for run in service.runs() if run.ok})
        assert 0 < before < ITEMS
        service.start()
        await finish(service, await service.ready())
        assert_each_ran_exactly_once(service)
        assert service.stop() == 0
    finally:
        service.end_all()


@pytest.mark.timeout(400)
async def test_ten_kills_in_one_burst_lose_nothing_and_run_nothing_twice(tmp_path: Path) -> None:
    random = Random(10)
    moments = sorted(random.sample(range(ITEMS // 20, ITEMS * 9 // 10), 10))
    service = LocalService(tmp_path)
    try:
        service.start()
        connection = await service.ready()
        await enqueue(connection, burst(2))
        for moment in moments:
            await eventually(lambda count=moment: len(service.runs()) >= count, 60, f"{moment} items have started")
            service.kill()
            service.start()
            connection = await service.ready()
        await finish(service, connection)
        assert_each_ran_exactly_once(service)
        epochs = [event["epoch"] for event in service.events("takeover.finished")]
        assert epochs == sorted(set(epochs))
        assert epochs[-1] >= len(moments)
        assert service.stop() == 0
    finally:
        service.end_all()
