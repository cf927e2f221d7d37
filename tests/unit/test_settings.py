"""The configuration: what it becomes, who wins over whom, and that every mistake comes in one answer."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from dispatcher.core.budgets import Scope
from dispatcher.core.jobs import ReportsTo
from dispatcher.core.policy import Policy
from dispatcher.core.units import Money, Resources
from dispatcher.core.windows import WindowKind
from dispatcher.core.work import Placement
from dispatcher.errors import BadConfiguration
from dispatcher.settings import Examination, Settings, examine, load
from dispatcher.settings.values import duration_text, parse_duration

CHECKOUT = Path(__file__).resolve().parents[2]
DELIVERED = CHECKOUT / "config"

A_TASK: dict[str, Any] = {
    "name": "report",
    "image": "report:1",
    "command": ["python", "-c", "pass"],
    "resources": {"cpu": "500m", "memory": "512Mi"},
}
A_QUEUE: dict[str, Any] = {"name": "work", "tasks": ["report"]}


def a_folder(tmp_path: Path, dispatcher: dict[str, Any] | None = None, tasks: list[Any] | None = None) -> Path:
    (tmp_path / "dispatcher.yaml").write_text(yaml.safe_dump({"queues": [A_QUEUE], **(dispatcher or {})}))
    (tmp_path / "tasks.yaml").write_text(yaml.safe_dump({"tasks": [A_TASK] if tasks is None else tasks}))
    return tmp_path


def looked_at(folder: Path, *, local: bool = True, **environ: str) -> Examination:
    return examine(folder, local=local, environ=environ)


def paths(examined: Examination) -> list[str]:
    return [mistake.path for mistake in examined.mistakes]


def the_only_mistake(examined: Examination) -> str:
    assert len(examined.mistakes) == 1, "\n".join(map(str, examined.mistakes))
    return str(examined.mistakes[0])


# --- what a right configuration becomes -----------------------------------------------------------------------------


def test_the_delivered_configuration_is_right_and_says_the_defaults_of_the_core() -> None:
    examined = looked_at(DELIVERED)
    assert examined.mistakes == ()
    assert examined.warnings == ()
    assert examined.settings is not None
    policy, plain = examined.settings.policy(), Policy(tasks={})
    policy = replace(policy, node_pool=replace(policy.node_pool, price=None))  # the core knows no price of a node
    same = (
        *("node_pool", "circuit", "lookahead_max", "platform_retries_max", "retry_delay_min", "retry_delay_max"),
        *("lock_hold_max", "sweep_every", "lock_duration", "manifest_bytes_max", "launches_per_cycle_max"),
    )
    assert {name: getattr(policy, name) for name in same} == {name: getattr(plain, name) for name in same}


def test_every_setting_stands_in_the_delivered_files_under_a_sentence() -> None:
    mentioned = (DELIVERED / "dispatcher.yaml").read_text() + (DELIVERED / "tasks.yaml").read_text()
    for model in _models(Settings):
        for name, info in model.model_fields.items():
            assert f"{info.alias or name}:" in mentioned or model.__name__ in ("EnvFromSettings", "NamedObject"), name
    for file in ("dispatcher.yaml", "tasks.yaml"):
        lines = (DELIVERED / file).read_text().split("params_schema:")[0].splitlines()
        for number, line in enumerate(lines):
            text = line.strip().removeprefix("- ")
            a_value = ":" in text and not text.startswith("#") and not text.endswith(":")
            if a_value and not text.startswith("BURST_"):
                assert lines[number - 1].strip().removeprefix("- ").startswith("#"), f"{file}, line {number + 1}"


def _models(model: Any) -> list[Any]:
    from pydantic import BaseModel

    from dispatcher.settings.mistakes import _parts

    found = [model]
    for info in model.model_fields.values():
        for part in _parts(info.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                found += _models(part)
    return found


def test_the_schemas_of_the_demo_tasks_are_those_of_the_examples() -> None:
    schemas = json.loads((CHECKOUT / "examples/tasks/schemas.json").read_text())
    tasks = load(DELIVERED, local=True, environ={}).policy().tasks
    assert {name: task.params_schema for name, task in tasks.items()} == schemas


def test_sections_become_the_frozen_values_of_the_core(tmp_path: Path) -> None:
    folder = a_folder(
        tmp_path,
        {
            "node_pool": {"keep_back": {"cpu": "250m", "memory": "1Gi"}, "pods_max": 7},
            "virtual_node": {"subnet": "10.0.0.0/26", "address_headroom": 4, "release_hold": "PT2M", "tail": "1m30s"},
            "prices": {"per_cpu_second_usd": 0.00001125},
            "budgets": [
                {"name": "month", "limit_usd": "$12.50", "window": "month", "time_zone": "Europe/Berlin"},
                {"name": "acme", "limit_usd": 0.1, "scope": "tenant", "tenant": "default"},
            ],
            "tenant_weights": {"default": 3},
        },
        [
            {
                **A_TASK,
                "item_timeout": "5m",
                "placements": ["virtual_node"],
                "env_from": [{"secretRef": {"name": "mail"}}],
            }
        ],
    )
    policy = load(folder, local=True, environ={}).policy()
    assert policy.node_pool.keep_back == Resources(250, 2**30)
    assert policy.node_pool.pods_max == 7
    assert policy.virtual_node is not None
    assert policy.virtual_node.addresses_max == 64 - 5 - 4
    assert policy.virtual_node.release_hold == timedelta(minutes=2)
    assert policy.virtual_node.tail == timedelta(seconds=90)
    assert policy.virtual_node.rates.per_cpu_second == Money.from_usd("0.00001125")
    month, acme = policy.budgets
    assert (month.limit, month.window, month.zone.key) == (Money.from_usd("12.5"), WindowKind.MONTH, "Europe/Berlin")
    assert (acme.limit, acme.scope, acme.tenant) == (Money.from_usd(Decimal("0.1")), Scope.TENANT, "default")
    task = policy.tasks["report"]
    assert task.item_timeout == timedelta(minutes=5)
    assert task.placements == (Placement.VIRTUAL_NODE,)
    assert task.env_from == ({"secretRef": {"name": "mail", "optional": False}},)
    assert policy.tenant_weights == {"default": 3}


def test_several_subnets_give_the_sum_of_their_addresses(tmp_path: Path) -> None:
    folder = a_folder(tmp_path, {"virtual_node": {"subnet": ["10.0.0.0/26", "10.0.1.0/27"], "address_headroom": 1}})
    virtual_node = load(folder, local=True, environ={}).policy().virtual_node
    assert virtual_node is not None
    assert virtual_node.addresses_max == 59 + 27 - 1


def test_without_a_virtual_node_nothing_can_spill(tmp_path: Path) -> None:
    assert load(a_folder(tmp_path), local=True, environ={}).policy().virtual_node is None
    disabled = a_folder(tmp_path, {"virtual_node": {"enabled": False}})
    assert load(disabled, local=True, environ={}).policy().virtual_node is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("1h30m", 5400), ("250ms", 0.25), ("1.5h", 5400), ("PT5M", 300), ("1d", 86400), (0, 0)],
)
def test_durations_are_read_in_both_notations(text: Any, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)
    assert parse_duration(duration_text(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "30", 30, "-5s", "5 minutes", "PT", "P-1D", "9999d", True, None, [], "5m3"])
def test_what_is_no_duration_is_refused_with_an_example(text: Any) -> None:
    with pytest.raises(ValueError, match=r"; write |; .*for example"):
        parse_duration(text)


# --- who wins -------------------------------------------------------------------------------------------------------


def test_the_environment_wins_over_secrets_and_secrets_over_the_file(tmp_path: Path) -> None:
    folder = a_folder(tmp_path, {"timing": {"sweep_every": "1m", "lock_hold_max": "1s", "stop_timeout": "1s"}})
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    (mounted / "..data").mkdir()
    (mounted / "TIMING__LOCK_HOLD_MAX").write_text("2s\n")
    (mounted / "burst_timing__stop_timeout").write_text("2s\n")
    environ = {"BURST_TIMING__STOP_TIMEOUT": "3s", "BURST_SECRETS_DIR": str(mounted)}
    timing = load(folder, local=True, environ=environ).timing
    assert timing.sweep_every == timedelta(minutes=1)
    assert timing.lock_hold_max == timedelta(seconds=2)
    assert timing.stop_timeout == timedelta(seconds=3)


def test_the_command_line_wins_over_all(tmp_path: Path) -> None:
    settings = load(
        a_folder(tmp_path), local=True, environ={"BURST_LOCAL__WEB_PORT": "1"}, overrides={"local": {"web_port": 2}}
    )
    assert settings.local.web_port == 2


def test_lists_in_the_environment_are_yaml_or_json(tmp_path: Path) -> None:
    environ = {
        "BURST_BUDGETS": '[{"name": "tiny", "limit_usd": 0.5}]',
        "BURST_VIRTUAL_NODE__SUBNET": "10.1.0.0/28",
        "BURST_TENANT_WEIGHTS": "{default: 4}",
    }
    settings = load(a_folder(tmp_path), local=True, environ=environ)
    assert settings.budgets[0].limit_usd == Decimal("0.5")
    assert settings.virtual_node is not None
    assert settings.virtual_node.addresses == 11
    assert settings.tenant_weights == {"default": 4}


def test_the_connection_string_comes_from_a_file_and_shows_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("Endpoint=sb://x/;SharedAccessKeyName=a;SharedAccessKey=geheim\n")
    settings = load(a_folder(tmp_path, {"service_bus": {"connection_string_file": "secret"}}), local=False, environ={})
    assert settings.service_bus.connection_string is not None
    assert settings.service_bus.connection_string.get_secret_value().endswith("geheim")
    assert "geheim" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_a_connection_string_in_the_file_is_a_mistake_outside_of_local_mode(tmp_path: Path) -> None:
    secret = "Endpoint=sb://orders.example/;SharedAccessKeyName=listen;SharedAccessKey=geheim"
    folder = a_folder(tmp_path, {"service_bus": {"connection_string": secret}})
    line = the_only_mistake(looked_at(folder, local=False))
    assert line.startswith("service_bus.connection_string: is a secret")
    assert "geheim" not in line
    assert looked_at(folder, local=True).mistakes == ()
    from_environment = {"BURST_SERVICE_BUS__CONNECTION_STRING": secret}
    assert looked_at(folder, local=False, **from_environment).mistakes == ()


# --- mistakes -------------------------------------------------------------------------------------------------------

WRONG_DISPATCHER = """\
service:
  log_levl: info
queues:
  - name: work
    tasks: [reprot, thumbnail]
  - name: Work
    tasks: [thumbnail]
virtual_node:
  subnet: [10.240.0.0/24, 10.240.0.128/25]
  release_hold: 5 minutes
budgets:
  - name: daily
    window: dayly
    limit_usd: 5
  - name: daily
    time_zone: Europe/Berln
    limit_usd: -3
circuit:
  failures: 5
circuit:
  failures: many
"""
WRONG_TASKS = """\
tasks:
  - name: report
    image: x
    command: [no-such-program-anywhere]
    resources: {cpu: 505m, memory: 64Gi}
    params_schema: {type: objekt}
    item_timeout: 30
    env: {PASSWORD: 424242}
  - name: thumbnail
    image: x
    command: [sh]
    resources: {cpu: 1, memory: 1 GB}
    backof_limit: 2
"""


def test_files_with_nineteen_mistakes_give_nineteen_lines_with_path_fault_remedy_and_line(tmp_path: Path) -> None:
    (tmp_path / "dispatcher.yaml").write_text(WRONG_DISPATCHER)
    (tmp_path / "tasks.yaml").write_text(WRONG_TASKS)
    with pytest.raises(BadConfiguration) as caught:
        load(tmp_path, local=True, environ={})
    lines = caught.value.mistakes
    beginnings = [
        "service.log_levl: is not a setting; did you mean log_level? (dispatcher.yaml, line 2)",
        "queues[0].tasks[0]: there is no task 'reprot'; did you mean report? (dispatcher.yaml, line 5)",
        "queues[1].name: 'Work' is the name of queues[0] too; give each its own name (dispatcher.yaml, line 6)",
        "virtual_node.subnet[1]: 10.240.0.128/25 overlaps 10.240.0.0/24; ",
        "virtual_node.release_hold: '5 minutes' is not a duration; write for example 30s",
        "budgets[0].window: 'dayly' is not one of hour, day, week, month; did you mean day?",
        "budgets[1].name: 'daily' is the name of budgets[0] too; ",
        "budgets[1].time_zone: there is no time zone 'Europe/Berln'; did you mean Europe/Berlin?",
        "budgets[1].limit_usd: -3 must be at least 0; write for example 25.00",
        "circuit: stands twice, first on line 18; take one of them out",
        "circuit.failures: expected a whole number, found 'many'; ",
        "tasks[0].command: there is no program 'no-such-program-anywhere' on this machine",
        "tasks[0].resources.cpu: 505m is not a multiple of 10m, as the virtual node needs it; write 510m",
        "tasks[0].resources.memory: 68.7195G is more than the 16G of the largest container group; ",
        "tasks[0].params_schema: is not a valid JSON Schema at type: 'objekt' is not valid",
        "tasks[0].item_timeout: 30 has no unit; write 30s for seconds",
        "tasks[0].env.PASSWORD: expected text, found something else; put it in quotes",
        "tasks[1].resources.memory: '1 GB' is not a Kubernetes quantity; write for example 512Mi",
        "tasks[1].backof_limit: is not a setting; did you mean backoff_limit? (tasks.yaml, line 13)",
    ]
    for line, beginning in zip(lines, beginnings, strict=True):
        assert line.startswith(beginning), line
        assert "\n" not in line
    assert "424242" not in "\n".join(lines)


def test_yaml_that_cannot_be_read_is_told_with_its_line_and_the_other_file_is_checked_all_the_same(
    tmp_path: Path,
) -> None:
    (tmp_path / "dispatcher.yaml").write_text("queues:\n  - name: work\n   tasks: [a]\n")
    (tmp_path / "tasks.yaml").write_text("tasks:\n  - name: Report!\n")
    examined = looked_at(tmp_path)
    assert examined.mistakes[0].path == "dispatcher.yaml"
    assert "not valid YAML, line 3" in examined.mistakes[0].fault
    assert {path.partition("[")[0] for path in paths(examined)[1:]} == {"tasks"}
    assert examined.settings is None


@pytest.mark.parametrize(
    ("content", "fault"),
    [(b"- a\n", "holds a list"), (b"\xff\xfe", "is not UTF-8"), (b"a: !!python/name:os.system\n", "is not valid YAML")],
)
def test_files_that_are_no_settings_are_told_in_a_line(tmp_path: Path, content: bytes, fault: str) -> None:
    a_folder(tmp_path)
    (tmp_path / "dispatcher.yaml").write_bytes(content)
    assert any(mistake.path == "dispatcher.yaml" and fault in mistake.fault for mistake in looked_at(tmp_path).mistakes)


def test_a_folder_without_files_is_told_once_for_each_file(tmp_path: Path) -> None:
    assert paths(looked_at(tmp_path / "nowhere")) == ["dispatcher.yaml", "tasks.yaml"]


def test_an_empty_file_lacks_what_is_needed(tmp_path: Path) -> None:
    (tmp_path / "dispatcher.yaml").write_text("")
    (tmp_path / "tasks.yaml").write_text("")
    assert paths(looked_at(tmp_path)) == ["queues", "tasks"]


def test_sections_in_the_wrong_file_are_told_where_they_belong(tmp_path: Path) -> None:
    a_folder(tmp_path)
    (tmp_path / "tasks.yaml").write_text(yaml.safe_dump({"tasks": [A_TASK], "budgets": [], "taskz": 1}))
    lines = [str(mistake) for mistake in looked_at(tmp_path).mistakes]
    assert any(line.startswith("budgets: is no key of tasks.yaml; move it to dispatcher.yaml") for line in lines)
    assert any(line.startswith("taskz: is no key of tasks.yaml; did you mean tasks?") for line in lines)


@pytest.mark.parametrize(
    ("changed", "beginning"),
    [
        ({"name": "Report_1"}, "tasks[0].name: 'Report_1' is not a name that Kubernetes takes"),
        ({"name": "r" * 64}, "tasks[0].name: "),
        ({"namespace": "n" * 32, "placements": ["virtual_node", "node_pool"]}, "tasks[0].namespace: "),
        ({"env": {"BURST_BATCH": "1"}}, "tasks[0].env: BURST_BATCH is set by the dispatcher itself"),
        ({"env": {"1A": "1"}}, "tasks[0].env: '1A' is not a name for a variable"),
        ({"labels": {"burst-dispatcher.io/job": "x"}}, "tasks[0].labels: label 'burst-dispatcher.io/job' is set by"),
        ({"labels": {"team": "a b"}}, "tasks[0].labels: the value of label 'team'"),
        ({"command": []}, "tasks[0].command: must not be empty"),
        ({"command": "python x.py"}, "tasks[0].command: expected a list, found 'python x.py'"),
        ({"resources": {"cpu": 0, "memory": "1Gi"}}, "tasks[0].resources.cpu: 0 must be more than 0"),
        ({"resources": {"cpu": "0.005", "memory": "1Gi"}}, "tasks[0].resources.cpu: 5m is not a multiple of 10m"),
        ({"resources": {"cpu": "5", "memory": "1Gi"}}, "tasks[0].resources.cpu: 5000m is more than the 4000m"),
        ({"placements": ["virtual_nod"]}, "tasks[0].placements[0]: 'virtual_nod' is not one of"),
        ({"env_from": [{}]}, "tasks[0].env_from[0]: needs exactly one source"),
        ({"item_timeout": "0s"}, "tasks[0].item_timeout: must be longer than nothing"),
        ({"params_schema": {"properties": 3}}, "tasks[0].params_schema: is not a valid JSON Schema at properties"),
        ({"event_types": ["a b"]}, "tasks[0].event_types: 'a b' is no type of an event; write printable characters"),
        ({"env": {"TRACEPARENT": "x"}}, "tasks[0].env: TRACEPARENT is set by the dispatcher itself"),
        (
            {"result_ref": "s/{name}"},
            "tasks[0].result_ref: {name} is nothing that is filled in; known are {id}, {task}",
        ),
        ({"result_ref": "a\nb"}, "tasks[0].result_ref: must be one line of 1 to 1024 characters"),
    ],
)
def test_a_task_that_cannot_work_is_told(tmp_path: Path, changed: dict[str, Any], beginning: str) -> None:
    folder = a_folder(tmp_path, {"virtual_node": {}, "queues": [{**A_QUEUE, "tasks": [changed.get("name", "report")]}]},
                      [{**A_TASK, **changed}])  # fmt: skip
    lines = [str(mistake) for mistake in looked_at(folder).mistakes]
    assert any(line.startswith(beginning) for line in lines), lines


def test_an_event_type_of_two_tasks_is_told(tmp_path: Path) -> None:
    queue = {**A_QUEUE, "tasks": ["one", "two"]}
    tasks = [{**A_TASK, "name": "one", "event_types": ["x"]}, {**A_TASK, "name": "two", "event_types": ["x", "one"]}]
    lines = [
        str(mistake).partition(";")[0] for mistake in looked_at(a_folder(tmp_path, {"queues": [queue]}, tasks)).mistakes
    ]
    assert lines == [
        "tasks[1].event_types[0]: 'x' is work for the task 'one' already",
        "tasks[1].event_types[1]: 'one' is work for the task 'one' already",
    ]


@pytest.mark.parametrize(
    ("changed", "beginning"),
    [
        ({"virtual_node": {"subnet": "10.0.0.1/24"}}, "virtual_node.subnet: 10.0.0.1/24 has host bits set; write 10."),
        ({"virtual_node": {"subnet": "10.0.0.0/30"}}, "virtual_node.subnet: 10.0.0.0/30 has no usable address"),
        ({"virtual_node": {"subnet": 24}}, "virtual_node.subnet: 24 is not a subnet; write a CIDR"),
        (
            {"queues": [{**A_QUEUE, "tenants": ["a b"]}]},
            "queues[0].tenants[0]: 'a b' is no tenant that a message can name",
        ),
        ({"virtual_node": {"subnet": "fd00::/64"}}, "virtual_node.subnet: fd00::/64 is IPv6"),
        ({"virtual_node": {"address_headroom": 251}}, "virtual_node.address_headroom: 251 leaves nothing of the 251"),
        (
            {"budgets": [{"name": "a", "limit_usd": "1", "tenant": "x"}]},
            "budgets[0]: names a tenant but counts everything",
        ),
        ({"budgets": [{"name": "a", "limit_usd": "nan"}]}, "budgets[0].limit_usd: "),
        ({"budgets": [{"name": "a"}]}, "budgets[0].limit_usd: is missing; write for example 25.00"),
        ({"retry": {"delay_min": "2m", "delay_max": "1m"}}, "retry: delay_min is longer than delay_max"),
        ({"circuit": {"cool_down_min": "2h"}}, "circuit: cool_down_min is longer than cool_down_max"),
        (
            {"timing": {"lock_hold_max": "31s"}},
            "timing.lock_hold_max: 31s is more than half of the lock duration of 1m",
        ),
        ({"service_bus": {"lock_duration": "6m"}}, "service_bus.lock_duration: 6m must be at most 5 minutes"),
        ({"local": {"web_port": 70000}}, "local.web_port: 70000 must be at most 65535"),
        ({"local": {"working_dir": "nowhere"}}, "local.working_dir: "),
        ({"queues": []}, "queues: must not be empty"),
        ({"queues": [{**A_QUEUE, "reply_to": ["a b"]}]}, "queues[0].reply_to[0]: 'a b' "),
        (
            {"queues": [{**A_QUEUE, "reply_to": ["Work"]}]},
            "queues[0].reply_to[0]: 'Work' is a queue that work comes from",
        ),
        ({"timing": {"reply_hold_max": "0s"}}, "timing.reply_hold_max: must be longer than nothing"),
        ({"queues": [{"name": "work", "tasks": []}]}, "queues[0].tasks: must not be empty"),
        ({"servce": {}}, "servce: is not a setting; did you mean service?"),
        ({"retry": 5}, "retry: expected keys with values, found 5"),
    ],
)
def test_a_setting_that_cannot_work_is_told(tmp_path: Path, changed: dict[str, Any], beginning: str) -> None:
    lines = [str(mistake) for mistake in looked_at(a_folder(tmp_path, changed)).mistakes]
    assert any(line.startswith(beginning) for line in lines), lines


def test_a_task_for_a_virtual_node_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    folder = a_folder(tmp_path, {}, [{**A_TASK, "placements": ["virtual_node"]}])
    assert the_only_mistake(looked_at(folder)).startswith("tasks[0].placements: may only run on the virtual node")


def test_a_pod_that_fits_no_local_node_is_a_mistake_only_where_it_cannot_spill(tmp_path: Path) -> None:
    local = {"local": {"nodes": {"cpu": "400m", "memory": "1Gi"}}}
    assert paths(looked_at(a_folder(tmp_path, local))) == ["tasks[0].resources"]
    assert looked_at(a_folder(tmp_path, {**local, "virtual_node": {}})).mistakes == ()


def test_programs_are_looked_for_only_where_they_are_to_run(tmp_path: Path) -> None:
    folder = a_folder(tmp_path, {}, [{**A_TASK, "command": ["bin/worker"]}])
    assert looked_at(folder, local=False).mistakes == ()
    assert paths(looked_at(folder, local=True)) == ["tasks[0].command"]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/worker").write_text("#!/bin/sh\n")
    (tmp_path / "bin/worker").chmod(0o755)
    assert looked_at(folder, local=True).mistakes == ()


def test_mistakes_in_the_environment_name_the_environment(tmp_path: Path) -> None:
    environ = {"BURST_LOCAL__WEB_PORT": "x", "BURST_LOCAL__WEB_PRT": "1", "BURST_QUEUES": "none"}
    lines = [str(mistake) for mistake in looked_at(a_folder(tmp_path), **environ).mistakes]
    assert len(lines) == 3
    assert all(line.endswith("(from the environment)") for line in lines)


# --- warnings -------------------------------------------------------------------------------------------------------


def test_a_budget_below_one_pods_worst_case_is_warned_of_with_the_numbers(tmp_path: Path) -> None:
    budgets = [{"name": "tiny", "limit_usd": "0.0001"}]
    examined = looked_at(a_folder(tmp_path, {"virtual_node": {}, "budgets": budgets}))
    (warning,) = examined.warnings
    # 0.5 vCPU and 512Mi, asked for as 0.6 GB, cost 0.00000678 a second; 180 s to start, 600 s to run, 180 s of tail
    assert str(warning).startswith(
        "budgets[0].limit_usd: 0.0001 is less than the worst case of one pod of task 'report', "
    )
    assert "0.0065088" in warning.fault
    assert examined.settings is not None


def test_what_a_person_should_know_is_warned_of(tmp_path: Path) -> None:
    folder = a_folder(
        tmp_path,
        {
            "virtual_node": {"release_hold": "1s"},
            "tenant_weights": {"defalt": 2},
            "budgets": [{"name": "a", "limit_usd": 5, "scope": "tenant", "tenant": "nobody"}],
        },
        [A_TASK, {**A_TASK, "name": "unused"}],
    )
    warned = [warning.path for warning in looked_at(folder, BURST_SERVCE__X="1").warnings]
    assert warned == [
        "BURST_SERVCE__X", "budgets", "tasks[1].name", "budgets[0].tenant", "tenant_weights.defalt",
        "virtual_node.release_hold",
    ]  # fmt: skip


# --- pods of several items --------------------------------------------------------------------------------------------


def test_pods_of_several_items_and_their_queue_become_the_cores_values(tmp_path: Path) -> None:
    tasks = [{**A_TASK, "items_per_pod": 5}, {**A_TASK, "name": "small", "items_per_pod": "auto"}]
    queue = {"name": "work", "tasks": ["report", "small"]}
    given = {"queues": [queue], "reports": {"queue": "reports", "secret": "send-only", "grace": "45s"}}
    settings = looked_at(a_folder(tmp_path, given, tasks)).settings
    assert settings is not None
    policy = settings.policy()
    assert [policy.tasks[name].items_per_pod for name in ("report", "small")] == [5, None]
    assert (policy.report_grace, policy.reports_to) == (timedelta(seconds=45), ReportsTo(secret="send-only"))


@pytest.mark.parametrize("count", [5, "auto"])
def test_pods_of_several_items_need_a_queue_to_report_to(tmp_path: Path, count: Any) -> None:
    told = the_only_mistake(looked_at(a_folder(tmp_path, tasks=[{**A_TASK, "items_per_pod": count}])))
    assert "tasks[0].items_per_pod" in told
    assert "name one in reports.queue, or write 1" in told


@pytest.mark.parametrize("taken", ["Work", "outcomes"])
def test_reports_have_a_queue_of_their_own(tmp_path: Path, taken: str) -> None:
    given = {"queues": [{**A_QUEUE, "reply_to": ["outcomes"]}], "reports": {"queue": taken}}
    told = the_only_mistake(looked_at(a_folder(tmp_path, given)))
    assert "reports.queue" in told
    assert "name a queue of its own" in told


def test_a_pod_that_could_never_be_full_is_a_mistake(tmp_path: Path) -> None:
    tasks = [{**A_TASK, "items_per_pod": 5, "batch_size_max": 3}]
    told = the_only_mistake(looked_at(a_folder(tmp_path, {"reports": {"queue": "reports"}}, tasks)))
    assert "raise batch_size_max" in told


@pytest.mark.parametrize("wrong", [0, -1, "many", 1.5])
def test_a_number_of_items_that_is_none_is_refused(tmp_path: Path, wrong: Any) -> None:
    examined = looked_at(a_folder(tmp_path, {"reports": {"queue": "reports"}}, [{**A_TASK, "items_per_pod": wrong}]))
    told = the_only_mistake(examined)
    assert "write a whole number from 1, or auto" in told
