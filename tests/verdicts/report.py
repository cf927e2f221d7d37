"""The verdicts as a table: for terminals, for the documentation; and what was seen, as it is kept.

Decides columns and words. Knows nothing of how any of it was found out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dispatcher.judge import Level

from .templates import RECORDS, Outcome, Template

DOCUMENT = Path(__file__).parents[2] / "docs" / "virtual-node-rules.md"
NAME, COMMAND = "verdicts", "make verdicts WRITE=1"
COLUMNS = ("template", "by hand", "its source", "the judge", "the connector")
_CELL_MAX = 220


def judged(template: Template) -> str:
    """The judge's words, short."""
    by_level: dict[Level, list[str]] = {level: [] for level in Level}
    for finding in template.findings:
        if finding.rule not in by_level[finding.level]:
            by_level[finding.level].append(finding.rule)
    parts = [
        f"{verb} {', '.join(rules)}"
        for verb, rules in (("refuses:", by_level[Level.ERROR]), ("warns:", by_level[Level.WARNING]))
        if rules
    ]
    return "; ".join(parts) or "fits"


def row(template: Template, seen: Mapping[str, Any]) -> tuple[str, ...]:
    """One template. ``seen`` is its record."""
    words = str(seen["words"])
    if len(words) > _CELL_MAX:
        words = words[:_CELL_MAX].rsplit(" ", 1)[0] + " ..."
    said = f"{seen['outcome']}: {words}" if words else str(seen["outcome"])
    by_hand = template.expected + (f" (at first: {template.at_first})" if template.at_first else "")
    return (template.name, by_hand, template.source, judged(template), said)


def markdown(templates: Sequence[Template], records: Mapping[str, Mapping[str, Any]]) -> str:
    """The table, and a sentence that counts."""
    lines = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS)]
    lines += [
        " | ".join(_cell(cell) for cell in row(each, records[each.name])) for each in templates if each.name in records
    ]
    return "\n".join([f"{sentence(templates, records)}\n", *(f"| {line} |" for line in lines)])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def sentence(templates: Sequence[Template], records: Mapping[str, Mapping[str, Any]]) -> str:
    """What was found, counted."""
    accepted = [each for each in templates if not any(one.level is Level.ERROR for one in each.findings)]
    refused = [each for each in templates if each not in accepted]
    of = {each.name: Outcome(records[each.name]["outcome"]) for each in templates if each.name in records}

    def counted(chosen: Sequence[Template]) -> str:
        ends = [of[each.name] for each in chosen if each.name in of]
        return ", ".join(f"{ends.count(end)} {WORDS[end]}" for end in Outcome if end in ends)

    return (
        f"{len(of)} templates. Of the {len(accepted)} that the judge lets through, {counted(accepted)}; of the "
        f"{len(refused)} that it refuses, {counted(refused)}."
    )


WORDS = {
    Outcome.RUNS: "ran",
    Outcome.FAILS: "failed",
    Outcome.PENDING: "stayed pending",
    Outcome.IGNORED: "ran with something silently ignored",
    Outcome.ABSENT: "made no pod there",
}


def read_records() -> dict[str, dict[str, Any]]:
    """What was seen the last time that all were tried."""
    records: dict[str, dict[str, Any]] = json.loads(RECORDS.read_text(encoding="utf-8"))
    return records


def write_records(records: Mapping[str, Mapping[str, Any]]) -> None:
    """Keeps it."""
    RECORDS.write_text(json.dumps(records, indent=2, sort_keys=True) + "\n", encoding="utf-8")
