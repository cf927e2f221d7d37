"""``dispatcher plan``: what the backlog would do, under the present or another configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from dispatcher.cli.app import app
from dispatcher.cli.shared import DATA_DIR_DEFAULT, DataDirOption, JsonOption, UrlOption, told
from dispatcher.errors import BadConfiguration
from dispatcher.render import plan_view
from dispatcher.running import ask, find_service
from dispatcher.settings.loading import DISPATCHER_FILE, TASKS_FILE


@app.command()
@told
def plan(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="DIR", help="Under the configuration in this folder; default: the one in force."
        ),
    ] = None,
    url: UrlOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what the present backlog would do now, what it may cost and how long it takes; nothing is launched."""
    body: dict[str, Any] = {}
    if config is not None:
        body = {name: _text(config / name) for name in (DISPATCHER_FILE, TASKS_FILE)}
    answer = ask(url or find_service(data_dir or DATA_DIR_DEFAULT).url, "POST", "/api/plan", body)
    if as_json:
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        Console().print(plan_view(answer))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BadConfiguration(
            [f"{path}: cannot be read ({why}); name the folder that holds it with --config"]
        ) from None
