"""`dispatcher broker serve` in a process of its own, and what can be asked of it."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import yaml
from azure.servicebus import ServiceBusMessage, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient

from .laws import AtBroker

_CONTROL = re.compile(r"Faults can be set at (\S+)/faults")
_STARTS_WITHIN_SECONDS = 60.0
_ANSWERS_WITHIN = aiohttp.ClientTimeout(total=20.0)


@dataclass
class BrokerProcess:
    """A broker that runs."""

    connection_string: str
    _http: aiohttp.ClientSession
    _queues: list[str]

    def queue(self) -> str:
        """A queue that nobody has used yet."""
        return self._queues.pop()

    async def counts(self, queue: str) -> Mapping[str, int]:
        """The broker's own counts."""
        async with self._http.get(f"/queues/{queue}") as answer:
            answer.raise_for_status()
            return dict(await answer.json())

    async def send(self, queue: str, bodies: Mapping[str, bytes]) -> None:
        """Sends messages by id, all in one batch."""
        client = ServiceBusClient.from_connection_string(self.connection_string)
        async with client, client.get_queue_sender(queue) as sender:
            batch = await sender.create_message_batch()
            for message_id, body in bodies.items():
                batch.add_message(ServiceBusMessage(body, message_id=message_id))
            await sender.send_messages(batch)

    async def end_of(self, queue: str) -> AtBroker:
        """What became of everything on the queue."""
        counts = await self.counts(queue)
        client = ServiceBusClient.from_connection_string(self.connection_string)
        dead: list[str] = []
        async with client, client.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
            position = 1
            while page := await receiver.peek_messages(250, sequence_number=position):
                dead += [str(message.message_id) for message in page]
                position = (page[-1].sequence_number or 0) + 1
        return AtBroker(counts["entered"], counts["removed"], counts["buried"], left_at(counts), dead)


def left_at(counts: Mapping[str, int]) -> int:
    """How many messages are still there, dead letters aside."""
    return counts["active"] + counts["locked"] + counts["deferred"] + counts["scheduled"]


@asynccontextmanager
async def a_broker(folder: Path, queues: int, lock_seconds: int) -> AsyncIterator[BrokerProcess]:
    """A broker with so many queues, while the block lasts; it keeps no files."""
    names = [f"work-{number}" for number in range(queues)]
    settings = [{"name": name, "lock_duration": f"{lock_seconds}s", "max_delivery_count": 100} for name in names]
    config, connection, log = folder / "broker.yaml", folder / "broker-connection", folder / "broker.log"
    config.write_text(yaml.safe_dump({"queues": settings}), encoding="utf-8")
    arguments = ("--memory", "--port", "0", "--faults-port", "0", "--connection-string-file", str(connection))
    command = (sys.executable, "-m", "dispatcher", "broker", "serve", "--config", str(config), *arguments)
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        async with asyncio.timeout(_STARTS_WITHIN_SECONDS):
            while not ((found := _CONTROL.search(log.read_text("utf-8"))) and connection.exists()):
                if process.returncode is not None:
                    raise RuntimeError(f"the broker did not start: {log.read_text('utf-8')[-2000:]}")
                await asyncio.sleep(0.05)
        async with aiohttp.ClientSession(found[1], timeout=_ANSWERS_WITHIN) as http:
            yield BrokerProcess(connection.read_text("utf-8").strip(), http, names)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        for path in (config, connection, log):
            path.unlink(missing_ok=True)
