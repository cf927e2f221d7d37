"""The dispatcher on a real Kubernetes control plane, side by side with what people use instead, in one run.

    python bench/cluster.py [--pods 10000] [--parallelism 250] [--single 1000] [--items 100] [--watched 20000]
                            [--rounds 1] [--only zero five] [--requests]

  five, zero   N pods that run for 5 s, or for 0 s, at a parallelism: one bare Indexed Job made by kubectl, until it is
               Complete; and the dispatcher, from the first send until the last item is settled, turn about
  single       one Job for each item, created as fast as the API takes them, until the last is Complete: what starting
               a Job for each message comes to
  paced        the same where the controllers keep to Kubernetes' own request rates (20 a second), as on a slow managed
               cluster
  reaction     from just before the send of one item until a watch shows its Job, on an idle service
  watched      what it costs the dispatcher that so many pods are there, half of them its own, and what a change of one

The control plane is Kubernetes' own (API server, controllers, scheduler, etcd); KWOK plays nodes and pods. The broker
keeps everything in memory, in a process of its own, since in production it is elsewhere. All run on this machine's
cores, so that a ratio says more than a rate. The dispatcher has its default settings; the tasks say what pods they have
and how many may run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import platform
import random
import re
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from cluster_world import INSTANCE, NODES, PATIENCE_SECONDS, PODS_ON_NODE, REQUESTS, TASKS, World, a_world, bare_job
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dispatcher.cluster import paths
from dispatcher.core.jobs import LABEL_JOB
from testbed.behaviour import told
from testbed.control_plane import Node

SECTIONS = ("five", "zero", "single", "reaction", "paced", "watched")
AT_ONCE = 32
"""Requests under way together of those who make one Job for each item, and of the bench itself."""
STALLED_SECONDS = 300.0
CROWD_NODE = "crowd"
_LABEL = re.compile(r'(\w+)="([^"]*)"')

console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Run:
    """One side of a comparison."""

    items: int
    seconds: float
    processor: dict[str, float]
    """Seconds by process."""
    requests: Counter[str]
    """What the API server was asked for, by verb and kind, by anybody."""

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.items / self.seconds


@asynccontextmanager
async def a_session(world: World) -> AsyncIterator[aiohttp.ClientSession]:
    """Connections to the API server, as the administrator."""
    tls = ssl.create_default_context(cafile=str(world.plane.ca_file))
    headers = {"Authorization": f"Bearer {world.plane.admin_token}"}
    connector = aiohttp.TCPConnector(ssl=tls, limit=2 * AT_ONCE)
    async with aiohttp.ClientSession(world.plane.url, connector=connector, headers=headers) as session:
        yield session


async def watched(session: aiohttp.ClientSession, path: str) -> AsyncGenerator[tuple[str, dict[str, Any]]]:
    """The events of a collection from now on: first one that says that the watch stands."""
    async with session.get(path, params={"limit": "1"}) as response:
        version = (await response.json())["metadata"]["resourceVersion"]
    query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "3600"}
    timeout = aiohttp.ClientTimeout(total=None)
    async with session.get(path, params=query, timeout=timeout) as response:
        response.raise_for_status()
        yield "STANDS", {}
        rest = b""
        async for chunk in response.content.iter_any():
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                event = json.loads(line)
                yield event["type"], event["object"]


async def each(count: int, act: Callable[[int], Awaitable[None]]) -> None:
    """The act for every number, a few at a time."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await act(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())


async def followed(what: str, total: int, count: Callable[[], Awaitable[int]], every: float = 0.25) -> None:
    """Shows progress until the count is the total. Raises TimeoutError where it does not move any more."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    moved, last = time.monotonic(), -1
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(what, total=total)
        while (now := await count()) < total:
            if now != last:
                moved, last = time.monotonic(), now
            if time.monotonic() - moved > STALLED_SECONDS:
                raise TimeoutError(f"{what}: stands at {now} of {total} for {STALLED_SECONDS:.0f} s")
            progress.update(bar, completed=now)
            await asyncio.sleep(every)


async def measured(world: World, items: int, work: Awaitable[None]) -> Run:
    """How long it takes, and whose processor time."""
    requests = await requests_so_far(world)
    before, start = world.processor_seconds(), time.monotonic()
    await work
    seconds, after = time.monotonic() - start, world.processor_seconds()
    return Run(
        items,
        seconds,
        {name: after[name] - before[name] for name in before},
        await requests_so_far(world) - requests,
    )


async def requests_so_far(world: World) -> Counter[str]:
    """How many requests the API server has answered, by verb and kind."""
    found = Counter[str]()
    for line in str(await world.plane.api.get("/metrics")).splitlines():
        if line.startswith("apiserver_request_total{"):
            told = dict(_LABEL.findall(line))
            kind = "/".join(part for part in (told["resource"], told["subresource"]) if part)
            found[f"{told['verb']} {kind}"] += int(float(line.rsplit(" ", 1)[1]))
    return found


# --- throughput -----------------------------------------------------------------------------------------------------


async def by_bare_job(world: World, name: str, pods: int, parallelism: int) -> Run:
    """One Indexed Job, made by kubectl."""
    manifest = json.dumps(bare_job(name, TASKS[name], pods, parallelism, mounts=name))
    path = paths.jobs(world.bare, name)
    items = {f"{number}.json": json.dumps({"task": name, "params": {}}) for number in range(50)}
    await world.plane.api.post(paths.config_maps(world.bare), {"metadata": {"name": name}, "data": items})

    async def work() -> None:
        await world.plane.kubectl("create", f"--namespace={world.bare}", "--filename=-", stdin=manifest)

        async def ended() -> int:
            job = await world.plane.api.get(path)
            status = job.get("status") or {}
            complete = any(each["type"] == "Complete" for each in status.get("conditions") or ())
            return pods if complete else min(pods - 1, int(status.get("succeeded", 0)))

        await followed(f"bare Job, pods of {TASKS[name]:g} s", pods, ended)

    run = await measured(world, pods, work())
    await world.plane.api.delete(path, propagationPolicy="Background")
    await world.plane.api.delete(paths.config_maps(world.bare, name))
    await until_empty(world, paths.pods(world.bare))
    return run


async def by_dispatcher(world: World, name: str, items: int) -> Run:
    """From the first send until the last item is settled."""
    before = await world.status()
    done = int(before["items"]["done"])

    async def work() -> None:
        await world.send(name, items)

        async def settled() -> int:
            return int((await world.status())["items"]["done"]) - done

        await followed(f"dispatcher, pods of {TASKS[name]:g} s", items, settled)

    run = await measured(world, items, work())
    start = time.monotonic()
    await until_idle(world)
    after = await world.status()
    jobs = sum(place["batches"] for place in after["placements"].values())
    jobs -= sum(place["batches"] for place in before["placements"].values())
    cycles = after["cycle"]["count"] - before["cycle"]["count"]
    console.print(
        f"    dispatcher: {jobs} Jobs, {items / jobs:.1f} items each, {cycles} cycles; "
        f"the last Job was cleared away {time.monotonic() - start:.1f} s after the last item"
    )
    await until_empty(world, paths.pods(world.tasks))
    return run


async def by_single_jobs(world: World, items: int) -> Run:
    """One Job of one pod for each item, by a client that is not paced."""
    path = paths.jobs(world.bare)
    complete = 0

    async with a_session(world) as session:

        async def create(number: int) -> None:
            async with session.post(path, json=bare_job(f"single-{number}", 0, 1, 1, mounts=None)) as response:
                response.raise_for_status()

        async def watch() -> None:
            nonlocal complete
            seen: set[str] = set()
            async with aclosing(watched(session, path)) as events:
                async for kind, job in events:
                    if kind == "STANDS":
                        stands.set()
                        continue
                    conditions = (job.get("status") or {}).get("conditions") or ()
                    if any(each["type"] == "Complete" for each in conditions):
                        seen.add(job["metadata"]["name"])
                        complete = len(seen)

        async def work() -> None:
            await each(items, create)

            async def count() -> int:
                return complete

            await followed("one Job for each item", items, count, every=0.05)

        stands = asyncio.Event()
        watching = asyncio.create_task(watch())
        await stands.wait()
        run = await measured(world, items, work())
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

        async def delete(number: int) -> None:
            one = paths.jobs(world.bare, f"single-{number}")
            async with session.delete(one, params={"propagationPolicy": "Background"}) as response:
                response.raise_for_status()

        await each(items, delete)
    await until_empty(world, paths.pods(world.bare))
    return run


async def until_idle(world: World) -> None:
    """Returns when the dispatcher has nothing under way."""

    async def idle() -> int:
        status = await world.status()
        return int(not status["attempts"] and not status["open_entries"])

    await followed("the dispatcher clears away", 1, idle)


async def until_empty(world: World, path: str) -> None:
    """Returns when nothing is there any more: what one side leaves must not slow the other one down."""

    async def gone() -> int:
        found = await world.plane.api.get(path, limit="1")
        return int(not found["items"])

    await followed("pods are collected", 1, gone, every=0.5)


def tell_runs(title: str, sides: dict[str, Run], aim: float, of: str, requests: bool) -> None:
    """Rates, their ratio, and processor milliseconds an item by process."""
    ours = sides["dispatcher"]
    console.print(f"  {title}")
    for name, run in sides.items():
        used = {process: seconds * 1000 / run.items for process, seconds in run.processor.items()}
        apart = sum(value for process, value in used.items() if process != "broker")
        shares = ", ".join(f"{process.removeprefix('kube-')} {value:.1f}" for process, value in used.items())
        console.print(
            f"    {name:20} {run.seconds:7.1f} s {run.rate:7.1f} items/s   {apart:5.1f} CPU-ms an item: {shares}"
        )
        if requests:
            most = ", ".join(f"{what} {count / run.items:.2f}" for what, count in run.requests.most_common(16))
            console.print(f"      requests an item: {most}")
    console.print(f"    dispatcher / {of}: {ours.rate / sides[of].rate:.2f} (aim {aim:g})")


# --- reaction -------------------------------------------------------------------------------------------------------


async def reactions(world: World, items: int, dice: random.Random) -> list[float]:
    """Milliseconds from before the send to the sight of the Job, one item after another."""
    found: list[float] = []
    async with a_session(world) as session, aclosing(watched(session, paths.jobs(world.tasks))) as events:
        await anext(events)  # the watch stands
        # The first one opens connections and does not count.
        for number in range(items + 1):
            await asyncio.sleep(dice.uniform(0.2, 0.8))
            sent = time.monotonic()
            await world.send("zero", 1)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (await anext(events))[0] != "ADDED":
                    pass
                if number:
                    found.append((time.monotonic() - sent) * 1000)
                while (await anext(events))[0] != "DELETED":
                    pass
    return found


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that this share of all values does not exceed."""
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]


# --- a crowd --------------------------------------------------------------------------------------------------------


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


def lists(requests: Counter[str]) -> int:
    """How many of them were lists of pods and Jobs."""
    return requests["LIST pods"] + requests["LIST jobs"]


async def watch_a_crowd(world: World, pods: int, changes: int) -> None:
    """Fills the cluster, looks at the idle dispatcher, then changes pods one after another."""
    await world.plane.create_nodes(Node(CROWD_NODE, "10000", "4Ti", pods + 10))
    empty = world.service.memory_info().rss
    created = 0
    async with a_session(world) as session:

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

        async def running() -> int:
            found = await world.plane.api.get(
                "/api/v1/pods", fieldSelector="spec.nodeName=" + CROWD_NODE + ",status.phase=Pending", limit="1"
            )
            return int(not found["items"])

        await followed("pods begin to run", 1, running, every=1.0)
        await settle_down(world)
        rss = world.service.memory_info().rss
        quiet = await measured(world, 1, asyncio.sleep(20))

        async def change(number: int) -> None:
            namespace, pod = one_of_the_crowd(world, number % pods)
            path = paths.pods(namespace, pod["metadata"]["name"])
            patch = {"metadata": {"annotations": {"bench/changed": str(number)}}}
            headers = {"Content-Type": "application/merge-patch+json"}
            async with session.patch(path, json=patch, headers=headers) as response:
                response.raise_for_status()

        async def work() -> None:
            await each(changes, change)
            await settle_down(world, seconds=1.0)

        run = await measured(world, changes, work())
    idle = quiet.processor["dispatcher"] / quiet.seconds
    spent = run.processor["dispatcher"] - idle * run.seconds
    console.print(f"  {pods} pods running, half of them the dispatcher's")
    console.print(
        f"    memory {rss / 2**20:.0f} MiB, {(rss - empty) / pods / 1024:.1f} KiB a pod more than without them"
    )
    apiserver = quiet.processor["kube-apiserver"] / quiet.seconds
    console.print(f"    idle: {idle * 100:.1f} % of a core (API server {apiserver * 100:.1f} %)")
    console.print(f"    one change: {spent / changes * 1e6:.0f} CPU-us ({changes} changes, {run.rate:.0f} a second)")
    listed = lists(quiet.requests + run.requests)
    console.print(f"    lists of pods and Jobs in {quiet.seconds + run.seconds:.0f} s, by anybody: {listed}")


async def settle_down(world: World, seconds: float = 3.0) -> None:
    """Returns when the dispatcher has caught up: it uses little processor time for so long."""

    async def calm() -> int:
        before = sum(world.service.cpu_times()[:2])
        await asyncio.sleep(seconds)
        return int(sum(world.service.cpu_times()[:2]) - before < 0.2 * seconds)

    await followed("the dispatcher catches up", 1, calm)


# --- all of it ------------------------------------------------------------------------------------------------------


async def run(options: argparse.Namespace) -> None:
    """Every section that was asked for."""
    sections = options.only or SECTIONS
    with tempfile.TemporaryDirectory() as name:
        if set(sections) - {"paced", "watched"}:
            async with a_world(Path(name) / "first", options.parallelism, options.gogc) as world:
                await compare(world, options, sections)
        if "paced" in sections:
            async with a_world(Path(name) / "paced", options.parallelism, options.gogc, controller_qps=None) as world:
                await compare_with_single_jobs(world, options.paced, options.requests)
        if "watched" in sections:
            async with a_world(Path(name) / "second", options.parallelism, 100) as world:
                await watch_a_crowd(world, options.watched, min(options.watched, 5000))


async def compare(world: World, options: argparse.Namespace, sections: Sequence[str]) -> None:
    """All but the crowd."""
    for name, aim in (("five", 0.9), ("zero", 0.75)):
        if name not in sections:
            continue
        for number in range(options.rounds):
            sides: dict[str, Run] = {}
            for side in ("bare Job", "dispatcher") if number % 2 == 0 else ("dispatcher", "bare Job"):
                if side == "bare Job":
                    sides[side] = await by_bare_job(world, name, options.pods, options.parallelism)
                else:
                    sides[side] = await by_dispatcher(world, name, options.pods)
            title = f"{options.pods} pods of {TASKS[name]:g} s, {options.parallelism} at once"
            tell_runs(title, sides, aim, "bare Job", options.requests)
    if "single" in sections:
        await compare_with_single_jobs(world, options.single, options.requests)
    if "reaction" in sections:
        await until_idle(world)
        found = await reactions(world, options.items, random.Random(options.seed))  # noqa: S311 - no secret
        p50, p99 = percentile(found, 0.5), percentile(found, 0.99)
        console.print(f"  send to sight of the Job, idle service, {options.items} items one after another")
        console.print(f"    p50 {p50:.0f} ms (aim 250), p99 {p99:.0f} ms (aim 1000), most {max(found):.0f} ms")


async def compare_with_single_jobs(world: World, items: int, requests: bool) -> None:
    """One Job for each item, then the dispatcher."""
    single = await by_single_jobs(world, items)
    ours = await by_dispatcher(world, "zero", items)
    pace = world.plane.options.controller_qps or "Kubernetes' own 20"
    title = f"{items} pods of 0 s, controllers at {pace} requests a second at most"
    tell_runs(title, {"one Job an item": single, "dispatcher": ours}, 5, "one Job an item", requests)


def main() -> None:
    """Prints the conditions, then the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=10_000, help="of each side of the comparisons with one bare Job")
    parser.add_argument("--parallelism", type=int, default=250)
    parser.add_argument("--single", type=int, default=1_000, help="items that get a Job each")
    parser.add_argument("--paced", type=int, default=200, help="the same, with controllers at their own rates")
    parser.add_argument("--items", type=int, default=100, help="items whose reaction is measured")
    parser.add_argument("--watched", type=int, default=20_000, help="pods in the crowd")
    parser.add_argument("--rounds", type=int, default=1, help="how often the comparisons are made, sides in turn")
    parser.add_argument("--gogc", type=int, default=400, help="of the control plane, but for the crowd's")
    parser.add_argument("--requests", action="store_true", help="also what the API server was asked for, for an item")
    parser.add_argument("--seed", type=int, default=1, help="for the pauses between items")
    parser.add_argument("--only", nargs="*", choices=SECTIONS, help="these sections alone")
    options = parser.parse_args()
    if options.parallelism > NODES * PODS_ON_NODE:
        parser.error(f"--parallelism: at most {NODES * PODS_ON_NODE}, what the nodes hold")
    console.print(
        f"Kubernetes of the testbed, GOGC={options.gogc}, Python {platform.python_version()}, {platform.system()} "
        f"{platform.release()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; default settings, "
        f"parallelism {options.parallelism}"
    )
    asyncio.run(run(options))
    console.print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
