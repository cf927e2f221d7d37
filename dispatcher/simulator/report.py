"""What a search found, as tables for people: conditions, speed, what occurred in how many seeds, and failing seeds.

Decides how it is told and whether a search counts as passed: all laws held, and everything occurred often enough.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from dispatcher.simulator.occurrences import CANNOT_OCCUR, EXPECTED, LEAST_SHARE
from dispatcher.simulator.run import Result

SEEDS_FOR_SHARES = 400
"""With fewer seeds a rare thing may be missing by chance: shares are shown and not judged."""


@dataclass(slots=True)
class Findings:
    """Results of many seeds, added up."""

    seeds: int = 0
    cycles: int = 0
    drain_cycles_max: int = 0
    virtual_seconds: float = 0.0
    seeds_with: Counter[str] = field(default_factory=Counter)
    times: Counter[str] = field(default_factory=Counter)
    failed: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """One more seed."""
        self.seeds += 1
        self.cycles += result.cycles
        self.drain_cycles_max = max(self.drain_cycles_max, result.drain_cycles)
        self.virtual_seconds += result.virtual_seconds
        self.seeds_with.update(result.occurred.keys())
        self.times.update(result.occurred)
        if not result.held:
            self.failed.append(result)

    def share(self, name: str) -> float:
        """In how many of the seeds it occurred."""
        return self.seeds_with[name] / self.seeds if self.seeds else 0.0

    @property
    def too_rare(self) -> list[str]:
        """What should have occurred more often."""
        if self.seeds < SEEDS_FOR_SHARES:
            return []
        return [name for name in EXPECTED if name not in CANNOT_OCCUR and self.share(name) < LEAST_SHARE]

    @property
    def passed(self) -> bool:
        """Whether all laws held and everything occurred."""
        return not self.failed and not self.too_rare


def tell(console: Console, findings: Findings, seconds: float, jobs: int) -> None:
    """The whole report."""
    console.print(_occurrences(findings))
    for name, why in CANNOT_OCCUR.items():
        console.print(f"[dim]{name} cannot occur here: {why}[/]")
    for result in findings.failed:
        tell_failure(console, result)
    console.print(
        f"{findings.seeds} seeds, {findings.cycles} cycles ({findings.cycles / max(1, findings.seeds):.0f} a seed, the "
        f"longest drained in {findings.drain_cycles_max}), {findings.virtual_seconds / 3600:.0f} h of virtual time, in "
        f"{seconds:.1f} s on {jobs} processes: {findings.seeds / seconds:.1f} seeds/s, "
        f"{findings.cycles / seconds:.0f} cycles/s"
    )
    for name in findings.too_rare:
        console.print(f"[red]{name}: in {findings.share(name):.1%} of the seeds, {LEAST_SHARE:.0%} are needed[/]")
    if findings.failed:
        seeds = ", ".join(str(result.seed) for result in findings.failed[:20])
        console.print(f"[red]a law was broken in {len(findings.failed)} seeds: {seeds}[/]")
    elif findings.passed:
        console.print("[green]all laws hold[/]")


def _occurrences(findings: Findings) -> Table:
    table = Table("what", "in % of seeds", "times", title="What occurred", title_justify="left")
    for name in EXPECTED:
        table.add_row(name, f"{100 * findings.share(name):.1f}", str(findings.times[name]))
    return table


def tell_failure(console: Console, result: Result) -> None:
    """A failing seed, with what replays it."""
    console.print(f"[red]seed {result.seed}: {result.law}[/] at line {result.step} of its trace", highlight=False)
    console.print(result.text, highlight=False, markup=False)
    for line in result.last_lines:
        console.print(f"    {line}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"    replay: python -m dispatcher.simulator --seed {result.seed} --trace")
