"""A comparison as a table for people, as JSON, and as a page with charts.

Decides how it reads. Charts are SVG by pygal, which belongs to the extra "demo"; without it a table is all there is.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from rich.table import Table

from dispatcher.errors import DispatcherError
from dispatcher.simulator.economy.comparing import Comparison, dollars
from dispatcher.simulator.economy.world import Outcome, usd

QUANTILES = (50, 95, 99)


def table(comparison: Comparison) -> Table:
    """One row for each that was compared."""
    shown = Table(title=comparison.name, title_justify="left")
    for column in (
        "policy",
        "cost",
        "nodes",
        "virtual node",
        "wait p50",
        "p95",
        "p99",
        "missed",
        "addresses",
        "nodes at most",
    ):
        shown.add_column(column, justify="left" if column == "policy" else "right", no_wrap=True)
    for each in comparison.outcomes:
        waits = [f"{each.wait(percent):.0f} s" for percent in QUANTILES]
        missed = f"{each.missed_percent:.2f} %" if each.with_objective else "-"
        costs = (dollars(each.cost), dollars(each.nodes_cost), dollars(each.virtual_cost))
        shown.add_row(each.decider, *costs, *waits, missed, str(each.addresses_most), str(each.nodes_most))
    return shown


def to_json(comparison: Comparison) -> dict[str, Any]:
    """All figures."""
    return {
        "scenario": comparison.name,
        "policies": [_row(each) for each in comparison.outcomes],
        "budget_percent": {name: round(percent, 2) for name, percent in comparison.budget_percent.items()},
        "guard": [each.sentence for each in comparison.advice],
        "advised": comparison.advised.value,
        "recommendation": comparison.recommendation,
    }


def _row(each: Outcome) -> dict[str, Any]:
    return {
        "policy": each.decider,
        "items": each.items,
        "cost_usd": round(usd(each.cost), 4),
        "nodes_usd": round(usd(each.nodes_cost), 4),
        "virtual_node_usd": round(usd(each.virtual_cost), 4),
        "wait_seconds": {f"p{percent}": round(each.wait(percent), 2) for percent in QUANTILES},
        "missed_percent": round(each.missed_percent, 3),
        "addresses_most": each.addresses_most,
        "nodes_most": each.nodes_most,
        "node_starts": each.node_starts,
        "virtual_items": each.virtual_items,
        "lost_pods": each.lost_pods,
        "not_run": each.not_run,
    }


def write_page(comparison: Comparison, folder: Path) -> Path:
    """Charts as SVG files and a page that shows them; where the page is. Raises DispatcherError without pygal."""
    try:
        import pygal  # type: ignore[import-untyped]
    except ImportError:
        raise DispatcherError("charts need pygal; install it with: pip install 'burst-dispatcher[demo]'") from None
    folder.mkdir(parents=True, exist_ok=True)
    names = [each.decider for each in comparison.outcomes]
    cost = pygal.StackedBar(title="Cost in dollars", x_label_rotation=30, disable_xml_declaration=True)
    cost.x_labels = names
    cost.add("nodes", [round(usd(each.nodes_cost), 2) for each in comparison.outcomes])
    cost.add("virtual node", [round(usd(each.virtual_cost), 2) for each in comparison.outcomes])
    waits = pygal.Bar(title="Wait in seconds", x_label_rotation=30, disable_xml_declaration=True)
    waits.x_labels = names
    for percent in QUANTILES:
        waits.add(f"p{percent}", [round(each.wait(percent), 1) for each in comparison.outcomes])
    missed = pygal.Bar(title="Missed objectives in percent", x_label_rotation=30, disable_xml_declaration=True)
    missed.x_labels = names
    missed.add("missed", [round(each.missed_percent, 2) for each in comparison.outcomes])
    addresses = pygal.Bar(title="Most addresses in use", x_label_rotation=30, disable_xml_declaration=True)
    addresses.x_labels = names
    addresses.add("addresses", [each.addresses_most for each in comparison.outcomes])
    parts = []
    for name, chart in (("cost", cost), ("waits", waits), ("missed", missed), ("addresses", addresses)):
        chart.render_to_file(str(folder / f"{name}.svg"))
        parts.append(f'<img src="{name}.svg" alt="{name}" width="700">')
    page = folder / "index.html"
    title = html.escape(comparison.name)
    page.write_text(
        f"<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1>"
        f"<p>{html.escape(comparison.recommendation)}</p>" + "\n".join(parts),
        encoding="utf-8",
    )
    return page
