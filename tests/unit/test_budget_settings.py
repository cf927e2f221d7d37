"""Budgets that cannot be meant as they are written are told at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_settings import A_TASK, a_folder, looked_at, the_only_mistake

VIRTUAL = {"virtual_node": {}}
ALL = {"name": "all", "limit_usd": 25}
ONLY_THERE = {**A_TASK, "placements": ["virtual_node"]}


def said(tmp_path: Path, *budgets: dict[str, Any]) -> list[str]:
    examined = looked_at(a_folder(tmp_path, {**VIRTUAL, "budgets": [ALL, *budgets]}))
    assert examined.mistakes == ()
    return [str(warning) for warning in examined.warnings if warning.path.endswith("limit_usd")]


def test_a_limit_below_the_worst_case_of_a_pod_that_may_run_nowhere_else_is_a_mistake(tmp_path: Path) -> None:
    config = {**VIRTUAL, "budgets": [{**ALL, "limit_usd": 0.0001}]}
    line = the_only_mistake(looked_at(a_folder(tmp_path, config, [ONLY_THERE])))
    assert "would be held for ever" in line
    assert "raise the limit or shorten the task's times" in line
    examined = looked_at(a_folder(tmp_path, config, [A_TASK]))
    assert examined.mistakes == ()
    assert "would never go to the virtual node" in "".join(map(str, examined.warnings))


@pytest.mark.parametrize(
    ("change", "same"),
    [({"limit_usd": 5}, False), ({"when_exhausted": "hold"}, False), ({}, True), ({"window": "week"}, True)],
)
def test_two_limits_on_the_same_money_contradict_each_other(tmp_path: Path, change: dict[str, Any], same: bool) -> None:
    examined = looked_at(a_folder(tmp_path, {**VIRTUAL, "budgets": [ALL, {**ALL, "name": "other", **change}]}))
    contradictions = [str(each) for each in examined.mistakes if "contradicts" in each.fault]
    assert bool(contradictions) is not same
    assert all("keep one of the two" in line for line in contradictions)


@pytest.mark.parametrize(
    "budget",
    [
        {"name": "hourly", "window": "hour", "limit_usd": 30},
        {"name": "of-acme", "scope": "tenant", "tenant": "default", "limit_usd": 26},
        {"name": "of-report", "scope": "task", "limit_usd": 26},
        {"name": "hours", "window": "hour", "limit_usd": 26, "business_hours": {"days": ["mon"]}},
    ],
)
def test_a_limit_that_another_always_stops_short_of_is_told(tmp_path: Path, budget: dict[str, Any]) -> None:
    (line,) = said(tmp_path, budget)
    assert "can never be spent: 'all' counts all of it and ends at 25 a day" in line


@pytest.mark.parametrize(
    "budget",
    [
        {"name": "hourly", "window": "hour", "limit_usd": 25},
        {"name": "weekly", "window": "week", "limit_usd": 100},
        {"name": "elsewhere", "window": "hour", "limit_usd": 30, "time_zone": "Europe/Berlin"},
        {"name": "each", "scope": "tenant", "limit_usd": 10},
    ],
)
def test_limits_that_can_each_be_reached_are_not_told(tmp_path: Path, budget: dict[str, Any]) -> None:
    assert said(tmp_path, budget) == []


def test_a_week_is_not_within_a_month_and_no_tenant_within_another(tmp_path: Path) -> None:
    budgets = (
        {"name": "month", "window": "month", "limit_usd": 700, "scope": "tenant", "tenant": "default"},
        {"name": "week", "window": "week", "limit_usd": 800, "scope": "tenant", "tenant": "default"},
        {"name": "task", "window": "week", "limit_usd": 900, "scope": "task"},
    )
    assert said(tmp_path, *budgets) == []


def test_hours_that_never_open_are_a_mistake(tmp_path: Path) -> None:
    hours = {"opens": "08:00", "closes": "08:00"}
    line = the_only_mistake(looked_at(a_folder(tmp_path, {"budgets": [{**ALL, "business_hours": hours}]})))
    assert "budgets[0].business_hours: opens and closes at 08:00, so that it never opens" in line


def test_a_time_zone_that_does_not_exist_is_a_mistake_with_the_nearest_one(tmp_path: Path) -> None:
    line = the_only_mistake(looked_at(a_folder(tmp_path, {"budgets": [{**ALL, "time_zone": "Europe/Berln"}]})))
    assert "there is no time zone 'Europe/Berln'; did you mean Europe/Berlin?" in line
