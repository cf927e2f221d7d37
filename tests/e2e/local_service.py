"""A local service in a process of its own, as operators start it, and the run log that its workers write."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from azure.servicebus import ServiceBusMessage, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient

from dispatcher.errors import DispatcherError
from dispatcher.running import NotReachable, find_service, get_json

WORKER = Path(__file__).with_name("worker.sh")
QUEUE = "work"


@dataclass(frozen=True)
class Run:
    """One run of an item, as its worker wrote it down; ``end`` is None where it did not live to write it."""

    item: str
    pid: int
    start: float
    end: float | None
    ok: bool


class LocalService:
    """Starts, kills and asks a local service on one folder."""

    def __init__(self, folder: Path, settings: dict[str, Any] | None = None, task: dict[str, Any] | None = None):
        self.folder = folder
        self.data = folder / "data"
        self.run_log = folder / "runs.jsonl"
        self.process: subprocess.Popen[bytes] | None = None
        self._write_config(settings or {}, task or {})

    def _write_config(self, settings: dict[str, Any], task: dict[str, Any]) -> None:
        (self.folder / "config").mkdir(parents=True)
        sleep = {
            "name": "sleep",
            "image": "tests/sleep:1",
            "command": ["/bin/sh", str(WORKER)],
            "env": {"RUN_LOG": str(self.run_log)},
            "resources": {"cpu": "100m", "memory": "100M"},
            "item_timeout": "30s",
            "start_deadline": "30s",
            "batch_size_max": 25,
            "spill_after": "500ms",
            "linger": "200ms",
            **task,
        }
        dispatcher = {
            "queues": [{"name": QUEUE, "tasks": ["sleep"]}],
            "service_bus": {"lock_duration": "10s"},
            "virtual_node": {
                "subnet": "10.240.0.0/28",
                "release_hold": "1s",
                "tail": "5s",
                "creates_per_5min": 100_000,
                "creates_per_hour": 100_000,
                "deletes_per_5min": 100_000,
                "deletes_per_hour": 100_000,
            },
            "budgets": [{"name": "all", "scope": "all", "window": "day", "limit_usd": "1"}],
            "retry": {"delay_min": "500ms", "delay_max": "2s"},
            "timing": {"lock_hold_max": "1s", "sweep_every": "5s"},
            "local": {
                "web_port": 0,
                "broker_port": 0,
                "job_backoff_min": "500ms",
                "nodes": {"count": 1, "cpu": "1", "memory": "4Gi"},
                "virtual_node": {"start_delay": "200ms", "address_release_lag": "500ms"},
            },
            **settings,
        }
        for name, content in (("dispatcher.yaml", dispatcher), ("tasks.yaml", {"tasks": [sleep]})):
            (self.folder / "config" / name).write_text(yaml.safe_dump(content))

    def start(self) -> None:
        """Starts the service; it announces itself in its folder when all of it is there."""
        command = [sys.executable, "-m", "dispatcher", "run", "--local"]
        command += ["--config", str(self.folder / "config"), "--data-dir", str(self.data)]
        with (self.folder / "service.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    async def ready(self, seconds: float = 30) -> str:
        """The connection string, once the service has announced itself."""

        def announced() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, (self.folder / "service.log").read_text()[-2000:]
            try:
                return find_service(self.data).pid == self.process.pid
            except NotReachable:
                return False

        await eventually(announced, seconds, "the service announces itself")
        return find_service(self.data).connection_string_file.read_text().strip()

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """SIGTERM, as an operator or Kubernetes does it; the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    async def status(self) -> dict[str, Any]:
        """What /api/status says now; empty where nobody answers."""
        try:
            return await get_json(find_service(self.data).url, "/api/status")
        except DispatcherError:
            return {}

    def events(self, name: str) -> list[dict[str, Any]]:
        """The decisions of that name, as told so far."""
        lines = (self.data / "events.jsonl").read_text().splitlines()
        return [event for line in lines if (event := json.loads(line)).get("event") == name]

    def runs(self) -> list[Run]:
        """All runs that the workers wrote down."""
        if not self.run_log.exists():
            return []
        begun: dict[tuple[str, int], Run] = {}
        for line in self.run_log.read_text().splitlines():
            entry = json.loads(line)
            key = (entry["item"], entry["pid"])
            if entry["event"] == "start":
                assert key not in begun, f"{key} started twice"
                begun[key] = Run(entry["item"], entry["pid"], entry["at"], None, False)
            else:
                run = begun[key]
                begun[key] = Run(run.item, run.pid, run.start, entry["at"], entry["ok"])
        return list(begun.values())

    def end_all(self) -> None:
        """Ends the service and every process of its pods: only those that it started."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        for run in self.runs():
            if run.end is None and is_worker(run.pid):
                os.kill(run.pid, signal.SIGKILL)


def is_worker(pid: int) -> bool:
    """Whether that process is one of the workers of these tests."""
    try:
        return str(WORKER).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def overlapping(runs: Iterable[Run]) -> list[str]:
    """Items of which two runs were alive at the same time; a run without an end is taken as a moment."""
    by_item: dict[str, list[Run]] = {}
    for run in runs:
        by_item.setdefault(run.item, []).append(run)
    found = []
    for item, its in by_item.items():
        its.sort(key=lambda run: run.start)
        for earlier, later in pairwise(its):
            if later.start < (earlier.end if earlier.end is not None else earlier.start):
                found.append(item)
    return found


async def eventually(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Waits until something that is to happen has happened, and fails by name if it does not."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(0.05)


async def enqueue(connection: str, bodies: dict[str, Any], time_to_live: timedelta | None = None) -> None:
    """Sends messages by id, in batches, with the SDK alone."""
    async with ServiceBusClient.from_connection_string(connection) as client, client.get_queue_sender(QUEUE) as sender:
        batch = await sender.create_message_batch()
        for message_id, body in bodies.items():
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            message = ServiceBusMessage(data, message_id=message_id, time_to_live=time_to_live)
            try:
                batch.add_message(message)
            except ValueError:
                await sender.send_messages(batch)
                batch = await sender.create_message_batch()
                batch.add_message(message)
        await sender.send_messages(batch)


async def left_on_queue(connection: str, *, dead: bool = False, queue: str = QUEUE) -> list[Any]:
    """Every message that the broker still has, in whatever state, peeked to the end."""
    kind = {"sub_queue": ServiceBusSubQueue.DEAD_LETTER} if dead else {}
    found: list[Any] = []
    client = ServiceBusClient.from_connection_string(connection)
    async with client, client.get_queue_receiver(queue, **kind) as receiver:
        position = 1
        while page := await receiver.peek_messages(250, sequence_number=position):
            found += page
            position = page[-1].sequence_number + 1
    return found
