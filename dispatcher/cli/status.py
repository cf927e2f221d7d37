"""``dispatcher status``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live

from dispatcher.cli.app import app
from dispatcher.cli.shared import DATA_DIR_DEFAULT, DataDirOption, JsonOption, UrlOption, told
from dispatcher.render import status_line, status_view
from dispatcher.running import find_service, get_json_now


@app.command()
@told
def status(
    url: UrlOption = None,
    data_dir: DataDirOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second, until Ctrl-C.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show items, attempts, what is held and why, budgets and addresses of a running service."""
    address = url or find_service(data_dir or DATA_DIR_DEFAULT).url
    answers = polled(address) if watch else iter([get_json_now(address, "/api/status")])
    if as_json:
        for answer in answers:
            print(json.dumps(answer, indent=None if watch else 2), flush=True)
    elif not watch:
        Console().print(status_view(next(answers), address))
    elif sys.stdout.isatty():
        with Live(console=Console(), screen=False, auto_refresh=False) as live:
            for answer in answers:
                live.update(status_view(answer, address), refresh=True)
    else:
        for answer in answers:
            print(status_line(answer), flush=True)


def polled(url: str, every_seconds: float = 1.0) -> Iterator[dict[str, Any]]:
    """The status, again and again."""
    while True:
        yield get_json_now(url, "/api/status")
        time.sleep(every_seconds)
