"""Prices: what the book says, how an operator's own is laid over it, and what a pod costs an hour here and there."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from dispatcher.cli import app
from dispatcher.cli.prices import in_words, is_old
from dispatcher.core.pricing import Comparison, NodePrice, Rates, compared
from dispatcher.core.units import NO_MONEY, Money, Resources, cpu_millis, memory_bytes
from dispatcher.settings import load
from dispatcher.settings.price_book import BadPriceBook, price_book, shipped
from tests.unit.test_settings import A_QUEUE, A_TASK, a_folder, looked_at, the_only_mistake

D2 = NodePrice("D2s_v5", Money.from_usd("0.096"), Resources(1900, memory_bytes("7442Mi")))
ONE_CORE = Resources(1000, 2 * 10**9)


# --- what a pod costs -----------------------------------------------------------------------------------------------


def test_the_figures_of_the_description_are_what_is_reckoned_with_where_nothing_is_said(tmp_path: Path) -> None:
    policy = load(a_folder(tmp_path, {"virtual_node": {}}), local=True, environ={}).policy()
    assert policy.virtual_node is not None
    assert policy.virtual_node.rates == Rates()
    assert policy.node_pool.price == D2


def test_one_core_and_two_gigabytes_cost_what_the_description_says() -> None:
    comparison = compared(ONE_CORE, ONE_CORE, Rates(), D2)
    assert comparison.virtual_node == Money.from_usd("0.05256")
    # 1.9 cores hold one such pod, so that it pays for all of the node.
    assert comparison.node == Money.from_usd("0.096")
    assert comparison.break_even == Decimal("0.096") / Decimal("0.05256")


def test_a_full_node_is_cheaper_from_a_share_of_the_time_that_smaller_discounts_raise() -> None:
    pod = Resources(1900, 7 * 10**9)
    shares = []
    for percent in (100, 60, 40):
        node = NodePrice("D2s_v5", Money(D2.per_hour.picos * percent // 100), D2.allocatable)
        share = compared(pod, pod, Rates(), node).break_even
        assert share is not None
        shares.append(share)
    assert shares == sorted(shares, reverse=True)
    assert shares[1] == shares[0] * Decimal("0.6")


def test_a_pod_that_fits_on_no_node_has_no_price_there() -> None:
    comparison = compared(Resources(4000, 10**9), Resources(4000, 10**9), Rates(), D2)
    assert comparison.node is None
    assert comparison.break_even is None


def test_a_share_of_the_node_is_never_understated() -> None:
    node = NodePrice("x", Money(10), Resources(3000, 10**12))
    assert node.pod_hour(Resources(1000, 1)) == Money(4)


@pytest.mark.parametrize(
    ("node", "pods", "words"),
    [(Money(3), 4, "75% of the time"), (Money(5), 4, "never"), (None, 0, "does not fit"), (None, None, "-")],
)
def test_break_even_in_words(node: Money | None, pods: int | None, words: str) -> None:
    assert in_words(Comparison(Money(4), node), pods) == words


def test_where_groups_cost_nothing_there_is_nothing_to_compare() -> None:
    assert Comparison(NO_MONEY, Money(1)).break_even is None


# --- the book -------------------------------------------------------------------------------------------------------


def test_every_region_of_the_shipped_book_says_when_and_where_it_was_read_and_names_known_sizes() -> None:
    book = shipped()
    for name, region in book.regions.items():
        assert region.source, name
        assert region.virtual_node is not None, name
        assert set(region.nodes) <= set(book.sizes), name
        assert book.rates(name, "pay_as_you_go").per_cpu_second > NO_MONEY


def test_a_commitment_is_a_factor_on_the_list_price() -> None:
    listed, committed = (shipped().rates("default", plan) for plan in ("pay_as_you_go", "savings_plan_3y"))
    assert committed.per_cpu_second == Money.from_usd(listed.per_cpu_second.usd * Decimal("0.48"))
    spot = shipped().node("default", "D2s_v5", "spot")
    assert spot is not None
    assert spot.per_hour == Money.from_usd("0.0384")


def own_book(tmp_path: Path, **changes: Any) -> Path:
    content = {
        "format": 1,
        "regions": {"here": {"as_of": date(2026, 9, 1), "virtual_node": {"cpu_second_usd": 1, "gb_second_usd": 0.5}}},
        **changes,
    }
    path = tmp_path / "prices.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_book_of_ones_own_adds_to_the_shipped_one_and_replaces_what_it_names(tmp_path: Path) -> None:
    own = own_book(
        tmp_path,
        sizes={"D2s_v5": {"cpu": "1800m", "memory": "6Gi"}},
        plans={"virtual_node": {"contract": 81.5}},
    )
    book = price_book(own)
    assert book.rates("here", "contract").per_cpu_second == Money.from_usd("0.815")
    assert book.rates("eastus", "pay_as_you_go") == shipped().rates("eastus", "pay_as_you_go")
    node = book.node("eastus", "D2s_v5", "pay_as_you_go")
    assert node is not None
    assert node.allocatable == Resources(cpu_millis("1800m"), memory_bytes("6Gi"))


def test_it_is_looked_for_beside_the_configuration(tmp_path: Path) -> None:
    own_book(tmp_path)
    folder = a_folder(tmp_path, {"prices": {"file": "prices.yaml", "region": "here"}, "virtual_node": {}})
    virtual_node = load(folder, local=True, environ={}).policy().virtual_node
    assert virtual_node is not None
    assert virtual_node.rates == Rates(Money.from_usd(1), Money.from_usd("0.5"))


def test_prices_that_are_said_outright_count_whatever_the_region() -> None:
    pass_on = {"queues": [A_QUEUE], "tasks": [A_TASK]}
    from dispatcher.settings import Settings

    given = {"region": "eastus", "per_gb_second_usd": "0.000002", "node_hour_usd": "1"}
    settings = Settings(**pass_on, prices=given)
    assert settings.prices.rates() == Rates(Money.from_usd("0.00001125"), Money.from_usd("0.000002"))
    node = settings.prices.node()
    assert node is not None
    assert node.per_hour == Money.from_usd(1)


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"region": "eastsu"}, "prices: there is no region 'eastsu'; did you mean eastus?"),
        ({"node_plan": "reserved"}, "prices: there is no plan for nodes 'reserved'; known are pay_as_you_go"),
        ({"virtual_node_plan": "spot"}, "prices: there is no plan for the virtual node 'spot'; known are"),
        ({"node_size": "D2"}, "prices: there is no size of node 'D2'; known are"),
        ({"per_cpu_second_usd": 0}, "prices.per_cpu_second_usd: 0 must be more than 0"),
        ({"node_hour_usd": "free"}, "prices.node_hour_usd: expected an amount of dollars"),
        ({"file": "none.yaml"}, "prices: none.yaml is not in"),
    ],
)
def test_a_mistake_names_the_field_and_the_remedy(tmp_path: Path, given: dict[str, Any], sentence: str) -> None:
    examined = looked_at(a_folder(tmp_path, {"prices": given}))
    assert sentence in the_only_mistake(examined)
    assert examined.settings is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {
                "regions": {
                    "here": {"as_of": date(2026, 9, 1), "virtual_node": {"cpu_second_usd": 0, "gb_second_usd": 1}}
                }
            },
            "cpu_second_usd 0 must be more than 0",
        ),
        (
            {"regions": {"here": {"as_of": date(2026, 9, 1), "virtual_node": {"cpu_second_usd": 1}}}},
            "prices.yaml, line 5: regions.here.virtual_node.gb_second_usd is missing",
        ),
        ({"regions": {"here": {"virtual_node": None}}}, "regions.here.as_of is missing"),
        ({"plans": {"nodes": {"spot": 0}}}, "plans.nodes.spot 0 must be more than 0"),
        ({"sizes": {"X": {"cpu": 0, "memory": 1}}}, "a node without processor or memory holds no pod"),
        ({"format": 2}, "format"),
        ({"regoins": {}}, "regoins is not a setting; did you mean regions?"),
    ],
)
def test_a_mistake_in_a_book_of_ones_own_is_told_with_its_line(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(BadPriceBook) as raised:
        price_book(own_book(tmp_path, **changes))
    assert sentence in str(raised.value)


def test_a_region_without_a_price_of_groups_is_refused_with_both_ways_out(tmp_path: Path) -> None:
    own_book(tmp_path, regions={"here": {"as_of": date(2026, 9, 1)}})
    examined = looked_at(a_folder(tmp_path, {"prices": {"file": "prices.yaml", "region": "here"}}))
    line = the_only_mistake(examined)
    assert "there is no price of container groups in here" in line
    assert "per_cpu_second_usd and per_gb_second_usd" in line


def test_prices_of_more_than_a_year_ago_are_told_to_be_old() -> None:
    assert not is_old(date(2026, 1, 1), date(2027, 1, 1))
    assert is_old(date(2026, 1, 1), date(2027, 1, 2))


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_prints_what_each_task_costs_here_and_there(tmp_path: Path) -> None:
    folder = a_folder(tmp_path, {"virtual_node": {"profile": "virtual-node-v2"}})
    result = CliRunner().invoke(app, ["prices", "--config", str(folder), "--json", "--node-plan", "reservation_3y"])
    assert result.exit_code == 0, result.stderr
    content = json.loads(result.stdout)
    assert content["region"] == "default"
    assert content["as_of"] == "2026-10-15"
    own = content["pods"][0]
    # Half a core and 512 MiB; v2 adds a tenth of a core and of a GB to every group.
    group = Rates().per_cpu_second.usd * Decimal("0.6") + Rates().per_gb_second.usd * Decimal("0.7")
    assert Decimal(own["virtual_node_hour_usd"]) == group * 3600
    assert (own["node_size"], own["pods_per_node"]) == ("D2s_v5", 3)
    assert Decimal(own["pod_hour_on_node_usd"]) == Decimal("0.0128")
    assert own["break_even"] == "0.4384"


def test_the_table_says_the_same_for_people(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["prices", "--config", str(a_folder(tmp_path)), "--node-plan", "reservation_3y"])
    assert result.exit_code == 0
    assert "of the time" in result.stdout
    assert "rule of thumb says 50%" in " ".join(result.stdout.split())
    assert result.stderr == ""


def test_a_region_that_is_not_known_ends_the_command_with_2(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["prices", "--config", str(a_folder(tmp_path)), "--region", "mars"])
    assert result.exit_code == 2
    assert "there is no region 'mars'" in result.stderr
