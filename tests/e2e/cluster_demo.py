"""`python -m tests.e2e.cluster_demo`: the demo's burst through a real control plane, judged as the demo is.

broker -> dispatcher in a process of its own under a service account's token -> real Jobs -> pods on KWOK nodes, whose
programs run as processes of this machine. Writes ``e2e-demo-output/``, and ends as the judge does.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
import yaml

from dispatcher.demo import CHECKOUT, Scale
from dispatcher.embedded.broker import Broker, BrokerConfig, QueueConfig
from dispatcher.settings import merged
from testbed.behaviour import NEVER, PREFIX
from testbed.control_plane import ControlPlane, real_node, virtual_node
from testbed.workers import Workers
from tests.e2e.cluster_service import ClusterService, cluster_service

SECONDS_MAX = 600.0


def configuration(scale: Scale, service: ClusterService, output: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The delivered configuration on the demo's scale, for this cluster."""
    settings = yaml.safe_load((CHECKOUT / "config/dispatcher.yaml").read_text(encoding="utf-8"))
    tasks = yaml.safe_load((CHECKOUT / "config/tasks.yaml").read_text(encoding="utf-8"))
    own = yaml.safe_load((service.folder / "config/dispatcher.yaml").read_text(encoding="utf-8"))
    settings = merged(settings, scale.dispatcher_settings())
    settings = {**settings, "kubernetes": own["kubernetes"], "service": own["service"]}
    settings["service_bus"] = {**settings["service_bus"], "connection_string_file": "connection-string"}
    for queue in settings["queues"]:
        queue["reply_to"] = []
    per_task = {
        **scale.task_settings(output),
        "namespace": service.tasks,
        "labels": {f"{PREFIX}run-seconds": NEVER},
    }
    return settings, {"tasks": [merged(task, per_task) for task in tasks["tasks"]]}


async def script(name: str, *arguments: str) -> int:
    """One of the demo's own scripts, in a process of its own."""
    process = await asyncio.create_subprocess_exec(sys.executable, str(CHECKOUT / "examples" / name), *arguments)
    return await process.wait()


async def run(items: int, seed: int, output: Path) -> int:
    """From nothing to the judge's exit code."""
    shutil.rmtree(output, ignore_errors=True)
    (output / "artifacts").mkdir(parents=True)
    (output / "runs.jsonl").touch()
    scale = Scale.scaled(items=items, seed=seed, budget_usd=None, subnet=None)
    queue = QueueConfig("work", lock_duration=timedelta(seconds=60), max_delivery_count=100)
    async with ControlPlane.started() as plane, Broker(BrokerConfig(queues=(queue,))) as broker:
        await plane.create_nodes(real_node("node-1", cpu=scale.node_cpu, memory=scale.node_memory), virtual_node())
        say(f"A control plane runs at {plane.url}.")
        async with cluster_service(plane, output, broker.connection_string) as service:
            for name, content in zip(
                ("dispatcher.yaml", "tasks.yaml"), configuration(scale, service, output), strict=True
            ):
                (output / "config" / name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
            async with Workers(plane, service.tasks, CHECKOUT):
                replica = service.replica()
                replica.start()
                say(f"The dispatcher runs at {await replica.ready()}; its log is {output / (replica.name + '.log')}.")
                secret = ("--connection-string", broker.connection_string)
                code = await script(
                    "demo_burst.py", *secret, "--items", str(items), "--seed", str(seed),
                    "--out", str(output / "burst.json"),
                )  # fmt: skip
                if code == 0:
                    await settled(replica, items)
                    code = await script(
                        "demo_summary.py", *secret, "--burst", str(output / "burst.json"),
                        "--artifacts", str(output / "artifacts"), "--run-log", str(output / "runs.jsonl"),
                        "--events", str(output / f"{replica.name}-events.jsonl"), "--out", str(output / "summary.json"),
                    )  # fmt: skip
                replica.stop()
                return code


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
) -> None:
    """The demo's burst through a real control plane."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    raise typer.Exit(asyncio.run(run(items, seed, output.resolve())))


if __name__ == "__main__":
    typer.run(main)
