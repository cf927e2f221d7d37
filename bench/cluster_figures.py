"""How bench/cluster.py's figures are written down: one line a section, the same on a terminal and in the documentation.

Decides the wording, and that a section which was not measured keeps the line that stands. Measures nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster_measuring import Run

from tests.crash import report

DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
NAME, COMMAND = "cluster figures", "make bench-cluster WRITE=1"
COLUMNS = ("section", "size", "beside it", "dispatcher", "ratio", "aim", "load")
NOTHING = "-"


@dataclass(frozen=True)
class Figure:
    """What came of one section."""

    section: str
    size: str
    dispatcher: str
    aim: str
    beside: str = NOTHING
    ratio: str = NOTHING
    load: str = ""
    """Of the machine, before and after."""

    @property
    def cells(self) -> tuple[str, ...]:
        """A line of the table."""
        return (
            f"`{self.section}`",
            self.size,
            self.beside,
            self.dispatcher,
            self.ratio,
            self.aim,
            self.load,
        )


def words_of(run: Run) -> str:
    """Rate, and processor milliseconds an item by process; the broker's apart, in production it is elsewhere."""
    used = {name: seconds * 1000 / run.items for name, seconds in run.processor.items()}
    apart = sum(value for name, value in used.items() if name != "broker")
    shares = ", ".join(f"{name.removeprefix('kube-')} {value:.1f}" for name, value in used.items())
    return f"{run.rate:.1f} items/s, {apart:.1f} CPU-ms an item ({shares})"


def compared(section: str, size: str, sides: Mapping[str, Run], of: str, aim: float) -> Figure:
    """Two sides of a comparison."""
    ours, theirs = sides["dispatcher"], sides[of]
    return Figure(
        section, size, words_of(ours), f"{aim:g}", beside=words_of(theirs), ratio=f"{ours.rate / theirs.rate:.2f}"
    )


def write(figures: Sequence[Figure], conditions: str) -> None:
    """Into the document, each in place of the line of its section. Raises ValueError where the marks are not there."""
    lines = {each.section: each.cells for each in figures}
    text = DOCUMENT.read_text(encoding="utf-8")
    _, _, rest = text.partition(f"<!-- {NAME}: begin")
    for line in rest.partition(f"<!-- {NAME}: end")[0].splitlines():
        cells = tuple(cell.strip() for cell in line.strip().strip("|").split("|"))
        if len(cells) == len(COLUMNS) and cells[0].startswith("`"):
            lines.setdefault(cells[0].strip("`"), cells)
    order = [section for section in ORDER if section in lines]
    rows = [lines[section] for section in order]
    report.write(DOCUMENT, NAME, COMMAND, f"{report.markdown(COLUMNS, rows)}\n\n{conditions}")


ORDER = ("five", "zero", "single", "paced", "reaction", "watched")
"""Of the sections, in the document and in a run."""
