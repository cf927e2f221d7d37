"""Work that was given up is mended and replayed; backlog is released between two runs: the items stay who they are."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from azure.servicebus import ServiceBusMessageState
from azure.servicebus.amqp import AmqpAnnotatedMessage

from dispatcher.ports import Answer
from dispatcher.queue.backlog import DeferredBacklog
from dispatcher.queue.resending import CopySender
from dispatcher.releasing import claims, look, release
from dispatcher.service.offline import open_data_dir
from dispatcher.settings import load
from tests.e2e.local_service import QUEUE, WORKER, LocalService, enqueue, eventually, left_on_queue


def work(seconds: float = 0.05) -> dict[str, Any]:
    return {"task": "sleep", "params": {"seconds": seconds}}


async def dispatcher(service: LocalService, *arguments: str) -> tuple[int, str, str]:
    """Runs `dispatcher ARGUMENTS` beside the service."""
    places = ("--config", str(service.folder / "config"), "--data-dir", str(service.data))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dispatcher", *arguments, *places, stdout=pipe, stderr=pipe
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.mark.timeout(180)
async def test_work_that_failed_for_a_reason_that_was_mended_is_replayed_and_done(tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    program = tmp_path / "program.sh"
    program.write_text(f'[ -e {mended} ] || {{ echo "the disk is missing" >&2; exit 3; }}\n. {WORKER}\n')
    service = LocalService(tmp_path / "service", task={"command": ["/bin/sh", str(program)], "backoff_limit": 0})
    try:
        service.start()
        connection = await service.ready()
        await enqueue(connection, {f"item-{n}": work() for n in range(6)} | {"poison": b"{"})
        await eventually(lambda: len(service.events("item.dead_lettered")) == 6, 60, "all of it has failed")
        code, out, err = await dispatcher(service, "dead-letters", "show", "item-3")
        assert (code, "the disk is missing" in out) == (0, True), out + err
        mended.touch()
        code, out, err = await dispatcher(service, "dead-letters", "replay", "--all", "--yes", "--rate", "100")
        assert (code, err.splitlines()[-1]) == (0, "replayed 6 of 6 dead letters"), err
        await eventually(lambda: len(service.events("item.done")) == 6, 60, "all of it is done")
        assert {event["item"] for event in service.events("item.done")} == {f"item-{n}" for n in range(6)}
        assert sorted(run.item for run in service.runs() if run.ok) == [f"item-{n}" for n in range(6)]
        assert [each.message_id for each in await left_on_queue(connection, dead=True)] == ["poison"]
        assert await left_on_queue(connection) == []
    finally:
        service.end_all()


class Breaking:
    """Sends so many copies; the last of them is the last act of the process."""

    def __init__(self, inner: CopySender, count: int) -> None:
        self._inner, self._left = inner, count

    async def send(self, copy: AmqpAnnotatedMessage) -> Answer:
        answer = await self._inner.send(copy)
        self._left -= 1
        if self._left == 0:
            raise KeyError("the process ends here")
        return answer


async def release_that_breaks_off(service: LocalService) -> None:
    """Sends three copies, and ends before the third of the originals is removed."""
    settings = load(service.folder / "config", local=True, overrides={"local": {"data_dir": str(service.data)}})
    async with AsyncExitStack() as stack:
        offline = await stack.enter_async_context(open_data_dir(settings))
        assert offline.store is not None
        where = offline.access.queue(QUEUE)
        backlog = await stack.enter_async_context(DeferredBacklog(where))
        sender = await stack.enter_async_context(CopySender(where))
        found = await look(backlog, await claims(offline.store))
        with pytest.raises(KeyError):
            await release(
                backlog,
                Breaking(sender, 3),
                found.free,
                lease=offline.lease,
                tell=lambda _: None,
                stopped=lambda: False,
            )


@pytest.mark.timeout(240)
@pytest.mark.parametrize("whole", [True, False], ids=["released", "broken off"])
async def test_backlog_is_released_between_two_runs_and_every_item_runs_once(tmp_path: Path, whole: bool) -> None:
    nodes = {"nodes": {"count": 1, "cpu": "200m", "memory": "1Gi"}, "web_port": 0, "broker_port": 0}
    service = LocalService(
        tmp_path, settings={"virtual_node": {"enabled": False}, "local": nodes}, task={"batch_size_max": 2}
    )
    items = {f"item-{n}" for n in range(12)}
    try:
        service.start()
        connection = await service.ready()
        await enqueue(connection, {item: work(3) for item in sorted(items)})
        async with asyncio.timeout(60):
            while {each.state for each in await left_on_queue(connection)} != {ServiceBusMessageState.DEFERRED}:
                assert len(service.runs()) < 8, "too much ran before the backlog was deferred"
        code, _, err = await dispatcher(service, "release", "--yes")
        assert (code, "runs on" in err) == (2, True), err
        assert service.stop() == 0
        if whole:
            code, _, err = await dispatcher(service, "release", "--yes")
            assert code == 0, err
            assert "in flight with burst-" in err
        else:
            await release_that_breaks_off(service)
        service.start()
        connection = await service.ready()
        states = [each.state for each in await left_on_queue(connection)]
        assert len(states) <= 13
        await eventually(lambda: len(service.events("item.done")) >= 12, 120, "every item is done")

        async def nothing_left() -> bool:
            return not await left_on_queue(connection)

        async with asyncio.timeout(60):
            while not await nothing_left():
                continue
        assert {event["item"] for event in service.events("item.done")} == items
        assert sorted(run.item for run in service.runs()) == sorted(items)
        assert await left_on_queue(connection, dead=True) == []
    finally:
        service.end_all()
