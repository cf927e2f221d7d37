"""`python -m tests.virtual [burst|wide|quota]`: a burst through the real connector, held against the stand-in's books.

burst  600 items on 27 addresses and default quotas; the dispatcher is killed on the way. ``--reader``: it may read ACI.
wide   300 pods at once on a /24 with Azure's quotas raised: only the subnet bounds them.
quota  Azure refuses every create for two minutes: no item's own allowance is spent, and only probes are sent.

Progress goes to standard error, the judgement to standard output and with every sample into ``--output``; ends with 1
if a law is broken.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from rich.console import Console
from rich.table import Table

from testbed.control_plane import ControlPlane, real_node
from testbed.virtual import VirtualNode
from tests.virtual import laws, quota, scenario
from tests.virtual.laws import Verdict
from tests.virtual.run import Burst, a_burst, run
from tests.virtual.scenario import Scenario

BASELINE_CPU = "600m"
"""One short item at a time: the rest has to go elsewhere."""


class Which(StrEnum):
    """What is tried."""

    BURST = "burst"
    WIDE = "wide"
    QUOTA = "quota"


def say(text: str) -> None:
    """For people."""
    print(text, file=sys.stderr, flush=True)


async def tried(which: Which, chosen: Scenario, output: Path) -> tuple[list[Verdict], dict[str, Any]]:
    """The laws, and what else is worth keeping."""
    async with (
        ControlPlane.started() as plane,
        VirtualNode.started(plane, chosen.aci) as virtual,
    ):
        await plane.create_nodes(real_node("node-1", cpu=BASELINE_CPU))
        async with a_burst(virtual, output, chosen) as burst:
            say(f"A dispatcher and the real connector run; its log is {output}/replica-1.log.")
            if which is Which.QUOTA:
                trouble = quota.Trouble(virtual.aci, burst.service)
                seen = await run(burst, say, trouble.refuse_for_two_minutes)
                return await trouble.judge(seen), await _kept(burst)
            seen = await run(burst, say)
            verdicts = laws.judge(chosen, seen)
            if which is Which.WIDE:
                verdicts.append(_held(burst, chosen))
            return verdicts, await _kept(burst)


def _held(burst: Burst, chosen: Scenario) -> Verdict:
    held = [event for event in burst.service.events("batch.held") if event["reason"] == "subnet_addresses"]
    law = "what has no address is held for that reason, and nothing fails for want of one"
    retried = burst.service.events("item.retried")
    told = f"{held[0]['items']} items: {held[0]['detail']}" if held else "never held for addresses"
    needs = chosen.items > chosen.addresses_allowed
    return Verdict(law, bool(held) is needs and not retried, f"{told}; {len(retried)} items tried again")


async def _kept(burst: Burst) -> dict[str, Any]:
    refused = [each for each in await burst.virtual.aci.requests() if each["code"]]
    return {
        "items": burst.scenario.items,
        "refused": refused,
        "samples": [each.to_json() for each in burst.samples],
    }


def table(verdicts: list[Verdict]) -> Table:
    """The judgement, for people."""
    made = Table("", "law", "figures", title="A burst on the virtual node, as Azure's side has counted it")
    for each in verdicts:
        made.add_row("[green]holds[/]" if each.holds else "[red]BROKEN[/]", each.law, each.told)
    return made


def _chosen(which: Which, items: int | None, seed: int, *, reader: bool) -> Scenario:
    if which is Which.WIDE:
        return scenario.wide(items or 300, seed)
    if which is Which.QUOTA:
        return scenario.refusals(items or 60, seed)
    count = items or 600
    return scenario.burst(count, seed, reader=reader, killed_after=count // 3)


def main(
    which: Annotated[Which, typer.Argument(help="What is tried.")] = Which.BURST,
    items: Annotated[int | None, typer.Option(min=10, max=5000, help="How many work items.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed makes the same burst.")] = 1,
    reader: Annotated[bool, typer.Option("--reader", help="The dispatcher may read the groups' own times.")] = False,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where everything is written.")] = Path(
        "e2e-virtual-output"
    ),
) -> None:
    """A burst through the real connector of the virtual node, judged by the stand-in for ACI."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    output = output.resolve()
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    chosen = _chosen(which, items, seed, reader=reader)
    verdicts, kept = asyncio.run(tried(which, chosen, output))
    summary = {"laws": [{"law": each.law, "holds": each.holds, "told": each.told} for each in verdicts], **kept}
    (output / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    Console(width=150).print(table(verdicts))
    raise typer.Exit(0 if all(each.holds for each in verdicts) else 1)


if __name__ == "__main__":
    typer.run(main)
