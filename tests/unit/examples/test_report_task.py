"""The task `report` says what the data says."""

import re
from typing import Any

import pytest
import report
import report_page
from pod import Item, WorkError
from world_data import Indicator, World, load_world


@pytest.fixture(scope="module")
def world() -> World:
    return load_world()


def a_report(**params: Any) -> str:
    return report.report(Item("item-7", 1, "report", {"country": "Rwanda", **params})).content.decode()


def test_a_report_leads_with_the_chosen_indicator() -> None:
    headings = re.findall(r"<h2>(.*?)</h2>", a_report(indicator="fertility"))
    assert headings == ["Children per woman", "Life expectancy", "Population", "In numbers"]


def test_a_report_opens_offline() -> None:
    page = a_report()
    assert page.count("<svg") == 3
    assert "<script" not in page
    assert re.findall(r"(?:src|url\(|@import|<link)", page) == []


def test_a_report_names_its_item_and_its_source() -> None:
    page = a_report()
    assert 'data-item="item-7"' in page
    assert "Gapminder</a>, CC BY 2.0" in page


def test_findings_tell_the_setback_on_the_way() -> None:
    page = a_report(years=[1970, 2013])
    assert "Life expectancy in Rwanda rose by 19.7 years, from 44.4 in 1970 to 64.1 in 2013" in page
    assert "Between 1990 and 1994 it fell by 42.5 years." in page


def test_a_loss_too_small_for_a_word_is_no_setback() -> None:
    assert report.worst_setback({2000: 50.0, 2001: 49.5, 2002: 51.0}) is None


def test_the_deepest_setback_is_told_and_not_the_first() -> None:
    series = {2000: 50.0, 2001: 48.0, 2002: 55.0, 2003: 52.0, 2004: 51.0, 2005: 56.0}
    assert report.worst_setback(series) == ((2002, 55.0), (2004, 51.0))


def test_a_country_without_comparison_still_gets_its_population() -> None:
    assert "The population of Andorra grew" in a_report(country="Andorra", indicator="population")


@pytest.mark.parametrize(
    ("params", "line"),
    [
        ({"country": "Atlantis"}, "the data has no country named 'Atlantis'"),
        ({"country": "Keny"}, "the data has no country named 'Keny'; did you mean 'Kenya'?"),
        ({"country": "Kenya", "years": [2000, 1990]}, "years 2000 to 1990: they must rise and lie within 1964 to 2013"),
        ({"country": "Kenya", "years": [1950, 1990]}, "years 1950 to 1990: they must rise and lie within 1964 to 2013"),
        ({"country": "Andorra"}, "the data has no life expectancy of 'Andorra' from 1964 to 2013"),
    ],
)
def test_what_cannot_be_reported_is_said_in_one_line(world: World, params: dict[str, Any], line: str) -> None:
    with pytest.raises(WorkError) as error:
        report.read_params(params, world)
    assert str(error.value) == line


def test_an_average_weighs_countries_by_their_people(world: World) -> None:
    india = world.series("India", Indicator.LIFE_EXPECTANCY)[2013]
    south_asia = world.average(Indicator.LIFE_EXPECTANCY, "South Asia")[2013]
    assert abs(south_asia - india) < 0.5  # four in five people of the region live there


def test_the_most_populous_country_ranks_first(world: World) -> None:
    assert world.rank("China", Indicator.POPULATION, 2013)[0] == 1


def test_a_country_with_gaps_can_be_reported_on_by_what_is_known_of_it(world: World) -> None:
    years = (1964, 2013)
    partly = [c for c in world.regions if any(0 < len(world.series(c, indicator)) < 50 for indicator in Indicator)]
    assert len(partly) > 10
    for country in partly:
        known = [indicator for indicator in Indicator if report.is_measured(world, country, indicator, years)]
        figures = [report.a_figure(world, country, indicator, years) for indicator in known]
        page = report_page.Page("item-7", country, world.regions[country], years, figures, ["A finding."])
        if figures:
            assert report.findings(country, world.regions[country], figures), country
            assert report_page.render_page(page).count("<svg") == len(figures), country
