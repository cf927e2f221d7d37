"""How bench/cluster.py measures: time, processor time by process, what the API server was asked for; and waits.

Decides nothing of what is measured.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from cluster_world import World
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

AT_ONCE = 32
"""Requests under way together of those who make one Job for each item, and of the bench itself."""
STALLED_SECONDS = 300.0
_LABEL = re.compile(r'(\w+)="([^"]*)"')

console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Run:
    """One side of a comparison."""

    items: int
    seconds: float
    processor: dict[str, float]
    """Seconds by process."""
    requests: Counter[str]
    """What the API server was asked for, by verb and kind, by anybody."""

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.items / self.seconds


@asynccontextmanager
async def a_session(world: World) -> AsyncIterator[aiohttp.ClientSession]:
    """Connections to the API server, as the administrator."""
    tls = ssl.create_default_context(cafile=str(world.plane.ca_file))
    headers = {"Authorization": f"Bearer {world.plane.admin_token}"}
    connector = aiohttp.TCPConnector(ssl=tls, limit=2 * AT_ONCE)
    async with aiohttp.ClientSession(world.plane.url, connector=connector, headers=headers) as session:
        yield session


async def watched(session: aiohttp.ClientSession, path: str) -> AsyncGenerator[tuple[str, dict[str, Any]]]:
    """The events of a collection from now on: first one that says that the watch stands."""
    async with session.get(path, params={"limit": "1"}) as response:
        version = (await response.json())["metadata"]["resourceVersion"]
    timeout, stands = aiohttp.ClientTimeout(total=None), False
    while True:  # the API server ends the watch of one that reads slowly, as this process does while it creates
        query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "3600"}
        async with session.get(path, params=query, timeout=timeout) as response:
            response.raise_for_status()
            if not stands:
                stands = True
                yield "STANDS", {}
            rest = b""
            async for chunk in response.content.iter_any():
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise RuntimeError(f"watch {path}: {event['object'].get('message')}")
                    version = event["object"]["metadata"]["resourceVersion"]
                    yield event["type"], event["object"]


async def each(count: int, act: Callable[[int], Awaitable[None]]) -> None:
    """The act for every number, a few at a time."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await act(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())


async def followed(what: str, total: int, count: Callable[[], Awaitable[int]], every: float = 0.25) -> None:
    """Shows progress until the count is the total. Raises TimeoutError where it does not move any more."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    moved, last = time.monotonic(), -1
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(what, total=total)
        while (now := await count()) < total:
            if now != last:
                moved, last = time.monotonic(), now
            if time.monotonic() - moved > STALLED_SECONDS:
                raise TimeoutError(f"{what}: stands at {now} of {total} for {STALLED_SECONDS:.0f} s")
            progress.update(bar, completed=now)
            await asyncio.sleep(every)


async def measured(world: World, items: int, work: Awaitable[None]) -> Run:
    """How long it takes, and whose processor time."""
    requests = await requests_so_far(world)
    before, start = world.processor_seconds(), time.monotonic()
    await work
    seconds, after = time.monotonic() - start, world.processor_seconds()
    return Run(
        items,
        seconds,
        {name: after[name] - before[name] for name in before},
        await requests_so_far(world) - requests,
    )


async def requests_so_far(world: World) -> Counter[str]:
    """How many requests the API server has answered, by verb and kind."""
    found = Counter[str]()
    for line in str(await world.plane.api.get("/metrics")).splitlines():
        if line.startswith("apiserver_request_total{"):
            told = dict(_LABEL.findall(line))
            kind = "/".join(part for part in (told["resource"], told["subresource"]) if part)
            found[f"{told['verb']} {kind}"] += int(float(line.rsplit(" ", 1)[1]))
    return found


async def until_empty(world: World, path: str) -> None:
    """Returns when nothing is there any more: what one side leaves must not slow the other one down."""

    async def gone() -> int:
        found = await world.plane.api.get(path, limit="1")
        return int(not found["items"])

    await followed("pods are collected", 1, gone, every=0.5)
