"""`python -m tests.ha`: the leader of two replicas is killed with kill -9 in the middle of a burst, over and over.

Prints how long nobody led, with the lease as it ships and with a short one; ends with 1 if an item was ever in two
live Jobs or any other law was broken (the judge of `tests.crash` reads the API server's own history). Figures go to
standard output, progress to standard error.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import tempfile
import time
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import structlog
import typer
import yaml
from rich.console import Console
from rich.table import Table

from dispatcher.embedded.broker import Broker, BrokerConfig, QueueConfig
from testbed.control_plane import ControlPlane, real_node, virtual_node
from tests.crash import report
from tests.crash.history import History, a_history
from tests.crash.laws import AtBroker, Findings, Terms, judge
from tests.e2e.cluster_service import ClusterService, Replica, cluster_service
from tests.e2e.local_service import QUEUE, enqueue, left_on_queue

from .takeover import Takeover, Writes, epoch_of, summary, takeover, writes_in

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
ITEMS = 80
"""In each burst: enough that some run, some wait on the queue and some in the dispatcher when the kill comes."""
DONE_BEFORE_KILL = 10
PATIENCE_SECONDS = 180.0
_LOOK_EVERY_SECONDS = 0.05
_ERRORS = Console(stderr=True)
_COLUMNS = ("lease", "kills", "last write to first write", "kill to first write", "kill to first Job", "laws")


class Leases:
    """Two replicas under one lease, a burst for each kill, and what came of it."""

    def __init__(self, service: ClusterService, history: History, connection: str) -> None:
        self._service = service
        self._history = history
        self._connection = connection
        self._sent: set[str] = set()

    async def start(self, replicas: int = 2) -> None:
        """Starts them, one after the other, until each answers."""
        for _ in range(replicas):
            replica = self._service.replica()
            replica.start()
            await replica.ready(120)

    async def kill(self, number: int) -> Takeover:
        """One burst, in which the leader is killed; returns when all of it is done and a new replica waits."""
        leader = await self._leader()
        before = len({event["item"] for event in self._service.events("item.done")})
        names = {f"item-{number}-{each}" for each in range(ITEMS)}
        await enqueue(self._connection, {name: {"task": "sleep", "params": {}} for name in names})
        self._sent |= names
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self._done() < before + DONE_BEFORE_KILL:  # noqa: ASYNC110 - others write
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
            epoch = self._epoch()
            leader.kill()
            killed_at = time.monotonic()
            while not _is_over(seen := self._writes(epoch)):  # noqa: ASYNC110 - others write
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
            await self._drained()
            await self.start(1)
        return takeover(seen, killed_at)

    async def verdict(self) -> Findings:
        """What the laws say of everything that happened."""
        dead = [str(each.message_id) for each in await left_on_queue(self._connection, dead=True)]
        left = len(await left_on_queue(self._connection))
        sent = len(self._sent)
        terms = Terms(
            sent=frozenset(self._sent),
            must_die=frozenset(),
            rate_usd=Decimal(0),
            limit_usd=Decimal(5),
            addresses=0,
            ledger_name=self._ledger,
            may_be_closing=True,
        )
        at_broker = AtBroker(sent, sent - left - len(dead), len(dead), left, dead)
        return judge(self._history.of(self._service.own, self._service.tasks), terms, at_broker)

    async def _leader(self) -> Replica:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (leader := await self._service.leader()) is None:  # noqa: ASYNC110 - others lead
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
        return leader

    async def _drained(self) -> None:
        while await left_on_queue(self._connection):  # noqa: ASYNC110 - others settle
            await asyncio.sleep(0.3)

    def _done(self) -> int:
        return len({event["item"] for event in self._service.events("item.done")})

    @property
    def _ledger(self) -> str:
        return f"{self._service.own}-ledger"

    def _epoch(self) -> int:
        ledgers = [raw for _, name, raw in self._history.standing(self._service.own) if name == self._ledger]
        return epoch_of(ledgers[0])

    def _writes(self, epoch: int) -> Writes | None:
        return writes_in(self._history.of(self._service.own, self._service.tasks), self._ledger, epoch)


def _is_over(seen: Writes | None) -> bool:
    return seen is not None and seen.first_of_new is not None and seen.first_job_of_new is not None


def _set_lease(folder: Path, lease: str | None) -> None:
    """None: what ships."""
    path = folder / "config" / "dispatcher.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings["kubernetes"].pop("lease_duration")
    if lease is not None:
        settings["kubernetes"]["lease_duration"] = lease
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")


async def _under(
    plane: ControlPlane, history: History, lease: str | None, kills: int
) -> tuple[list[Takeover], Findings]:
    queue = QueueConfig(QUEUE, lock_duration=timedelta(seconds=10), max_delivery_count=100)
    task = {"placements": ["node_pool"]}
    with tempfile.TemporaryDirectory(prefix="burst-ha-") as folder:
        async with (
            Broker(BrokerConfig(queues=(queue,))) as broker,
            cluster_service(plane, Path(folder), broker.connection_string, task=task) as service,
        ):
            _set_lease(Path(folder), lease)
            leases = Leases(service, history, broker.connection_string)
            await leases.start()
            takeovers = []
            for number in range(kills):
                takeovers.append(await leases.kill(number))
                _ERRORS.print(f"lease {lease or 'as it ships'}: {takeovers[-1]}", highlight=False)
            return takeovers, await leases.verdict()


async def _main(kills: int, *, write: bool) -> int:
    rows: list[tuple[str, ...]] = []
    broken: list[str] = []
    async with ControlPlane.started() as plane:
        await plane.create_nodes(real_node("node-1"), real_node("node-2"), virtual_node())
        async with a_history(plane) as history:
            for lease, called in ((None, "15 s (default)"), ("2s", "2 s")):
                takeovers, findings = await _under(plane, history, lease, kills)
                broken += findings.broken
                rows.append(
                    (
                        called,
                        str(len(takeovers)),
                        summary(each.from_last_write for each in takeovers),
                        summary(each.from_kill for each in takeovers),
                        summary(each.to_first_job for each in takeovers),
                        "held" if not findings.broken else f"{len(findings.broken)} broken",
                    )
                )
    conditions = (
        f"Median / greatest. Two replicas, kill -9 of the leader in a burst of {ITEMS} items of 1 s on two nodes, then "
        f"a new replica and the next burst; every change of every Job, pod and ConfigMap as the API server had it. "
        f"Control plane, broker and replicas on one machine, Python {platform.python_version()}, {os.cpu_count()} "
        f"cores, load {os.getloadavg()[0]:.0f} at the end."
    )
    table = Table(*_COLUMNS)
    for row in rows:
        table.add_row(*row)
    out = Console()
    out.print(table)
    out.print(conditions, highlight=False)
    for line in broken:
        out.print(f"BROKEN  {line}", markup=False, highlight=False)
    if write:
        report.write(
            DOCUMENT, "takeovers", "make test-ha WRITE=1", f"{report.markdown(_COLUMNS, rows)}\n\n{conditions}"
        )
    return 1 if broken else 0


def main(
    kills: Annotated[int, typer.Option(min=1, help="So many kills under each lease.")] = 5,
    write: Annotated[bool, typer.Option("--write", help="Put the figures into docs/reliability.md.")] = False,
) -> None:
    """Kills leaders and says how long nobody led."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    raise typer.Exit(asyncio.run(_main(kills, write=write)))


if __name__ == "__main__":
    typer.run(main)
