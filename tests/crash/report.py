"""What came of all runs: a line for each that failed, a table for terminals, Markdown for the documentation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from .trial import Verdict

_BEGIN = "<!-- {name}: begin; written by `{command}` -->"
_END = "<!-- {name}: end -->"


def by_write(verdicts: Sequence[Verdict]) -> list[tuple[str, int, int, str]]:
    """For each kind of write: how many runs were killed at one, how many of them failed, and their slowest."""
    struck = Counter(verdict.struck or "never reached" for verdict in verdicts)
    failed = Counter(verdict.struck or "never reached" for verdict in verdicts if not verdict.passed)
    slowest = {
        words: max(verdict.seconds for verdict in verdicts if (verdict.struck or "never reached") == words)
        for words in struck
    }
    return [(words, count, failed[words], f"{slowest[words]:.0f} s") for words, count in sorted(struck.items())]


def by_fault(verdicts: Sequence[Verdict]) -> list[tuple[str, int, int, str]]:
    """For each fault: in how many runs it struck, how many of these failed, and how often it struck in all."""
    faults = sorted({fault for verdict in verdicts for fault in verdict.fired})
    return [
        (
            fault.value,
            sum(1 for verdict in verdicts if verdict.fired.get(fault)),
            sum(1 for verdict in verdicts if verdict.fired.get(fault) and not verdict.passed),
            f"{sum(verdict.fired.get(fault, 0) for verdict in verdicts)}",
        )
        for fault in faults
    ]


WRITE_COLUMNS = ("killed at", "runs", "failed", "slowest")
FAULT_COLUMNS = ("fault", "runs", "failed", "struck")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """For a terminal."""
    made = Table(*columns, box=None)
    for row in rows:
        made.add_row(*(str(cell) for cell in row))
    return made


def markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """For the documentation."""
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(str(cell) for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def write(document: Path, name: str, command: str, text: str) -> None:
    """Replaces what stands between the marks of that name. Raises ValueError where there are none."""
    begin, end = _BEGIN.format(name=name, command=command), _END.format(name=name)
    before, found, rest = document.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{document}: has no lines {begin} and {end}; put them where the table belongs")
    document.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
