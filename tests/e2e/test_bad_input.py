"""Bad input to the running service: each gets a clear answer, the rest goes on, nothing is lost."""

from __future__ import annotations

import json
import resource
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from azure.servicebus.exceptions import ServiceBusError

from dispatcher.running import find_service, get_json
from tests.e2e.local_service import LocalService, enqueue, eventually, left_on_queue

SCHEMA = {
    "type": "object",
    "properties": {
        "seconds": {"type": "number", "minimum": 0, "maximum": 5},
        "fail": {"type": "boolean"},
        "text": {"type": "string"},
    },
    "required": ["seconds"],
    "additionalProperties": False,
}


def work(seconds: float = 0.05, **params: Any) -> dict[str, Any]:
    return {"task": "sleep", "params": {"seconds": seconds, **params}}


async def dead_letters(connection: str) -> dict[str, tuple[str, str]]:
    messages = await left_on_queue(connection, dead=True)
    return {
        message.message_id: (message.dead_letter_reason, message.dead_letter_error_description) for message in messages
    }


async def settled(service: LocalService, count: int) -> None:
    """So many items have ended, one way or the other, and the broker has let go of them."""

    def all_told() -> bool:
        told = ("item.done", "item.dead_lettered", "item.rejected")
        return sum(len(service.events(name)) for name in told) >= count

    await eventually(all_told, 60, f"{count} items are settled")


@pytest.mark.timeout(120)
async def test_poison_is_dead_lettered_with_a_reason_and_holds_up_nobody(tmp_path: Path) -> None:
    service = LocalService(tmp_path, task={"params_schema": SCHEMA})
    try:
        service.start()
        connection = await service.ready()
        poison = {
            "not-json": b"{",
            "no-object": b"[1]",
            "no-such-task": {"task": "slep", "params": {}},
            "wrong-type": {"task": "sleep", "params": {"seconds": "long"}},
            "unknown-param": {"task": "sleep", "params": {"seconds": 1, "image": "evil"}},
            "too-large": work(text="x" * 20_000),
        }
        good = {f"good-{number}": work() for number in range(10)}
        await enqueue(connection, poison | good)
        await settled(service, len(poison) + len(good))
        letters = await dead_letters(connection)
        assert {message_id: reason for message_id, (reason, _) in letters.items()} == {
            "not-json": "bad_json",
            "no-object": "bad_message",
            "no-such-task": "unknown_task",
            "wrong-type": "bad_params",
            "unknown-param": "bad_params",
            "too-large": "too_large",
        }
        assert "sleep" in letters["no-such-task"][1]
        assert "seconds" in letters["wrong-type"][1]
        assert "image" in letters["unknown-param"][1]
        assert "16384" in letters["too-large"][1]
        assert await left_on_queue(connection) == []
        assert {run.item for run in service.runs() if run.ok} == set(good)
    finally:
        service.end_all()


@pytest.mark.timeout(120)
async def test_an_item_that_always_fails_is_dead_lettered_with_its_cause_and_the_end_of_its_log(tmp_path: Path) -> None:
    service = LocalService(tmp_path, task={"backoff_limit": 1})
    try:
        service.start()
        connection = await service.ready()
        await enqueue(connection, {"bad": work(fail=True), "good": work()})
        await settled(service, 2)
        reason, description = (await dead_letters(connection))["bad"]
        assert reason == "application"
        assert "this item was told to fail" in description
        assert "2 failed tries" in description
        assert len([run for run in service.runs() if run.item == "bad"]) == 2
        assert await left_on_queue(connection) == []
    finally:
        service.end_all()


@pytest.mark.timeout(120)
async def test_a_command_that_vanishes_is_a_fault_of_the_template_and_not_tried_again(tmp_path: Path) -> None:
    program = tmp_path / "program.sh"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    service = LocalService(tmp_path, task={"command": [str(program)]})
    try:
        service.start()
        connection = await service.ready()
        program.unlink()
        await enqueue(connection, {"item": work()})
        await settled(service, 1)
        reason, description = (await dead_letters(connection))["item"]
        assert reason == "template"
        assert str(program) in description
        assert len(service.events("batch.launched")) == 1
    finally:
        service.end_all()


@pytest.mark.timeout(120)
async def test_a_second_message_with_the_id_and_body_of_one_under_way_goes_with_it(tmp_path: Path) -> None:
    service = LocalService(tmp_path)
    try:
        service.start()
        connection = await service.ready()
        await enqueue(connection, {"twice": work(2)})
        await eventually(lambda: len(service.runs()) == 1, 30, "the first one runs")
        await enqueue(connection, {"twice": work(2)})
        await enqueue(connection, {"other": work()})
        await settled(service, 2)
        assert sorted(run.item for run in service.runs()) == ["other", "twice"]
        assert await left_on_queue(connection) == []
        assert await left_on_queue(connection, dead=True) == []
    finally:
        service.end_all()


async def fill(connection: str) -> tuple[int, str]:
    """Sends until the broker refuses: how many it has accepted, and what it says."""
    for number in range(40):
        try:
            await enqueue(connection, {f"full-{number}": work(text="x" * 15_000)})
        except ServiceBusError as refusal:
            return number, str(refusal)
    raise AssertionError("the disk never was full")


@pytest.mark.timeout(180)
async def test_a_full_disk_refuses_what_it_cannot_keep_and_work_goes_on_when_there_is_room(tmp_path: Path) -> None:
    service = LocalService(tmp_path)
    try:
        service.start()
        connection = await service.ready()
        await enqueue(connection, {"before": work()})
        await settled(service, 1)
        assert service.process is not None
        process = psutil.Process(service.process.pid)
        largest = max(path.stat().st_size for path in service.data.glob("*.db*"))
        process.rlimit(psutil.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
        accepted, refusal = await fill(connection)
        assert "broker.db" in refusal
        url = find_service(service.data).url
        health = await get_json(url, "/healthz")
        assert health["ok"] is False
        process.rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await enqueue(connection, {"after": work()})
        await settled(service, len(["before"]) + accepted + len(["after"]))
        assert {run.item for run in service.runs() if run.ok} >= {"before", "after"}
        assert await left_on_queue(connection) == []
        assert (await get_json(url, "/healthz"))["ok"] is True
    finally:
        service.end_all()


@pytest.mark.timeout(60)
async def test_a_second_service_on_the_same_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    service = LocalService(tmp_path)
    try:
        service.start()
        await service.ready()
        first = service.process
        service.start()
        assert service.process is not None
        second = service.process
        await eventually(lambda: second.poll() is not None, 30, "the second service ends")
        assert second.returncode == 2
        service.process = first
        assert json.loads((service.data / "service.json").read_text())["pid"] == first.pid if first else False
    finally:
        service.end_all()


@pytest.mark.timeout(120)
async def test_work_beyond_a_budget_that_rejects_is_dead_lettered_with_the_budget_and_its_numbers(
    tmp_path: Path,
) -> None:
    budget = {"name": "pennies", "scope": "task", "task": "sleep", "window": "hour", "limit_usd": "0.0000001"}
    service = LocalService(tmp_path, {"budgets": [budget | {"when_exhausted": "dead_letter"}]})
    try:
        service.start()
        connection = await service.ready()
        await enqueue(connection, {f"item-{number}": work() for number in range(30)})
        await settled(service, 30)
        letters = await dead_letters(connection)
        assert {reason for reason, _ in letters.values()} == {"budget_exhausted"}
        assert all(description.startswith("It was never launched.") for _, description in letters.values())
        assert all("pennies" in description and "$0.0000001" in description for _, description in letters.values())
        assert len(letters) == 30
        assert await left_on_queue(connection) == []
        assert service.runs() == []
    finally:
        service.end_all()


@pytest.mark.timeout(120)
async def test_an_item_that_is_held_beyond_its_time_to_live_does_not_run(tmp_path: Path) -> None:
    task = {"placements": ["node_pool"], "resources": {"cpu": "900m", "memory": "100M"}, "item_timeout": "60s"}
    service = LocalService(tmp_path, task=task)
    try:
        service.start()
        connection = await service.ready()
        await enqueue(connection, {"long": work(25)})
        await eventually(lambda: len(service.runs()) == 1, 30, "the first one runs")
        await enqueue(connection, {"hasty": work()}, time_to_live=timedelta(seconds=2))
        await eventually(lambda: bool(service.events("item.dead_lettered")), 40, "the other one is given up")
        [told] = service.events("item.dead_lettered")
        assert (told["item"], told["cause"]) == ("hasty", "expired")
        assert [message.message_id for message in await left_on_queue(connection)] == ["long"]
        assert [run.item for run in service.runs()] == ["long"]
    finally:
        service.end_all()
