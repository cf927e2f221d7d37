"""How countries developed from 1964 to 2013, read straight from the file that the package bokeh-sampledata ships.

Gapminder's life expectancy, fertility and population, for 243 countries and territories. The package itself is
never imported (that would import pandas); its folder is found and its CSV is read, so that a pod starts fast.
"""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from pod import WorkError

FIRST_YEAR, LAST_YEAR = 1964, 2013

Series = dict[int, float]  # year -> value, in order of the years, without gaps


class Indicator(StrEnum):
    """What is known about a country in a year."""

    LIFE_EXPECTANCY = "life_expectancy"
    FERTILITY = "fertility"
    POPULATION = "population"


@dataclass(frozen=True)
class CountryYear:
    """One line of the data: a country in a year; None where nobody knows."""

    country: str
    year: int
    values: dict[Indicator, float | None]


@dataclass(frozen=True)
class World:
    """All of the data, and the region of every country."""

    rows: list[CountryYear]
    regions: dict[str, str]

    def series(self, country: str, indicator: Indicator) -> Series:
        """One country's values; empty where the indicator was never measured."""
        return {
            row.year: value
            for row in self.rows
            if row.country == country and (value := row.values[indicator]) is not None
        }

    def average(self, indicator: Indicator, region: str | None = None) -> Series:
        """The average per person of a region, or of the world: every country counts by its population."""
        weighted: defaultdict[int, float] = defaultdict(float)
        people: defaultdict[int, float] = defaultdict(float)
        for row in self.rows:
            value, population = row.values[indicator], row.values[Indicator.POPULATION]
            if value is None or population is None or region not in (None, self.regions[row.country]):
                continue
            weighted[row.year] += value * population
            people[row.year] += population
        return {year: weighted[year] / people[year] for year in sorted(people)}

    def rank(self, country: str, indicator: Indicator, year: int) -> tuple[int, int]:
        """The country's place from the top in a year, and how many countries were measured."""
        measured = {
            row.country: value for row in self.rows if row.year == year and (value := row.values[indicator]) is not None
        }
        return 1 + sum(value > measured[country] for value in measured.values()), len(measured)


def load_world() -> World:
    """Read the shipped files."""
    folder = shipped_folder("bokeh_sampledata", "_data")
    with (folder / "gapminder_regions.csv").open(encoding="utf-8", newline="") as lines:
        regions = {line["Country"]: line["Group"] for line in csv.DictReader(lines)}
    with gzip.open(folder / "gapminder.csv.gz", "rt", encoding="utf-8", newline="") as lines:
        return World(list(_rows(lines)), regions)


def shipped_folder(package: str, *parts: str) -> Path:
    """A folder inside an installed package, found without importing the package."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise WorkError(f"the package {package} is not installed: pip install --no-deps -r examples/requirements.txt")
    return Path(spec.submodule_search_locations[0], *parts)


def _rows(lines: Iterable[str]) -> Iterator[CountryYear]:
    columns = csv.reader(lines)
    header = next(columns)
    if header != ["country", "year", "fertility", "life_expectancy", "population"]:
        raise WorkError(f"the shipped gapminder data has other columns than this program knows: {header}")
    for country, year, fertility, life_expectancy, population in columns:
        yield CountryYear(
            country,
            int(year),
            {
                Indicator.FERTILITY: _number(fertility),
                Indicator.LIFE_EXPECTANCY: _number(life_expectancy),
                Indicator.POPULATION: _number(population),
            },
        )


def _number(text: str) -> float | None:
    return float(text) if text else None
