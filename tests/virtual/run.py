"""One burst from an empty queue to its judgement: real broker, dispatcher, control plane and connector; ACI's stand-in.

Decides the order of acts and when it is over. Laws are :mod:`tests.virtual.laws`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from dispatcher.embedded.broker import Broker, BrokerConfig, QueueConfig
from testbed.virtual import VirtualNode
from tests.crash import laws as of_history
from tests.crash.history import History, a_history
from tests.e2e.cluster_service import ClusterService, Replica, cluster_service
from tests.e2e.local_service import QUEUE, enqueue, left_on_queue
from tests.virtual.laws import PICOS, Sample, Seen, charges_in, spent_in, succeeded_there
from tests.virtual.scenario import MUST_DIE, Scenario

SAMPLE_EVERY_SECONDS = 0.5
Telling = Callable[[str], None]


@dataclass
class Burst:
    """One burst while it runs."""

    scenario: Scenario
    virtual: VirtualNode
    service: ClusterService
    history: History
    connection: str
    began: float = field(default_factory=time.monotonic)
    samples: list[Sample] = field(default_factory=list)
    replica: Replica | None = None

    @property
    def ledger_name(self) -> str:
        """The ConfigMap of the ledger."""
        return f"{self.service.own}-ledger"

    def done(self) -> int:
        """How many items the dispatcher has told to be done."""
        return len({event["item"] for event in self.service.events("item.done")})

    def ended(self) -> int:
        """How many items have ended, one way or the other."""
        told = ("item.done", "item.dead_lettered", "item.found_settled")
        return len({event["item"] for name in told for event in self.service.events(name)})

    async def start(self) -> None:
        """A dispatcher; after a kill the next one."""
        self.replica = self.service.replica()
        self.replica.start()
        await self.replica.ready(120)

    async def send(self) -> None:
        """All of it at once."""
        await enqueue(self.connection, self.scenario.messages())

    async def sample(self) -> None:
        """One look at everything. The bill first: what it says must be covered by what is read after it."""
        aci = self.virtual.aci
        bill, statistics = await aci.bill(), await aci.statistics()
        document = await self.service.ledger()
        reserved = sum(sum(entry["reserved"].values()) for entry in document["entries"].values())
        now = statistics["now"]
        self.samples.append(
            Sample(
                round(time.monotonic() - self.began, 1),
                self.ended(),
                now["addresses"],
                now["groups"],
                (now["creates"][0], now["creates"][1]),
                (now["deletes"][0], now["deletes"][1]),
                Decimal(bill["usd"]),
                spent_in(document),
                Decimal(reserved) / PICOS,
            )
        )

    async def is_over(self) -> bool:
        """Nothing is on the queue or in the cluster, and every entry of the ledger is closed."""
        if await left_on_queue(self.connection):
            return False
        return not (await self.service.ledger())["entries"] and not await self.service.left_in_cluster()

    async def seen(self) -> Seen:
        """What it came to."""
        dead = [str(each.message_id) for each in await left_on_queue(self.connection, dead=True)]
        left, sent = len(await left_on_queue(self.connection)), self.scenario.messages()
        terms = of_history.Terms(
            sent=frozenset(sent),
            must_die=frozenset(name for name in sent if name.startswith(MUST_DIE)),
            rate_usd=Decimal(0),
            limit_usd=self.scenario.limit_usd,
            addresses=self.scenario.addresses_allowed,
            ledger_name=self.ledger_name,
        )
        at_broker = of_history.AtBroker(len(sent), len(sent) - left - len(dead), len(dead), left, dead)
        alarms = [str(event.get("what")) for event in self.service.events("alarm.raised")]
        versions = self.history.of(self.service.own, self.service.tasks)
        findings = await asyncio.to_thread(of_history.judge, versions, terms, at_broker, alarms)
        return Seen(
            samples=self.samples,
            bill=await self.virtual.aci.bill(),
            statistics=await self.virtual.aci.statistics(),
            charges=charges_in(self.service.events("attempt.closed")),
            spent_usd=spent_in(await self.service.ledger()),
            on_virtual_node=succeeded_there(versions),
            namespace=self.service.tasks,
            seconds=time.monotonic() - self.began,
            broken=findings.broken,
        )


@asynccontextmanager
async def a_burst(virtual: VirtualNode, folder: Path, scenario: Scenario) -> AsyncIterator[Burst]:
    """Everything that a burst needs, the dispatcher started; all of it is gone afterwards."""
    await virtual.aci.reset(**_changed(scenario))
    queue = QueueConfig(QUEUE, lock_duration=timedelta(seconds=10), max_delivery_count=100)
    async with (
        Broker(BrokerConfig(queues=(queue,))) as broker,
        cluster_service(virtual.plane, folder, broker.connection_string) as service,
        a_history(virtual.plane) as history,
    ):
        scenario.write_config(service, virtual.aci)
        burst = Burst(scenario, virtual, service, history, broker.connection_string)
        await burst.start()
        burst.began = time.monotonic()
        yield burst


def _changed(scenario: Scenario) -> dict[str, Any]:
    options: dict[str, Any] = json.loads(scenario.aci.to_json())
    return options


async def run(burst: Burst, tell: Telling, meanwhile: Callable[[], Coroutine[Any, Any, None]] | None = None) -> Seen:
    """Sends the burst, looks on until it is over, and says how it goes; ``meanwhile`` acts beside it."""
    scenario = burst.scenario
    await burst.send()
    beside = asyncio.create_task(meanwhile()) if meanwhile else None
    ends, told_at, killed = time.monotonic() + scenario.seconds_max, 0.0, scenario.killed_after is None
    try:
        while time.monotonic() < ends:
            await burst.sample()
            now = burst.samples[-1]
            if not killed and now.done >= (scenario.killed_after or 0):
                killed = True
                assert burst.replica is not None
                burst.replica.kill()
                tell(f"{now.second:6.0f} s  the dispatcher is killed; another one takes over")
                await burst.start()
            if now.second - told_at >= 15:
                told_at = now.second
                tell(
                    f"{now.second:6.0f} s  {now.done} of {scenario.items} items have ended; {now.addresses} addresses, "
                    f"creates {now.creates[0]} and {now.creates[1]}, bill ${now.bill_usd:.4f}, "
                    f"spent ${now.spent_usd:.4f} + reserved ${now.reserved_usd:.4f}"
                )
            finished = now.done >= scenario.items or now.second > scenario.seconds_max / 2
            if finished and (beside is None or beside.done()) and await burst.is_over():
                break
            await asyncio.sleep(SAMPLE_EVERY_SECONDS)
        else:
            tell(f"not over within {scenario.seconds_max:.0f} s; judged as it stands")
        if beside is not None:
            await beside
        await burst.sample()
        return await burst.seen()
    finally:
        if beside is not None:
            beside.cancel()
