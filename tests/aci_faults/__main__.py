"""`python -m tests.aci_faults`: each fault of ACI during a small burst; ends with 1 if one did what it must not.

The table goes to standard output, progress to standard error.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import aiohttp
import structlog
import typer
from rich.console import Console

from testbed.aci.options import Options, changed
from testbed.control_plane import ControlPlane, real_node
from testbed.virtual import VirtualNode
from tests.crash.report import markdown, table, write

from . import report
from .cases import CASES, Case
from .trial import ITEMS, REGION, Result, run


async def run_all(cases: Sequence[Case], items: int, at_once: int, folder: Path, console: Console) -> list[Result]:
    """Several at a time; those that stop the connector come last, each by itself."""
    gate = asyncio.Semaphore(at_once)
    results: dict[str, Result] = {}

    async def one(virtual: VirtualNode, number: int, case: Case) -> None:
        async with gate:
            try:
                result = results[case.name] = await run(virtual, case, folder / str(number), items)
            except (TimeoutError, aiohttp.ClientError) as error:  # of the testbed, on a machine with too much to do
                console.print(f"NOT RUN {case.name}: {error!r}", markup=False)
                return
        console.print(f"{'passed' if result.passed else 'FAILED'}  {'  '.join(report.cells(result))}", markup=False)
        for line in result.verdict.lines:
            console.print(f"        {line}", markup=False)

    async with ControlPlane.started() as plane:
        await plane.create_nodes(real_node("node-1"))
        async with VirtualNode.started(plane, changed(Options(), REGION)) as virtual:
            numbered = list(enumerate(cases))
            async with asyncio.TaskGroup() as group:
                for number, case in numbered:
                    if not case.connector_dies_for_seconds:
                        group.create_task(one(virtual, number, case))
            for number, case in numbered:
                if case.connector_dies_for_seconds:
                    await one(virtual, number, case)
    return [results[case.name] for case in cases if case.name in results]


def main(
    fault: Annotated[list[str] | None, typer.Option(help="Only cases whose names have this in them.")] = None,
    items: Annotated[int, typer.Option(min=12, help="How many items in each burst.")] = ITEMS,
    jobs: Annotated[int, typer.Option(min=1, help="How many cases at a time.")] = 3,
    write_down: Annotated[bool, typer.Option("--write", help="Write the table into docs/reliability.md.")] = False,
    keep: Annotated[Path | None, typer.Option(metavar="DIR", help="Where logs and events are kept.")] = None,
) -> None:
    """Fires every fault of ACI at a burst and prints what became of the items."""
    if write_down and fault:
        raise typer.BadParameter("the table holds all faults: leave --fault out", param_hint="--write")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.getLogger("azure").setLevel(logging.CRITICAL + 1)
    cases = [case for case in CASES if not fault or any(part in case.name for part in fault)]
    if not cases:
        raise typer.BadParameter(f"there are {', '.join(case.name for case in CASES)}", param_hint="--fault")
    with tempfile.TemporaryDirectory(prefix="burst-aci-faults-") as temporary:
        folder = keep or Path(temporary)
        results = asyncio.run(run_all(cases, items, jobs, folder, Console(stderr=True, soft_wrap=True)))
    rows = [report.cells(result) for result in results]
    Console().print(table(report.COLUMNS, rows))
    Console().print(report.conditions(items, jobs), markup=False)
    everything = len(results) == len(cases)
    if write_down and everything:
        text = f"{report.conditions(items, jobs)}\n\n{markdown(report.COLUMNS, rows)}"
        write(report.DOCUMENT, report.NAME, report.COMMAND, text)
    raise typer.Exit(0 if everything and all(result.passed for result in results) else 1)


if __name__ == "__main__":
    typer.run(main)
