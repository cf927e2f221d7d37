"""``dispatcher explain``."""

from __future__ import annotations

import json
from typing import Annotated
from urllib.parse import urlencode

import typer
from rich.console import Console

from dispatcher.cli.app import app
from dispatcher.cli.shared import DATA_DIR_DEFAULT, DataDirOption, Exit, JsonOption, UrlOption, told
from dispatcher.explaining import Subject
from dispatcher.render import explanation_view
from dispatcher.running import ask, find_service


@app.command()
@told
def explain(
    name: Annotated[
        str,
        typer.Argument(help="An item by its message id or as QUEUE/NUMBER, a batch by its id or its Job, or a tenant."),
    ],
    kind: Annotated[Subject | None, typer.Option(help="Which of them it is, where the name could be several.")] = None,
    url: UrlOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say where an item, a batch or a tenant's work is, why there, why not elsewhere, and what would have to change."""
    query = {"name": name} | ({"kind": kind.value} if kind else {})
    answer = ask(url or find_service(data_dir or DATA_DIR_DEFAULT).url, "GET", f"/api/explain?{urlencode(query)}")
    if as_json:
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        Console().print(explanation_view(answer))
    if not answer.get("found"):
        raise typer.Exit(Exit.FAILED)
