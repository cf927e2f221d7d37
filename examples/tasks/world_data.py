"""How countries developed from 1964 to 2013, read straight from the file that the package bokeh-sampledata ships.

Gapminder's life expectancy, fertility and population, for 243 countries and territories. The package itself is
never imported (that would import pandas); its folder is found and its CSV is read, so that a pod starts fast.
"""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from pod import WorkError

FIRST_YEAR, LAST_YEAR = 1964, 2013
COLUMNS = ["country", "year", "fertility", "life_expectancy", "population"]

Series = dict[int, float]  # year -> value, in order of the years, only those that are known


class Indicator(StrEnum):
    """What is known about a country in a year."""

    LIFE_EXPECTANCY = "life_expectancy"
    FERTILITY = "fertility"
    POPULATION = "population"


@dataclass(frozen=True)
class World:
    """All of the data by country, and the region of every country."""

    countries: dict[str, dict[Indicator, Series]]
    regions: dict[str, str]

    def series(self, country: str, indicator: Indicator) -> Series:
        """One country's values; empty where the indicator was never measured."""
        return self.countries.get(country, {}).get(indicator, {})

    def average(self, indicator: Indicator, region: str | None = None) -> Series:
        """The average per person of a region, or of the world: every country counts by its population."""
        weighted: defaultdict[int, float] = defaultdict(float)
        people: defaultdict[int, float] = defaultdict(float)
        for country, measured in self.countries.items():
            if region not in (None, self.regions[country]):
                continue
            populations = measured[Indicator.POPULATION]
            for year in measured[indicator].keys() & populations.keys():
                weighted[year] += measured[indicator][year] * populations[year]
                people[year] += populations[year]
        return {year: weighted[year] / people[year] for year in sorted(people)}

    def rank(self, country: str, indicator: Indicator, year: int) -> tuple[int, int]:
        """The country's place from the top in a year, and how many countries were measured."""
        measured = [values[indicator][year] for values in self.countries.values() if year in values[indicator]]
        own = self.series(country, indicator)[year]
        return 1 + sum(value > own for value in measured), len(measured)


def load_world() -> World:
    """Read the shipped files."""
    folder = shipped_folder("bokeh_sampledata", "_data")
    with (folder / "gapminder_regions.csv").open(encoding="utf-8", newline="") as lines:
        regions = {line["Country"]: line["Group"] for line in csv.DictReader(lines)}
    with gzip.open(folder / "gapminder.csv.gz", "rt", encoding="utf-8", newline="") as lines:
        return World(_by_country(lines), regions)


def shipped_folder(package: str, *parts: str) -> Path:
    """A folder inside an installed package, found without importing the package."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise WorkError(f"the package {package} is not installed: pip install --no-deps -r examples/requirements.txt")
    return Path(spec.submodule_search_locations[0], *parts)


def _by_country(lines: Iterable[str]) -> dict[str, dict[Indicator, Series]]:
    rows = csv.reader(lines)
    header = next(rows)
    if header != COLUMNS:
        raise WorkError(f"the shipped gapminder data has other columns than this program knows: {header}")
    countries: dict[str, dict[Indicator, Series]] = {}
    for country, year, *values in rows:
        measured = countries.setdefault(country, {indicator: {} for indicator in Indicator})
        for indicator, value in zip(COLUMNS[2:], values, strict=True):
            if value:
                measured[Indicator(indicator)][int(year)] = float(value)
    return countries
