"""What stands between the adapter and the broker in these tests: a wire that can be cut or fall silent, and a broker
in a process of its own that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

BROKER = Path(__file__).with_name("broker_process.py")


class Wire:
    """Forwards connections. ``silence`` keeps the broker's answers back; requests still arrive."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.connections = 0
        self._target_port = target_port
        self._speaking = asyncio.Event()
        self._speaking.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def silence(self) -> None:
        self._speaking.clear()

    def speak(self) -> None:
        self._speaking.set()

    def cut(self) -> None:
        """Resets every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.speak()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            up, down = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, down}
        for task in (
            asyncio.create_task(self._forward(reader, down, quiet=False)),
            asyncio.create_task(self._forward(up, writer, quiet=True)),
        ):
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, quiet: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if quiet:
                    await self._speaking.wait()
                writer.write(data)
                await writer.drain()
        self._writers.discard(writer)
        writer.close()


@asynccontextmanager
async def a_wire(target_port: int) -> AsyncIterator[Wire]:
    wire = Wire(target_port)
    await wire.start()
    try:
        yield wire
    finally:
        await wire.stop()


def through(wire: Wire, connection_string: str) -> str:
    """The broker's connection string, by way of the wire."""
    return re.sub(r":\d+", f":{wire.port}", connection_string, count=1)


class BrokerProcess:
    """A durable broker that can be killed and started again on the same port."""

    def __init__(self, journal: Path, lock_seconds: float) -> None:
        self.port = 0
        self.connection_string = ""
        self._journal = journal
        self._lock_seconds = lock_seconds
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, str(BROKER), str(self.port), str(self._journal), str(self._lock_seconds),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert self._process.stdout is not None
        async with asyncio.timeout(15):
            while line := (await self._process.stdout.readline()).decode():
                if line.startswith("READY"):
                    _, port, self.connection_string = line.split(maxsplit=2)
                    self.port, self.connection_string = int(port), self.connection_string.strip()
                    self._drain = asyncio.create_task(self._process.stdout.read())
                    return
        raise AssertionError("the broker did not start")

    async def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
            await self._drain
            self._process = None


@asynccontextmanager
async def a_broker_process(journal: Path, lock_seconds: float) -> AsyncIterator[BrokerProcess]:
    broker = BrokerProcess(journal, lock_seconds)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.kill()
