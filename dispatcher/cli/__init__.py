"""The command line.

Decides what the commands are called, what they print where, and their exit codes. Data goes to stdout, messages to
stderr; with --json the data is JSON. Nothing is decided here about work.

Exit codes: 0 all well; 1 it failed; 2 wrong usage or configuration; 3 the service or its broker cannot be reached;
130 interrupted.
"""

from __future__ import annotations

from dispatcher.cli import (  # noqa: F401 - importing them adds their commands
    broker,
    budgets,
    check,
    dead_letters,
    dead_letters_purge,
    dead_letters_replay,
    enqueue,
    explain,
    manifest,
    plan,
    prices,
    release,
    report,
    run,
    schema,
    simulate,
    status,
    worker_kit,
)
from dispatcher.cli.app import app

__all__ = ["app", "main"]


def main() -> None:
    """Runs the command that the process was started with."""
    app()
