"""`python -m tests.crash`: the dispatcher is killed after each single write to the API server in turn, and then right
before each; with ``--seeds`` the API server fails in all ways instead. Ends with 1 if a law was broken in any run.

Figures go to standard output, progress to standard error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from testbed.control_plane import ControlPlane, real_node, virtual_node

from . import report
from .gate import Moment
from .spoiling import drawn
from .trial import Verdict, run
from .world import World, a_world

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
_WRITES_MAX = 400
"""More than a run without faults makes; only how many queues the broker has ready."""
_TO_THE_END_EVERY = 10
"""So many-th runs are waited for until nothing is left of any attempt, a minute and a half longer than the others."""
_ERRORS = Console(stderr=True)

Task = Callable[[], Awaitable[Verdict]]


async def _all(tasks: Sequence[Task], jobs: int, what: str) -> list[Verdict]:
    """All runs, so many at once."""
    verdicts: list[Verdict] = []
    waiting = list(reversed(tasks))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_ERRORS, transient=True) as progress:
        bar = progress.add_task(what, total=len(tasks))

        async def work() -> None:
            while waiting:
                verdict = await waiting.pop()()
                verdicts.append(verdict)
                progress.advance(bar)
                if not _ERRORS.is_terminal and len(verdicts) % 10 == 0:
                    _ERRORS.print(f"{what}: {len(verdicts)} of {len(tasks)}", highlight=False)
                if not verdict.passed:
                    _ERRORS.print(f"FAILED  {verdict.name}, kept in {verdict.folder}", highlight=False)
                    for line in verdict.findings.broken[:10]:
                        _ERRORS.print(f"        {line[:400]}", markup=False, highlight=False)

        async with asyncio.TaskGroup() as group:
            for _ in range(jobs):
                group.create_task(work())
    return verdicts


async def _calm(world: World) -> Verdict:
    """A run without faults, which shows what there is to be killed at."""
    verdict = await run(world, "without faults")
    found, told = verdict.findings, verdict.events
    _ERRORS.print(
        f"Without faults: {len(verdict.writes)} writes in {verdict.seconds:.0f} s; "
        f"Jobs {dict(found.jobs)}, {found.next_attempts} of them next attempts; "
        f"{told.get('item.done', 0)} items done, {told.get('item.retried', 0)} retried, "
        f"{told.get('item.dead_lettered', 0) + told.get('item.rejected', 0)} dead-lettered; "
        f"{told.get('batch.held', 0)} times held; billed ${found.bill_usd}, charged ${found.spent_usd}",
        highlight=False,
    )
    for line in found.broken:
        _ERRORS.print(f"        {line}", markup=False, highlight=False)
    return verdict


def _kills(world: World, writes: range, moments: Sequence[Moment]) -> list[Task]:
    return [
        lambda moment=moment, at=at, last=number % _TO_THE_END_EVERY == 0: run(  # type: ignore[misc]
            world, f"killed {moment} write {at}", kill_at=at, moment=moment, to_the_end=last
        )
        for moment in moments
        for number, at in enumerate(writes)
    ]


def _spoilt(world: World, seeds: range, *, silent: bool | None) -> list[Task]:
    return [
        lambda seed=seed: run(world, f"seed {seed}", spoiling=drawn(seed, silent=silent), to_the_end=False)  # type: ignore[misc]
        for seed in seeds
    ]


async def _sweep(
    moments: Sequence[Moment], first: int, step: int, seeds: range, jobs: int, *, silent: bool | None
) -> tuple[Verdict, list[Verdict], list[Verdict]]:
    async with ControlPlane.started() as plane:
        await plane.create_nodes(real_node("node-1", cpu="256", memory="1Ti", pods=1000), virtual_node())
        async with a_world(plane, 2 * _WRITES_MAX + len(seeds)) as world:
            calm = await _calm(world)
            kills = _kills(world, range(first, len(calm.writes) + 1, step), moments)
            killed = await _all(kills, jobs, "killed at each write") if kills else []
            spoilt = await _all(_spoilt(world, seeds, silent=silent), jobs, "the API server's faults") if seeds else []
            return calm, killed, spoilt


def main(
    moment: Annotated[list[Moment] | None, typer.Option(help="Only kills after, or before, the writes.")] = None,
    step: Annotated[int, typer.Option(min=1, help="Only every so many-th write.")] = 1,
    first: Annotated[int, typer.Option(min=1, help="The first write to be killed at.")] = 1,
    seeds: Annotated[int, typer.Option(min=0, help="No kills: so many runs with the API server's faults.")] = 0,
    seed: Annotated[int | None, typer.Option(min=0, help="Only this seed.")] = None,
    silent: Annotated[
        bool | None, typer.Option("--silent/--no-silent", help="Whether watches fall silent; default: by the seed.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="So many runs at once; each waits more than it works.")] = 8,
    write: Annotated[bool, typer.Option(help=f"Write the figures into docs/{DOCUMENT.name}.")] = False,
) -> None:
    """Kills the dispatcher at each of its writes, or spoils what passes between it and the API server, and judges."""
    drawn_seeds = range(seed, seed + 1) if seed is not None else range(seeds)
    moments: list[Moment] = [] if drawn_seeds else (moment or list(Moment))
    calm, killed, spoilt = asyncio.run(_sweep(moments, first, step, drawn_seeds, jobs, silent=silent))
    console = Console()
    if killed:
        rows = report.by_write(killed)
        _tell(console, report.WRITE_COLUMNS, rows, killed)
        if write:
            text = f"{_sentence(killed)}\n\n{report.markdown(report.WRITE_COLUMNS, rows)}"
            report.write(DOCUMENT, "kills", "make test-crash WRITE=1", text)
    if spoilt:
        rows = report.by_fault(spoilt)
        _tell(console, report.FAULT_COLUMNS, rows, spoilt)
        if write:
            text = f"{_sentence(spoilt)}\n\n{report.markdown(report.FAULT_COLUMNS, rows)}"
            report.write(DOCUMENT, "API faults", "make test-faults-api WRITE=1", text)
    raise typer.Exit(0 if all(verdict.passed for verdict in (calm, *killed, *spoilt)) else 1)


def _sentence(verdicts: Sequence[Verdict]) -> str:
    failed = sum(1 for verdict in verdicts if not verdict.passed)
    return f"{len(verdicts)} runs, {failed} failed."


def _tell(
    console: Console, columns: Sequence[str], rows: Sequence[Sequence[object]], verdicts: Sequence[Verdict]
) -> None:
    console.print(report.table(columns, rows))
    console.print(_sentence(verdicts), highlight=False)


if __name__ == "__main__":
    typer.run(main)
