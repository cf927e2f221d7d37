"""The demo on the real virtual node: its configuration, and what it is held against besides the demo's judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster_demo import Where, held_against_azure, scale_of

SUMMARY = {"placements": {"node_pool": {"items": 0}, "virtual_node": {"items": 2, "cost_usd": 0.002}}}
STATISTICS = {"peak": {"addresses": 2}, "limit": {"addresses": 27}, "refused": {}}


def a_bill(usd: str = "0.0015", **line: Any) -> dict[str, Any]:
    lines = [{"group": f"work-{number}", "metered": False, **line} for number in (1, 2)]
    return {"usd": usd, "groups": lines}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    return tmp_path


def test_every_address_rests_longer_than_azure_keeps_it() -> None:
    scale = scale_of(Where.VIRTUAL, 240, 1)
    assert int(scale.release_hold.removesuffix("s")) > 3 + 3  # until its group is gone, and until it comes back


def test_what_azure_saw_is_added_to_the_summary(output: Path) -> None:
    assert held_against_azure(a_bill(), STATISTICS, output) == []
    told = json.loads((output / "summary.json").read_text())["azure"]
    assert told == {"groups": 2, "billed_usd": 0.0015, "charged_usd": 0.002, "addresses_peak": 2, "refused": {}}


@pytest.mark.parametrize(
    ("bill", "statistics", "problem"),
    [
        (a_bill("0.0021"), STATISTICS, "$0.0021 were billed and only $0.002 charged"),
        (a_bill(), STATISTICS | {"refused": {"SubnetIsFull": 1}}, "Azure refused {'SubnetIsFull': 1}"),
        ({"usd": "0", "groups": []}, STATISTICS, "0 groups for 2 items"),
        (a_bill(metered=True), STATISTICS, "group work-1 runs on"),
    ],
)
def test_what_azure_saw_and_must_not_is_named(
    output: Path, bill: dict[str, Any], statistics: dict[str, Any], problem: str
) -> None:
    assert problem in held_against_azure(bill, statistics, output)


def test_an_item_that_ran_elsewhere_is_named(output: Path) -> None:
    elsewhere = {"placements": {**SUMMARY["placements"], "node_pool": {"items": 1}}}
    (output / "summary.json").write_text(json.dumps(elsewhere))
    assert "items ran on the nodes" in held_against_azure(a_bill(), STATISTICS, output)
