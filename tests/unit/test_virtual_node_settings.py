"""What check-config says of the virtual node: the pods of every task before the judge, its size, a day's worst case."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from dispatcher.core.profiles import VIRTUAL_NODE_V1
from dispatcher.core.units import Resources
from dispatcher.settings import Examination, examine
from dispatcher.settings.sizing import worst_day

TASK: dict[str, Any] = {
    "name": "report",
    "image": "registry.example/report:1",
    "command": ["python", "worker.py"],
    "resources": {"cpu": "1", "memory": "2G"},
}
BUS = {"service_bus": {"namespace": "orders.servicebus.windows.net"}}
DAILY = {"budgets": [{"name": "daily", "limit_usd": 25}]}


def looked_at(folder: Path, dispatcher: dict[str, Any], *tasks: dict[str, Any], local: bool = False) -> Examination:
    names = [task["name"] for task in tasks]
    content = {"queues": [{"name": "work", "tasks": names}], "virtual_node": {}, **BUS, **DAILY, **dispatcher}
    (folder / "dispatcher.yaml").write_text(yaml.safe_dump(content))
    (folder / "tasks.yaml").write_text(yaml.safe_dump({"tasks": list(tasks)}))
    return examine(folder, local=local, environ={})


def test_a_task_that_fits_has_nothing_said_about_it(tmp_path: Path) -> None:
    examined = looked_at(tmp_path, {}, TASK)
    assert (examined.mistakes, examined.warnings) == ((), ())


@pytest.mark.parametrize(
    ("change", "path", "rule"),
    [
        ({"image": "contoso.azurecr.io/report:1"}, "tasks[0].image", "private-image"),
        ({"image": "registry.example/report:1-arm64"}, "tasks[0].image", "arch-not-amd64"),
        ({"env": {"_PRIVATE": "x"}}, "tasks[0].env._PRIVATE", "env-name"),
        ({"labels": {"azure.workload.identity/use": "true"}}, "tasks[0].labels.azure.workload.identity/use",
         "workload-identity"),
    ],
)  # fmt: skip
def test_what_the_virtual_node_cannot_run_is_refused_at_the_tasks_own_field(
    tmp_path: Path, change: dict[str, Any], path: str, rule: str
) -> None:
    (mistake,) = looked_at(tmp_path, {}, {**TASK, **change}).mistakes
    assert mistake.path == path
    assert f"rule {rule})" in mistake.fault
    assert mistake.remedy
    assert mistake.place.startswith("tasks.yaml, line ")


@pytest.mark.parametrize(
    ("change", "path", "rule"),
    [
        ({"env": {"EMPTY": ""}}, "tasks[0].env.EMPTY", "env-empty"),
        ({"env": {"ORDERS": "http://orders.shop.svc.cluster.local"}}, "tasks[0].env.ORDERS", "cluster-dns"),
        ({"env_from": [{"secretRef": {"name": "database"}}]}, "tasks[0].env_from[0]", "env-secret"),
        ({"labels": {"sidecar.istio.io/inject": "true"}}, "tasks[0].labels.sidecar.istio.io/inject", "service-mesh"),
    ],
)
def test_what_works_otherwise_there_is_warned_of(tmp_path: Path, change: dict[str, Any], path: str, rule: str) -> None:
    examined = looked_at(tmp_path, {}, {**TASK, **change})
    assert examined.mistakes == ()
    (warning,) = examined.warnings
    assert (warning.path, f"rule {rule})" in warning.fault) == (path, True)


def test_all_mistakes_of_all_tasks_come_at_once(tmp_path: Path) -> None:
    other = {**TASK, "name": "other", "image": "contoso.azurecr.io/other:1", "env": {"_A": "1"}}
    examined = looked_at(tmp_path, {}, {**TASK, "image": "contoso.azurecr.io/report:1"}, other)
    assert {mistake.path for mistake in examined.mistakes} == {"tasks[0].image", "tasks[1].image", "tasks[1].env._A"}
    assert examined.settings is None


def test_a_task_that_stays_on_nodes_is_not_judged(tmp_path: Path) -> None:
    task = {**TASK, "image": "contoso.azurecr.io/report:1", "placements": ["node_pool"]}
    assert looked_at(tmp_path, {}, task).mistakes == ()


def test_in_local_mode_where_pods_are_processes_it_is_a_warning(tmp_path: Path) -> None:
    task = {**TASK, "command": ["python", "-c", "pass"], "image": "contoso.azurecr.io/report:1"}
    examined = looked_at(tmp_path, {"service_bus": {}}, task, local=True)
    assert examined.mistakes == ()
    assert [warning.path for warning in examined.warnings] == ["tasks[0].image"]


# --- profiles -------------------------------------------------------------------------------------------------------


def test_the_profile_is_the_add_ons_where_none_is_named(tmp_path: Path) -> None:
    settings = looked_at(tmp_path, {}, TASK).settings
    assert settings is not None
    policy = settings.policy().virtual_node
    assert policy is not None
    assert policy.profile == VIRTUAL_NODE_V1


def test_the_second_generation_allows_more_and_costs_more(tmp_path: Path) -> None:
    task = {**TASK, "labels": {"azure.workload.identity/use": "true"}}
    settings = looked_at(tmp_path, {"virtual_node": {"profile": "virtual-node-v2"}}, task).settings
    assert settings is not None
    policy = settings.policy().virtual_node
    assert policy is not None
    assert policy.of_group(Resources(1000, 2 * 10**9)) == Resources(1100, 21 * 10**8)


def test_an_operators_own_profile_is_looked_for_beside_the_configuration(tmp_path: Path) -> None:
    mine = {"format": 1, "name": "mine", "extends": "virtual-node-v1", "rules": {"private-image": "off"}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    task = {**TASK, "image": "contoso.azurecr.io/report:1"}
    assert looked_at(tmp_path, {"virtual_node": {"profile": "mine.yaml"}}, task).mistakes == ()
    mine["rules"]["private-imaeg"] = "off"
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    mistakes = looked_at(tmp_path, {"virtual_node": {"profile": "mine.yaml"}}, task).mistakes
    assert [
        "did you mean private-image?" in each.fault for each in mistakes if each.path == "virtual_node.profile"
    ] == [True]


def test_a_profile_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    examined = looked_at(tmp_path, {"virtual_node": {"profile": "v1"}}, TASK)
    assert [mistake.path for mistake in examined.mistakes] == ["virtual_node.profile"]
    assert "known are virtual-node-v1, virtual-node-v2, nodes" in str(examined.mistakes[0])
    (missing,) = looked_at(tmp_path, {"virtual_node": {"profile": "none.yaml"}}, TASK).mistakes
    assert "cannot be read" in missing.fault


# --- size and money -------------------------------------------------------------------------------------------------


def test_a_burst_larger_than_the_subnet_is_told_with_both_numbers_and_the_subnet_it_needs(tmp_path: Path) -> None:
    node = {"subnet": "10.240.0.0/24", "groups_max": 1000, "cores_max": 1000, "address_headroom": 20}
    (warning,) = looked_at(tmp_path, {"virtual_node": node}, {**TASK, "parallelism_max": 300}).warnings
    assert warning.path == "tasks[0].parallelism_max"
    assert "10.240.0.0/24 gives 251 addresses; report may need 300 and 20 of headroom" in warning.fault
    assert "delegate a /23 or larger" in warning.remedy


def test_a_burst_larger_than_the_quotas_is_told(tmp_path: Path) -> None:
    (warning,) = looked_at(tmp_path, {"virtual_node": {"cores_max": 10}}, TASK).warnings
    assert "50 pods of report at once are more than Azure's quotas give: 100 groups, 10 cores" in warning.fault


def test_a_days_worst_case_is_reckoned_and_set_against_the_budgets(tmp_path: Path) -> None:
    budgets = [
        {"name": "hourly", "window": "hour", "limit_usd": 2},
        {"name": "monthly", "window": "month", "limit_usd": 90},
    ]
    settings = looked_at(tmp_path, {"budgets": budgets}, {**TASK, "parallelism_max": 10}).settings
    assert settings is not None
    day = worst_day(settings)
    assert day is not None
    # 1 vCPU and 2 GB cost 0.0000146 a second, and 10 of them may run at once
    assert day.total.usd == Decimal("0.0000146") * 86_400 * 10
    assert (day.allowed and day.allowed.usd, day.budget) == (Decimal(48), "hourly")
    assert "would cost $12.61 a day (report $12.61); the budget hourly lets $48.00 be spent" in day.sentence


def test_all_tasks_together_cost_no_more_than_the_quota_of_groups_lets_run(tmp_path: Path) -> None:
    node = {"groups_max": 12, "cores_max": 100}
    tasks = [{**TASK, "parallelism_max": 10}, {**TASK, "name": "small", "parallelism_max": 10,
              "resources": {"cpu": "500m", "memory": "1G"}}]  # fmt: skip
    settings = looked_at(tmp_path, {"virtual_node": node, "budgets": []}, *tasks).settings
    assert settings is not None
    day = worst_day(settings)
    assert day is not None
    assert day.total.usd == Decimal("0.0000146") * 86_400 * 10 + Decimal("0.0000073") * 86_400 * 2
    assert day.allowed is None
    assert day.sentence.endswith("no budget bounds it")


def test_where_nothing_spills_no_day_costs_anything(tmp_path: Path) -> None:
    settings = looked_at(tmp_path, {"virtual_node": {"enabled": False}}, TASK).settings
    assert settings is not None
    assert worst_day(settings) is None
