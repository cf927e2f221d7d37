"""The report as one HTML page: tables, and charts as inline SVG; no script, nothing to fetch.

Decides how it looks. Knows nothing of where the figures come from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pygal  # type: ignore[import-untyped]
from pygal.style import Style  # type: ignore[import-untyped]

_COLOURS = ("#2f6690", "#c2410c", "#4d7c0f", "#7c3aed", "#98a2ad", "#b45309", "#0f766e", "#be185d")
_NOT_OUR_DOCUMENT = re.compile(r"<\?xml.*?\?>|<!--.*?-->|<script.*?</script>", re.DOTALL)
_SERIES_MAX = 8
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1f2933}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .8rem .2rem 0;text-align:left}"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}h2{margin-top:2rem}svg{max-width:100%;height:auto}"
)


def report_page(report: Mapping[str, Any]) -> str:
    """The page of a report, as ``dispatcher report --json`` prints it."""
    parts = [
        f"<h1>What it has cost</h1><p>{escape(str(report['since']))} to {escape(str(report['until']))}, days of "
        "UTC.</p>",
        _totals(report),
        "<h2>By day</h2>",
        _chart(report["days"], "day", "tenant"),
        "<h2>By tenant and task</h2>",
        _chart(report["rows"], "tenant", "task"),
        _table(report["rows"]),
        "<h2>Budgets</h2>",
        _budgets(report.get("budgets") or []),
    ]
    head = f"<meta charset='utf-8'><title>What it has cost</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _totals(report: Mapping[str, Any]) -> str:
    lines = [("It has cost", report["cost_usd"]), ("All on the virtual node it would have", report["all_virtual_usd"])]
    lines.append(("All on nodes, packed full, it would have", report["all_nodes_usd"]))
    cells = "".join(f"<tr><td>{escape(name)}</td><td class='n'>{_dollars(usd)}</td></tr>" for name, usd in lines)
    note = "Work on nodes that run anyway counts as $0 in the first line. Idle nodes come on top of the last."
    return f"<table>{cells}</table><p>{note}</p>"


def _chart(rows: Sequence[Mapping[str, Any]], across: str, by: str) -> str:
    """Bars along one column, stacked by another; the smallest of many are one."""
    labels = sorted({str(row.get(across, "")) for row in rows})
    names = sorted({str(row.get(by, "")) for row in rows}, key=lambda name: -_cost(rows, by, name))
    if not labels:
        return "<p>Nothing was closed in that time.</p>"
    chart = pygal.StackedBar(
        style=Style(background="transparent", plot_background="transparent", colors=_COLOURS, font_family="sans-serif"),
        width=900, height=320, legend_at_bottom=True, x_label_rotation=30, value_formatter=lambda usd: f"${usd:,.4f}",
        js=(), no_data_text="", disable_xml_declaration=True,
    )  # fmt: skip
    chart.x_labels = labels
    shown = names if len(names) <= _SERIES_MAX else names[: _SERIES_MAX - 1]
    for name in shown:
        chart.add(escape(name) or "-", [_cost(rows, by, name, across, label) for label in labels])
    if len(shown) < len(names):
        others = names[len(shown) :]
        chart.add("others", [sum(_cost(rows, by, name, across, label) for name in others) for label in labels])
    return _NOT_OUR_DOCUMENT.sub("", chart.render(is_unicode=True))


def _cost(rows: Sequence[Mapping[str, Any]], by: str, name: str, across: str = "", label: str = "") -> float:
    chosen = (row for row in rows if str(row.get(by, "")) == name and (not across or str(row.get(across, "")) == label))
    return sum(float(row["cost_usd"]) for row in chosen)


_COLUMNS = {
    "tenant": "tenant", "task": "task", "placement": "place", "items": "items", "pods": "pods", "hours": "pod hours",
    "cost_usd": "cost", "set_aside_usd": "set aside",
}  # fmt: skip
_OF_BUDGETS = {
    "budget": "budget", "owner": "of", "until": "until", "limit_usd": "limit", "spent_usd": "spent",
    "forecast_usd": "forecast",
}  # fmt: skip
_WORDS = ("tenant", "task", "placement", "budget", "owner", "until")


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    return _cells(_COLUMNS, [{**row, "hours": f"{row['pod_seconds'] / 3600:.2f}"} for row in rows])


def _budgets(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "<p>There is none, or they were not asked for: the report was made from files.</p>"
    current = [row for row in rows if row.get("current", True)]
    return _cells(_OF_BUDGETS, [{**row, "until": str((row.get("window") or ["", ""])[1])[:16]} for row in current])


def _cells(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> str:
    head = "".join(f"<th{_numeric(key)}>{name}</th>" for key, name in columns.items())
    body = "".join(f"<tr>{''.join(_cell(key, row.get(key)) for key in columns)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(key: str, value: Any) -> str:
    text = _dollars(value) if key.endswith("_usd") else str(value).replace("_", " ")
    return f"<td{_numeric(key)}>{escape(text)}</td>"


def _numeric(key: str) -> str:
    return "" if key in _WORDS else " class='n'"


def _dollars(value: Any) -> str:
    return "-" if value is None else f"${float(value):,.4f}"
