"""The dispatcher on a real Kubernetes control plane, side by side with what people use instead, in one run.

    python bench/cluster.py [--pods 10000] [--parallelism 250] [--single 1000] [--items 100] [--watched 20000]
                            [--items-per-pod 1] [--rounds 1] [--only zero five] [--requests] [--write]

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
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import cluster_figures as figures
from cluster_crowd import watch_a_crowd
from cluster_figures import Figure
from cluster_measuring import Run, a_session, console, each, followed, measured, until_empty, watched
from cluster_reports import reporting
from cluster_world import NODES, PACKED, PATIENCE_SECONDS, PODS_ON_NODE, TASKS, World, a_world, bare_job

from dispatcher.cluster import paths

GO_MODULE = Path(__file__).parents[1] / "testbed" / "controlplane" / "go.mod"


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

        await followed(f"dispatcher, {name}", items, settled)

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
                if watching.done():
                    watching.result()
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


def tell_runs(title: str, sides: dict[str, Run], aim: float, of: str, requests: bool) -> None:
    """Rates, their ratio, and processor milliseconds an item by process."""
    console.print(f"  {title}")
    for name, run in sides.items():
        console.print(f"    {name:20} {run.seconds:7.1f} s   {figures.words_of(run)}")
        if requests:
            most = ", ".join(f"{what} {count / run.items:.2f}" for what, count in run.requests.most_common(20))
            console.print(f"      requests an item: {most}")
    console.print(f"    dispatcher / {of}: {sides['dispatcher'].rate / sides[of].rate:.2f} (aim {aim:g})")


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


# --- all of it ------------------------------------------------------------------------------------------------------


async def run(options: argparse.Namespace) -> list[Figure]:
    """Every section that was asked for."""
    sections = options.only or figures.ORDER
    found: list[Figure] = []

    async def add(section: Awaitable[Figure]) -> None:
        before = os.getloadavg()[0]
        found.append(replace(await section, load=f"{before:.1f} to {os.getloadavg()[0]:.1f}"))

    with tempfile.TemporaryDirectory() as name:
        if set(sections) - {"paced", "watched"}:
            async with a_world(
                Path(name) / "first",
                options.parallelism,
                options.gogc,
                profile=options.profile,
                items_per_pod=options.items_per_pod,
            ) as world:
                for section in figures.ORDER:
                    if section in sections and section in IN_ONE_WORLD:
                        await add(IN_ONE_WORLD[section](world, options))
        if "paced" in sections:
            async with a_world(
                Path(name) / "paced",
                options.parallelism,
                options.gogc,
                controller_qps=None,
                items_per_pod=options.items_per_pod,
            ) as world:
                await add(beside_single_jobs(world, "paced", options.paced, options))
        if "watched" in sections:
            async with a_world(Path(name) / "second", options.parallelism, 100) as world:
                await add(watch_a_crowd(world, options.watched, min(options.watched // 2, 5000)))
    return found


async def beside_a_bare_job(world: World, name: str, aim: float, options: argparse.Namespace) -> Figure:
    """Turn about, as often as was asked for; of several rounds the one with the middle ratio counts."""
    rounds: list[dict[str, Run]] = []
    title = f"{options.pods:,} pods of {TASKS[name]:g} s, {options.parallelism} at once"
    for number in range(options.rounds):
        sides: dict[str, Run] = {}
        for side in ("bare Job", "dispatcher") if number % 2 == 0 else ("dispatcher", "bare Job"):
            if side == "bare Job":
                sides[side] = await by_bare_job(world, name, options.pods, options.parallelism)
            else:
                sides[side] = await by_dispatcher(world, name, options.pods)
        tell_runs(title, sides, aim, "bare Job", options.requests)
        rounds.append(sides)
    rounds.sort(key=lambda sides: sides["dispatcher"].rate / sides["bare Job"].rate)
    middle = rounds[(len(rounds) - 1) // 2]
    size = title if len(rounds) == 1 else f"{title}, the middle one of {len(rounds)} rounds"
    return figures.compared(name, size, middle, "bare Job", aim)


async def beside_single_jobs(world: World, section: str, items: int, options: argparse.Namespace) -> Figure:
    """One Job for each item, then the dispatcher."""
    single = await by_single_jobs(world, items)
    if options.items_per_pod > 1:
        async with reporting(world, world.reports):
            ours = await by_dispatcher(world, PACKED, items)
    else:
        ours = await by_dispatcher(world, "zero", items)
    pace = world.plane.options.controller_qps or "Kubernetes' own 20"
    sides = {"one Job an item": single, "dispatcher": ours}
    title = f"{items:,} items of 0 s, controllers at {pace} requests a second at most"
    if options.items_per_pod > 1:
        title += f", the dispatcher's pods with {options.items_per_pod} items each"
    tell_runs(title, sides, 5, "one Job an item", options.requests)
    return figures.compared(section, title, sides, "one Job an item", 5)


async def react(world: World, options: argparse.Namespace) -> Figure:
    """One item after another on an idle service."""
    await until_idle(world)
    found = await reactions(world, options.items, random.Random(options.seed))  # noqa: S311 - no secret
    p50, p99 = percentile(found, 0.5), percentile(found, 0.99)
    told = f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, most {max(found):.0f} ms"
    console.print(f"  send to sight of the Job, idle service, {options.items} items one after another")
    console.print(f"    {told} (aim: p50 250 ms, p99 1000 ms)")
    return Figure("reaction", f"{options.items:,} items, one after another", told, "p50 250 ms, p99 1 s")


IN_ONE_WORLD: dict[str, Callable[[World, argparse.Namespace], Awaitable[Figure]]] = {
    "five": lambda world, options: beside_a_bare_job(world, "five", 0.9, options),
    "zero": lambda world, options: beside_a_bare_job(world, "zero", 0.75, options),
    "single": lambda world, options: beside_single_jobs(world, "single", options.single, options),
    "reaction": react,
}
"""The sections that share a control plane."""


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
    parser.add_argument(
        "--items-per-pod", type=int, default=1, help="of the dispatcher's pods in single and paced; the bench reports"
    )
    parser.add_argument("--requests", action="store_true", help="also what the API server was asked for, for an item")
    parser.add_argument("--seed", type=int, default=1, help="for the pauses between items")
    parser.add_argument("--only", nargs="*", choices=figures.ORDER, help="these sections alone")
    parser.add_argument(
        "--profile", type=Path, help="a file for the dispatcher's profile (cProfile), but for paced and watched"
    )
    parser.add_argument("--write", action="store_true", help="put the figures into docs/performance.md")
    options = parser.parse_args()
    if options.parallelism > NODES * PODS_ON_NODE:
        parser.error(f"--parallelism: at most {NODES * PODS_ON_NODE}, what the nodes hold")
    conditions = (
        f"Kubernetes {kubernetes_version()} of the testbed, GOGC={options.gogc}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, all on this machine; default settings."
    )
    console.print(f"{conditions} Load {os.getloadavg()[0]:.1f}")
    found = asyncio.run(run(options))
    console.print(f"load at the end {os.getloadavg()[0]:.1f}")
    if options.write:
        figures.write(found, conditions)


def kubernetes_version() -> str:
    """The one that the testbed is built from."""
    [line] = [line for line in GO_MODULE.read_text().splitlines() if line.startswith("\tk8s.io/kubernetes v")]
    return line.split()[1].removeprefix("v")


if __name__ == "__main__":
    main()
