"""The worker kit goes into images that we know nothing of."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from dispatcher.core.reports import CAUSES, PODS_VARIABLE, read_report
from dispatcher.worker import pod
from dispatcher.worker.kit import report_of
from dispatcher.worker.running import Ended

ROOM = Path(__file__).parents[3] / "dispatcher" / "worker"
FILES = sorted(ROOM.glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_is_written_in_python_3_9(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
    defined = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AnnAssign)]
    assert not defined or "from __future__ import annotations" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_knows_only_the_standard_library_and_its_neighbours(path: Path) -> None:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 1, "above this folder there may be nothing"
    assert names <= sys.stdlib_module_names


def test_starting_it_imports_nothing_of_the_dispatcher() -> None:
    code = "import sys, dispatcher.worker.__main__; print(*(n for n in sys.modules if n.startswith('dispatcher')))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    rest = {name for name in shown.stdout.split() if not name.startswith("dispatcher.worker")}
    assert rest == {"dispatcher"}


def test_what_it_reports_is_what_the_dispatcher_reads(tmp_path: Path) -> None:
    (tmp_path / "3.json").write_text(f'{{"queue": "work", "sequence_number": 7, "digest": "{"a" * 64}"}}')
    given = pod.read_pod(
        {"BURST_ITEMS_DIR": str(tmp_path), "JOB_COMPLETION_INDEX": "3", PODS_VARIABLE: "5", "BURST_BATCH": "b",
         "BURST_ATTEMPT": "2", "BURST_POD_UID": "uid", "BURST_STOP_AT": "2026-03-01T12:00:00.000000Z"}
    )  # fmt: skip
    at = given.stop_at
    assert at is not None
    for cause in (None, *CAUSES):
        ended = Ended(0 if cause is None else 1, cause and cause.value, "told", "tail", at, at)
        sent = report_of(given, given.item(3), ended, "https://results/7")
        report = read_report(sent.body)
        assert sent.message_id == report.message_id
        assert (report.cause, report.position, report.finished_at) == (cause, 3, at)
        spare = read_report(sent.spare)
        assert (spare.cause, spare.message, spare.digest) == (cause, "", report.digest)
