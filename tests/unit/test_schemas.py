"""The schemas that are published: they accept the delivered files, refuse what the program refuses, and print."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter, ValidationError
from typer.testing import CliRunner

from dispatcher.cli import app
from dispatcher.settings import values
from dispatcher.settings.schemas import config_schema, tasks_schema

CHECKOUT = Path(__file__).resolve().parents[2]
CONFIG, TASKS = Draft202012Validator(config_schema()), Draft202012Validator(tasks_schema())
A_TASK: dict[str, Any] = {
    "name": "report",
    "image": "report:1",
    "command": ["python"],
    "resources": {"cpu": "500m", "memory": "512Mi"},
}
QUEUES = [{"name": "work", "tasks": ["report"]}]


def faults(validator: Draft202012Validator, value: Any) -> list[str]:
    return [f"{fault.json_path}: {fault.message}" for fault in validator.iter_errors(value)]


def printed(*arguments: str) -> Any:
    result = CliRunner().invoke(app, ["schema", *arguments])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


# --- the files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("file", "validator"), [("dispatcher.yaml", CONFIG), ("tasks.yaml", TASKS)])
def test_the_delivered_files_satisfy_their_schemas(file: str, validator: Draft202012Validator) -> None:
    Draft202012Validator.check_schema(validator.schema)
    assert faults(validator, yaml.safe_load((CHECKOUT / "config" / file).read_text())) == []


def subschemas(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for each in schema.values():
            yield from subschemas(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from subschemas(each)


@pytest.mark.parametrize("validator", [CONFIG, TASKS], ids=["config", "tasks"])
def test_defaults_and_examples_are_written_as_the_file_takes_them(validator: Draft202012Validator) -> None:
    looked_at = 0
    for schema in subschemas(validator.schema):
        if "$defs" in schema or not {"anyOf", "type", "$ref"} & schema.keys():
            continue
        own = validator.evolve(schema={**schema, "$defs": validator.schema["$defs"]})
        # A list's example may stand at its entries too, and a task cannot be shown in one line.
        shown = [each for each in schema.get("examples", ()) if not isinstance(each, list | dict)]
        for value in ([schema["default"]] if "default" in schema else []) + shown:
            looked_at += 1
            assert faults(own, value) == [], schema
    assert looked_at > 20


def test_defaults_are_shown_in_the_units_in_which_they_are_written() -> None:
    nodes, bus = CONFIG.schema["$defs"]["LocalNodesSettings"], CONFIG.schema["$defs"]["ServiceBusSettings"]
    assert nodes["properties"]["cpu"]["default"] == "2000m"
    assert bus["properties"]["lock_duration"]["default"] == "1m"


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"queues": []},
        {"queues": None},
        {"queues": QUEUES, "qeues": []},
        {"queues": [{"name": "work"}]},
        {"queues": [{"name": "work", "tasks": ["report"], "tenants": ["a b"]}]},
        {"queues": QUEUES, "tasks": [A_TASK]},
        {"queues": QUEUES, "timing": {"stop_timeout": 20}},
        {"queues": QUEUES, "timing": {"stop_timeout": "20"}},
        {"queues": QUEUES, "virtual_node": {"subnet": "10.0.0.0"}},
        {"queues": QUEUES, "virtual_node": {"groups_max": -1}},
        {"queues": QUEUES, "budgets": [{"name": "Daily", "limit_usd": 5}]},
        {"queues": QUEUES, "budgets": [{"name": "daily", "limit_usd": "much"}]},
        {"queues": QUEUES, "budgets": [{"name": "daily", "limit_usd": 5, "window": "year"}]},
        {"queues": QUEUES, "budgets": [{"name": "daily", "limit_usd": 5, "warn_at_percent": [0]}]},
        {"queues": QUEUES, "node_pool": {"keep_back": {"memory": "1GiB"}}},
    ],
)
def test_a_wrong_setting_is_refused(wrong: dict[str, Any]) -> None:
    assert faults(CONFIG, {"queues": QUEUES, "budgets": None, "virtual_node": {"subnet": ["10.0.0.0/24"]}}) == []
    assert faults(CONFIG, wrong) != []


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "Report"},
        {"command": "python"},
        {"command": []},
        {"resources": {"cpu": "500m"}},
        {"item_timeout": "soon"},
        {"placements": ["moon"]},
        {"imagePullSecrets": []},
        {"env_from": [{"secretRef": {}}]},
        {"backoff_limit": -1},
    ],
)
def test_a_wrong_task_is_refused(changed: dict[str, Any]) -> None:
    assert faults(TASKS, {"tasks": [{**A_TASK, "env_from": [{"secretRef": {"name": "mail"}}]}]}) == []
    assert faults(TASKS, {"tasks": [{**A_TASK, **changed}]}) != []


KINDS = {
    name: TypeAdapter(getattr(values, name))
    for name in ("Duration", "Cpu", "Memory", "Usd", "Subnets", "ClockTime", "DnsLabel", "Tenant", "Count", "Port")
}
written = (
    st.integers(-2, 10**6)
    | st.sampled_from([0, True, None, 1.5, "10.240.0.0/24", "10.0.0.0/33", "08:00", "8:0", "24:00", "a-b", "-a", "A.b"])
    | st.from_regex(r"\A[0-9]{1,3}(\.[0-9]{1,2})?(ms|s|m|h|d|k|M|Gi|Ki)?\Z")
    | st.from_regex(r"\A([0-9]{1,2}[smhd]){1,3}\Z")
    | st.text("0123456789.smhdGi$-:/", max_size=6)
)


def is_taken(kind: TypeAdapter[Any], value: Any) -> bool:
    try:
        kind.validate_python(value)
    except ValidationError:
        return False
    return True


@given(st.sampled_from(sorted(KINDS)), written)
def test_a_value_that_satisfies_its_schema_is_taken(name: str, value: Any) -> None:
    schema = Draft202012Validator(KINDS[name].json_schema())
    if schema.is_valid(value):
        # Beside its shape a subnet has host bits and a size, and a duration has bounds.
        assert is_taken(KINDS[name], value) or name in ("Subnets", "Duration")


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_schema_of_a_message_takes_what_the_example_sends() -> None:
    validator = Draft202012Validator(printed())
    assert faults(validator, {"task": "report", "tenant": "acme", "params": {"country": "Kenya"}}) == []
    (fault,) = faults(validator, {"task": "thumbnail", "tenant": "acme", "params": {"photo": "coffee", "width": 100}})
    assert fault == "$.params.width: 100 is less than the minimum of 160"
    assert faults(validator, {"task": "report", "tenant": "evil", "params": {"country": "Kenya"}}) != []


def test_the_schema_of_one_task_and_of_its_events() -> None:
    assert printed("message", "--task", "report")["properties"]["task"]["enum"] == ["report"]
    event = printed("message", "--task", "report", "--form", "cloudevent")
    assert event["properties"]["type"]["enum"] == ["report", "com.example.report.requested"]
    assert printed("--queue", "work") == printed()


@pytest.mark.parametrize("what", ["message", "tasks", "config", "outcome"])
def test_every_schema_is_printed_the_same_as_json_and_as_yaml(what: str) -> None:
    schema = printed(what)
    Draft202012Validator.check_schema(schema)
    result = CliRunner().invoke(app, ["schema", what, "--format", "yaml"])
    assert yaml.safe_load(result.stdout) == schema


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--task", "raport"], "the queue work takes no task 'raport'; it takes report, thumbnail"),
        (["--queue", "wrok"], "there is no queue 'wrok'"),
        (["config", "--task", "report"], "--task, --queue and --form are about messages; leave them out with config"),
        (["message", "--config", "nowhere"], "dispatcher.yaml: is not in nowhere"),
    ],
)
def test_wrong_usage_is_told_in_one_line(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(app, ["schema", *arguments])
    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stdout == ""
