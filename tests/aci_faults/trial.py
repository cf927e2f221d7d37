"""One case, from the first item to the verdict.

    namespaces, broker, dispatcher ─▶ fault ─▶ burst ─▶ every item ended and every Job closed ─▶ judge

Several may run beside each other on one virtual node: each has namespaces of its own, which the names of its container
groups begin with, and its fault hits those alone.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from dispatcher.embedded.broker import Broker, BrokerConfig, QueueConfig
from testbed.aci.options import OUT_OF_THE_WAY
from testbed.virtual import VirtualNode
from tests.e2e.cluster_service import ClusterService, Replica, cluster_service
from tests.e2e.local_service import QUEUE, WORKER, enqueue

from .cases import Case
from .referee import Allowed, Evidence, Verdict, judge

ITEMS = 24
SETTLES_WITHIN_SECONDS = 300.0
_LOOK_EVERY_SECONDS = 0.25
DELETE_SECONDS, RELEASE_SECONDS = 2.0, 2.0
PROVISIONING_TIMEOUT_SECONDS = 30.0
START_DEADLINE_SECONDS = 20
REGION = {
    # The dispatcher's own limits are below; Azure's are out of the way, for several bursts at once.
    **OUT_OF_THE_WAY,
    "executes": True,
    "prepare_seconds": 0.5,
    "image_mb": 1,
    "stop_seconds": 0.5,
    "delete_seconds": DELETE_SECONDS,
    "release_seconds": RELEASE_SECONDS,
    "provisioning_timeout_seconds": PROVISIONING_TIMEOUT_SECONDS,
    "capacity_error_seconds": 3,
}
"""What the stand-in is set to."""
TASK: dict[str, Any] = {
    "command": ["sh", str(WORKER)],
    "placements": ["virtual_node"],
    "labels": {},
    "resources": {"cpu": "250m", "memory": "200M"},
    "start_deadline": f"{START_DEADLINE_SECONDS}s",
    "item_timeout": "60s",
    "batch_size_max": 4,
    "backoff_limit": 2,
}
SETTINGS: dict[str, Any] = {
    "virtual_node": {
        "subnet": "10.240.0.0/26",
        "release_hold": "10s",
        "tail": "10s",
        "creates_per_5min": 100_000,
        "creates_per_hour": 100_000,
        "deletes_per_5min": 100_000,
        "deletes_per_hour": 100_000,
    },
    "circuit": {"failures": 3, "cool_down_min": "3s", "cool_down_max": "12s"},
    "retry": {"delay_min": "1s", "delay_max": "4s"},
}


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it."""

    case: Case
    items: int
    fired: int
    platform_retries: int
    circuit_opened: int
    circuit_is_open: bool
    billed_usd: Decimal
    charged_usd: Decimal
    groups: int
    seconds: float
    verdict: Verdict

    @property
    def passed(self) -> bool:
        """Nothing to tell."""
        return not self.verdict.lines


async def run(virtual: VirtualNode, case: Case, folder: Path, items: int = ITEMS) -> Result:
    """Runs the case in a folder of its own. Raises ApiError, Refused, and AssertionError where nothing starts."""
    queue = QueueConfig(QUEUE, lock_duration=timedelta(seconds=10), max_delivery_count=100)
    task = {**TASK, "env": {"RUN_LOG": str(folder / "runs.jsonl")}}
    async with Broker(BrokerConfig(queues=(queue,))) as broker:
        started = cluster_service(virtual.plane, folder, broker.connection_string, settings=SETTINGS, task=task)
        async with started as service:
            return await Trial(virtual, case, folder, broker, service, items).run()


class Trial:
    """The case's burst on a service that is set up and not started yet."""

    def __init__(
        self, virtual: VirtualNode, case: Case, folder: Path, broker: Broker, service: ClusterService, items: int
    ) -> None:
        self._virtual = virtual
        self._case = case
        self._folder = folder
        self._broker = broker
        self._service = service
        self._items = items
        # Pods are called by their Job, their index, and five letters of chance.
        self._pattern = f"^{re.escape(service.tasks)}-" + (r".*-0-\w{5}$" if case.first_of_each_job else "")

    async def run(self) -> Result:
        """From the fault to the verdict."""
        if self._case.kind is not None:
            await self._virtual.aci.add_fault(self._case.kind, match=self._pattern, **self._case.how)
        replica = self._service.replica()
        replica.start()
        await replica.ready()
        params = {"seconds": 1, **self._case.item}
        bodies = {f"item-{number}": {"task": "sleep", "params": params} for number in range(self._items)}
        began = time.monotonic()
        await enqueue(self._broker.connection_string, {key: _compact(body) for key, body in bodies.items()})
        if self._case.connector_dies_for_seconds:
            await self._kill_the_connector(replica)
        await self._settled(replica)
        seconds = time.monotonic() - began
        seen = await self._evidence(replica, list(bodies))
        replica.stop()
        await self._end_what_leaked()
        allowed = Allowed(self._case.is_paid_by_items, self._case.leaks, must_fire=self._case.kind is not None)
        opened, closed = len(replica.events("circuit.opened")), len(replica.events("circuit.closed"))
        lines = [
            line for line in (await self._virtual.aci.bill())["groups"] if line["namespace"] == self._service.tasks
        ]
        return Result(
            case=self._case,
            items=self._items,
            fired=seen.fired,
            platform_retries=seen.platform_retries,
            circuit_opened=opened,
            circuit_is_open=opened > 0 and not closed,
            billed_usd=seen.billed_usd,
            charged_usd=seen.charged_usd,
            groups=len(lines),
            seconds=seconds,
            verdict=judge(seen, allowed),
        )

    async def _kill_the_connector(self, replica: Replica) -> None:
        """When the first programs run."""
        while not (self._folder / "runs.jsonl").exists():
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
            assert replica.process is not None
            assert replica.process.poll() is None, replica.log[-2000:]
        self._virtual.stop_connector()
        await asyncio.sleep(self._case.connector_dies_for_seconds)
        await self._virtual.start_connector()

    async def _settled(self, replica: Replica) -> None:
        """Until every item has ended and every Job is closed, or the time is over; the judge sees what is missing."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLES_WITHIN_SECONDS):
                while True:
                    status = await replica.status()
                    counts = status.get("items") or {}
                    ended = sum(int(counts.get(name) or 0) for name in ("done", "dead_lettered"))
                    if ended >= self._items and not status.get("open_entries"):
                        return
                    await asyncio.sleep(_LOOK_EVERY_SECONDS)

    async def _evidence(self, replica: Replica, sent: list[str]) -> Evidence:
        bill = await self._virtual.aci.bill()
        billed = [Decimal(line["usd"]) for line in bill["groups"] if line["namespace"] == self._service.tasks]
        closed = {event["job"]: Decimal(event["cost_usd"]) for event in replica.events("attempt.closed")}
        fired = [each["fired"] for each in await self._virtual.aci.faults() if each["match"] == self._pattern]
        retried = Counter(event["allowance"] for event in replica.events("item.retried"))
        dead = replica.events("item.dead_lettered")
        runs = self._runs()
        counts = self._broker.counts(QUEUE)
        return Evidence(
            sent=sent,
            ran_well={run["item"] for run in runs if run["event"] == "end" and run["ok"]},
            starts=Counter(run["item"] for run in runs if run["event"] == "start"),
            removed=counts.removed,
            buried=counts.buried,
            left=counts.active + counts.locked + counts.deferred + counts.scheduled,
            told_done=[event["item"] for event in replica.events("item.done")],
            told_dead=[event["item"] for event in dead],
            dead_causes={event["cause"] for event in dead},
            own_retries=retried["item"],
            platform_retries=retried["platform"],
            fired=sum(fired),
            billed_usd=sum(billed, Decimal(0)),
            charged_usd=sum(closed.values(), Decimal(0)),
            alarms=[str(event["what"]) for event in replica.events("alarm.raised")],
            left_in_cluster=await self._service.left_in_cluster(),
        )

    def _runs(self) -> list[dict[str, Any]]:
        path = self._folder / "runs.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    async def _end_what_leaked(self) -> None:
        """A second delete ends a group that survived its first; nobody else would."""
        if not self._case.leaks:
            return
        for group in (await self._virtual.aci.look())["groups"]:
            if group["name"].startswith(f"{self._service.tasks}-"):
                await self._virtual.aci.steer(group["name"], "vanish")


def _compact(body: dict[str, Any]) -> bytes:
    """As the worker reads it: without spaces."""
    return json.dumps(body, separators=(",", ":")).encode()
