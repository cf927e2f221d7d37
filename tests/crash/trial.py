"""One run, from the first message to the verdict.

The burst waits on the queue; the dispatcher starts, is killed where the gate says so, and is started again; or it works
to the end through faults. The run is over when the queue, the cluster and the ledger are empty, or when it takes too
long, which breaks a law of its own.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.api_proxy import ApiProxy, Fault

from . import burst
from .broker import left_at
from .gate import Gate, Moment
from .laws import Findings, Terms, is_closing, judge
from .spoiling import Spoiling
from .warm import Running
from .world import Place, World

DRAINS_WITHIN_SECONDS = 240.0
"""Alone on a machine it takes ten. After a kill a lock and a Lease must end first; where all is to be cleared away, so
must the minute and a half in which a create of the dead leader might land."""
SILENCE_SECONDS = 100.0
"""How long a watch may be silent before it is given up, with some to spare."""
_LOOK_EVERY_SECONDS = 0.1
_LOG_SIGNS = ("cycle.broke_off", "Traceback")


@dataclass(frozen=True)
class Verdict:
    """What came of one run."""

    name: str
    findings: Findings
    seconds: float
    writes: Sequence[str]
    """What the process that was to be killed wrote, the last one cut short; of all processes where none was."""
    struck: str | None
    """The write at which the kill came; None: there was none."""
    events: Mapping[str, int]
    """How often the dispatcher told what."""
    held: frozenset[str]
    """The reasons for which work was on hold."""
    fired: Mapping[Fault, int]
    folder: Path | None
    """Where logs and events of a run that failed are kept."""

    @property
    def passed(self) -> bool:
        """Whether all laws held."""
        return not self.findings.broken


Step = Callable[[World, Place], Awaitable[None]]
"""Something that is done to the world while no dispatcher runs."""


async def run(
    world: World,
    name: str,
    *,
    kill_at: int | None = None,
    moment: Moment = Moment.AFTER,
    spoiling: Spoiling | None = None,
    to_the_end: bool = True,
    beforehand: Step | None = None,
    between: Step | None = None,
) -> Verdict:
    """One run, with a kill or with faults or with neither.

    ``to_the_end``: until nothing is left of any attempt. ``beforehand`` is done before the dispatcher starts,
    ``between`` after it was killed and before it starts again.
    """
    began = time.monotonic()
    place, queue, folder = await world.place(), world.broker.queue(), world.run_folder()
    patience = DRAINS_WITHIN_SECONDS + (SILENCE_SECONDS if spoiling and spoiling.has_silent_watch else 0)
    gate = Gate(kill_at=kill_at, moment=moment)
    async with ApiProxy(world.plane.url, world.plane.ca_file, seed=name, keeper=gate) as proxy:
        kubeconfig = world.plane.write_kubeconfig(
            f"crash-{folder.name}", world.plane.admin_token, namespace=place.own, server=proxy.url
        )
        burst.write_config(
            folder,
            own=place.own,
            namespace=place.tasks,
            queue=queue,
            kubeconfig=kubeconfig,
            connection_string=world.broker.connection_string,
        )
        await world.broker.send(queue, burst.messages())
        dispatcher = _Dispatcher(world, folder)
        gate.kill = dispatcher.kill
        late = None
        try:
            if beforehand is not None:
                await beforehand(world, place)
            await dispatcher.start()
            if spoiling is not None:
                spoiling.inject(proxy)
            async with asyncio.timeout(patience):
                await _over(world, place, queue, gate, dispatcher, to_the_end=to_the_end, between=between)
        except TimeoutError:
            counts = await world.broker.counts(queue)
            late = f"not over after {patience:.0f} s: {left_at(counts)} on the queue, {world.left(place)}"
        finally:
            dispatcher.kill()
        await dispatcher.gone()
        told = [*dispatcher.alarms(), *([late] if late else [])]
        findings = judge(
            world.history.of(place.own, place.tasks),
            _terms(place, to_the_end=to_the_end),
            await world.broker.end_of(queue),
            told,
        )
        verdict = Verdict(
            name=name,
            findings=findings,
            seconds=time.monotonic() - began,
            writes=tuple(gate.writes),
            struck=gate.struck,
            events=dispatcher.events(),
            held=dispatcher.held(),
            fired=dict(proxy.fired),
            folder=None if not findings.broken else folder,
        )
    if verdict.passed:
        await world.give_back(place)
        shutil.rmtree(folder)
    else:
        _keep(world, place, folder, verdict)
    return verdict


def _terms(place: Place, *, to_the_end: bool) -> Terms:
    return Terms(
        sent=frozenset(burst.messages()),
        must_die=burst.must_die(),
        rate_usd=burst.RATE_USD,
        limit_usd=burst.LIMIT_USD,
        addresses=burst.ADDRESSES_USABLE,
        ledger_name=place.ledger,
        may_be_closing=not to_the_end,
    )


async def _over(
    world: World,
    place: Place,
    queue: str,
    gate: Gate,
    dispatcher: _Dispatcher,
    *,
    to_the_end: bool,
    between: Step | None,
) -> None:
    """Waits until nothing is left to do; starts the dispatcher again once it was killed."""
    while True:
        if not dispatcher.alive:
            if between is not None:
                await between(world, place)
            await dispatcher.start()
            gate.open()
        entries, left = world.entries(place), world.left(place)
        closing = () if to_the_end else tuple(name for name, entry in entries.items() if is_closing(entry))
        if len(closing) == len(entries) and all(_is_of(thing, closing) for thing in left):
            counts = await world.broker.counts(queue)
            if not left_at(counts) and counts["removed"] + counts["buried"] >= burst.ITEMS:
                return
        await asyncio.sleep(_LOOK_EVERY_SECONDS)


def _is_of(thing: str, attempts: Iterable[str]) -> bool:
    """Whether a record, a Job or a pod is of one of these attempts: pods go on going when their entry is gone."""
    name = thing.split(" ", 1)[1]
    return any(name == attempt or name.startswith(f"{attempt}-") for attempt in attempts)


class _Dispatcher:
    """The dispatcher of one run, however many processes it takes."""

    def __init__(self, world: World, folder: Path) -> None:
        self._world = world
        self._folder = folder
        self._starts = 0
        self._running: Running | None = None

    @property
    def alive(self) -> bool:
        """Whether its process is there."""
        return self._running is not None and self._running.alive

    async def start(self) -> None:
        """Starts it, and waits for nothing."""
        self._starts += 1
        environment = {
            "PATH": str(Path(sys.executable).parent),
            "POD_NAME": f"dispatcher-{self._starts}",
            "BURST_SERVICE__EVENT_LOG": str(self._folder / "events.jsonl"),
        }
        self._running = await self._world.starter.start(self._folder, self._folder / "log", environment)

    def kill(self) -> None:
        """kill -9."""
        if self._running is not None:
            self._running.kill()

    async def gone(self) -> None:
        """Waits until its process is gone."""
        if self._running is not None:
            await self._running.gone()

    def _told(self) -> list[dict[str, Any]]:
        path = self._folder / "events.jsonl"
        events = []
        for line in path.read_text("utf-8").splitlines() if path.exists() else ():
            with suppress(ValueError):  # the line that a kill has cut short
                events.append(json.loads(line))
        return events

    def events(self) -> Counter[str]:
        """How often it told what."""
        return Counter(str(event.get("event")) for event in self._told())

    def held(self) -> frozenset[str]:
        """Why it held work."""
        return frozenset(str(event["reason"]) for event in self._told() if event.get("event") == "batch.held")

    def alarms(self) -> list[str]:
        """What it finds alarming, and what broke in it."""
        found = [f"told: {event}" for event in self._told() if event.get("event") == "alarm.raised"]
        log = self._folder / "log"
        lines = log.read_text("utf-8", errors="replace").splitlines() if log.exists() else []
        return found + [f"logged: {line[:500]}" for line in lines if any(sign in line for sign in _LOG_SIGNS)][:5]


def _keep(world: World, place: Place, folder: Path, verdict: Verdict) -> None:
    """Everything that tells why it failed."""
    (folder / "verdict.txt").write_text("\n".join([verdict.name, *verdict.findings.broken]), encoding="utf-8")
    with (folder / "history.jsonl").open("w", encoding="utf-8") as file:
        for version in world.history.of(place.own, place.tasks):
            line = {"revision": version.revision, "kind": version.kind, "gone": version.gone, "object": version.object}
            file.write(json.dumps(line) + "\n")
    (folder / "writes.txt").write_text("\n".join(verdict.writes), encoding="utf-8")
