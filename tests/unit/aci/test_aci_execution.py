"""How a container becomes a process: where its mounts are, what it is given, how its end is told."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from aci_kit import at, body, container, region

from testbed.aci import definitions
from testbed.aci.execution import Execution, placed
from testbed.aci.groups import Container, Group, Start, Stop

PLACES = {"/items": "/tmp/x/volumes/items", "/items/deep": "/tmp/x/volumes/deep"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/items", "/tmp/x/volumes/items"),
        ("/items/3.json", "/tmp/x/volumes/items/3.json"),
        ("/items/deep/3.json", "/tmp/x/volumes/deep/3.json"),
        ("--items=/items", "--items=/tmp/x/volumes/items"),
        ("cat /items/0.json '/items/1.json'", "cat /tmp/x/volumes/items/0.json '/tmp/x/volumes/items/1.json'"),
        ("/a:/items:/b", "/a:/tmp/x/volumes/items:/b"),
        ("/items-of-another", "/items-of-another"),
        ("/data/items", "/data/items"),
        ("https://example.com/items", "https://example.com/items"),
    ],
)
def test_paths_of_mounts_are_replaced_and_nothing_else(text: str, expected: str) -> None:
    assert placed(text, PLACES) == expected


class World:
    """One group with one container that runs."""

    def __init__(self, folder: Path, command: list[str], **environment: str) -> None:
        one = container(**environment)
        one["properties"]["command"] = command
        one["properties"]["volumeMounts"] = [{"name": "items", "mountPath": "/items"}]
        volumes: list[dict[str, Any]] = [{"name": "items", "secret": {"0.json": "aGVsbG8="}}]
        world = region(executes=True)
        self.group, *_ = world.create(at(0), "burst", definitions.read("one", body(one, volumes=volumes)))
        (start,) = world.advance(at(10))
        assert isinstance(start, Start)
        self.start = start
        self.ends: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self.execution = Execution(folder / "groups", folder, self._exited)

    async def _exited(self, group: Group, container: Container, run: int, code: int) -> None:
        assert (group, container) == (self.group, self.start.container)
        await self.ends.put((run, code))

    async def run(self) -> int:
        await self.execution.do(self.start)
        return await self.end()

    async def end(self) -> int:
        run, code = await asyncio.wait_for(self.ends.get(), 30)
        assert run == 1
        return code

    async def wrote(self, text: str) -> None:
        ends = time.monotonic() + 30
        while text not in self.log:
            assert time.monotonic() < ends
            await asyncio.sleep(0.02)

    @property
    def log(self) -> str:
        return self.execution.log(self.group, "worker")


async def test_a_program_sees_its_volumes_and_environment_and_its_code_and_log_are_told(tmp_path: Path) -> None:
    world = World(tmp_path, ["sh", "-c", 'cat "$ITEMS/0.json" /items/0.json; pwd; exit 7'], ITEMS="/items")
    assert await world.run() == 7
    assert world.log == f"hellohello{tmp_path}\n"
    await world.execution.close()
    assert not (tmp_path / "groups").exists()


async def test_a_program_that_is_not_there_ends_with_127_and_says_so(tmp_path: Path) -> None:
    world = World(tmp_path, ["no-such-program"])
    assert await world.run() == 127
    assert "no-such-program: No such file" in world.log


async def test_a_program_gets_nothing_of_the_environment_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEAKED", "yes")
    world = World(tmp_path, ["sh", "-c", "echo ${LEAKED:-no}"])
    assert await world.run() == 0
    assert world.log == "no\n"


async def test_a_program_that_is_told_to_stop_may_end_by_itself(tmp_path: Path) -> None:
    world = World(tmp_path, ["sh", "-c", "trap 'echo bye; exit 5' TERM; echo here; while :; do sleep 0.05; done"])
    await world.execution.do(world.start)
    await world.wrote("here")
    await world.execution.do(Stop(world.group, at_once=False))
    assert await world.end() == 5
    assert world.log.endswith("bye\n")
    await world.execution.close()


async def test_a_program_that_is_ended_at_once_has_the_code_of_a_kill(tmp_path: Path) -> None:
    world = World(tmp_path, ["sh", "-c", "trap '' TERM; echo here; while :; do sleep 0.05; done"])
    await world.execution.do(world.start)
    await world.wrote("here")
    await world.execution.do(Stop(world.group))
    assert await world.end() == 137
