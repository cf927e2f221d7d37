"""The worker kit as a process of its own, in a pod's folder, and a queue that answers as it is told to."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from dispatcher.core.reports import ItemReport, read_report

ROOT = Path(__file__).parents[3]
POD = "1f0c2a5e-4b7d-4a0e-9a55-3f0d6d0f9a11"
WITHIN = 60.0
"""Seconds: what a busy machine may take for anything that is waited for here."""


@dataclass
class Taken:
    """One request that the queue was sent."""

    body: bytes
    properties: dict[str, Any]
    authorization: str
    path: str


Answerer = Callable[[Taken], web.StreamResponse | None]


def accepts(_taken: Taken) -> web.Response:
    return web.Response(status=201)


def status(code: int, **headers: str) -> Answerer:
    return lambda _taken: web.Response(
        status=code, headers=headers, text=f"<Error><Code>{code}</Code><Detail>told {code}</Detail></Error>"
    )


def drops(_taken: Taken) -> None:
    """Takes the request and ends the connection without an answer."""


@dataclass
class ReportQueue:
    """A report queue on loopback. ``script`` answers the first requests, ``usual`` all that follow."""

    script: list[Answerer] = field(default_factory=list)
    usual: Answerer = accepts
    seen: list[Taken] = field(default_factory=list)
    reports: list[ItemReport] = field(default_factory=list)
    """Those that were accepted."""
    port: int = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        properties = json.loads(request.headers["BrokerProperties"])
        taken = Taken(await request.read(), properties, request.headers["Authorization"], request.path)
        self.seen.append(taken)
        answer = (self.script.pop(0) if self.script else self.usual)(taken)
        if answer is None:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        if answer.status == 201:
            report = read_report(taken.body)
            assert taken.properties["MessageId"] == report.message_id
            self.reports.append(report)
        return answer

    def connection_string(self, key: str = "secret") -> str:
        return (
            f"Endpoint=sb://127.0.0.1:{self.port}/;SharedAccessKeyName=send;SharedAccessKey={key};"
            "EntityPath=reports;UseDevelopmentEmulator=true;\n"
        )

    async def until(self, seen: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN):
            while not seen():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)


@dataclass
class Ended:
    code: int
    said: str
    """What the kit and the runs printed."""


class Running:
    """A kit under way."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def end(self) -> Ended:
        async with asyncio.timeout(WITHIN):
            said, _ = await self.process.communicate()
        assert self.process.returncode is not None
        return Ended(self.process.returncode, said.decode(errors="replace"))


@dataclass
class PodFolder:
    """What a pod is given, and the kit in it."""

    path: Path
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, path: Path, items: int, connection_string: str, *, index: int = 0, pods: int = 1) -> PodFolder:
        folder = cls(path)
        folder.items.mkdir(parents=True)
        folder.reports.mkdir()
        folder.connection_file.write_text(connection_string)
        for position in range(items):
            facts = {"format": 2, "id": f"item-{position}", "sequence_number": 100 + position, "queue": "work",
                     "digest": f"{position:064x}", "params": {}}  # fmt: skip
            (folder.items / f"{position}.json").write_text(json.dumps(facts))
        folder.environment = {
            "BURST_ITEMS_DIR": str(folder.items),
            "BURST_REPORTS_DIR": str(folder.reports),
            "JOB_COMPLETION_INDEX": str(index),
            "BURST_PODS": str(pods),
            "BURST_BATCH": "k2x9",
            "BURST_ATTEMPT": "2",
            "BURST_POD_UID": POD,
            "BURST_ITEM_TIMEOUT": "60",
            "OUT": str(path),
        }
        return folder

    @property
    def items(self) -> Path:
        return self.path / "items"

    @property
    def reports(self) -> Path:
        return self.path / "reports"

    @property
    def connection_file(self) -> Path:
        return self.reports / "connection-string"

    async def start(
        self, script: str | Sequence[str], *options: str, program: Sequence[str] = (), **changes: str | None
    ) -> Running:
        """Starts the kit around a shell's script, or a command."""
        environment: Mapping[str, str | None] = {**self.environment, **changes}
        command = ["sh", "-c", script] if isinstance(script, str) else [*script]
        dashes = [] if program[:1] == ("sh",) else ["--"]  # the worker in shell takes the command as it is
        process = await asyncio.create_subprocess_exec(
            *(program or (sys.executable, "-m", "dispatcher.worker")), *options, *dashes, *command,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=ROOT,
            env={"PATH": os.environ["PATH"]} | {name: text for name, text in environment.items() if text is not None},
        )  # fmt: skip
        return Running(process)

    async def run(self, script: str | Sequence[str], *options: str, **changes: str | None) -> Ended:
        return await (await self.start(script, *options, **changes)).end()

    def lines(self, name: str) -> list[str]:
        path = self.path / name
        return path.read_text().split() if path.exists() else []

    async def until_line(self, name: str, line: str) -> None:
        async with asyncio.timeout(WITHIN):
            while line not in self.lines(name):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
