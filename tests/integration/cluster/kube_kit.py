"""What the tests of the cluster adapter share: adapters that soon lose patience, Jobs, and waiting for a sight."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from dispatcher.cluster import ConfigMapStore, KubernetesCluster, KubernetesConfig, ServerClock, connect
from dispatcher.cluster.api import Api
from dispatcher.core.jobs import JobShape, manifest, ready_to_create
from dispatcher.core.observations import JobSeen, Placement, PodSeen
from dispatcher.core.units import Resources
from dispatcher.core.work import Task
from dispatcher.ports import ObjectRef
from testbed.api_proxy import ApiProxy
from testbed.behaviour import told
from testbed.control_plane import ControlPlane

T = TypeVar("T")
PATIENCE_SECONDS = 60.0


def config_for(plane: ControlPlane, namespace: str, proxy: ApiProxy | None = None, **changes: Any) -> KubernetesConfig:
    """A dispatcher of its own in that namespace, through the proxy where there is one."""
    kubeconfig = plane.kubeconfig
    if proxy is not None:
        kubeconfig = plane.write_kubeconfig(f"proxied-{namespace}", plane.admin_token, server=proxy.url)
    values: dict[str, Any] = {
        "namespaces": (namespace,),
        "instance": namespace,
        "kubeconfig": kubeconfig,
        "request_timeout": timedelta(seconds=10),
        "patience": timedelta(seconds=15),
        "tries_max": 4,
        "watch_backoff_max": timedelta(seconds=0.5),
    }
    return KubernetesConfig(namespace, **{**values, **changes})


@dataclass
class Kube:
    """An adapter, and what it has told so far."""

    cluster: KubernetesCluster
    store: ConfigMapStore
    api: Api
    config: KubernetesConfig
    bell: asyncio.Event
    jobs: dict[str, JobSeen] = field(default_factory=dict)
    pods: dict[str, PodSeen] = field(default_factory=dict)
    """All that were ever seen, as last seen."""
    gone: set[str] = field(default_factory=set)
    """Names of Jobs and uids of pods that are told to be gone."""

    async def look(self) -> None:
        """Takes in what has changed: never a list, only what the watches tell."""
        changes = await self.cluster.changes()
        for job in changes.jobs:
            self.jobs[job.name] = job
        for pod in changes.pods:
            self.pods[pod.uid] = pod
        self.gone |= {*changes.jobs_gone, *changes.pods_gone}

    async def until(self, found: Callable[[], T | None]) -> T:
        """What ``found`` returns once it does, after each news."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                await self.look()
                result = found()
                if result:
                    return result
                try:
                    async with asyncio.timeout(0.5):
                        await self.bell.wait()
                except TimeoutError:
                    continue
                self.bell.clear()

    async def pod(self, phase: str) -> PodSeen:
        """A pod in that phase."""
        return await self.until(lambda: next((pod for pod in self.pods.values() if pod.phase == phase), None))

    async def ended(self, name: str = "burst-b-1") -> JobSeen:
        """The Job with its condition."""
        return await self.until(lambda: self.jobs[name] if name in self.jobs and self.jobs[name].condition else None)

    async def launch(self, job: dict[str, Any]) -> JobSeen:
        """Creates it."""
        (created,) = await self.cluster.create_jobs([job])
        assert created.job is not None, created.text
        return created.job


@asynccontextmanager
async def kube(config: KubernetesConfig, *, started: bool = True) -> AsyncIterator[Kube]:
    """An adapter with a connection of its own."""
    api = await connect(config, ServerClock())
    bell = asyncio.Event()
    cluster = KubernetesCluster(api, config, bell.set)
    store = ConfigMapStore(api, config, lambda _: config.namespaces[0])
    try:
        if started:
            await cluster.start()
        yield Kube(cluster, store, api, config, bell)
    finally:
        await cluster.stop()
        await api.close()


def a_job(
    namespace: str,
    batch: str = "b",
    *,
    placement: Placement = Placement.NODE_POOL,
    completions: int = 1,
    parallelism: int | None = None,
    retries: int = 0,
    **behaviour: Any,
) -> dict[str, Any]:
    """A manifest as the dispatcher makes them, and what the testbed is to do with its pods."""
    task = Task("task", "busybox:1.37", ("true",), Resources(100, 10**7), namespace=namespace)
    shape = JobShape(completions, parallelism or completions, retries, timedelta(seconds=120))
    numbers = tuple(range(completions))
    made = manifest(task, shape, placement=placement, batch_id=batch, attempt=1, sequence_numbers=numbers)
    stop_at = datetime.now(UTC) + timedelta(minutes=10)
    job = ready_to_create(made, record_uid="r", items_digest="d", epoch=1, stop_at=stop_at)
    job["spec"]["template"]["metadata"]["annotations"] = told(**behaviour)
    # Without the record, so that pods run though none is written: records have tests of their own.
    pod = job["spec"]["template"]["spec"]
    del pod["volumes"], pod["containers"][0]["volumeMounts"]
    return job


def ref(thing: JobSeen | PodSeen) -> ObjectRef:
    """Its name and uid."""
    return ObjectRef(thing.name, thing.uid)
