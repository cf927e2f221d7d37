"""The programs in docs/client.md run as they stand there, against a service that runs as operators run it."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.local_service import QUEUE, LocalService, enqueue, left_on_queue

DOCUMENT = Path(__file__).parents[2] / "docs" / "client.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
WAIT, CHECK, READ = range(3)
QUEUES = {"queues": [{"name": QUEUE, "tasks": ["report"], "tenants": ["acme"], "reply_to": ["outcomes"]}]}
TASK = {"name": "report", "result_ref": "store/{id}.html"}


@pytest.fixture
def service(tmp_path: Path) -> Any:
    made = LocalService(tmp_path, QUEUES, TASK)
    yield made
    made.end_all()


async def started(folder: Path, number: int, connection: str, **more: str) -> asyncio.subprocess.Process:
    program = folder / f"program_{number}.py"
    program.write_text(PROGRAMS[number])
    pipe = asyncio.subprocess.PIPE
    environment = {**os.environ, "SERVICEBUS_CONNECTION_STRING": connection, **more}
    return await asyncio.create_subprocess_exec(
        sys.executable, str(program), env=environment, stdout=pipe, stderr=pipe, cwd=folder
    )


async def printed(process: asyncio.subprocess.Process) -> list[str]:
    async with asyncio.timeout(90):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode().splitlines()


def test_there_are_three_programs() -> None:
    assert [re.search(r"client\.(wait|outcomes)|by_tasks", program)[0] for program in PROGRAMS] == [  # type: ignore[index]
        "client.wait",
        "by_tasks",
        "client.outcomes",
    ]


@pytest.mark.timeout(180)
async def test_the_programs_of_the_document_do_what_it_says(service: LocalService) -> None:
    service.start()
    connection = await service.ready()
    lines = await printed(await started(service.folder, WAIT, connection))
    assert [line.split()[0] for line in lines] == ["Kenya", "Japan", "Brazil"]
    assert all(re.fullmatch(r"\w+ store/[0-9a-f-]{36}\.html", line) for line in lines), lines
    tasks = str(service.folder / "config" / "tasks.yaml")
    lines = await printed(await started(service.folder, CHECK, connection, TASKS_FILE=tasks))
    assert lines[0] == "not sent: unknown_task"
    [scheduled] = await left_on_queue(connection)
    assert lines[1] == f"sent {scheduled.message_id}"
    reading = await started(service.folder, READ, connection)
    try:
        bodies = {f"item-{n}": {"task": "report", "params": {"seconds": 0}, "reply_to": "outcomes"} for n in range(3)}
        await enqueue(connection, {**bodies, "bad": {"task": "reprot", "params": {}, "reply_to": "outcomes"}})
        assert reading.stdout is not None
        async with asyncio.timeout(90):
            lines = [(await reading.stdout.readline()).decode().strip() for _ in range(4)]
    finally:
        reading.kill()
        await reading.wait()
    assert sorted(lines) == ["bad dead_lettered unknown_task", *(f"item-{n} done" for n in range(3))]
