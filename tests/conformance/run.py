"""Fetches the tests, runs them on many workers (they mostly sleep), and judges what came of them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .hosting import SUFFIX, TLS_FOLDER
from .sources import FILES, SourcesError, fetch
from .verdict import FAILED, PASSED, SKIPPED, Result, read_expected, read_results, surprises

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "conformance"
EXPECTED = Path(__file__).with_name("expected_failures.toml")
FAST = Path(__file__).with_name("fast_subset.txt")

_CONFIG = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"


@dataclass(frozen=True, slots=True)
class Outcome:
    """All results, the surprises among them, and the expected failures that did fail."""

    results: list[Result]
    surprises: list[str]
    excused: dict[str, str]

    def count(self, outcome: str) -> int:
        """How many ended so."""
        return sum(result.outcome == outcome for result in self.results)

    def summary(self) -> str:
        """One line."""
        return (
            f"{self.count(PASSED)} passed, {self.count(FAILED)} failed ({len(self.excused)} of them expected), "
            f"{self.count(SKIPPED)} skipped, of {len(self.results)}"
        )


def run(*, fast: bool = False, workers: int = 16, only: str = "", within: float = 1800, quiet: bool = False) -> Outcome:
    """Runs all of the tests, or the fast ones, or those whose name matches."""
    tests = fetch(CACHE)
    with tempfile.TemporaryDirectory(prefix="conformance-") as name:
        folder = Path(name)
        make_certificate(folder)
        config, report = folder / "pytest.ini", folder / "report.xml"
        config.write_text(_CONFIG, encoding="utf-8")
        targets = _fast_subset() if fast else list(FILES)
        command = [sys.executable, "-m", "pytest", "-c", str(config), "--rootdir", str(tests), "-q", "--tb=short"]
        command += ["-p", "tests.conformance.plugin", "-p", "no:cacheprovider", "--timeout=600", "-o", "addopts="]
        command += [
            "-n",
            str(workers),
            "--dist=load",
            "--maxschedchunk=2",
            f"--junitxml={report}",
            *(["-k", only] if only else []),
            *targets,
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), TLS_FOLDER: str(folder)}
        output = subprocess.DEVNULL if quiet else None
        subprocess.run(command, cwd=tests, env=environment, timeout=within, check=False, stdout=output)
        if not report.exists():
            raise SourcesError("pytest ended without a report; what it said is above")
        results = read_results(report)
    expected = read_expected(EXPECTED)
    failed = {result.test for result in results if result.outcome == FAILED}
    excused = {test: reason for test, reason in expected.items() if test in failed}
    return Outcome(results, surprises(results, expected, complete=not (fast or only)), excused)


def _fast_subset() -> list[str]:
    return [line for line in FAST.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def make_certificate(folder: Path) -> None:
    """A certificate for all namespaces that signs itself, for one run."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "1", "-subj", f"/CN=*{SUFFIX}", "-addext", f"subjectAltName=DNS:*{SUFFIX}"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
