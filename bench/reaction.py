"""How soon an item is at work on an idle service: from just before its send to the first line of its worker.

    python bench/reaction.py [--items 100] [--seed 1]

Two sides, turn about, each idle while the other is measured, both with a durable broker in the same process:
  dispatcher   `dispatcher run --local` with the default settings, one node, a task of one pod
  plain SDK    receive one message, start the same worker as a process, complete the message when it has ended
Nothing is subtracted. A figure includes the send, the broker's commit, and the start of a shell and of `date`, which is
the worker's first line and tells the time by the clock of this machine (CLOCK_REALTIME, as the sender and the event log
do). Environment variables reach the service: BURST_TIMING__CYCLE_PAUSE_MIN=10ms shows what that setting costs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import multiprocessing
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import structlog
import yaml
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient, ServiceBusSender

from dispatcher.embedded.broker import Broker, BrokerConfig, QueueConfig
from dispatcher.running import NotReachable, find_service

QUEUE = "work"
WORKER = 'at=$(date +%s%N); echo "$at" >> "$REACTION_LOG"\n'
READ_SECONDS = 0.02
"""How long one read of the SDK may hold a connection, for all that send and receive here. By default it is 0.2 s, and
then some items wait for so long behind a read."""
LOOK_EVERY_SECONDS = 0.01
PATIENCE_SECONDS = 60.0
QUIET_MAX_SECONDS = 0.7
"""Before each send: longer than any wait of the receiver, so that items meet it at every point of one."""


class Tail:
    """The lines of a file that another process writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._rest = b""

    def lines(self) -> list[bytes]:
        """What has been written since the last look."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._position)
            new = file.read()
        self._position += len(new)
        *whole, self._rest = (self._rest + new).split(b"\n")
        return whole


async def lines_until(tail: Tail, last: bytes) -> list[bytes]:
    """The next lines, up to one that holds those bytes."""
    seen: list[bytes] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not any(last in line for line in seen):
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            seen += tail.lines()
    return seen


@dataclass(frozen=True)
class Reaction:
    """One item; all times in seconds since the epoch. The last two are None where there is no dispatcher."""

    sent: float
    """Just before the SDK's send."""
    confirmed: float
    """The send has returned."""
    started: float
    """The worker's first line."""
    received: float | None = None
    """The dispatcher knows the item (`item.received`)."""
    launched: float | None = None
    """Its launch is recorded and paid for (`batch.launched`); the Job is created next."""

    @property
    def milliseconds(self) -> float:
        """The figure."""
        return (self.started - self.sent) * 1000

    def parts(self) -> dict[str, float]:
        """Where the time went, in milliseconds."""
        if self.received is None or self.launched is None:
            return {
                "send -> confirmed": self._between(self.sent, self.confirmed),
                "confirmed -> first line": self._between(self.confirmed, self.started),
            }
        return {
            "send -> confirmed": self._between(self.sent, self.confirmed),
            "confirmed -> item.received": self._between(self.confirmed, self.received),
            "item.received -> batch.launched": self._between(self.received, self.launched),
            "batch.launched -> first line": self._between(self.launched, self.started),
        }

    @staticmethod
    def _between(earlier: float, later: float) -> float:
        return (later - earlier) * 1000


@dataclass
class Side:
    """One of the two that are measured: where items are sent to, and what it writes while it works on them."""

    sender: ServiceBusSender
    starts: Tail
    events: Tail
    settled: bytes
    """What the last line about an item holds: nothing is under way any more."""

    async def react(self, number: int) -> Reaction:
        """Sends one item and waits until it is settled."""
        body = json.dumps({"task": "touch", "params": {}})
        message = ServiceBusMessage(body, message_id=f"item-{number}", content_type="application/json")
        sent = time.time()
        await self.sender.send_messages(message)
        confirmed = time.time()
        events = await lines_until(self.events, self.settled)
        (start,) = self.starts.lines()
        told = {event["event"]: event["at"] for line in events if "event" in (event := json.loads(line))}
        received, launched = (_seconds(told.get(name)) for name in ("item.received", "batch.launched"))
        return Reaction(sent, confirmed, int(start) / 1e9, received, launched)


def _seconds(instant: str | None) -> float | None:
    return None if instant is None else datetime.fromisoformat(instant).timestamp()


# --- the two sides --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def a_side(connection_string: str, folder: Path, events: str, settled: bytes) -> AsyncIterator[Side]:
    """The sending half, with its connection open."""
    client = ServiceBusClient.from_connection_string(connection_string)
    async with client, client.get_queue_sender(QUEUE, socket_timeout=READ_SECONDS) as sender:
        yield Side(sender, Tail(folder / "starts"), Tail(folder / events), settled)


@asynccontextmanager
async def a_dispatcher(folder: Path) -> AsyncIterator[Side]:
    """The local service in a process of its own."""
    write_config(folder)
    command = [sys.executable, "-m", "dispatcher", "run", "--local"]
    command += ["--config", str(folder / "config"), "--data-dir", str(folder / "data")]
    with (folder / "service.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, stderr=log)
    try:
        connection_string = await announced(folder, process)
        async with a_side(connection_string, folder, "data/events.jsonl", b'"attempt.closed"') as side:
            yield side
    finally:
        if process.returncode is None:
            process.terminate()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await process.wait()


def with_worker(folder: Path) -> Path:
    """The folder of one side, with the worker in it."""
    folder.mkdir()
    (folder / "worker.sh").write_text(WORKER)
    return folder


def write_config(folder: Path) -> None:
    """Default settings, one queue and one task."""
    task: dict[str, Any] = {
        "name": "touch",
        "image": "bench/touch:1",
        "command": ["/bin/sh", str(folder / "worker.sh")],
        "env": {"REACTION_LOG": str(folder / "starts")},
        "resources": {"cpu": "100m", "memory": "64Mi"},
    }
    settings: dict[str, Any] = {
        "queues": [{"name": QUEUE, "tasks": ["touch"]}],
        "virtual_node": {"enabled": False},
        "service": {"log_level": "warning"},
        "local": {"web_port": 0, "broker_port": 0},
    }
    (folder / "config").mkdir()
    for name, content in (("dispatcher.yaml", settings), ("tasks.yaml", {"tasks": [task]})):
        (folder / "config" / name).write_text(yaml.safe_dump(content))


async def announced(folder: Path, process: asyncio.subprocess.Process) -> str:
    """The connection string, once the service is there."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (found := connection_string_of(folder)) is None:
            if process.returncode is not None:
                raise RuntimeError(f"the service has ended:\n{last_words(folder)}")
            await asyncio.sleep(LOOK_EVERY_SECONDS)
    return found


def connection_string_of(folder: Path) -> str | None:
    """What the service has announced so far."""
    try:
        return find_service(folder / "data").connection_string_file.read_text().strip()
    except NotReachable:
        return None


def last_words(folder: Path) -> str:
    """The end of what the service wrote to its log."""
    return (folder / "service.log").read_text(errors="replace")[-2000:]


@asynccontextmanager
async def a_floor(folder: Path) -> AsyncIterator[Side]:
    """A broker and the plain SDK, in a process of their own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve_floor, args=(theirs, folder), daemon=True)
    process.start()
    try:
        connection_string = await asyncio.get_running_loop().run_in_executor(None, ours.recv)
        async with a_side(connection_string, folder, "settled", b"settled") as side:
            yield side
    finally:
        process.terminate()
        process.join(10)


def serve_floor(pipe: Connection, folder: Path) -> None:
    """Receives, starts the worker, completes; for as long as the process lives."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))

    async def run() -> None:
        config = BrokerConfig(queues=(QueueConfig(QUEUE),), journal_path=folder / "broker.db")
        async with Broker(config) as broker:
            client = ServiceBusClient.from_connection_string(broker.connection_string)
            async with client, client.get_queue_receiver(QUEUE, socket_timeout=READ_SECONDS) as receiver:
                pipe.send(broker.connection_string)
                while True:
                    for message in await receiver.receive_messages(max_message_count=1, max_wait_time=5):
                        await run_worker(folder)
                        await receiver.complete_message(message)
                        with (folder / "settled").open("a") as file:
                            file.write('"settled"\n')

    asyncio.run(run())


async def run_worker(folder: Path) -> None:
    """One process of the same worker, until it ends."""
    environment = {**os.environ, "REACTION_LOG": str(folder / "starts")}
    process = await asyncio.create_subprocess_exec("/bin/sh", str(folder / "worker.sh"), env=environment)
    await process.wait()


# --- figures --------------------------------------------------------------------------------------------------------


async def measure(folder: Path, count: int, dice: random.Random) -> dict[str, list[Reaction]]:
    """Sends to both sides, one item after another; the first of each opens connections and does not count."""
    async with (
        a_dispatcher(with_worker(folder / "dispatcher")) as dispatcher,
        a_floor(with_worker(folder / "floor")) as floor,
    ):
        sides = {"dispatcher": dispatcher, "plain SDK": floor}
        reactions: dict[str, list[Reaction]] = {name: [] for name in sides}
        for number in range(count + 1):
            for name, side in sides.items():
                await asyncio.sleep(dice.uniform(0, QUIET_MAX_SECONDS))
                reactions[name].append(await side.react(number))
        return {name: each[1:] for name, each in reactions.items()}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that this share of all values does not exceed."""
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]


def tell(reactions: dict[str, list[Reaction]]) -> None:
    """Prints the figures and the ratio."""
    told = {name: [each.milliseconds for each in its] for name, its in reactions.items()}
    print(f"{'milliseconds':34} {'p50':>8} {'p99':>8} {'most':>8}")
    for name, its in reactions.items():
        tell_line(name, told[name])
        for part in its[0].parts():
            tell_line(f"  {part}", [each.parts()[part] for each in its])
    ratios = [percentile(told["dispatcher"], share) / percentile(told["plain SDK"], share) for share in (0.5, 0.99)]
    print(f"{'dispatcher / plain SDK':34} {ratios[0]:7.1f}x {ratios[1]:7.1f}x")


def tell_line(name: str, values: Sequence[float]) -> None:
    """One line of figures."""
    print(f"{name:34} {percentile(values, 0.5):8.1f} {percentile(values, 0.99):8.1f} {max(values):8.1f}")


def commit_milliseconds(folder: Path) -> float:
    """What it takes this disk to make a few bytes durable: every figure here holds several of these."""
    spent = []
    with (folder / "commit").open("wb") as file:
        for _ in range(50):
            before = time.perf_counter()
            file.write(b"x" * 512)
            file.flush()
            os.fsync(file.fileno())
            spent.append((time.perf_counter() - before) * 1000)
    return statistics.median(spent)


def main() -> None:
    """Prints the conditions, then the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100, help="how many items are sent to each side")
    parser.add_argument("--seed", type=int, default=1, help="for the pauses between items")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(
            f"Python {platform.python_version()}, azure-servicebus {version('azure-servicebus')}, {platform.system()} "
            f"{platform.release()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
            f"fsync {commit_milliseconds(folder):.1f} ms; {options.items} items to each side, one after another"
        )
        overrides = sorted(f"{key}={value}" for key, value in os.environ.items() if key.startswith("BURST_"))
        print(*(overrides or ["default settings"]))
        reactions = asyncio.run(measure(folder, options.items, random.Random(options.seed)))  # noqa: S311 - no secret
        tell(reactions)
        print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
