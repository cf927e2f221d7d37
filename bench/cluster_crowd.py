"""What it costs the dispatcher that very many pods are there, half of them its own, and what a change of one costs.

The pods are created on one KWOK node that is said to have room for them, without Jobs, and run for ever.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import aiohttp
from cluster_figures import Figure
from cluster_measuring import a_session, console, each, followed, measured
from cluster_world import INSTANCE, REQUESTS, World

from dispatcher.cluster import paths
from dispatcher.core.jobs import LABEL_JOB
from testbed.behaviour import told
from testbed.control_plane import Node

CROWD_NODE = "crowd"
QUIET_SECONDS = 20.0


def one_of_the_crowd(world: World, number: int) -> tuple[str, dict[str, Any]]:
    """A pod that runs for ever; every second one carries the dispatcher's labels."""
    ours = number % 2 == 0
    namespace = world.tasks if ours else world.bare
    labels = paths.labels(INSTANCE, **{LABEL_JOB: f"burst-crowd{number}-1"}) if ours else {"app": "others"}
    annotations = {**told(run_seconds="never"), "batch.kubernetes.io/job-completion-index": "0"}
    container = {"name": "worker", "image": "bench/none:1", "resources": {"requests": REQUESTS}}
    metadata = {"name": f"crowd-{number}", "labels": labels, "annotations": annotations}
    spec = {"nodeName": CROWD_NODE, "restartPolicy": "Never", "containers": [container]}
    return namespace, {"metadata": metadata, "spec": spec}


async def watch_a_crowd(world: World, pods: int, changes: int) -> Figure:
    """Fills the cluster, looks at the idle dispatcher, then changes pods: first of its own, then of others."""
    await world.plane.create_nodes(Node(CROWD_NODE, "10000", "4Ti", pods + 10))
    empty, began = world.service.memory_info().rss, time.monotonic()
    async with a_session(world) as session:
        await create_the_crowd(world, session, pods)
        await settle_down(world)
        filled = time.monotonic() - began
        rss = world.service.memory_info().rss
        quiet = await measured(world, 1, asyncio.sleep(QUIET_SECONDS))
        idle = quiet.processor["dispatcher"] / quiet.seconds
        costs, listed, seconds = [], quiet.requests, quiet.seconds
        for first in (0, 1):  # even numbers are the dispatcher's own
            run = await measured(world, changes, change_the_crowd(world, session, pods, changes, first))
            costs.append((run.processor["dispatcher"] - idle * run.seconds) / changes * 1e6)
            listed, seconds = listed + run.requests, seconds + run.seconds
    whole_lists = listed["LIST pods"] + listed["LIST jobs"]
    memory = f"{rss / 2**20:.0f} MiB, {(rss - empty) / pods / 1024:.1f} KiB a pod more than without them"
    console.print(f"  {pods} pods running, half of them the dispatcher's; created and seen in {filled:.0f} s")
    console.print(f"    memory {memory}; at most {most_memory(world) / 2**20:.0f} MiB")
    apiserver = quiet.processor["kube-apiserver"] / quiet.seconds
    console.print(f"    idle: {idle * 100:.1f} % of a core (API server {apiserver * 100:.1f} %)")
    console.print(f"    one change: {costs[0]:.0f} CPU-us of its own pods, {costs[1]:.0f} of others' ({changes} each)")
    console.print(f"    lists of pods and Jobs in {seconds:.0f} s, by anybody: {whole_lists}")
    told = (
        f"{memory}; idle {idle * 100:.1f} % of a core; a change {costs[0]:.0f} CPU-us, of others' pods {costs[1]:.0f}; "
        f"{whole_lists} lists in {seconds:.0f} s"
    )
    return Figure("watched", f"{pods:,} pods, there in {filled:.0f} s", told, "no list in steady state")


async def create_the_crowd(world: World, session: aiohttp.ClientSession, pods: int) -> None:
    """Creates the pods and returns when all of them run."""
    created = 0

    async def create(number: int) -> None:
        nonlocal created
        namespace, pod = one_of_the_crowd(world, number)
        async with session.post(paths.pods(namespace), json=pod) as response:
            response.raise_for_status()
        created += 1

    async def count() -> int:
        return created

    creating = asyncio.create_task(each(pods, create))
    await followed("pods are created", pods, count)
    await creating
    pending = {"fieldSelector": f"spec.nodeName={CROWD_NODE},status.phase=Pending", "limit": "1"}

    async def running() -> int:
        found = await world.plane.api.get(paths.ALL_PODS, **pending)
        return int(not found["items"])

    await followed("pods begin to run", 1, running, every=1.0)


async def change_the_crowd(world: World, session: aiohttp.ClientSession, pods: int, changes: int, first: int) -> None:
    """Changes every second pod from that number on, and returns when the dispatcher has taken it in."""

    async def change(number: int) -> None:
        namespace, pod = one_of_the_crowd(world, (first + 2 * number) % pods)
        path = paths.pods(namespace, pod["metadata"]["name"])
        patch = {"metadata": {"annotations": {"bench/changed": str(number)}}}
        headers = {"Content-Type": "application/merge-patch+json"}
        async with session.patch(path, json=patch, headers=headers) as response:
            response.raise_for_status()

    await each(changes, change)
    await settle_down(world, seconds=1.0)


def most_memory(world: World) -> int:
    """The most bytes of memory that the dispatcher ever had."""
    for line in Path(f"/proc/{world.service.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return int(world.service.memory_info().rss)


async def settle_down(world: World, seconds: float = 3.0) -> None:
    """Returns when the dispatcher has caught up: it uses little processor time for so long."""

    async def calm() -> int:
        before = sum(world.service.cpu_times()[:2])
        await asyncio.sleep(seconds)
        return int(sum(world.service.cpu_times()[:2]) - before < 0.2 * seconds)

    await followed("the dispatcher catches up", 1, calm)
