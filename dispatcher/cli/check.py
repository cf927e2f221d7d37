"""``dispatcher check-config``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from dispatcher.cli.app import app
from dispatcher.cli.shared import ConfigDir, Exit, JsonOption, counted, say, told
from dispatcher.settings import examine


@app.command("check-config")
@told
def check_config(
    config: ConfigDir = Path("config"),
    local: Annotated[bool, typer.Option("--local", help="Check what local mode needs too, such as programs.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Tell every mistake in the configuration at once: where it is, what is wrong, and the remedy."""
    examined = examine(config, local=local)
    if as_json:
        content = {
            "ok": examined.settings is not None,
            "mistakes": [mistake.to_json() for mistake in examined.mistakes],
            "warnings": [warning.to_json() for warning in examined.warnings],
        }
        print(json.dumps(content, indent=2))
    else:
        for mistake in examined.mistakes:
            print(mistake)
        for warning in examined.warnings:
            print(f"warning: {warning}")
    if examined.settings is None:
        say(f"{counted(len(examined.mistakes), 'mistake')} in {config}")
        raise typer.Exit(Exit.USAGE)
    if not as_json:
        tasks, queues = len(examined.settings.tasks), len(examined.settings.queues)
        say(f"{config} is fine: {counted(queues, 'queue')}, {counted(tasks, 'task')}")
