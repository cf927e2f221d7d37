"""Dead letters made with the SDK alone, what is left of them, and the command as a process of its own."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from azure.servicebus import ServiceBusMessage, ServiceBusReceivedMessage, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient

from dispatcher.embedded.broker import Broker, BrokerConfig, QueueConfig

FOREIGN = ServiceBusMessage(b"\x00\xffno JSON", application_properties={"DeadLetterReason": 7}, message_id="foreign")


@asynccontextmanager
async def a_broker(*queues: str, lock_seconds: float = 60, **settings: Any) -> AsyncIterator[Broker]:
    """A broker whose queues detect duplicates for a day."""
    configs = tuple(
        QueueConfig(
            name,
            lock_duration=timedelta(seconds=lock_seconds),
            duplicate_detection_window=timedelta(days=1),
            **settings,
        )
        for name in queues or ("work",)
    )
    async with Broker(BrokerConfig(queues=configs)) as broker:
        yield broker


async def bury(connection: str, messages: Sequence[Any], reason: str, queue: str = "work") -> None:
    """Sends messages and dead-letters them."""
    client = ServiceBusClient.from_connection_string(connection)
    async with client, client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        for message in messages:
            await sender.send_messages(message)
        left = len(messages)
        while left:
            got = await receiver.receive_messages(max_message_count=left, max_wait_time=5)
            for each in got:
                await receiver.dead_letter_message(each, reason=reason, error_description=f"{reason}\nin {queue}")
            left -= len(got)


async def deferred(connection: str, messages: Sequence[Any], *, dead: bool = False) -> list[int]:
    """Sends messages if they are given, then defers whatever is on the queue, or among its dead letters."""
    client = ServiceBusClient.from_connection_string(connection)
    kind: dict[str, Any] = {"sub_queue": ServiceBusSubQueue.DEAD_LETTER} if dead else {}
    numbers: list[int] = []
    async with client, client.get_queue_sender("work") as sender, client.get_queue_receiver("work", **kind) as receiver:
        for message in messages:
            await sender.send_messages(message)
        while got := await receiver.receive_messages(max_message_count=100, max_wait_time=1):
            for each in got:
                await receiver.defer_message(each)
                numbers.append(each.sequence_number or 0)
    return numbers


async def on_queue(connection: str, queue: str = "work", *, dead: bool = False) -> list[ServiceBusReceivedMessage]:
    """Everything that the broker has there, in whatever state, by sequence number."""
    kind: dict[str, Any] = {"sub_queue": ServiceBusSubQueue.DEAD_LETTER} if dead else {}
    found: list[ServiceBusReceivedMessage] = []
    client = ServiceBusClient.from_connection_string(connection)
    async with client, client.get_queue_receiver(queue, **kind) as receiver:
        position = 1
        while page := await receiver.peek_messages(250, sequence_number=position):
            found += page
            position = (page[-1].sequence_number or 0) + 1
    return found


def properties_of(message: ServiceBusReceivedMessage) -> dict[str, Any]:
    """Its application properties, as text where they are."""

    def plain(value: Any) -> Any:
        try:
            return value.decode() if isinstance(value, bytes) else value
        except UnicodeDecodeError:
            return value

    return {plain(name): plain(value) for name, value in (message.application_properties or {}).items()}


def some(count: int, task: str = "report", tenant: str = "acme", start: int = 0) -> list[ServiceBusMessage]:
    """Messages that name a task and a tenant."""
    body = json.dumps({"task": task, "tenant": tenant, "params": {}})
    return [ServiceBusMessage(body, message_id=f"{task}-{tenant}-{n}") for n in range(start, start + count)]


def a_config(folder: Path) -> Path:
    """A configuration with two queues and two tasks."""
    folder = folder / "config"
    folder.mkdir()
    task = {"image": "x", "command": ["true"], "resources": {"cpu": "100m", "memory": "64Mi"}}
    tasks = [{"name": name, **task} for name in ("report", "thumbnail")]
    queues = [
        {"name": "work", "tasks": ["report", "thumbnail"], "tenants": ["acme", "globex"]},
        {"name": "other", "tasks": ["report"]},
    ]
    (folder / "dispatcher.yaml").write_text(yaml.safe_dump({"queues": queues, "virtual_node": {"enabled": False}}))
    (folder / "tasks.yaml").write_text(yaml.safe_dump({"tasks": tasks}))
    return folder


def announced(tmp_path: Path, connection_string: str) -> Path:
    """The data directory of a local service with that broker."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "connection-string").write_text(connection_string)
    facts = {"url": "http://127.0.0.1:9", "pid": 1, "connection_string_file": str(data / "connection-string")}
    (data / "service.json").write_text(json.dumps(facts))
    return data


async def started(config: Path, data: Path, *arguments: str) -> asyncio.subprocess.Process:
    """`dispatcher ARGUMENTS` as a process."""
    command = ["-m", "dispatcher", *arguments, "--config", str(config), "--data-dir", str(data)]
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(sys.executable, *command, stdout=pipe, stderr=pipe)


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str, list[str]]:
    """Exit code, stdout, and the lines of stderr."""
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode().splitlines()


async def dispatcher(config: Path, data: Path, *arguments: str) -> tuple[int, str, list[str]]:
    """Runs `dispatcher ARGUMENTS` to its end."""
    return await ended(await started(config, data, *arguments))
