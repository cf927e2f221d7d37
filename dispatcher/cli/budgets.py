"""``dispatcher budgets``: what is left, where it is going, who added what; and adding money by hand."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

from dispatcher.cli.app import app
from dispatcher.cli.shared import DATA_DIR_DEFAULT, DataDirOption, Exit, JsonOption, UrlOption, fail, say, told
from dispatcher.render import budgets_view, top_ups_view
from dispatcher.running import ask, find_service

budgets = typer.Typer(
    help="Look at budgets, where they are going and what was added to them; add money by hand.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(budgets, name="budgets")


@budgets.command("list")
@told
def list_(url: UrlOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Show every account: limit, spent, set aside, what runs now costs an hour, and the forecast for its window."""
    rows = _accounts(url, data_dir)
    _show(rows, budgets_view, as_json=as_json)


@budgets.command("top-ups")
@told
def top_ups(url: UrlOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Show what was added by hand: when, by whom, why. Older ones stand in the event log as budget.topped_up."""
    rows = _accounts(url, data_dir)
    found = [
        {"budget": row["budget"], "owner": row["owner"], **each} for row in rows for each in row.get("top_ups", [])
    ]
    _show(found, top_ups_view, as_json=as_json)


@budgets.command("top-up")
@told
def top_up(
    budget: Annotated[str, typer.Argument(help="The budget, by its name in the configuration.")],
    usd: Annotated[str, typer.Option("--usd", help="How many dollars to add.")],
    author: Annotated[str, typer.Option(help="Who adds them; it stands in the audit log.")] = "",
    reason: Annotated[str, typer.Option(help="What for; it stands in the audit log.")] = "",
    tenant: Annotated[str | None, typer.Option(help="Whose account, where each tenant has its own.")] = None,
    task: Annotated[str | None, typer.Option(help="Of which task, where each task has its own.")] = None,
    order_id: Annotated[
        str | None, typer.Option("--id", help="To ask again where no answer came: the same id adds once.")
    ] = None,
    url: UrlOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add money to a budget for the rest of its present window, with author and reason, through the ledger."""
    for option, value, example in (("--author", author, "your name"), ("--reason", reason, "what it is for")):
        if not value.strip():
            fail(f"{option} is missing: say {example}; it stands in the audit log", Exit.USAGE)
    order = {"id": order_id or secrets.token_hex(8), "budget": budget, "usd": usd, "author": author, "reason": reason}
    order |= {key: value for key, value in (("tenant", tenant), ("task", task)) if value is not None}
    say(f"order {order['id']}")  # first of all: without an answer it is asked again under this id
    answer = ask(url or find_service(data_dir or DATA_DIR_DEFAULT).url, "POST", "/api/budgets/top-ups", order)
    if as_json:
        print(json.dumps(answer, indent=2, ensure_ascii=False))
        return
    again = f" ({answer['text']})" if answer.get("text") else ""
    print(
        f"{budget}: ${answer['amount_usd']} added{again}; the limit is ${answer['limit_usd']} until {answer['until']}"
    )


def _accounts(url: str | None, data_dir: Path | None) -> list[dict[str, Any]]:
    return list(ask(url or find_service(data_dir or DATA_DIR_DEFAULT).url, "GET", "/api/budgets")["budgets"])


def _show(rows: list[dict[str, Any]], view: Callable[[list[dict[str, Any]]], RenderableType], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        Console().print(view(rows))
