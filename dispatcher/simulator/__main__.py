"""The command: search many seeds, replay one, or show that each mutation is caught.

Decides nothing; exit code 1 where a law was broken, something occurred too rarely, or a mutation got away.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing import get_context

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dispatcher.simulator.mutations import hunt_all, tell_mutations
from dispatcher.simulator.report import Findings, tell, tell_failure
from dispatcher.simulator.run import Result, run_seed

CHUNK = 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the arguments and does as told; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dispatcher.simulator", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=500, help="how many seeds to search")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=2, help="how many processes search")
    parser.add_argument("--seed", type=int, help="run this one seed only")
    parser.add_argument("--trace", action="store_true", help="with --seed: print every line of its trace")
    parser.add_argument("--mutations", action="store_true", help="switch each mutation on until a law catches it")
    told = parser.parse_args(arguments)
    console = Console()
    if told.mutations:
        return tell_mutations(console, hunt_all())
    if told.seed is not None:
        return _one(console, told.seed, trace=told.trace)
    return _search(console, told.first, told.seeds, max(1, told.jobs))


def _one(console: Console, seed: int, *, trace: bool) -> int:
    result = run_seed(seed, print if trace else None)
    if not result.held:
        tell_failure(console, result)
        return 1
    console.print(f"seed {seed}: all laws hold, {result.cycles} cycles, trace {result.digest}")
    return 0


def _search(console: Console, first: int, count: int, jobs: int) -> int:
    console.print(f"seeds {first} to {first + count - 1} on {jobs} processes, Python {sys.version.split()[0]}")
    findings, began = Findings(), time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("seeds", total=count)
        for result in _results(range(first, first + count), jobs):
            findings.add(result)
            progress.update(bar, advance=1, description=f"seeds, {len(findings.failed)} failed")
    tell(console, findings, time.monotonic() - began, jobs)
    return 0 if findings.passed else 1


def _results(seeds: Sequence[int], jobs: int) -> Iterator[Result]:
    if jobs == 1:
        yield from map(run_seed, seeds)
        return
    with get_context("fork").Pool(jobs) as pool:
        yield from pool.imap_unordered(run_seed, seeds, chunksize=CHUNK)


if __name__ == "__main__":
    sys.exit(main())
