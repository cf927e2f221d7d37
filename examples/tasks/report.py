"""The task `report`: how one country developed, as a page with charts that opens offline.

For people who try the demo, and as a pattern for workers of their own. This file decides what the page says:
it checks the params, picks the numbers and words the findings. How the page looks is in report_page.py.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from pod import Artifact, Item, WorkError, run_pod
from report_page import Figure, Page, render_page
from world_data import FIRST_YEAR, LAST_YEAR, Indicator, Series, World, load_world

NAMES = {
    Indicator.LIFE_EXPECTANCY: "Life expectancy",
    Indicator.FERTILITY: "Children per woman",
    Indicator.POPULATION: "Population",
}
SETBACK_YEARS_MIN = 1.0  # a loss of life expectancy smaller than this is not worth a sentence


def report(item: Item) -> Artifact:
    """The page for one item."""
    world = load_world()
    country, indicator, years = read_params(item.params, world)
    figures = [
        a_figure(world, country, each, years)
        for each in [indicator, *(other for other in Indicator if other != indicator)]
        if is_measured(world, country, each, years)
    ]
    region = world.regions[country]
    page = Page(item.id, country, region, years, figures, findings(country, region, figures))
    title = f"{country} {years[0]}-{years[1]}, {NAMES[indicator].lower()}"
    return Artifact(".html", render_page(page).encode(), title)


def read_params(params: dict[str, Any], world: World) -> tuple[str, Indicator, tuple[int, int]]:
    """What to report on; a country or a span of years that the data does not have is said in one line."""
    country, indicator = str(params["country"]), Indicator(params.get("indicator", Indicator.LIFE_EXPECTANCY))
    first, last = params.get("years", [FIRST_YEAR, LAST_YEAR])
    if country not in world.regions:
        close = get_close_matches(country, world.regions, n=1, cutoff=0.75)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise WorkError(f"the data has no country named {country!r}{hint}")
    if not FIRST_YEAR <= first < last <= LAST_YEAR:
        raise WorkError(f"years {first} to {last}: they must rise and lie within {FIRST_YEAR} to {LAST_YEAR}")
    if not is_measured(world, country, indicator, (first, last)):
        raise WorkError(f"the data has no {NAMES[indicator].lower()} of {country!r} from {first} to {last}")
    return country, indicator, (first, last)


def is_measured(world: World, country: str, indicator: Indicator, years: tuple[int, int]) -> bool:
    """Two years at least are known, so that there is a change to tell."""
    return len(within(world.series(country, indicator), years)) >= 2


def a_figure(world: World, country: str, indicator: Indicator, years: tuple[int, int]) -> Figure:
    """One indicator of the country, beside its region and the world where a comparison makes sense."""
    region, values = world.regions[country], within(world.series(country, indicator), years)
    comparisons = {}
    if indicator is not Indicator.POPULATION:  # an average population compares nothing
        comparisons = {
            f"{region}, average": within(world.average(indicator, region), years),
            "World, average": within(world.average(indicator), years),
        }
    return Figure(
        indicator=indicator,
        name=NAMES[indicator],
        country=country,
        values=values,
        comparisons=comparisons,
        rank=world.rank(country, indicator, max(values)),
    )


def within(series: Series, years: tuple[int, int]) -> Series:
    """The part of a series that lies in a span of years, both ends included."""
    return {year: value for year, value in series.items() if years[0] <= year <= years[1]}


def findings(country: str, region: str, figures: list[Figure]) -> list[str]:
    """What a reader should take home, one sentence a figure, the chosen figure first."""
    sentences = []
    for figure in figures:
        match figure.indicator:
            case Indicator.LIFE_EXPECTANCY:
                sentences += life_expectancy_findings(country, region, figure)
            case Indicator.FERTILITY:
                sentences.append(fertility_finding(country, figure))
            case Indicator.POPULATION:
                sentences.append(population_finding(country, figure))
    return sentences


def life_expectancy_findings(country: str, region: str, figure: Figure) -> list[str]:
    """How much longer people live, how that compares, and the worst setback on the way."""
    (first, start), (last, end) = figure.ends
    regional = figure.comparisons[f"{region}, average"][last]
    place = "above" if end >= regional else "below"
    sentences = [
        f"Life expectancy in {country} {verb(end - start, 'rose', 'fell')} by {abs(end - start):.1f} years, "
        f"from {start:.1f} in {first} to {end:.1f} in {last}: {abs(end - regional):.1f} years {place} "
        f"the average of its region, {region}."
    ]
    if setback := worst_setback(figure.values):
        (peak_year, peak), (low_year, low) = setback
        lost = peak - low
        sentences.append(f"Between {peak_year} and {low_year} it fell by {lost:.1f} years.")
    return sentences


def fertility_finding(country: str, figure: Figure) -> str:
    """How family size changed, and when it passed the level that keeps a population constant."""
    (first, start), (last, end) = figure.ends
    sentence = f"Women in {country} had {start:.1f} children each in {first} and {end:.1f} in {last}"
    passed = next((year for year, value in figure.values.items() if value < 2.1), None)
    if start >= 2.1 and passed:
        return f"{sentence}; {passed} was the first year below 2.1, the level that keeps a population constant."
    return sentence + "."


def population_finding(country: str, figure: Figure) -> str:
    """How many times the population grew, or how much of it is gone."""
    (first, start), (last, end) = figure.ends
    if end >= 2 * start:
        change = f"grew {end / start:.1f}-fold"
    elif round(100 * abs(end / start - 1), 1) < 0.1:
        change = "stayed the same"
    else:
        change = f"{verb(end - start, 'grew', 'shrank')} by {100 * abs(end / start - 1):.1f} %"
    return f"The population of {country} {change}, from {start:,.0f} in {first} to {end:,.0f} in {last}."


def worst_setback(series: Series) -> tuple[tuple[int, float], tuple[int, float]] | None:
    """The deepest fall from a peak, as (year, value) of peak and low; None when there was none worth a word."""
    worst = None
    peak_year, peak = next(iter(series.items()))
    for year, value in series.items():
        if value >= peak:
            peak_year, peak = year, value
        elif peak - value >= max(SETBACK_YEARS_MIN, worst[0][1] - worst[1][1] if worst else 0.0):
            worst = (peak_year, peak), (year, value)
    return worst


def verb(change: float, up: str, down: str) -> str:
    """The word for a change in one direction or the other."""
    return up if change >= 0 else down


if __name__ == "__main__":
    run_pod(report)
