"""Who leads, on a real API server: leaders that die, stall, or only lose the line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from kube_kit import config_for

from dispatcher.cluster import KubernetesLease, ServerClock, connect
from testbed.api_proxy import ApiProxy, Fault
from testbed.control_plane import ControlPlane

SHORT = {
    "lease_duration": timedelta(seconds=2),
    "lease_renew_deadline": timedelta(seconds=1.5),
    "lease_retry": timedelta(seconds=0.2),
    "request_timeout": timedelta(seconds=5),
    "tries_max": 1,
}


@asynccontextmanager
async def replica(
    plane: ControlPlane, namespace: str, identity: str, proxy: ApiProxy | None = None, **changes: Any
) -> AsyncIterator[KubernetesLease]:
    """One contender with a connection of its own; it gives nothing up when it ends."""
    config = config_for(plane, namespace, proxy, **{**SHORT, **changes})
    clock = ServerClock()
    api = await connect(config, clock)
    lease = KubernetesLease(api, config, clock, identity)
    try:
        yield lease
    finally:
        if lease._renewing is not None:
            lease._renewing.cancel()
        await api.close()


async def until_taken(lease: KubernetesLease) -> float:
    """How long it took."""
    began = time.monotonic()
    async with asyncio.timeout(60):
        while not await lease.acquire():  # noqa: ASYNC110 - time is what is waited for
            await asyncio.sleep(0.05)
    return time.monotonic() - began


async def spec(plane: ControlPlane, namespace: str) -> dict[str, Any]:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{namespace}-leader"
    return dict((await plane.api.get(path))["spec"])


async def test_a_leader_that_dies_is_followed_when_its_lease_has_run_out(
    control_plane: ControlPlane, namespace: str
) -> None:
    async with replica(control_plane, namespace, "second") as second:
        async with replica(control_plane, namespace, "first") as first:
            assert await first.acquire()
            assert not await second.acquire()
        assert await until_taken(second) >= 1.5
        told = await spec(control_plane, namespace)
        assert (told["holderIdentity"], told["leaseTransitions"], told["leaseDurationSeconds"]) == ("second", 1, 2)


async def test_a_leader_that_ends_properly_is_followed_at_once(control_plane: ControlPlane, namespace: str) -> None:
    long = {"lease_duration": timedelta(minutes=10), "lease_renew_deadline": timedelta(minutes=5)}
    async with (
        replica(control_plane, namespace, "first", **long) as first,
        replica(control_plane, namespace, "second", **long) as second,
    ):
        assert await first.acquire()
        assert not await second.acquire()
        await first.release()
        await until_taken(second)
        assert not await first.acquire()


async def test_a_leader_keeps_its_lease_through_one_long_cycle(control_plane: ControlPlane, namespace: str) -> None:
    async with (
        replica(control_plane, namespace, "first") as first,
        replica(control_plane, namespace, "second") as second,
    ):
        assert await first.acquire()
        ends = time.monotonic() + 4  # twice as long as the lease; nobody asks for it meanwhile
        while time.monotonic() < ends:
            assert not await second.acquire()
            await asyncio.sleep(0.1)
        assert await first.acquire()


async def test_a_leader_that_is_stuck_loses_its_lease(control_plane: ControlPlane, namespace: str) -> None:
    async with (
        replica(control_plane, namespace, "first", lease_kept_for=timedelta(seconds=1)) as first,
        replica(control_plane, namespace, "second") as second,
    ):
        assert await first.acquire()
        await until_taken(second)
        assert not await first.acquire()


async def test_a_leader_that_lost_the_line_leads_no_more_before_another_can(
    control_plane: ControlPlane, namespace: str, proxy: ApiProxy
) -> None:
    async with (
        replica(control_plane, namespace, "first", proxy) as first,
        replica(control_plane, namespace, "second") as second,
    ):
        assert await first.acquire()
        assert not await second.acquire()
        proxy.inject(Fault.NOT_SENT)
        led_last = time.monotonic()
        taken = asyncio.create_task(until_taken(second))
        while not taken.done():
            if await first.acquire():
                assert not taken.done()
                led_last = time.monotonic()
            await asyncio.sleep(0.02)
        taken_at = time.monotonic()
        assert led_last < taken_at
        proxy.clear()
        assert not await first.acquire()


async def test_a_short_break_of_the_line_costs_no_leadership(
    control_plane: ControlPlane, namespace: str, proxy: ApiProxy
) -> None:
    async with (
        replica(control_plane, namespace, "first", proxy) as first,
        replica(control_plane, namespace, "second") as second,
    ):
        assert await first.acquire()
        proxy.inject(Fault.LOST_ANSWER, method="PUT", times=2)  # both were written, and nobody was told
        async with asyncio.timeout(30):
            while proxy.fired[Fault.LOST_ANSWER] < 2:
                assert await first.acquire()
                assert not await second.acquire()
                await asyncio.sleep(0.05)
        assert await first.acquire()
        assert not await second.acquire()
        assert (await spec(control_plane, namespace))["leaseTransitions"] == 0


async def test_what_other_clocks_write_into_the_lease_does_not_matter(
    control_plane: ControlPlane, namespace: str
) -> None:
    async with (
        replica(control_plane, namespace, "first") as first,
        replica(control_plane, namespace, "second") as second,
    ):
        assert await first.acquire()
        path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{namespace}-leader"
        await control_plane.api.patch(path, {"spec": {"renewTime": "2001-01-01T00:00:00.000000Z"}})
        assert not await second.acquire()
        async with asyncio.timeout(30):
            while (await spec(control_plane, namespace))["renewTime"].startswith("2001"):
                assert await first.acquire()
                await asyncio.sleep(0.05)
