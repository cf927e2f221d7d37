"""How a report looks: one HTML page with inline SVG charts, no script and nothing to fetch.

The same page always comes out as the same bytes, so that a second run of an item changes nothing: the chart
library's random ids, its date comment and its script are replaced or taken out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape

import pygal  # type: ignore[import-untyped]
from pygal.style import Style  # type: ignore[import-untyped]
from world_data import Indicator, Series

COUNTRY, REGION, WORLD = "#c2410c", "#2f6690", "#98a2ad"
NOT_OUR_DOCUMENT = re.compile(r"<!--.*?-->|<script.*?</script>", re.DOTALL)
SOURCE = (
    'Data: <a href="https://www.gapminder.org/data/">Gapminder</a>, CC BY 2.0, '
    "as shipped in the package bokeh-sampledata; averages are weighted by population."
)


@dataclass(frozen=True)
class Figure:
    """One indicator over the years of the report."""

    indicator: Indicator
    name: str
    country: str
    values: Series
    comparisons: dict[str, Series]
    rank: tuple[int, int]

    @property
    def ends(self) -> tuple[tuple[int, float], tuple[int, float]]:
        """The first and the last year, with their values."""
        points = list(self.values.items())
        return points[0], points[-1]


@dataclass(frozen=True)
class Page:
    """Everything that a page says; `figures` has the chosen one first."""

    item_id: str
    country: str
    region: str
    years: tuple[int, int]
    figures: list[Figure]
    findings: list[str]


def render_page(page: Page) -> str:
    """The whole document."""
    first, last = page.years
    chosen, *others = page.figures
    lead, *more = page.findings
    side_by_side = "".join(chart_card(figure, width=560, height=300) for figure in others)
    return f"""<!DOCTYPE html>
<html lang="en" data-item="{escape(page.item_id)}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(page.country)}, {first} to {last}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header>
<p class="eyebrow">{escape(page.region)} &middot; {first}&ndash;{last}</p>
<h1>{escape(page.country)}</h1>
<p class="lead">{escape(lead)}</p>
<p class="more">{escape(" ".join(more))}</p>
</header>
<section class="tiles">{"".join(tile(figure) for figure in page.figures)}</section>
{chart_card(chosen, width=1140, height=400)}
{f'<section class="pair">{side_by_side}</section>' if others else ""}
<section class="card"><h2>In numbers</h2>{table(page.figures)}</section>
<footer><span>{SOURCE}</span><span>Work item <code>{escape(page.item_id)}</code></span></footer>
</main>
</body>
</html>
"""


def tile(figure: Figure) -> str:
    """A key figure: the latest value, the change since the first year, and the rank among all countries."""
    (first, start), (last, end) = figure.ends
    place, measured = figure.rank
    return (
        f'<div class="tile"><p class="name">{escape(figure.name)}, {last}</p>'
        f'<p class="value">{number(figure.indicator, end)}</p>'
        f'<p class="change"><b>{change(figure.indicator, start, end)}</b> since {first} &middot; '
        f"rank {place} of {measured}</p></div>"
    )


def chart_card(figure: Figure, width: int, height: int) -> str:
    """A chart with its title and the names of its lines."""
    lines = [(figure.country, COUNTRY), *zip(figure.comparisons, (REGION, WORLD), strict=False)]
    legend = "".join(f'<li><i style="background:{colour}"></i>{escape(name)}</li>' for name, colour in lines)
    return (
        f'<section class="card"><h2>{escape(figure.name)}</h2><ul class="legend">{legend}</ul>'
        f"{chart(figure, width, height)}</section>"
    )


def chart(figure: Figure, width: int, height: int) -> str:
    """The lines as inline SVG."""
    years = list(figure.values)
    line = pygal.Line(
        style=Style(
            background="transparent",
            plot_background="transparent",
            foreground="#5b6672",
            foreground_strong="#5b6672",
            foreground_subtle="#e3e7eb",
            guide_stroke_color="#e3e7eb",
            major_guide_stroke_color="#e3e7eb",
            guide_stroke_dasharray="none",
            major_guide_stroke_dasharray="none",
            opacity=".12" if not figure.comparisons else "1",
            stroke_width=2.6,
            stroke_opacity=1,
            font_family="inherit",
            label_font_size=13,
            major_label_font_size=13,
            colors=(COUNTRY, REGION, WORLD),
        ),
        width=width,
        height=height,
        margin=4,
        js=(),
        show_legend=False,
        show_dots=False,
        fill=not figure.comparisons,
        show_minor_x_labels=False,
        disable_xml_declaration=True,
        truncate_label=-1,
        min_scale=5,
        max_scale=8,
        value_formatter=lambda value: axis_number(figure.indicator, value),
        **({"range": (0, max(figure.values.values()) * 1.05)} if not figure.comparisons else {}),
    )
    line.uuid = figure.indicator.value.replace("_", "-")
    line.x_labels = [str(year) for year in years]
    line.x_labels_major = major_years(years)
    line.add(figure.country, list(figure.values.values()), stroke_style={"linecap": "round"})
    for name, series in figure.comparisons.items():
        line.add(name, [series.get(year) for year in years], stroke_style={"dasharray": "6, 5"})
    return NOT_OUR_DOCUMENT.sub("", line.render(is_unicode=True))


def table(figures: list[Figure]) -> str:
    """The years of the report in about six steps."""
    years = list(figures[0].values)
    shown = sorted({years[round(step * (len(years) - 1) / 5)] for step in range(6)})
    head = "".join(f"<th>{year}</th>" for year in shown)
    body = "".join(
        f"<tr><th>{escape(name)}</th>"
        + "".join(f"<td>{number(figure.indicator, series[year]) if year in series else '-'}</td>" for year in shown)
        + "</tr>"
        for figure in figures
        for name, series in [(figure.name, figure.values), *figure.comparisons.items()]
    )
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>"


def major_years(years: list[int]) -> list[str]:
    """The years worth a label: about every fifth of the span."""
    step = next(step for step in (1, 2, 5, 10) if step == 10 or len(years) / step <= 8)
    return [str(year) for year in years if year % step == 0]


def number(indicator: Indicator, value: float) -> str:
    """A value as a person would write it."""
    match indicator:
        case Indicator.LIFE_EXPECTANCY:
            return f"{value:.1f} years"
        case Indicator.FERTILITY:
            return f"{value:.2f}"
        case Indicator.POPULATION:
            return people(value)


def change(indicator: Indicator, start: float, end: float) -> str:
    """A change as a person would write it."""
    match indicator:
        case Indicator.LIFE_EXPECTANCY:
            return f"{end - start:+.1f} years"
        case Indicator.FERTILITY:
            return f"{end - start:+.2f}"
        case Indicator.POPULATION:
            return f"{100 * (end / start - 1):+.0f} %"


def axis_number(indicator: Indicator, value: float) -> str:
    """A value on an axis, where the title has named its unit."""
    return people(value).replace(".0 million", " million") if indicator is Indicator.POPULATION else f"{value:g}"


def people(value: float) -> str:
    """A number of people in millions, or written out below one million."""
    return f"{value / 1e6:,.1f} million" if value >= 1e6 else f"{value:,.0f}"


STYLE = """
:root{color-scheme:light}
*{box-sizing:border-box}
body{margin:0;background:#f4f1ec;color:#1d2733;font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue","DejaVu Sans",sans-serif}
main{max-width:1200px;margin:0 auto;padding:40px 24px 32px}
.eyebrow{margin:0;color:#c2410c;font-weight:600;letter-spacing:.04em}
h1{margin:.1em 0 .3em;font-size:48px;line-height:1.1;letter-spacing:-.02em}
h2{margin:0;font-size:18px}
.lead{margin:0;max-width:60em;font-size:20px}
.more{margin:.5em 0 0;max-width:60em;color:#5b6672}
.tiles,.pair{display:grid;gap:16px;margin:24px 0 16px;grid-template-columns:repeat(3,1fr)}
.pair{grid-template-columns:repeat(2,1fr);margin:16px 0}
.tile,.card{background:#fff;border:1px solid #e6e1d8;border-radius:10px;padding:18px 20px}
.tile p{margin:0}
.name,.change{color:#5b6672;font-size:14px}
.change b{color:#1d2733}
.value{font-size:32px;font-weight:650;letter-spacing:-.01em}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:4px 0 8px;padding:0;list-style:none;
color:#5b6672;font-size:14px}
.legend i{display:inline-block;width:18px;height:4px;border-radius:2px;margin-right:7px;vertical-align:middle}
.card+.card{margin-top:16px}
.pair .card+.card{margin-top:0}
.card svg .axis.x .line{stroke:none!important}
.card svg{display:block;width:100%;height:auto}
table{width:100%;margin-top:10px;border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:8px 10px;border-bottom:1px solid #eeeae3;text-align:right}
tbody th{text-align:left;font-weight:500}
thead th{color:#5b6672;font-size:14px}
tbody tr:last-child>*{border-bottom:0}
footer{display:flex;flex-wrap:wrap;justify-content:space-between;gap:8px 24px;margin-top:16px;
color:#7a8490;font-size:13px}
footer a{color:inherit}
@media (max-width:760px){.tiles,.pair{grid-template-columns:1fr}h1{font-size:36px}.card{overflow-x:auto}
.card svg{min-width:560px}}
"""


__all__ = ["Figure", "Page", "render_page"]
