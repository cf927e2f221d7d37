"""How results are told: a table for terminals, the same in Markdown for the documentation, JSON for machines."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.table import Table

from .burst import FAILS_EVERY, LOOKAHEAD
from .liveness import Liveness
from .rates import RECOVERED, RELAPSED, WINDOW_SECONDS
from .trial import Result, Size

BEGIN = "<!-- fault matrix: begin; written by `make faults WRITE=1` -->"
END = "<!-- fault matrix: end -->"
COLUMNS = ("fault", "fired", "for", "items", "lost", "twice", "before", "recovered in", "ratio")


def cells(result: Result) -> tuple[str, ...]:
    """One row."""
    seconds, ratio = result.recovery.seconds, result.recovery.ratio
    return (
        f"{result.fault}{f' ({result.conditions})' if result.conditions else ''}",
        str(result.fired),
        f"{result.fired_for_seconds:.0f} s",
        f"{result.items:,}",
        str(result.verdict.lost),
        str(result.verdict.duplicated),
        f"{result.rate_before:,.0f}/s",
        "not" if seconds is None else f"{seconds:.1f} s",
        "" if ratio is None else f"{ratio:.0%}",
    )


def conditions(size: Size) -> str:
    """What a reader needs to judge the figures by."""
    return (
        f"{size.waiting:,} items wait at the broker all the time, at most {LOOKAHEAD:,} are in the dispatcher's hands, "
        f"and one of {FAILS_EVERY} fails and is dead-lettered. Locks of {size.lock_seconds:.0f} s, otherwise default "
        f"settings. Broker and dispatcher are processes of their own on one machine; the cluster ends every Job at "
        f"once. Rates are those at which items left the broker, in windows of {WINDOW_SECONDS:.0f} s, without the "
        f"time in which other programs kept the processor: *before* is the median of {size.before_seconds:.0f} s, "
        f"*recovered in* counts from the end of the fault to the first window with {RECOVERED:.0%} of that, after "
        f"which none has less than {RELAPSED:.0%} (allowed: {size.recovers_within_seconds:.0f} s), *ratio* is the "
        f"median from there on. Python "
        f"{platform.python_version()}, azure-servicebus {version('azure-servicebus')}, {os.cpu_count()} cores."
    )


def liveness_sentence(seen: Liveness) -> str:
    """What the health said of a consumer that was stuck."""
    return (
        f"With every connection frozen, new ones too, and a watchdog of {seen.watchdog_seconds:.0f} s: /healthz says "
        f'503 after {seen.noticed_seconds:.1f} s ("{seen.said}"), the client is made anew '
        f"({seen.clients_rebuilt} times until the wire came back), and {seen.recovered_seconds:.1f} s after that "
        f"/healthz says 200 and items are settled again."
    )


def table(results: Sequence[Result]) -> Table:
    """For terminals."""
    made = Table(title="The adapter under fire")
    for number, column in enumerate(COLUMNS):
        made.add_column(column, justify="left" if number == 0 else "right")
    for result in results:
        made.add_row(*cells(result), style=None if result.passed else "bold red")
    return made


def markdown(results: Sequence[Result], seen: Liveness | None, size: Size) -> str:
    """For the documentation."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|---{'|---:' * (len(COLUMNS) - 1)}|"]
    lines += [f"| {' | '.join(cells(result))} |" for result in results]
    lines += ["", conditions(size)]
    lines += ["", liveness_sentence(seen)] if seen is not None else []
    return "\n".join(lines)


def write(path: Path, text: str) -> None:
    """Puts it in the place of what stood between the two marks. Raises ValueError if they are not there."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path}: the marks {BEGIN} and {END} are not in it")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def facts(result: Result) -> dict[str, Any]:
    """For machines."""
    return {
        "fault": result.fault.value,
        "conditions": result.conditions,
        "fired": result.fired,
        "fired_for_seconds": round(result.fired_for_seconds, 2),
        "items": result.items,
        "lost": result.verdict.lost,
        "duplicated": result.verdict.duplicated,
        "differences": list(result.verdict.lines),
        "rate_before": round(result.rate_before, 1),
        "recovery_seconds": None if result.recovery.seconds is None else round(result.recovery.seconds, 2),
        "recovery_ratio": None if result.recovery.ratio is None else round(result.recovery.ratio, 3),
        "receivers_rebuilt": result.receivers_rebuilt,
        "passed": result.passed,
    }
