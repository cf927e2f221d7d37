"""What came of the tests, compared with what was expected: both an unexpected failure and an unexpected pass count."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclass(frozen=True, slots=True)
class Result:
    """One test: its name (file::test[parameters]), how it ended, how long it took, and why."""

    test: str
    outcome: str
    seconds: float
    detail: str = ""


def read_results(report: Path) -> list[Result]:
    """The results in a report in JUnit's format, which this project's own pytest has just written."""
    results = []
    for case in ElementTree.parse(report).iter("testcase"):
        module = case.get("classname", "").split(".")
        file = next((part for part in module if part.startswith("test_")), module[0])
        outcome, detail = PASSED, ""
        for child in case:
            if child.tag in ("failure", "error"):
                outcome, detail = FAILED, child.get("message", "")
            elif child.tag == "skipped" and outcome != FAILED:
                outcome, detail = SKIPPED, child.get("message", "")
        results.append(Result(f"{file}::{case.get('name')}", outcome, float(case.get("time", 0)), detail))
    return results


def read_expected(path: Path) -> dict[str, str]:
    """Test and reason of each failure that is expected."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("failure", [])
    return {entry["test"]: entry["reason"] for entry in entries}


def surprises(results: list[Result], expected: dict[str, str], *, complete: bool) -> list[str]:
    """One line for each result that was not expected; with a complete run also for expectations without a test."""
    lines = []
    for result in results:
        if result.outcome == FAILED and result.test not in expected:
            lines.append(f"unexpected failure: {result.test}: {result.detail.splitlines()[0] if result.detail else ''}")
        elif result.outcome == PASSED and result.test in expected:
            lines.append(f"unexpected pass: {result.test} (expected to fail: {expected[result.test]})")
    if complete:
        known = {result.test for result in results}
        lines += [f"expected to fail, but not there: {test}" for test in expected if test not in known]
    return lines
