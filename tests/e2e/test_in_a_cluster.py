"""The dispatcher in a cluster: real Jobs from a real queue, replicas that die or freeze, a quota that refuses."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from dispatcher.embedded.broker import Broker
from testbed.api_proxy import ApiProxy
from testbed.behaviour import PREFIX
from testbed.control_plane import ControlPlane
from tests.e2e.cluster_service import ClusterService, Replica, cluster_service
from tests.e2e.local_service import enqueue, left_on_queue


def burst(items: int) -> dict[str, Any]:
    return {f"item-{number}": {"task": "sleep", "params": {}} for number in range(items)}


async def until(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = 90) -> None:
    ends = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < ends, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(0.1)


async def leads(service: ClusterService) -> Replica:
    found: list[Replica] = []

    async def one_leads() -> bool:
        leader = await service.leader()
        found[:] = [leader] if leader else []
        return bool(found)

    await until(one_leads, "one replica leads")
    return found[0]


async def all_is_done(service: ClusterService, connection: str, items: int) -> None:
    """Every item has left the queue, and was told to be done."""

    async def queue_is_empty() -> bool:
        return not await left_on_queue(connection)

    await until(queue_is_empty, "the queue is empty")
    assert not await left_on_queue(connection, dead=True)
    done = Counter(event["item"] for event in service.events("item.done"))
    assert len(done) == items, [replica.log[-2000:] for replica in service.replicas]


async def nothing_is_left(service: ClusterService) -> None:
    """No Job, pod or record, and no entry in the ledger."""

    async def cluster_is_empty() -> bool:
        return not await service.left_in_cluster() and not (await service.ledger())["entries"]

    await until(cluster_is_empty, f"nothing is left in the cluster: {await service.left_in_cluster()}")


async def test_a_burst_becomes_jobs_on_both_placements_and_leaves_nothing_behind(
    control_plane: ControlPlane, broker: Broker, tmp_path: Path
) -> None:
    async with cluster_service(control_plane, tmp_path, broker.connection_string) as service:
        replica = service.replica()
        replica.start()
        await replica.ready()
        await leads(service)
        await enqueue(broker.connection_string, burst(40))
        await all_is_done(service, broker.connection_string, 40)
        await nothing_is_left(service)
        placements = {event["placement"] for event in service.events("batch.launched")}
        assert placements == {"node_pool", "virtual_node"}
        charged = service.events("pod.charged")
        assert len(charged) > 0
        status = await replica.status()
        assert status["faults"] == []
        assert replica.stop() == 0
        spec = await control_plane.api.get(
            f"/apis/coordination.k8s.io/v1/namespaces/{service.own}/leases/{service.own}-leader"
        )
        assert spec["spec"]["holderIdentity"] == ""


async def test_failures_are_retried_and_in_the_end_dead_lettered_with_what_was_seen(
    control_plane: ControlPlane, broker: Broker, tmp_path: Path
) -> None:
    task = {"labels": {f"{PREFIX}exit-code": "3"}, "backoff_limit": 0, "placements": ["node_pool"]}
    async with cluster_service(control_plane, tmp_path, broker.connection_string, task=task) as service:
        service.replica().start()
        await service.replicas[0].ready()
        await enqueue(broker.connection_string, burst(3))

        async def all_dead() -> bool:
            return len(await left_on_queue(broker.connection_string, dead=True)) == 3

        await until(all_dead, "all are dead-lettered")
        (letter, *_) = await left_on_queue(broker.connection_string, dead=True)
        assert letter.dead_letter_reason == "application"
        assert "exit code 3" in str(letter.dead_letter_error_description)
        assert not await left_on_queue(broker.connection_string)


async def test_a_leader_that_is_killed_in_the_middle_of_a_burst_is_followed_and_nothing_runs_twice(
    control_plane: ControlPlane, broker: Broker, tmp_path: Path
) -> None:
    async with cluster_service(control_plane, tmp_path, broker.connection_string) as service:
        for _ in range(2):
            service.replica().start()
        for replica in service.replicas:
            await replica.ready()
        leader = await leads(service)
        await enqueue(broker.connection_string, burst(60))

        async def some_are_done() -> bool:
            return len(service.events("item.done")) >= 5

        await until(some_are_done, "some items are done")
        leader.kill()
        killed_at = time.monotonic()
        follower = await leads(service)
        assert follower is not leader
        assert time.monotonic() - killed_at < 30
        await all_is_done(service, broker.connection_string, 60)
        never_twice(service)


async def test_a_leader_that_freezes_for_longer_than_its_lease_does_no_harm_when_it_thaws(
    control_plane: ControlPlane, broker: Broker, tmp_path: Path
) -> None:
    async with cluster_service(control_plane, tmp_path, broker.connection_string) as service:
        for _ in range(2):
            service.replica().start()
        for replica in service.replicas:
            await replica.ready()
        leader = await leads(service)
        (other,) = [replica for replica in service.replicas if replica is not leader]
        await enqueue(broker.connection_string, burst(60))

        async def launches() -> bool:
            return len(leader.events("batch.launched")) >= 3

        await until(launches, "batches are launched")
        leader.signal(signal.SIGSTOP)
        try:

            async def other_leads() -> bool:
                # In the middle of the burst: it has launched something of its own.
                return bool((await other.status()).get("leading")) and bool(other.events("item.received"))

            await until(other_leads, "the other leads")
        finally:
            leader.signal(signal.SIGCONT)
        await all_is_done(service, broker.connection_string, 60)
        never_twice(service)
        assert not (await leader.status()).get("leading") or not (await other.status()).get("leading")


def never_twice(service: ClusterService) -> None:
    """No item was told to be done under two attempts, and none was tried again though nothing had failed."""
    done = Counter((event["item"]) for event in service.events("item.done"))
    told_by_both = {item for item, times in done.items() if times > 1}
    # A leader that is killed between settling and its last word is followed by one that tells it once more.
    for item in told_by_both:
        attempts = {
            (event.get("batch"), event.get("attempt")) for event in service.events("item.done") if event["item"] == item
        }
        assert len(attempts) == 1, item
    assert not service.events("item.retried")
    assert not service.events("item.dead_lettered")


async def test_a_quota_that_refuses_jobs_is_waited_for_and_costs_no_item(
    control_plane: ControlPlane, broker: Broker, tmp_path: Path
) -> None:
    async with cluster_service(control_plane, tmp_path, broker.connection_string) as service:
        quotas = f"/api/v1/namespaces/{service.tasks}/resourcequotas"
        await control_plane.api.post(quotas, {"metadata": {"name": "few"}, "spec": {"hard": {"count/jobs.batch": "1"}}})
        service.replica().start()
        await service.replicas[0].ready()
        await leads(service)
        await enqueue(broker.connection_string, burst(15))

        async def refused() -> bool:
            return bool(service.events("job.refused"))

        await until(refused, "a Job is refused")
        (told, *_) = service.events("job.refused")
        assert told["later"]
        assert "exceeded quota: few" in told["text"]
        await all_is_done(service, broker.connection_string, 15)
        never_twice(service)


async def test_rights_that_are_missing_are_told_at_start_each_in_a_line(
    control_plane: ControlPlane, broker: Broker, tmp_path: Path
) -> None:
    async with cluster_service(control_plane, tmp_path, broker.connection_string) as service:
        role = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{service.tasks}/roles/e2e-tasks-{service.own}"
        await control_plane.api.patch(role, {"rules": []})

        async def gone() -> bool:  # rights end a moment after they are taken away
            replica = service.replica()
            replica.start()
            assert replica.process is not None
            try:
                code = await asyncio.to_thread(replica.process.wait, 10)
            except subprocess.TimeoutExpired:  # it has started, since it still had its rights
                replica.kill()
                return False
            return code == 2 and f"may not create jobs of batch in namespace {service.tasks}" in replica.log

        await until(gone, "what is missing is told")
        errors = [line for line in service.replicas[-1].log.splitlines() if line.startswith("error: ")]
        assert len(errors) >= 10
        assert all("add it to the service account's Role" in line for line in errors)


async def test_while_the_clocks_are_apart_work_is_held_with_the_reason_and_goes_on_when_they_agree(
    control_plane: ControlPlane, broker: Broker, tmp_path: Path
) -> None:
    async with (
        ApiProxy(control_plane.url, control_plane.ca_file, ahead=timedelta(seconds=20)) as proxy,
        cluster_service(control_plane, tmp_path, broker.connection_string, server=proxy.url) as service,
    ):
        replica = service.replica()
        replica.start()
        await replica.ready()
        await enqueue(broker.connection_string, burst(10))

        async def held() -> bool:
            return [each["reason"] for each in (await replica.status()).get("held", ())] == ["clocks_apart"]

        await until(held, "the work is held")
        status = await replica.status()
        assert "behind the API server's" in status["held"][0]["detail"]
        assert any(fault.startswith("clock: ") for fault in status["faults"])
        assert not service.events("batch.launched")
        # Its clock is set right. What the ledger says of the time until now is still ahead of it.
        proxy.ahead = timedelta(0)

        async def behind() -> bool:
            return [each["reason"] for each in (await replica.status()).get("held", ())] == ["clock_behind"]

        await until(behind, "only the ledger's last write is ahead of the time")
        assert not service.events("batch.launched")
        await all_is_done(service, broker.connection_string, 10)


async def test_an_old_cluster_is_told_at_start_in_one_line(
    control_plane: ControlPlane, broker: Broker, tmp_path: Path
) -> None:
    async with (
        ApiProxy(control_plane.url, control_plane.ca_file, version="v1.30.4") as proxy,
        cluster_service(control_plane, tmp_path, broker.connection_string, server=proxy.url) as service,
    ):
        replica = service.replica()
        replica.start()
        assert replica.process is not None
        assert await asyncio.to_thread(replica.process.wait, 60) == 1
        (told,) = [line for line in replica.log.splitlines() if line.startswith("error: ")]
        assert "the cluster runs Kubernetes 1.30; 1.31 or newer is needed for: " in told
        assert told.endswith("upgrade it")
