"""Watches that expire, break, stall, lag and shuffle: what is known becomes what is there, without needless lists."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest
from kube_kit import Kube, a_job, config_for, kube, ref

from dispatcher.cluster.reflector import Reflector
from dispatcher.errors import DispatcherError
from dispatcher.ports import Answer
from testbed.api_proxy import ApiProxy, Fault
from testbed.control_plane import ControlPlane

JOBS = "/jobs$"
PODS = "/namespaces/[^/]+/pods$"


def reflectors(it: Kube) -> Iterator[Reflector[object]]:
    yield from it.cluster._mirror.reflectors


def lists(it: Kube) -> int:
    return sum(each.lists for each in reflectors(it))


async def test_a_watch_that_breaks_goes_on_from_where_it_was_without_a_list(
    control_plane: ControlPlane, namespace: str, proxy: ApiProxy
) -> None:
    proxy.inject(Fault.WATCH_DROPPED, path=f"{JOBS}|{PODS}")
    async with kube(config_for(control_plane, namespace, proxy)) as it:
        await it.launch(a_job(namespace, completions=6, parallelism=3))
        job = await it.ended()
        assert job.completed_indexes == set(range(6))
        await it.until(lambda: sum(pod.phase == "Succeeded" for pod in it.pods.values()) == 6)
        assert proxy.fired[Fault.WATCH_DROPPED] > 3
        assert lists(it) == 4


async def test_a_version_that_has_expired_means_a_new_list(
    control_plane: ControlPlane, namespace: str, proxy: ApiProxy
) -> None:
    proxy.inject(Fault.WATCH_EXPIRED, path=f"{JOBS}|{PODS}", times=4)
    async with kube(config_for(control_plane, namespace, proxy)) as it:
        await it.launch(a_job(namespace, completions=2))
        await it.ended()
        assert proxy.fired[Fault.WATCH_EXPIRED] == 4
        assert lists(it) == 8


async def test_what_goes_while_nobody_watches_is_told_as_gone_by_the_next_list(
    control_plane: ControlPlane, namespace: str, proxy: ApiProxy
) -> None:
    config = config_for(control_plane, namespace, proxy, watch_stalled_after=timedelta(seconds=2))
    async with kube(config) as it, kube(config_for(control_plane, namespace), started=False) as other:
        job = await it.launch(a_job(namespace, run_seconds="never"))
        pod = await it.pod("Running")
        proxy.inject(Fault.WATCH_STALLED, path=f"{JOBS}|{PODS}")
        for each in reflectors(it):
            await each.relist()  # the watches that follow are silent
        assert await other.cluster.release_jobs([ref(job)]) == [Answer.DONE]
        proxy.clear()
        proxy.inject(Fault.WATCH_EXPIRED, times=2, path=f"{JOBS}|{PODS}")
        await it.until(lambda: {job.name, pod.uid} <= it.gone)


async def test_a_watch_that_stalls_silently_is_noticed_and_made_anew(
    control_plane: ControlPlane, namespace: str, proxy: ApiProxy
) -> None:
    proxy.inject(Fault.WATCH_STALLED, path=f"{JOBS}|{PODS}", times=2)
    config = config_for(control_plane, namespace, proxy, watch_stalled_after=timedelta(seconds=2))
    async with kube(config) as it:
        await it.launch(a_job(namespace, completions=3))
        job = await it.ended()
        assert job.succeeded == 3
        assert proxy.fired[Fault.WATCH_STALLED] == 2
        assert lists(it) == 4


async def test_events_that_come_late_and_in_disorder_add_up_to_what_is_there(
    control_plane: ControlPlane, namespace: str, proxy: ApiProxy
) -> None:
    proxy.inject(Fault.WATCH_REORDERED, path=f"{JOBS}|{PODS}", seconds=0.3)
    async with kube(config_for(control_plane, namespace, proxy)) as it:
        for batch in ("one", "two", "three"):
            await it.launch(a_job(namespace, batch, completions=4, parallelism=2))
        for batch in ("one", "two", "three"):
            job = await it.ended(f"burst-{batch}-1")
            assert job.completed_indexes == set(range(4))
        await it.until(lambda: sum(pod.phase == "Succeeded" for pod in it.pods.values()) == 12)
        await it.cluster.release_jobs([ref(it.jobs["burst-one-1"])])
        await it.until(lambda: "burst-one-1" in it.gone and len(it.gone) == 5)
        seen = await it.cluster.list_all()
        await it.look()
        assert {job.name: job for job in seen.jobs} == {
            name: job for name, job in it.jobs.items() if name not in it.gone
        }  # fmt: skip
        assert {pod.uid: pod for pod in seen.pods} == {uid: pod for uid, pod in it.pods.items() if uid not in it.gone}


async def test_lists_in_the_middle_of_everything_lose_nothing(control_plane: ControlPlane, namespace: str) -> None:
    async with kube(config_for(control_plane, namespace)) as it:
        await it.launch(a_job(namespace, completions=20, parallelism=5))

        async def lists_on_end() -> None:
            while True:
                await it.cluster.list_all()

        listing = asyncio.create_task(lists_on_end())
        try:
            job = await it.ended()
            await it.until(lambda: sum(pod.phase == "Succeeded" for pod in it.pods.values()) == 20)
        finally:
            listing.cancel()
            await asyncio.wait({listing})
        assert (job.completed_indexes, it.gone) == (set(range(20)), set())


async def test_an_api_server_that_is_killed_is_found_again(control_plane: ControlPlane, namespace: str) -> None:
    async with kube(config_for(control_plane, namespace)) as it:
        await it.launch(a_job(namespace, "before", run_seconds="never"))
        await it.pod("Running")
        await control_plane.restart("kube-apiserver")
        await it.launch(a_job(namespace, "after"))
        await it.ended("burst-after-1")
        assert it.gone == set()


async def test_silence_is_told_and_so_is_its_end(control_plane: ControlPlane, namespace: str, proxy: ApiProxy) -> None:
    config = config_for(
        control_plane, namespace, proxy,
        stale_after=timedelta(seconds=1), watch_stalled_after=timedelta(seconds=0.5), tries_max=1,
    )  # fmt: skip
    async with kube(config) as it:
        proxy.inject(Fault.WATCH_STALLED)
        async with asyncio.timeout(30):
            while len(list(it.cluster.faults())) < 4:  # noqa: ASYNC110 - time is what is waited for
                await asyncio.sleep(0.05)
        assert any("jobs: was last heard of" in fault for fault in it.cluster.faults())
        proxy.clear()
        await it.launch(a_job(namespace, run_seconds="never"))
        await it.pod("Running")
        # Whatever happens is heard of again; the rest is quiet, and bookmarks come once a minute.
        assert not any(f"{namespace}/jobs" in fault and "nothing for" not in fault for fault in it.cluster.faults())


async def test_a_cluster_that_cannot_be_read_at_the_start_is_told_with_the_reason(
    control_plane: ControlPlane, namespace: str, proxy: ApiProxy
) -> None:
    proxy.inject(Fault.BROKEN, path="/nodes$")
    config = config_for(control_plane, namespace, proxy, patience=timedelta(seconds=2), tries_max=1)
    with pytest.raises(DispatcherError, match=r"/api/v1/nodes: .*500"):
        async with kube(config):
            pass
