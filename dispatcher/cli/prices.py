"""``dispatcher prices``: what a pod costs an hour here and there, and from which use on a node is the cheaper place."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from dispatcher.cli.app import app
from dispatcher.cli.shared import ConfigDir, JsonOption, say, told
from dispatcher.core.pricing import Comparison, NodePrice, compared
from dispatcher.settings import Settings, load
from dispatcher.settings.models import VirtualNodeSettings
from dispatcher.settings.price_book import RegionPrices

OLD_AFTER = timedelta(days=365)
"""Azure changes its prices about once a year: an older reading is told to be old."""
RULE_OF_THUMB = Decimal("0.5")
"""What is often said: what runs more than half of the time belongs on nodes. Shown beside what the prices say."""


@dataclass(frozen=True, slots=True)
class Row:
    """One task beside one size of node."""

    task: str
    node: NodePrice | None
    pods_per_node: int
    comparison: Comparison


@app.command()
@told
def prices(
    config: ConfigDir = Path("config"),
    region: Annotated[str | None, typer.Option(help="As if prices.region said this.")] = None,
    plan: Annotated[str | None, typer.Option(help="As if prices.virtual_node_plan said this.")] = None,
    node_plan: Annotated[str | None, typer.Option(help="As if prices.node_plan said this.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what one pod of each task costs an hour on the virtual node and on nodes, and the break-even utilisation."""
    said = {"region": region, "virtual_node_plan": plan, "node_plan": node_plan}
    overrides = {"prices": {key: value for key, value in said.items() if value is not None}}
    settings = load(config, local=True, overrides=overrides)
    rows = list(_rows(settings))
    of_region = settings.prices.book.region(settings.prices.region)
    if as_json:
        print(json.dumps(_plain(settings, of_region, rows), indent=2))
        return
    Console().print(_view(settings, of_region, rows))
    if is_old(of_region.as_of, datetime.now(UTC).date()):
        say(f"warning: these prices were read on {of_region.as_of}; put newer ones into prices.file")


def is_old(as_of: date, today: date) -> bool:
    """Whether prices that were read on that day should be read anew."""
    return today - as_of > OLD_AFTER


def _rows(settings: Settings) -> list[Row]:
    """Every task beside the configured node, and beside all sizes that the book has a price for in the region."""
    given, rates = settings.prices, settings.prices.rates()
    book = given.book
    own = given.node()
    others = (book.node(given.region, size, given.node_plan) for size in book.sizes if size != given.node_size)
    priced = [node for node in (own, *others) if node is not None]
    nodes: list[NodePrice | None] = [*priced] or [None]
    place = (settings.virtual_node or VirtualNodeSettings()).policy_of_place()
    found: list[Row] = []
    for task in settings.tasks:
        requests = task.resources.resources()
        for node in nodes:
            fits = node.pods(requests) if node is not None else 0
            comparison = compared(requests, place.of_group(requests), rates, node)
            found.append(Row(task.name, node, fits, comparison))
    return found


def _plain(settings: Settings, region: RegionPrices, rows: list[Row]) -> dict[str, Any]:
    rates = settings.prices.rates()
    return {
        "region": settings.prices.region,
        "as_of": region.as_of.isoformat(),
        "source": region.source,
        "virtual_node_plan": settings.prices.virtual_node_plan,
        "node_plan": settings.prices.node_plan,
        "per_cpu_second_usd": str(rates.per_cpu_second),
        "per_gb_second_usd": str(rates.per_gb_second),
        "regions": {name: each.as_of.isoformat() for name, each in sorted(settings.prices.book.regions.items())},
        "rule_of_thumb": str(RULE_OF_THUMB),
        "pods": [
            {
                "task": row.task,
                "virtual_node_hour_usd": str(row.comparison.virtual_node),
                "node_size": row.node.size if row.node else None,
                "node_hour_usd": str(row.node.per_hour) if row.node else None,
                "pods_per_node": row.pods_per_node,
                "pod_hour_on_node_usd": str(row.comparison.node) if row.comparison.node is not None else None,
                "break_even": _rounded(row.comparison.break_even),
            }
            for row in rows
        ],
    }


def _rounded(share: Decimal | None) -> str | None:
    return None if share is None else str(share.quantize(Decimal("0.0001"), rounding=ROUND_HALF_UP))


def _view(settings: Settings, region: RegionPrices, rows: list[Row]) -> RenderableType:
    given, rates = settings.prices, settings.prices.rates()
    head = [
        Text(f"region {given.region}, read on {region.as_of} ({region.source or 'no source named'})"),
        Text(
            f"a container group: ${rates.per_cpu_second} a vCPU and ${rates.per_gb_second} a GB for one second "
            f"({given.virtual_node_plan}); nodes: {given.node_plan}"
        ),
    ]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("task", "virtual node/h", "node", "node/h", "pods on it", "pod on node/h", "node is cheaper from"):
        table.add_column(name, justify="left" if name in ("task", "node") else "right")
    for row in rows:
        node, on_node = row.node, row.comparison.node
        table.add_row(
            row.task,
            _dollars(row.comparison.virtual_node.usd),
            node.size if node else "no price",
            _dollars(node.per_hour.usd) if node else "-",
            str(row.pods_per_node) if node else "-",
            _dollars(on_node.usd) if on_node is not None else "-",
            in_words(row.comparison, row.pods_per_node if node else None),
        )
    foot = Text(
        "A node costs the same busy or idle. The last column: a full node that is kept for this work is cheaper if it "
        f"is used for more than that share of the time. The usual rule of thumb says {RULE_OF_THUMB:.0%}."
    )
    return Group(*head, table, foot)


def in_words(comparison: Comparison, pods_per_node: int | None) -> str:
    """From which use on a node is the cheaper place."""
    share = comparison.break_even
    if pods_per_node == 0:
        return "does not fit"
    if share is None:
        return "-"
    return "never" if share > 1 else f"{share:.0%} of the time"


def _dollars(usd: Decimal) -> str:
    return f"${usd.quantize(Decimal('0.0001'), rounding=ROUND_HALF_UP)}"
