"""`python -m tests.e2e.cluster_demo`: the demo's burst through a real control plane, judged as the demo is.

broker -> dispatcher in a process of its own under a service account's token -> real Jobs -> pods -> outcome queue. On
``--placement nodes`` KWOK plays the nodes, and the pods' programs run as processes of this machine. On ``--placement
virtual`` the real azure-aci connector makes a container group of every pod, and the stand-in for ACI runs its command,
with its variables and its ConfigMap on disk, and bills it. Writes ``e2e-demo-output/``, and ends as the judge does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
import yaml

from dispatcher.demo import CHECKOUT, Scale
from dispatcher.embedded.broker import Broker, BrokerConfig, QueueConfig
from dispatcher.settings import merged
from testbed.aci.options import Options as AciOptions
from testbed.behaviour import NEVER, PREFIX
from testbed.control_plane import ControlPlane, real_node, virtual_node
from testbed.virtual import VirtualNode
from testbed.workers import Workers
from tests.e2e.cluster_service import ClusterService, cluster_service

SECONDS_MAX = 900.0
REPLY_QUEUE = "outcomes"


class Where(StrEnum):
    """Where the items run."""

    NODES = "nodes"
    """On both placements, all of them played; the programs are real."""
    VIRTUAL = "virtual"
    """On the virtual node alone, which is the real one."""


def scale_of(where: Where, items: int, seed: int) -> Scale:
    """The demo's own; where every item is paid for it may cost more, and takes more addresses."""
    scale = Scale.scaled(items=items, seed=seed, budget_usd=None, subnet=None)
    if where is Where.NODES:
        return scale
    times = max(1, -(-items // 240))
    return replace(
        scale,
        subnet="10.240.0.0/27",
        budget_usd=str(Decimal("0.12") * times),
        tenant_budget_usd=str(Decimal("0.03") * times),
        # Longer than a group takes to go after its pod has gone, and its address to come back.
        release_hold="12s",
        # On Azure a group takes most of a minute to start; here the connector's rounds are what takes long.
        item_timeout="40s",
        start_deadline="60s",
    )


def configuration(
    scale: Scale, where: Where, service: ClusterService, output: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The delivered configuration on the demo's scale, for this cluster."""
    settings = yaml.safe_load((CHECKOUT / "config/dispatcher.yaml").read_text(encoding="utf-8"))
    tasks = yaml.safe_load((CHECKOUT / "config/tasks.yaml").read_text(encoding="utf-8"))
    own = yaml.safe_load((service.folder / "config/dispatcher.yaml").read_text(encoding="utf-8"))
    settings = merged(settings, scale.dispatcher_settings())
    settings = {**settings, "kubernetes": own["kubernetes"], "service": own["service"]}
    settings["service_bus"] = {**settings["service_bus"], "connection_string_file": "connection-string"}
    per_task: dict[str, Any] = {**scale.task_settings(output), "namespace": service.tasks}
    if where is Where.VIRTUAL:
        per_task["placements"] = ["virtual_node"]
    else:
        per_task["labels"] = {f"{PREFIX}run-seconds": NEVER}
    return settings, {"tasks": [merged(task, per_task) for task in tasks["tasks"]]}


@asynccontextmanager
async def a_place(plane: ControlPlane, where: Where, scale: Scale) -> AsyncIterator[VirtualNode | None]:
    """Nodes, and the virtual node in front of the stand-in where it is the real one."""
    node = real_node("node-1", cpu=scale.node_cpu, memory=scale.node_memory)
    if where is Where.NODES:
        await plane.create_nodes(node, virtual_node())
        yield None
        return
    await plane.create_nodes(node)
    options = AciOptions(
        subnet=scale.subnet,
        release_seconds=3,
        executes=True,
        creates_per_5_minutes=scale.creates,
        creates_per_hour=scale.creates,
        deletes_per_5_minutes=scale.creates,
        deletes_per_hour=scale.creates,
    )
    async with VirtualNode.started(plane, options, cwd=CHECKOUT) as virtual:
        yield virtual


async def script(name: str, *arguments: str) -> int:
    """One of the demo's own scripts, in a process of its own."""
    process = await asyncio.create_subprocess_exec(sys.executable, str(CHECKOUT / "examples" / name), *arguments)
    return await process.wait()


async def run(items: int, seed: int, output: Path, where: Where = Where.NODES) -> int:
    """From nothing to the judge's exit code; 1 too where Azure's bill is higher than what was charged."""
    shutil.rmtree(output, ignore_errors=True)
    (output / "artifacts").mkdir(parents=True)
    (output / "runs.jsonl").touch()
    scale = scale_of(where, items, seed)
    async with AsyncExitStack() as stack:
        plane = await stack.enter_async_context(ControlPlane.started())
        broker = await stack.enter_async_context(Broker(BrokerConfig(queues=queues())))
        virtual = await stack.enter_async_context(a_place(plane, where, scale))
        say(f"A control plane runs at {plane.url}.")
        service = await stack.enter_async_context(cluster_service(plane, output, broker.connection_string))
        written = configuration(scale, where, service, output)
        for name, content in zip(("dispatcher.yaml", "tasks.yaml"), written, strict=True):
            (output / "config" / name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        if virtual is None:
            await stack.enter_async_context(Workers(plane, service.tasks, CHECKOUT))
        replica = service.replica()
        replica.start()
        say(f"The dispatcher runs at {await replica.ready()}; its log is {output / (replica.name + '.log')}.")
        secret = ("--connection-string", broker.connection_string)
        code = await script(
            "demo_burst.py", *secret, "--items", str(items), "--seed", str(seed), "--reply-to", REPLY_QUEUE,
            "--out", str(output / "burst.json"),
        )  # fmt: skip
        if code == 0:
            await settled(replica, items)
            events = output / f"{replica.name}-events.jsonl"
            code = await script(
                "demo_summary.py", *secret, "--burst", str(output / "burst.json"),
                "--artifacts", str(output / "artifacts"), "--run-log", str(output / "runs.jsonl"),
                "--events", str(events), "--outcomes", REPLY_QUEUE, "--out", str(output / "summary.json"),
            )  # fmt: skip
            if virtual is not None:
                problems = held_against_azure(await virtual.aci.bill(), await virtual.aci.statistics(), output)
                for problem in problems:
                    say(f"error: {problem}")
                code = code or int(bool(problems))
        replica.stop()
        return code


def queues() -> tuple[QueueConfig, ...]:
    """The work queue as the delivered configuration has it, and the one for outcomes."""
    work = QueueConfig("work", lock_duration=timedelta(seconds=60), max_delivery_count=100)
    return work, QueueConfig(REPLY_QUEUE, duplicate_detection_window=timedelta(hours=1))


def held_against_azure(bill: dict[str, Any], statistics: dict[str, Any], output: Path) -> list[str]:
    """Adds to summary.json what Azure saw and billed; what must not be is named."""
    path = output / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8"))
    billed, charged = Decimal(bill["usd"]), Decimal(str(summary["placements"]["virtual_node"]["cost_usd"]))
    peak, limit = statistics["peak"], statistics["limit"]
    summary["azure"] = {
        "groups": len(bill["groups"]),
        "billed_usd": float(billed),
        "charged_usd": float(charged),
        "addresses_peak": peak["addresses"],
        "refused": statistics["refused"],
    }
    path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    say(
        f"Azure ran {len(bill['groups'])} groups, at most {peak['addresses']} of {limit['addresses']} addresses at "
        f"once, and billed ${billed:.4f}; charged was ${charged:.4f}."
    )
    items = summary["placements"]["virtual_node"]["items"]
    return [
        *([f"${billed} were billed and only ${charged} charged"] if billed > charged else []),
        *([f"Azure refused {statistics['refused']}"] if statistics["refused"] else []),
        *([f"{len(bill['groups'])} groups for {items} items"] if len(bill["groups"]) < items else []),
        *(["items ran on the nodes"] if summary["placements"]["node_pool"]["items"] else []),
        *(f"group {line['group']} runs on" for line in bill["groups"] if line["metered"]),
    ]


async def settled(replica: Any, items: int) -> None:
    """Waits until every item has ended and every entry is closed, and says how it goes."""
    ends, told_at = time.monotonic() + SECONDS_MAX, 0.0
    while time.monotonic() < ends:
        status = await replica.status()
        counts = status.get("items") or {}
        ended = sum(int(counts.get(name) or 0) for name in ("done", "dead_lettered", "rejected"))
        if ended >= items and not status.get("open_entries"):
            return
        if time.monotonic() - told_at > 10:
            told_at = time.monotonic()
            say(f"{ended} of {items} items have ended, {status.get('open_entries')} Jobs are open.")
        await asyncio.sleep(0.5)
    say(f"Not all items were settled within {SECONDS_MAX:.0f} s; judging as it stands.")


def say(text: str) -> None:
    """For people."""
    print(text, file=sys.stderr, flush=True)


def main(
    items: Annotated[int, typer.Option(min=12, max=10_000, help="How many work items.")] = 240,
    seed: Annotated[int, typer.Option(help="The same seed makes the same burst.")] = 1,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where everything is written.")] = Path("e2e-demo-output"),
    placement: Annotated[Where, typer.Option(help="Where the items run.")] = Where.NODES,
) -> None:
    """The demo's burst through a real control plane."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    raise typer.Exit(asyncio.run(run(items, seed, output.resolve(), placement)))


if __name__ == "__main__":
    typer.run(main)
