"""`python -m tests.faults`: each fault of the broker during a burst; ends with 1 if an item was lost or ended twice, or
if the rate did not come back in time.

Figures go to standard output, progress to standard error.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dispatcher.embedded.broker import Fault

from . import report
from .liveness import Liveness, stick
from .trial import Result, Size, Trial

_USUAL = Size()
DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"


async def run(faults: list[Fault], size: Size, console: Console) -> tuple[list[Result], Liveness | None]:
    """One trial after another, and what shows of a consumer that is stuck if all faults were asked for."""
    with_liveness = len(faults) == len(Fault)
    results: list[Result] = []
    columns = (TextColumn("{task.description:50}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(faults) + with_liveness)

        def tell(what: str) -> None:
            progress.update(bar, description=what)

        for fault in faults:
            results.append(await Trial(fault, size, lambda phase, fault=fault: tell(f"{fault}: {phase}")).run())  # type: ignore[misc]
            progress.advance(bar)
            console.print(f"{'passed' if results[-1].passed else 'FAILED'}  {'  '.join(report.cells(results[-1]))}")
            for line in results[-1].verdict.lines:
                console.print(f"        {line}")
        seen = await stick(tell=lambda phase: tell(f"stuck consumer: {phase}")) if with_liveness else None
        progress.advance(bar, with_liveness)
    return results, seen


def main(
    fault: Annotated[list[Fault] | None, typer.Option(help="Only this one; may be given several times.")] = None,
    items: Annotated[int, typer.Option(min=100, help="How many items wait at the broker.")] = _USUAL.waiting,
    fired: Annotated[int, typer.Option(min=1, help="How often each fault fires at least.")] = _USUAL.fired,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    markdown: Annotated[bool, typer.Option(help="Print the table in Markdown.")] = False,
    write: Annotated[bool, typer.Option(help=f"Write the table into docs/{DOCUMENT.name}; takes all faults.")] = False,
) -> None:
    """Runs every fault of the broker against the queue's adapter and prints what became of the items."""
    if write and fault:
        raise typer.BadParameter("the table holds all faults: leave --fault out", param_hint="--write")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.getLogger("azure").setLevel(logging.CRITICAL + 1)
    size = Size(waiting=items, fired=fired)
    results, seen = asyncio.run(run(fault or list(Fault), size, Console(stderr=True)))
    if as_json:
        sys.stdout.write(json.dumps([report.facts(result) for result in results], indent=2) + "\n")
    elif markdown:
        sys.stdout.write(report.markdown(results, seen, size) + "\n")
    else:
        console = Console()
        console.print(report.table(results))
        console.print(report.conditions(size), markup=False)
        if seen is not None:
            console.print(report.liveness_sentence(seen), markup=False)
    if write:
        report.write(DOCUMENT, report.markdown(results, seen, size))
    raise typer.Exit(0 if all(result.passed for result in results) else 1)


if __name__ == "__main__":
    typer.run(main)
