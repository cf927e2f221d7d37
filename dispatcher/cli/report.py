"""``dispatcher report``: what whose work has cost, where budgets are going, and what it would have cost elsewhere."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from dispatcher.cli.app import app
from dispatcher.cli.shared import (
    DATA_DIR_DEFAULT,
    ConfigDir,
    DataDirOption,
    Exit,
    JsonOption,
    UrlOption,
    fail,
    say,
    told,
)
from dispatcher.core.showback import (
    By,
    Elsewhere,
    Row,
    Showback,
    elsewhere,
    elsewhere_json,
    elsewhere_of,
    row_json,
    row_of,
    summed,
    together,
    within,
)
from dispatcher.core.units import NO_MONEY
from dispatcher.errors import DispatcherError
from dispatcher.render import report_view
from dispatcher.running import ask, find_service
from dispatcher.settings import load
from dispatcher.telemetry.events import read_events

DayOption = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])]
_Priced = tuple[Row, Elsewhere]


@app.command()
@told
def report(
    by: Annotated[
        list[By] | None,
        typer.Option(help="What rows are told apart by; may be repeated. Default: tenant, task, placement."),
    ] = None,
    since: DayOption = None,
    until: DayOption = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant.")] = None,
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    events: Annotated[
        list[Path] | None, typer.Option(help="Read event logs instead of asking a service. May be repeated.")
    ] = None,
    config: ConfigDir = Path("config"),
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the rows as CSV.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with charts to this file.")] = None,
    url: UrlOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what work has cost by tenant, task, placement and day, where budgets go, and its cost elsewhere."""
    days: tuple[date | None, date | None] = (since.date() if since else None, until.date() if until else None)
    if days[0] and days[1] and days[0] > days[1]:
        fail(f"--since {days[0]} is after --until {days[1]}; exchange them", Exit.USAGE)
    if events:
        policy = load(config, local=True).policy()
        found: list[_Priced] = [(row, elsewhere([row], policy)) for row in _of_files(events)]
        budgets: list[Any] = []
    else:
        answer = ask(url or find_service(data_dir or DATA_DIR_DEFAULT).url, "GET", "/api/report")
        found = [(row_of(each), elsewhere_of(each)) for each in answer["rows"]]
        budgets = answer["budgets"]
    wanted = set(within([row for row, _ in found], *days))
    priced = [(row, price) for row, price in found if row in wanted and _is_of(row, tenant, task)]
    chosen = [row for row, _ in priced]
    prices = together(price for _, price in priced)
    columns = by or [By.TENANT, By.TASK, By.PLACEMENT]
    total = sum((sums.cost for _, sums in chosen), start=NO_MONEY)
    seen = sorted({key.day for key, _ in chosen})
    content: dict[str, Any] = {
        "since": seen[0] if seen else None,
        "until": seen[-1] if seen else None,
        "cost_usd": str(total),
        **elsewhere_json(prices),
        "rows": [row_json(row) for row in summed(chosen, columns)],
        "budgets": budgets,
    }
    if html is not None:
        _write_page(html, content, chosen)
    if as_json:
        print(json.dumps(content, indent=2, ensure_ascii=False))
    elif as_csv:
        _print_csv(content["rows"], columns)
    elif html is None:
        Console().print(report_view(content, [each.value for each in columns]))


def _of_files(paths: Sequence[Path]) -> list[Row]:
    """Every closed attempt of event logs. Raises DispatcherError."""
    showback = Showback()
    for path in paths:
        try:
            for event, at, facts in read_events(path):
                showback(event, at, facts)
        except OSError as error:
            raise DispatcherError(
                f"{path} cannot be read: {error.strerror}; name an event log (events.jsonl)"
            ) from error
    return showback.rows()


def _is_of(row: Row, tenant: str | None, task: str | None) -> bool:
    key, _ = row
    return key.tenant == (tenant or key.tenant) and key.task == (task or key.task)


def _print_csv(rows: Sequence[dict[str, Any]], columns: Sequence[By]) -> None:
    names = [each.value for each in By if each in columns]
    figures = ["attempts", "items", "pods", "pod_seconds", "cost_usd", "set_aside_usd"]
    writer = csv.DictWriter(sys.stdout, [*names, *figures], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _write_page(path: Path, content: dict[str, Any], rows: Sequence[Row]) -> None:
    try:
        from dispatcher.report_page import report_page
    except ImportError:
        fail('the page needs charts: pip install "burst-dispatcher[report]"', Exit.FAILED)
    page = {
        **content,
        "rows": [row_json(row) for row in summed(rows, (By.TENANT, By.TASK, By.PLACEMENT))],
        "days": [row_json(row) for row in summed(rows, (By.DAY, By.TENANT))],
    }
    try:
        path.write_text(report_page(page), encoding="utf-8")
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}; name a file in a folder that is there", Exit.FAILED)
    say(f"written to {path}")
