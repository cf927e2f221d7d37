"""The worlds of a real API server, Job controller and scheduler, with nodes that KWOK plays.

Pods do what their annotations say and run no code: they start only with their record there, an act's ``reads`` counts
as done with that, and a log is what the testbed serves for the pod. Every world has a namespace of its own on this
worker's control plane, which is empty again when the world ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import cluster_worlds
import lease_worlds
import ledger_worlds
import pytest
from cluster_worlds import Act

from dispatcher.cluster import (
    ConfigMapStore,
    KubernetesCluster,
    KubernetesConfig,
    KubernetesLease,
    ServerClock,
    connect,
)
from dispatcher.cluster.api import Api
from dispatcher.core.observations import PodSeen
from testbed.api import ApiError
from testbed.behaviour import NEVER, told
from testbed.control_plane import ControlPlane

KUBERNETES = "kubernetes"
EMPTY_WITHIN_SECONDS = 60.0

W = TypeVar("W")


def world_of(
    request: pytest.FixtureRequest,
    worlds: Mapping[str, Callable[[], AbstractAsyncContextManager[W]]],
    real: Callable[[ControlPlane], AbstractAsyncContextManager[W]],
) -> AbstractAsyncContextManager[W]:
    """The world that the parameter names; only the real one needs the control plane started."""
    if request.param == KUBERNETES:
        return real(request.getfixturevalue("control_plane"))
    return worlds[request.param]()


@asynccontextmanager
async def namespaced(plane: ControlPlane) -> AsyncIterator[KubernetesConfig]:
    """A new namespace; afterwards nothing of it takes room on the nodes any more."""
    namespace = await plane.create_namespace()
    try:
        yield KubernetesConfig(namespace, (namespace,), instance=namespace, kubeconfig=plane.kubeconfig)
    finally:
        await plane.clear_namespace(namespace)
        async with asyncio.timeout(EMPTY_WITHIN_SECONDS):
            while (await plane.api.get(f"/api/v1/namespaces/{namespace}/pods"))["items"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


@asynccontextmanager
async def connected(config: KubernetesConfig, clock: ServerClock | None = None) -> AsyncIterator[Api]:
    """A connection of its own."""
    api = await connect(config, clock or ServerClock())
    try:
        yield api
    finally:
        await api.close()


def store_of(api: Api, config: KubernetesConfig) -> ConfigMapStore:
    """A store whose records are all in the world's namespace."""
    return ConfigMapStore(api, config, lambda _: config.namespace)


# --- Jobs -------------------------------------------------------------------------------------------------------------


class KubernetesWorld(cluster_worlds.World):
    """Real Jobs. The gate is an annotation that ends what waits."""

    patience = timedelta(seconds=90)

    def __init__(self, plane: ControlPlane, config: KubernetesConfig, api: Api) -> None:
        self._plane = plane
        self._namespace = config.namespace
        self._bell = asyncio.Event()
        self._opening: asyncio.Task[None] | None = None
        self._prints: dict[str, str] = {}
        self._logged: set[str] = set()
        self.cluster = KubernetesCluster(api, config, self._bell.set)
        self.records = store_of(api, config)

    async def start(self) -> None:
        """Begins to watch."""
        await self.cluster.start()

    async def stop(self) -> None:
        """Watches no more."""
        if self._opening is not None:
            await self._opening
        await self.cluster.stop()

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def news(self) -> None:
        await cluster_worlds.rung(self._bell)

    def command(self, act: Act) -> tuple[str, ...]:
        return ("true",)

    def told(self, job: dict[str, Any], act: Act) -> dict[str, Any]:
        behaviour = told(run_seconds=NEVER if act.waits else None, exit_code=1 if act.fails else None)
        if act.fails_at is not None:
            behaviour |= told(exit_code=1, index=act.fails_at)
        self._prints[job["metadata"]["name"]] = act.prints.replace("\\n", "\n")
        job["metadata"]["namespace"] = self._namespace
        job["spec"]["template"]["metadata"]["annotations"] = behaviour
        return job

    def open_gate(self) -> None:
        self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        for pod in (await self._plane.api.get(path))["items"]:
            try:
                await self._plane.api.patch(
                    f"{path}/{pod['metadata']['name']}", {"metadata": {"annotations": told(run_seconds=0)}}
                )
            except ApiError as error:
                if error.status != 404:  # gone by itself
                    raise

    async def pods(self, count: int, phase: str) -> list[PodSeen]:
        found = await super().pods(count, phase)
        for pod in found:
            if self._prints.get(pod.job) and pod.uid not in self._logged:
                await self._plane.write_log(self._namespace, pod.name, self._prints[pod.job])
                self._logged.add(pod.uid)
        return found


@asynccontextmanager
async def jobs(plane: ControlPlane) -> AsyncIterator[cluster_worlds.World]:
    """Jobs of the real control plane."""
    async with namespaced(plane) as config, connected(config) as api:
        world = KubernetesWorld(plane, config, api)
        await world.start()
        try:
            yield world
        finally:
            await world.stop()


# --- ledger and lease -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def ledger(plane: ControlPlane) -> AsyncIterator[ledger_worlds.World]:
    """ConfigMaps, over two connections."""
    async with namespaced(plane) as config, connected(config) as one, connected(config) as other:
        yield ledger_worlds.World(store_of(one, config), store_of(other, config))


@asynccontextmanager
async def lease(plane: ControlPlane) -> AsyncIterator[lease_worlds.World]:
    """A Lease, over two connections; time to let it run out is our own to move."""
    passed = 0.0

    def monotonic() -> float:
        return asyncio.get_running_loop().time() + passed

    async with namespaced(plane) as given, AsyncExitStack() as stack:
        config = replace(given, lease_retry=timedelta(milliseconds=1))
        contenders = []
        for identity in ("first", "second"):
            clock = ServerClock()
            api = await stack.enter_async_context(connected(config, clock))
            contenders.append(KubernetesLease(api, config, clock, identity, monotonic))
        first, second = contenders

        async def run_out() -> None:
            nonlocal passed
            passed += config.lease_kept_for.total_seconds()
            while first.renewing:  # noqa: ASYNC110 - until it has noticed that nobody asks for it any more
                await asyncio.sleep(0.01)
            # How long a lease was not renewed is counted from when one has seen it oneself.
            await second.acquire()
            passed += config.lease_duration.total_seconds()

        yield lease_worlds.World(first, second, run_out)
        for each in contenders:
            await each.release()
