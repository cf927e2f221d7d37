"""The command line's root: its name, its help, and the options of all commands."""

from __future__ import annotations

from typing import Annotated

import typer

from dispatcher import __version__
from dispatcher.telemetry.logs import configure_logs

app = typer.Typer(
    name="dispatcher",
    help="Turns bursts of work on an Azure Service Bus queue into parallel Kubernetes Jobs, within budgets.",
    epilog="Exit codes: 0 all well, 1 failed, 2 wrong usage or configuration, 3 service not reachable, 130 interrupted",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def show_version(wanted: bool) -> None:
    """Prints the version and ends."""
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Options of all commands."""
    configure_logs("warning")  # `run` decides anew; for all others only what goes wrong in a library is of interest
