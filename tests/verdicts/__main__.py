"""`python -m tests.verdicts`: every template tried on the real connector; ends with 1 if one became of it that nobody
had written down.

The table goes to standard output, progress to standard error.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from testbed.aci.options import Options as AciOptions
from testbed.aci.options import changed
from testbed.control_plane import CONTROLLERS, ControlPlane, Options, real_node
from testbed.virtual import VirtualNode
from tests.crash.report import write

from . import report
from .templates import Template, all_templates
from .trying import OPTIONS, NotClear, attempt, pods_of

AT_ONCE = 12
MANY_PODS = 20
WORKLOADS = (
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
    "daemonset-controller",
)
"""What makes the pods of templates that are no Jobs."""
AS_ON_AKS = ("--allow-privileged=true",)
"""Without it the API server itself refuses privileged pods."""


async def run(templates: Sequence[Template], console: Console) -> dict[str, dict[str, Any]]:
    """What became of each."""
    records: dict[str, dict[str, Any]] = {}
    many = [each for each in templates if sum(map(pods_of, each.documents)) >= MANY_PODS]
    few = [each for each in templates if each not in many]
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(virtual: VirtualNode, template: Template) -> None:
        async with gate:
            try:
                seen = await attempt(virtual, template)
            except NotClear as error:
                console.print(f"NOT CLEAR  {error}", markup=False)
                return
        records[template.name] = seen.to_json()
        agrees = seen.outcome is template.expected
        console.print(
            f"{'agrees' if agrees else 'DIFFERS':8}{template.name}: {seen.outcome} {seen.words}", markup=False
        )

    options = replace(Options(), controllers=(*CONTROLLERS, *WORKLOADS), apiserver_flags=AS_ON_AKS)
    async with ControlPlane.started(options) as plane:
        await plane.create_nodes(real_node("node-1"))
        aci = changed(AciOptions(prepare_seconds=0.2, image_mb=1), OPTIONS)
        async with VirtualNode.started(plane, aci) as virtual:
            # Those of many pods come last: the connector tells of five pods a second, and others would wait for it.
            for chosen in (few, many):
                async with asyncio.TaskGroup() as group:
                    for template in chosen:
                        group.create_task(one(virtual, template))
    return records


def main(
    template: Annotated[list[str] | None, typer.Option(help="Only those whose names begin so.")] = None,
    write_down: Annotated[bool, typer.Option("--write", help="Keep what was seen; takes all templates.")] = False,
) -> None:
    """Tries every pod template on the real connector in front of the stand-in for ACI."""
    if write_down and template:
        raise typer.BadParameter("the record holds all templates: leave --template out", param_hint="--write")
    chosen = [each for each in all_templates() if not template or each.name.startswith(tuple(template))]
    records = asyncio.run(run(chosen, Console(stderr=True, soft_wrap=True)))
    table = Table(*report.COLUMNS[:2], *report.COLUMNS[3:], box=None)
    for each in chosen:
        if each.name in records:
            name, by_hand, _, judge, connector = report.row(each, records[each.name])
            table.add_row(name, by_hand, judge, connector)
    Console().print(table)
    agreed = [each for each in chosen if records.get(each.name, {}).get("outcome") == each.expected]
    sys.stdout.write(report.sentence(chosen, records) + "\n")
    if write_down and len(records) == len(chosen):
        report.write_records(records)
        write(report.DOCUMENT, report.NAME, report.COMMAND, report.markdown(chosen, records))
    raise typer.Exit(0 if len(agreed) == len(chosen) else 1)


if __name__ == "__main__":
    typer.run(main)
