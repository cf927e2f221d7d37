"""The whole service on this machine: from a message to its end, and how it starts, stops and is found."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
import yaml
from typer.testing import CliRunner

from dispatcher.cli import app
from dispatcher.embedded.broker import Fault
from dispatcher.errors import BadConfiguration, DispatcherError
from dispatcher.running import find_service
from dispatcher.service import LocalService
from dispatcher.service.data_dir import DataDir
from dispatcher.settings import load

pytestmark = pytest.mark.timeout(90)

DISPATCHER = {
    "queues": [{"name": "work", "tasks": ["touch", "broken"]}],
    "virtual_node": {"subnet": "10.0.0.0/28", "release_hold": "1s", "tail": "1s"},
    "budgets": [{"name": "daily", "limit_usd": 5}],
    "retry": {"delay_min": "0s"},
    "service_bus": {"lock_duration": "6s"},
    "timing": {"lock_hold_max": "1s", "stop_timeout": "10s"},
    "local": {
        "web_port": 0,
        "broker_port": 0,
        "nodes": {"cpu": "1", "memory": "1Gi"},
        "virtual_node": {"start_delay": "100ms", "address_release_lag": "100ms"},
    },
}
SMALL = {"image": "x", "resources": {"cpu": "100m", "memory": "64Mi"}, "linger": "0s"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    touch = 'line=$(cat "$BURST_ITEMS_DIR/$JOB_COMPLETION_INDEX.json"); echo "$line" >> done.jsonl'
    tasks = [
        {**SMALL, "name": "touch", "command": ["sh", "-c", touch]},
        {**SMALL, "name": "broken", "command": ["sh", "-c", "echo no luck; exit 3"], "backoff_limit": 0},
    ]
    (folder / "dispatcher.yaml").write_text(yaml.safe_dump(DISPATCHER))
    (folder / "tasks.yaml").write_text(yaml.safe_dump({"tasks": tasks}))
    return folder


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@asynccontextmanager
async def running(config: Path, data: Path) -> AsyncIterator[LocalService]:
    settings = load(config, local=True, environ={}, overrides={"local": {"data_dir": str(data)}})
    stop = asyncio.Event()
    async with LocalService(settings, config) as service:
        cycles = asyncio.create_task(service.run(stop))
        yield service
        stop.set()
        async with asyncio.timeout(20):
            await cycles


async def asked(service: LocalService, path: str) -> tuple[int, dict[str, Any]]:
    timeout = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(service.url + path) as response:
        return response.status, await response.json()


async def until(service: LocalService, path: str, holds: Any, seconds: float = 45) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    async with asyncio.timeout(seconds):
        while True:
            _, answer = await asked(service, path)
            if holds(answer):
                return answer
            await asyncio.sleep(0.05)


def ids_of_done(config: Path) -> set[str]:
    path = config / "done.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return {json.loads(line)["id"] for line in lines}


async def enqueue(config: Path, data: Path, *arguments: str, stdin: str | None = None) -> str:
    """The command, as a process of its own."""
    command = ["-m", "dispatcher", "enqueue", "--config", str(config), "--data-dir", str(data), *arguments]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdin=pipe, stdout=pipe, stderr=pipe)
    async with asyncio.timeout(30):
        out, err = await process.communicate(None if stdin is None else stdin.encode())
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_items_that_are_enqueued_are_run_and_settled_and_told(config: Path, data: Path) -> None:
    async with running(config, data) as service:
        await until(service, "/readyz", lambda answer: answer["ok"])
        lines = [json.dumps({"task": "touch", "params": {"n": n}, "message_id": f"m-{n}"}) for n in range(3)]
        lines.append(json.dumps({"task": "broken", "message_id": "bad"}))
        printed = await enqueue(config, data, "--json", stdin="\n".join(lines))
        assert [json.loads(line)["message_id"] for line in printed.splitlines()] == ["m-0", "m-1", "m-2", "bad"]
        status = await until(
            service,
            "/api/status",
            lambda answer: answer["items"]["done"] == 3 and answer["items"]["dead_lettered"] == 1,
        )
        assert status["leading"] is True
        assert status["faults"] == []
        assert (await asked(service, "/healthz"))[0] == 200
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(service.url + "/metrics") as page:
            assert 'burst_items_settled_total{outcome="done"} 3.0' in await page.text()
    assert ids_of_done(config) == {"m-0", "m-1", "m-2"}
    events = [json.loads(line) for line in (data / "events.jsonl").read_text().splitlines()]
    assert sorted(event["item"] for event in events if event.get("event") == "item.done") == ["m-0", "m-1", "m-2"]


async def test_what_was_not_done_when_the_service_stopped_is_done_by_the_next_one(config: Path, data: Path) -> None:
    async with running(config, data) as service:
        await until(service, "/readyz", lambda answer: answer["ok"])
        first = find_service(data)
        key = first.connection_string_file.read_text().partition("SharedAccessKey=")[2].partition(";")[0]
        await enqueue(config, data, stdin="\n".join(json.dumps({"task": "touch"}) for _ in range(20)))
    assert not (data / "service.json").exists()
    async with running(config, data) as service:
        await until(service, "/readyz", lambda answer: answer["ok"])
        assert key in find_service(data).connection_string_file.read_text()
        await until(service, "/api/status", lambda _: len(ids_of_done(config)) == 20)


async def test_a_broker_that_refuses_is_told_for_its_queue_everywhere_and_served_again_by_itself(
    config: Path, data: Path
) -> None:
    async with running(config, data) as service:
        await until(service, "/readyz", lambda answer: answer["ok"])
        broker = service._broker
        assert broker is not None
        broker.faults.arm(Fault.DENY_TOKENS)
        broker.faults.strike(Fault.RESET_CONNECTIONS)
        health = await until(service, "/healthz", lambda answer: not answer["ok"])
        said = "the key or token was not accepted; check the connection string or identity"
        assert any(said in fault for fault in health["faults"])
        assert (await asked(service, "/livez"))[0] == 200, "a restart would not mend a refused key"
        _, status = await asked(service, "/api/status")
        assert said in status["queues"]["work"]["refused"]
        shown = await asyncio.to_thread(CliRunner().invoke, app, ["status", "--url", service.url])
        assert "refused: the key or token was not accepted" in " ".join(shown.output.split())
        broker.faults.disarm()
        await until(service, "/healthz", lambda answer: answer["ok"])
        await enqueue(config, data, "--task", "touch", "--message-id", "after")
        await until(service, "/api/status", lambda answer: answer["items"]["done"] == 1)
        key = find_service(data).connection_string_file.read_text().partition("SharedAccessKey=")[2].partition(";")[0]
        assert key not in json.dumps([health, status]) + shown.output + (data / "events.jsonl").read_text()
        notes = (await asked(service, "/api/status"))[1]["queues"]["work"]["notes"]
        assert notes == []  # locks last as long as the configuration says


async def test_a_second_service_on_the_same_folder_is_refused_in_one_line(config: Path, data: Path) -> None:
    async with running(config, data):
        with pytest.raises(BadConfiguration) as caught:
            async with running(config, data):
                pass
        (line,) = caught.value.mistakes
        assert line.startswith("local.data_dir: a service (process ")
        assert find_service(data).pid > 0


def test_a_lock_of_a_process_that_is_gone_is_taken_over(tmp_path: Path) -> None:
    holder = "from pathlib import Path; from dispatcher.service.data_dir import DataDir; import os, sys\n"
    holder += "DataDir(Path(sys.argv[1])).__enter__(); os._exit(9)"
    subprocess.run([sys.executable, "-c", holder, str(tmp_path)], timeout=30, check=False)
    (tmp_path / "service.json").write_text("{}")
    with DataDir(tmp_path):
        assert not (tmp_path / "service.json").exists()


def test_secrets_in_the_folder_are_for_its_owner_alone_and_the_key_stays(tmp_path: Path) -> None:
    with DataDir(tmp_path) as folder:
        key = folder.broker_key()
        assert stat.S_IMODE((tmp_path / "broker.key").stat().st_mode) == 0o600
    with DataDir(tmp_path) as folder:
        assert folder.broker_key() == key


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadConfiguration, match="cannot be used"), DataDir(tmp_path / "file"):
        pass


async def test_a_taken_port_keeps_it_from_starting_and_leaves_nothing_behind(config: Path, data: Path) -> None:
    async with running(config, data) as service:
        port = int(service.url.rpartition(":")[2])
        other = data.with_name("other")
        overrides = {"local": {"data_dir": str(other), "web_port": port}}
        with pytest.raises(DispatcherError, match="is taken by another program"):
            async with LocalService(load(config, local=True, environ={}, overrides=overrides), config):
                pass
        with DataDir(other):
            pass


@pytest.fixture
def process(config: Path, data: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "dispatcher", "run", "--local", "--config", str(config), "--data-dir", str(data)]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    yield started
    if started.poll() is None:
        started.kill()
    started.communicate(timeout=10)


def wait_for_service(process: subprocess.Popen[str], data: Path) -> None:
    until = time.monotonic() + 30
    while not (data / "service.json").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_service_cleanly(process: subprocess.Popen[str], data: Path, number: signal.Signals) -> None:
    wait_for_service(process, data)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert out == ""
    assert err.splitlines()[-1] == "The dispatcher has stopped."
    assert "Traceback" not in err
    assert not (data / "service.json").exists()


def test_after_a_kill_the_next_service_starts_on_the_same_folder(
    process: subprocess.Popen[str], config: Path, data: Path
) -> None:
    wait_for_service(process, data)
    process.kill()
    process.communicate(timeout=10)
    assert CliRunner().invoke(app, ["status", "--data-dir", str(data)]).exit_code == 3

    async def again() -> None:
        async with running(config, data) as service:
            await until(service, "/readyz", lambda answer: answer["ok"])

    asyncio.run(again())


async def test_an_item_a_batch_and_a_tenant_are_explained_while_they_run_and_after_a_restart(
    config: Path, data: Path
) -> None:
    async with running(config, data) as service:
        await until(service, "/readyz", lambda answer: answer["ok"])
        await enqueue(config, data, stdin=json.dumps({"task": "touch", "message_id": "order-17"}))
        answer = await until(service, "/api/explain?name=order-17", lambda answer: "It is done" in json.dumps(answer))
        assert answer["title"] == "item order-17 (task touch, tenant default)"
        said = {section["heading"]: " ".join(section["lines"]) for section in answer["sections"]}
        assert "the nodes had room for" in said["Why"]
        assert (await asked(service, "/api/explain?name=default"))[1]["title"] == "tenant default"
        report = await until(service, "/api/report", lambda answer: bool(answer["rows"]))
        (row,) = report["rows"]
        assert (row["tenant"], row["task"], row["placement"], row["items"]) == ("default", "touch", "node_pool", 1)
        assert (row["cost_usd"], report["budgets"][0]["budget"]) == ("0", "daily")
        code, out, err = await command(data, "plan", "--config", str(config), "--json")
        assert code == 0, err
        dry = json.loads(out)
        assert (dry["starts"], dry["holds"], dry["until_done"]) == ([], [], "0s")
        (config.parent / "wrong").mkdir()
        for name in ("dispatcher.yaml", "tasks.yaml"):
            text = (config / name).read_text().replace("limit_usd: 5", "limit_usd: many")
            (config.parent / "wrong" / name).write_text(text)
        code, _, err = await command(data, "plan", "--config", str(config.parent / "wrong"))
        assert (code, "budgets[0].limit_usd" in err) == (1, True)
        status, unknown = await asked(service, "/api/explain?name=nobody")
        assert (status, unknown["found"]) == (404, False)
        assert (await asked(service, "/api/explain"))[0] == 400
        assert (await asked(service, "/api/explain?name=x&kind=pod"))[0] == 400
    async with running(config, data) as service:
        await until(service, "/readyz", lambda answer: answer["ok"])
        code, out, err = await command(data, "explain", "order-17")
        assert code == 0, err
        assert "the nodes had room for" in " ".join(out.split())


async def test_money_is_added_with_author_and_reason_once_and_stays_over_a_restart(config: Path, data: Path) -> None:
    order = {"id": "t1", "budget": "daily", "usd": "2.50", "author": "Ann", "reason": "month-end reports"}
    refused = (
        ("text/plain", json.dumps(order), 415, "application/json"),
        ("application/json", "[1]", 400, "no JSON object"),
        ("application/json", "{", 400, "no JSON object"),
        ("application/json", json.dumps({**order, "usd": "many"}), 400, "no amount of dollars"),
        ("application/json", json.dumps({**order, "usd": "0"}), 400, "add nothing"),
        ("application/json", json.dumps({**order, "author": 7}), 400, "must be text"),
        ("application/json", json.dumps({**order, "reason": " "}), 400, "reason: is missing"),
        ("application/json", json.dumps({**order, "tenant": "acme"}), 400, "no account for tenant"),
        ("application/json", json.dumps({**order, "budget": "dialy"}), 400, "there is no budget 'dialy'"),
    )
    async with running(config, data) as service:
        await until(service, "/readyz", lambda answer: answer["ok"])
        path, timeout = service.url + "/api/budgets/top-ups", aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for kind, body, status, words in refused:
                async with session.post(path, data=body, headers={"Content-Type": kind}) as response:
                    assert (response.status, words in (await response.json())["error"]) == (status, True), body
        added = ("budgets", "top-up", "daily", "--usd", "2.50", "--author", "Ann", "--reason", "month-end reports")
        code, out, err = await command(data, *added, "--id", "t1", "--json")
        assert code == 0, err
        assert (json.loads(out)["limit_usd"], json.loads(out)["text"]) == ("7.5", "")
        async with aiohttp.ClientSession(timeout=timeout) as session, session.post(path, json=order) as response:
            assert (await response.json())["text"] == "it had been booked before"
    async with running(config, data) as service:
        await until(service, "/readyz", lambda answer: answer["ok"])
        (row,) = (await asked(service, "/api/budgets"))[1]["budgets"]
        assert (row["limit_usd"], row["forecast_usd"], row["empty_at"]) == ("7.5", "0", None)
        (kept,) = row["top_ups"]
        assert (kept["author"], kept["reason"], kept["amount_usd"]) == ("Ann", "month-end reports", "2.5")
    events = [json.loads(line) for line in (data / "events.jsonl").read_text().splitlines()]
    (told,) = [event for event in events if event.get("event") == "budget.topped_up"]
    assert (told["author"], told["reason"], told["amount_usd"]) == ("Ann", "month-end reports", "2.5")


async def command(data: Path, *arguments: str) -> tuple[int | None, str, str]:
    """A command about the running service, as a process of its own: exit code, stdout, stderr."""
    line = ["-m", "dispatcher", *arguments, "--data-dir", str(data)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *line, stdout=pipe, stderr=pipe)
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()
