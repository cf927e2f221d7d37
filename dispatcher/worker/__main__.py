"""The command line of the worker kit."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .kit import EXIT_NOT_BEGUN, Settings, work
from .reporting import say


def main(words: Sequence[str] | None = None) -> int:
    """Reads the command line and does the items of the pod; the exit code."""
    usual = Settings()
    parser = argparse.ArgumentParser(
        prog="burst-worker",
        description="Runs COMMAND once for each item of this pod and reports each outcome; see docs/worker.md.",
        epilog="Exit codes: 0 all outcomes were told, 1 some were not, 2 nothing was begun.",
    )
    parser.add_argument(
        "--grace", type=_seconds, default=usual.grace_seconds, metavar="SECONDS",
        help="from SIGTERM until all is told; less than the pod's terminationGracePeriodSeconds (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--report-wait", type=_seconds, default=usual.report_seconds, metavar="SECONDS",
        help="how long reports that are not accepted are sent again after the last item (%(default)s)",
    )  # fmt: skip
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND [ARGS...]")
    asked = parser.parse_args(words)
    command = asked.command[1:] if asked.command[:1] == ["--"] else asked.command
    if not command:
        say("no command is given; write: burst-worker -- COMMAND [ARGS...]")
        return EXIT_NOT_BEGUN
    return work(command, os.environ, Settings(asked.grace, asked.report_wait))


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 86_400:
        raise argparse.ArgumentTypeError("must be more than 0 and less than a day")
    return value


if __name__ == "__main__":
    sys.exit(main())
