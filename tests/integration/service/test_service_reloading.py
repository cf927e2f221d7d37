"""A configuration that changes while the service runs: taken over when it is right, refused and told when it is not."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
import yaml
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient

from dispatcher.running import find_service
from dispatcher.service import LocalService
from dispatcher.service.reloading import Adopted, Reloader, changes_that_need_a_restart, what_changed
from dispatcher.settings import Examination, Settings, examine

pytestmark = pytest.mark.timeout(90)

DISPATCHER: dict[str, Any] = {
    "queues": [{"name": "work", "tasks": ["touch"]}],
    "virtual_node": {"subnet": "10.0.0.0/28", "release_hold": "1s", "tail": "1s"},
    "budgets": [{"name": "daily", "limit_usd": 5}],
    "service_bus": {"lock_duration": "6s"},
    "timing": {"lock_hold_max": "1s", "stop_timeout": "10s"},
    "local": {
        "web_port": 0,
        "broker_port": 0,
        "nodes": {"cpu": "1", "memory": "1Gi"},
        "virtual_node": {"start_delay": "100ms", "address_release_lag": "100ms"},
    },
}
COMMAND = 'cat "$BURST_ITEMS_DIR/$JOB_COMPLETION_INDEX.json" >> done.jsonl; echo >> done.jsonl'
TOUCH: dict[str, Any] = {
    "name": "touch",
    "image": "x",
    "command": ["sh", "-c", COMMAND],
    "resources": {"cpu": "100m", "memory": "64Mi"},
    "linger": "0s",
}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config").mkdir()
    write(tmp_path / "config", DISPATCHER, TOUCH)
    return tmp_path / "config"


def write(folder: Path, dispatcher: dict[str, Any], *tasks: dict[str, Any]) -> None:
    (folder / "dispatcher.yaml").write_text(yaml.safe_dump(dispatcher))
    (folder / "tasks.yaml").write_text(yaml.safe_dump({"tasks": list(tasks)}))


def read(folder: Path) -> Examination:
    overrides = {"local": {"data_dir": str(folder.parent / "data")}}
    return examine(folder, local=True, environ={}, overrides=overrides)


def settings_of(folder: Path) -> Settings:
    examined = read(folder)
    assert examined.settings is not None, examined.mistakes
    return examined.settings


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[LocalService]:
    stop = asyncio.Event()
    async with LocalService(settings_of(folder), folder) as service:
        service.follow(folder, lambda: read(folder))
        cycles = asyncio.create_task(service.run(stop))
        yield service
        stop.set()
        async with asyncio.timeout(20):
            await cycles


async def status_when(service: LocalService, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    timeout = aiohttp.ClientTimeout(total=5)
    async with asyncio.timeout(45), aiohttp.ClientSession(timeout=timeout) as session:
        while True:
            async with session.get(f"{service.url}/api/status") as response:
                status: dict[str, Any] = await response.json()
            if holds(status):
                return status
            await asyncio.sleep(0.05)


async def send(folder: Path, task: str, message_id: str) -> None:
    found = find_service(folder.parent / "data")
    client = ServiceBusClient.from_connection_string(found.connection_string_file.read_text().strip())
    async with asyncio.timeout(20), client, client.get_queue_sender("work") as sender:
        await sender.send_messages(ServiceBusMessage(json.dumps({"task": task, "params": {}}), message_id=message_id))


def done(folder: Path) -> set[str]:
    path = folder / "done.jsonl"
    return {json.loads(line)["id"] for line in path.read_text().splitlines() if line} if path.exists() else set()


async def test_new_tasks_and_budgets_are_taken_over_and_what_was_under_way_ends_as_ever(folder: Path) -> None:
    slow = {**TOUCH, "name": "slow", "command": ["sh", "-c", f"sleep 3; {COMMAND}"]}
    queues = [{"name": "work", "tasks": ["touch", "slow"]}]
    write(folder, {**DISPATCHER, "queues": queues}, TOUCH, slow)
    async with running(folder) as service:
        await send(folder, "slow", "before")
        await status_when(service, lambda status: status["items"]["in_flight"] == 1)
        late = {**TOUCH, "name": "late"}
        budgets = [{"name": "daily", "limit_usd": 7}]
        queues = [{"name": "work", "tasks": ["touch", "slow", "late"]}]
        write(folder, {**DISPATCHER, "queues": queues, "budgets": budgets}, TOUCH, slow, late)
        os.kill(os.getpid(), signal.SIGHUP)
        status = await status_when(service, lambda status: status["configuration"]["adopted_at"] is not None)
        assert status["configuration"]["mistakes"] == []
        await send(folder, "late", "after")
        status = await status_when(service, lambda status: status["items"]["done"] == 2)
        assert (status["items"]["dead_lettered"], status["items"]["rejected"]) == (0, 0)
    assert done(folder) == {"before", "after"}
    lines = (folder.parent / "data" / "events.jsonl").read_text().splitlines()
    (audit,) = [event for event in map(json.loads, lines) if event.get("event") == "configuration.adopted"]
    assert 'budgets[0].limit_usd: "5" -> "7"' in audit["changes"]
    assert 'tasks: ["touch", "slow"] -> ["touch", "slow", "late"]' in audit["changes"]


async def test_a_wrong_configuration_is_refused_with_all_its_mistakes_and_the_old_one_stays_in_force(
    folder: Path,
) -> None:
    async with running(folder) as service:
        wrong = {
            **DISPATCHER,
            "budgets": [{"name": "daily", "limit_usd": -1}],
            "queues": [{"name": "work", "tasks": ["x"]}],
        }
        write(folder, wrong, TOUCH)
        os.kill(os.getpid(), signal.SIGHUP)
        status = await status_when(service, lambda status: status["configuration"]["refused_at"] is not None)
        assert len(status["configuration"]["mistakes"]) == 2
        (fault,) = [fault for fault in status["faults"] if fault.startswith("configuration: ")]
        assert "the old one is in force" in fault
        await send(folder, "touch", "as-ever")
        await status_when(service, lambda status: status["items"]["done"] == 1)
        write(folder, DISPATCHER, TOUCH)
        os.kill(os.getpid(), signal.SIGHUP)
        status = await status_when(service, lambda status: status["configuration"]["refused_at"] is None)
        assert status["faults"] == []
    assert done(folder) == {"as-ever"}


# --- which changes need a restart -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"service_bus": {"lock_duration": "9s"}}, "service_bus: a change here"),
        ({"timing": {**DISPATCHER["timing"], "stop_timeout": "11s"}}, "timing.stop_timeout: a change here"),
        ({"queues": [{"name": "other", "tasks": ["touch"]}]}, "queues: other, work was added or taken out"),
        ({"queues": [{"name": "work", "tasks": ["touch"], "reply_to": ["out"]}]}, "queues.reply_to: out was added"),
        ({"virtual_node": {"subnet": "10.0.0.0/27"}}, "virtual_node: the local virtual node"),
    ],
)
def test_what_connections_hang_on_needs_a_restart(folder: Path, change: dict[str, Any], says: str) -> None:
    old = settings_of(folder)
    write(folder, {**DISPATCHER, **change}, TOUCH)
    (line,) = changes_that_need_a_restart(old, settings_of(folder), local=True)
    assert line.startswith(says)
    assert "restart the dispatcher" in line


def test_a_task_in_another_namespace_needs_a_restart(folder: Path) -> None:
    old = settings_of(folder)
    write(folder, DISPATCHER, {**TOUCH, "namespace": "elsewhere"})
    (line,) = changes_that_need_a_restart(old, settings_of(folder), local=False)
    assert line.startswith("tasks: touch moves to the namespace elsewhere")


@pytest.mark.parametrize(
    "change", [{"budgets": []}, {"retry": {"delay_min": "1s"}}, {"tenant_weights": {"default": 2}}, {"prices": {}}]
)
def test_all_else_needs_none(folder: Path, change: dict[str, Any]) -> None:
    old = settings_of(folder)
    write(folder, {**DISPATCHER, **change}, TOUCH)
    assert changes_that_need_a_restart(old, settings_of(folder), local=True) == []


def test_what_has_changed_is_told_setting_by_setting_and_never_a_value_that_may_be_secret(folder: Path) -> None:
    old = settings_of(folder)
    bus = {"connection_string": "Endpoint=sb://x/;SharedAccessKeyName=n;SharedAccessKey=hidden"}
    other = {**DISPATCHER, "service_bus": {**DISPATCHER["service_bus"], **bus}, "tenant_weights": {"default": 3}}
    write(folder, other, {**TOUCH, "env": {"PASSWORD": "hidden"}, "spill_after": "9s"})
    changes = what_changed(old, settings_of(folder))
    assert 'tasks[0].spill_after: "5s" -> "9s"' in changes
    assert "tasks[0].env.PASSWORD: another value" in changes
    assert "tenant_weights.default: null -> 3" in changes
    assert "hidden" not in "".join(changes)


# --- when the files are read again ----------------------------------------------------------------------------------


class Told:
    def __init__(self) -> None:
        self.events: list[str] = []

    def emit(self, event: str, **facts: Any) -> None:
        self.events.append(event)

    def now(self) -> datetime:
        return datetime(2026, 3, 4, tzinfo=UTC)


@asynccontextmanager
async def following(folder: Path, adopt: Callable[[Settings], Adopted], told: Told) -> AsyncIterator[Reloader]:
    reloader = Reloader(folder, lambda: read(folder), adopt, told, told, look_every_seconds=0.02)
    task = asyncio.create_task(reloader.run())
    yield reloader
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - what is waited for rings no bell
            await asyncio.sleep(0.01)


async def test_files_that_change_are_read_without_being_asked_and_each_change_once(folder: Path) -> None:
    adopted: list[Settings] = []
    told = Told()

    def adopt(settings: Settings) -> Adopted:
        adopted.append(settings)
        return Adopted()

    async with following(folder, adopt, told) as reloader:
        reloader.ring()
        await until(lambda: len(adopted) == 1)  # it follows now
        write(folder, {**DISPATCHER, "budgets": []}, TOUCH)
        await until(lambda: bool(adopted[-1].budgets == ()))
        (folder / "tasks.yaml").unlink()
        await until(lambda: reloader.refusal is not None)
        assert reloader.refusal is not None
        assert "tasks.yaml" in reloader.refusal.sentence
    assert told.events[0] == "configuration.adopted"
    assert told.events[-1] == "configuration.refused"


async def test_what_cannot_be_taken_over_is_told_like_a_mistake(folder: Path) -> None:
    told = Told()
    async with following(folder, lambda _: Adopted(["queues: needs a restart", "local: too"]), told) as reloader:
        reloader.ring()
        await until(lambda: reloader.refusal is not None)
        assert reloader.status() == {
            "adopted_at": None,
            "refused_at": "2026-03-04T00:00:00.000000Z",
            "mistakes": ["queues: needs a restart", "local: too"],
        }
        assert reloader.refusal is not None
        assert reloader.refusal.sentence.endswith("queues: needs a restart (and 1 more)")


async def test_a_reading_that_breaks_off_ends_nothing_and_is_told(folder: Path) -> None:
    def adopt(_: Settings) -> Adopted:
        raise RuntimeError("out of luck")

    told = Told()
    async with following(folder, adopt, told) as reloader:
        reloader.ring()
        await until(lambda: reloader.refusal is not None)
        assert reloader.refusal is not None
        assert reloader.refusal.mistakes == ("reading it broke off (RuntimeError: out of luck); the log says where",)
        reloader.ring()
        await until(lambda: told.events.count("configuration.refused") == 2)
