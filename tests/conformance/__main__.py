"""`python -m tests.conformance`: runs the SDK's tests and says how they went; ends with 1 if anything surprised."""

from __future__ import annotations

import argparse
import sys
import time

from .run import run
from .sources import SourcesError


def main() -> int:
    """Prints the figures, the expected failures with their reasons, and the surprises."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--fast", action="store_true", help="only the tests that are part of the test suite")
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--only", default="", help="an expression for pytest's -k")
    parser.add_argument("--slowest", type=int, default=0, help="list so many of the slowest tests")
    options = parser.parse_args()
    started = time.monotonic()
    try:
        outcome = run(fast=options.fast, workers=options.workers, only=options.only)
    except SourcesError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    write = sys.stdout.write
    for result in sorted(outcome.results, key=lambda result: -result.seconds)[: options.slowest]:
        write(f"{result.seconds:8.1f} s  {result.outcome:8} {result.test}\n")
    for test, reason in outcome.excused.items():
        write(f"expected failure: {test}: {reason}\n")
    for line in outcome.surprises:
        write(f"{line}\n")
    write(f"{outcome.summary()}, in {time.monotonic() - started:.0f} s\n")
    return 1 if outcome.surprises or not outcome.results else 0


if __name__ == "__main__":
    sys.exit(main())
