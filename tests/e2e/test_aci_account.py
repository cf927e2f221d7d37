"""The dispatcher with read access to ACI, on the real connector in front of the stand-in: what it charges is the bill,
and a group that is left without its pod is told, charged, and waited out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dispatcher.embedded.broker import Broker
from testbed.fixtures import virtual_node
from testbed.virtual import RESOURCE_GROUP, VirtualNode
from testbed.waiting import until
from tests.e2e.cluster_service import ClusterService, cluster_service
from tests.e2e.local_service import enqueue, left_on_queue

__all__ = ["virtual_node"]

TO_THE_BILL = Decimal("0.0001")
BUDGET = {"name": "all", "scope": "all", "window": "month", "limit_usd": "5"}


def service_on(
    virtual: VirtualNode, broker: Broker, folder: Path, *, env: Mapping[str, str], **settings: Any
) -> AbstractAsyncContextManager[ClusterService]:
    """A service whose work runs on the virtual node alone, and that may read what Azure says of it."""
    token = folder / "token"
    token.write_text(virtual.aci.options.reader_token)
    azure = {
        "subscription": virtual.aci.options.subscription,
        "resource_group": RESOURCE_GROUP,
        "region": virtual.aci.options.location,
        "endpoint": virtual.aci.url,
        "token_file": str(token),
        "look_every": "1s",
        "requests_per_second": 20,
    }
    task = {"placements": ["virtual_node"], "env": dict(env), "item_timeout": "90s"}
    return cluster_service(
        virtual.plane,
        folder,
        broker.connection_string,
        settings={"azure": azure, "budgets": [BUDGET], **settings},
        task=task,
    )


async def bill_by_job(virtual: VirtualNode, namespace: str) -> dict[str, Decimal]:
    """What the stand-in has billed for each Job of that namespace until now."""
    bill: dict[str, Decimal] = defaultdict(Decimal)
    for line in (await virtual.aci.bill())["groups"]:
        if line["namespace"] == namespace:
            bill[line["pod"].rsplit("-", 2)[0]] += Decimal(line["usd"])
    return bill


def charged_by_job(service: ClusterService) -> dict[str, Decimal]:
    """What each closed Job was charged, its leaks too."""
    charged: dict[str, Decimal] = defaultdict(Decimal)
    for event in (*service.events("attempt.closed"), *service.events("leak.resolved")):
        charged[event["job"]] += Decimal(event["cost_usd"])
    return charged


async def comes(condition: Callable[[], Awaitable[bool]], what: str, service: ClusterService) -> None:
    async def look() -> bool | None:
        return True if await condition() else None

    try:
        await until(look, what)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{service.replicas[0].log[-3000:]}") from error


async def all_closed(service: ClusterService, broker: Broker) -> None:
    """No item is left, and no entry of the ledger."""

    async def closed() -> bool:
        return not await left_on_queue(broker.connection_string) and not (await service.ledger())["entries"]

    await comes(closed, "every attempt is closed", service)


async def test_every_job_is_charged_what_it_is_billed(
    virtual_node: VirtualNode, broker: Broker, tmp_path: Path
) -> None:
    await virtual_node.aci.reset()
    env = {"STANDIN_RUN_SECONDS": "2", "STANDIN_EXIT_CODE_3": "1"}  # one of each five fails, and its retries too
    async with service_on(virtual_node, broker, tmp_path, env=env) as service:
        replica = service.replica()
        replica.start()
        await replica.ready()
        await enqueue(broker.connection_string, {f"item-{n}": {"task": "sleep", "params": {}} for n in range(10)})
        await all_closed(service, broker)
        bill, charged = await bill_by_job(virtual_node, service.tasks), charged_by_job(service)
        assert len(bill) >= 2
        assert charged.keys() == bill.keys()
        wrong = {job: (charged[job], bill[job]) for job in bill if not 0 <= charged[job] - bill[job] < TO_THE_BILL}
        assert wrong == {}
        pods = service.events("pod.charged")
        assert [event["pod"] for event in pods if event["estimated"]] == []
        spent = [Decimal(account["spent"]) / 10**12 for account in (await service.ledger())["accounts"].values()]
        assert abs(sum(spent) - sum(bill.values())) < TO_THE_BILL
        assert (await replica.status())["faults"] == []


@pytest.mark.timeout(240)
async def test_a_group_without_a_pod_is_told_charged_and_waited_out(
    virtual_node: VirtualNode, broker: Broker, tmp_path: Path
) -> None:
    aci = virtual_node.aci
    await aci.reset()
    async with service_on(virtual_node, broker, tmp_path, env={"STANDIN_RUN_SECONDS": "never"}) as service:
        replica = service.replica()
        replica.start()
        await replica.ready()
        await enqueue(broker.connection_string, {"first": {"task": "sleep", "params": {}}})
        pods = f"/api/v1/namespaces/{service.tasks}/pods"

        async def running() -> str | None:
            found = (await virtual_node.plane.api.get(pods))["items"]
            names = [pod["metadata"]["name"] for pod in found if pod["status"].get("phase") == "Running"]
            return names[0] if names else None

        pod = await until(running, "a pod that runs")
        leaked = f"{service.tasks}-{pod}"
        await aci.add_fault("survives_delete", match=f"^{leaked}$")
        await virtual_node.plane.api.delete(f"{pods}/{pod}")

        async def told() -> bool:
            return any(event["group"] == leaked for event in service.events("group.leaked"))

        await comes(told, "the leak is told", service)
        await enqueue(broker.connection_string, {"second": {"task": "sleep", "params": {}}})

        async def held_and_charged() -> bool:
            status = await replica.status()
            reasons = {hold["reason"] for hold in status.get("held", [])}
            leaks = {leak["group"]: Decimal(leak["cost_usd"]) for leak in status.get("leaks", [])}
            return "leaked_groups" in reasons and leaks.get(leaked, Decimal(0)) > 0

        await comes(held_and_charged, "work is held because of it, and it is charged as it bills on", service)

        async def in_the_ledger() -> bool:
            [account] = (await service.ledger())["accounts"].values()
            return int(account.get("leaked", 0)) > 0

        await comes(in_the_ledger, "what it costs stands in the ledger", service)
        launched_before = len(service.events("batch.launched"))
        assert any("without a pod" in event["what"] for event in service.events("alarm.raised"))

        await aci.steer(leaked, "finish")

        async def goes_on() -> bool:
            for group in (await aci.look())["groups"]:
                if group["name"] != leaked and group["state"] == "Running":
                    await aci.steer(group["name"], "finish")
            return not await left_on_queue(broker.connection_string)

        await comes(goes_on, "what was held is launched and done once the group has stopped", service)
        assert len(service.events("batch.launched")) > launched_before
        assert {event["group"] for event in service.events("leak.resolved")} == {leaked}
        await aci.steer(leaked, "vanish")
        await all_closed(service, broker)

        async def forgotten() -> bool:
            return "leaks" not in await service.ledger()

        await comes(forgotten, "the ledger holds nothing of it any more", service)
        bill, charged = await bill_by_job(virtual_node, service.tasks), charged_by_job(service)
        assert charged.keys() == bill.keys()
        short = {job: (charged[job], bill[job]) for job in bill if charged[job] < bill[job]}
        assert short == {}
        # The law holds again: what stands in the account is what everything has cost, and nothing is set aside.
        [account] = (await service.ledger())["accounts"].values()
        assert Decimal(account["spent"]) / 10**12 >= sum(bill.values())
