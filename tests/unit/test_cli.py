"""The command line: what goes where, and what the exit codes mean."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from dispatcher import __version__
from dispatcher.cli import app

CHECKOUT = Path(__file__).resolve().parents[2]
STATUS: dict[str, Any] = {
    "leading": True,
    "items": {"received": 12, "done": 7, "dead_lettered": 1, "rejected": 2, "backlog": 2, "in_flight": 1},
    "attempts": [
        {"job": "burst-a-1", "task": "report", "tenant": "acme", "placement": "virtual_node", "state": "open",
         "items": 3, "done": 2},
    ],
    "held": [{"task": "report", "tenant": "acme", "reason": "budget_exhausted", "items": 2, "until": None}],
    "budgets": [
        {"budget": "daily", "owner": "*", "window": ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"],
         "limit_usd": "25", "spent_usd": "1.5", "reserved_usd": "2"},
    ],
    "subnet": {"usable": 11, "in_use": 3},
    "cycle": {"count": 5, "seconds_last": 0.012},
}  # fmt: skip


def dispatcher(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=stdin)


@pytest.fixture
def service() -> Iterator[str]:
    """Something that answers like a service."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(STATUS).encode() if self.path == "/api/status" else b"[]"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    (tmp_path / "dispatcher.yaml").write_text("queues:\n  - name: work\n    tasks: [reprot]\n")
    tasks = (CHECKOUT / "config/tasks.yaml").read_text()
    (tmp_path / "tasks.yaml").write_text(tasks)
    return tmp_path


# --- help, version --------------------------------------------------------------------------------------------------


def test_help_names_every_command_and_the_exit_codes() -> None:
    result = dispatcher("--help")
    assert result.exit_code == 0
    for word in ("run", "enqueue", "status", "check-config", "dead-letters", "demo", "Exit codes"):
        assert word in result.stdout


def test_every_command_explains_itself() -> None:
    for command in ("run", "enqueue", "status", "check-config", "dead-letters", "dead-letters list", "demo"):
        assert dispatcher(*command.split(), "--help").exit_code == 0


def test_the_version_is_told() -> None:
    assert dispatcher("--version").stdout.strip() == __version__


def test_an_unknown_option_is_wrong_usage() -> None:
    assert dispatcher("status", "--wath").exit_code == 2


# --- check-config ---------------------------------------------------------------------------------------------------


def test_a_right_configuration_is_told_on_stderr_and_stdout_stays_empty() -> None:
    result = dispatcher("check-config", "--config", str(CHECKOUT / "config"), "--local")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "is fine: 1 queue, 2 tasks" in result.stderr


def test_mistakes_are_the_data_of_check_config_and_its_exit_code_is_2(wrong: Path) -> None:
    result = dispatcher("check-config", "--config", str(wrong))
    assert result.exit_code == 2
    assert result.stdout.startswith("queues[0].tasks[0]: there is no task 'reprot'; did you mean report?")
    assert "1 mistake in" in result.stderr


def test_mistakes_as_json_carry_path_fault_remedy_and_place(wrong: Path) -> None:
    result = dispatcher("check-config", "--config", str(wrong), "--json")
    assert result.exit_code == 2
    content = json.loads(result.stdout)
    assert content["ok"] is False
    assert content["mistakes"][0] == {
        "path": "queues[0].tasks[0]",
        "fault": "there is no task 'reprot'",
        "remedy": "did you mean report?",
        "place": "dispatcher.yaml, line 3",
    }


# --- run ------------------------------------------------------------------------------------------------------------


def errors(result: Result) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("error: ")]


def test_run_outside_of_a_cluster_says_in_one_line_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    result = dispatcher("run")
    assert (result.exit_code, result.stdout) == (2, "")
    (error,) = errors(result)
    assert "nothing says how to reach the broker" in error
    secret = "Endpoint=sb://127.0.0.1;SharedAccessKeyName=a;SharedAccessKey=c2VjcmV0"
    monkeypatch.setenv("BURST_SERVICE_BUS__CONNECTION_STRING", secret)
    result = dispatcher("run")
    assert (result.exit_code, result.stdout) == (2, "")
    (error,) = errors(result)
    assert "kubernetes.kubeconfig: no credentials for a cluster" in error
    assert "c2VjcmV0" not in result.stderr


def test_options_of_local_mode_are_refused_without_it(tmp_path: Path) -> None:
    result = dispatcher("run", "--data-dir", str(tmp_path))
    assert result.exit_code == 2
    assert "--local" in result.stderr


def test_run_with_a_wrong_configuration_tells_all_mistakes_and_starts_nothing(wrong: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    result = dispatcher("run", "--local", "--config", str(wrong), "--data-dir", str(data))
    assert result.exit_code == 2
    assert "error: queues[0].tasks[0]" in result.stderr
    assert not data.exists()


# --- status ---------------------------------------------------------------------------------------------------------


def test_status_shows_items_attempts_holds_budgets_and_addresses(service: str) -> None:
    result = dispatcher("status", "--url", service)
    assert result.exit_code == 0
    for part in ("burst-a-1", "virtual node", "budget_exhausted", "daily", "$25.0000", "3 of 11 addresses"):
        assert part in result.stdout, result.stdout


def test_status_as_json_is_what_the_service_says(service: str) -> None:
    assert json.loads(dispatcher("status", "--url", service, "--json").stdout) == STATUS


def test_status_finds_the_service_by_its_data_directory(service: str, tmp_path: Path) -> None:
    content = {"url": service, "pid": 1, "connection_string_file": str(tmp_path / "c")}
    (tmp_path / "service.json").write_text(json.dumps(content))
    assert dispatcher("status", "--data-dir", str(tmp_path), "--json").exit_code == 0


def test_a_service_that_does_not_answer_is_one_line_with_url_and_remedy_and_exit_code_3() -> None:
    result = dispatcher("status", "--url", "http://127.0.0.1:9")
    assert result.exit_code == 3
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "http://127.0.0.1:9" in line
    assert "dispatcher run --local" in line


@pytest.mark.parametrize("content", [None, "{", '{"url": "x"}', "[]"])
def test_a_data_directory_without_a_service_is_exit_code_3(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "service.json").write_text(content)
    result = dispatcher("status", "--data-dir", str(tmp_path))
    assert result.exit_code == 3
    assert len(result.stderr.splitlines()) == 1


# --- enqueue --------------------------------------------------------------------------------------------------------


def enqueue(tmp_path: Path, *arguments: str, stdin: str | None = None) -> Result:
    places = ("--config", str(CHECKOUT / "config"), "--data-dir", str(tmp_path / "none"))
    return dispatcher("enqueue", *places, *arguments, stdin=stdin)


def test_an_item_with_a_mistake_is_refused_as_the_dispatcher_would_and_nothing_is_sent(tmp_path: Path) -> None:
    result = enqueue(tmp_path, "--task", "thumbnail", "--tenant", "acme", "-p", "photo=coffee", "-p", "width=huge")
    assert result.exit_code == 1
    assert "params.width: 'huge' is not of type 'integer'" in result.stderr
    assert "nothing was" in result.stderr


def test_every_wrong_line_is_told_with_its_number(tmp_path: Path) -> None:
    good = '{"task": "report", "tenant": "acme", "params": {"country": "Kenya"}}'
    lines = [
        good,
        "",
        "nonsense",
        '{"task": "reprot", "tenant": "acme"}',
        '{"params": {}}',
        "[]",
        '{"task": "report", "x": 1}',
    ]
    result = enqueue(tmp_path, stdin="\n".join(lines))
    assert result.exit_code == 1
    told = [line for line in result.stderr.splitlines() if line.startswith("error: line ")]
    assert [line.split(":")[1].strip() for line in told] == [f"line {number}" for number in (3, 4, 5, 6, 7)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--task", "report", "-p", "country"], "write key=value"),
        (["--task", "report", "--params", "{"], "is not JSON"),
        (["--task", "report", "--params", "[]"], "is not an object"),
        (["--task", "report", "--queue", "wrok"], "there is no queue 'wrok'"),
    ],
)
def test_wrong_options_are_wrong_usage(tmp_path: Path, arguments: list[str], words: str) -> None:
    result = enqueue(tmp_path, *arguments)
    assert result.exit_code == 2
    assert words in result.stderr


def test_without_a_service_a_right_item_goes_nowhere_and_that_is_said(tmp_path: Path) -> None:
    result = enqueue(tmp_path, "--task", "report", "--tenant", "acme", "-p", "country=Kenya")
    assert result.exit_code == 3
    assert "start one with `dispatcher run --local" in result.stderr


# --- dead letters ---------------------------------------------------------------------------------------------------


def list_dead_letters(tmp_path: Path, *arguments: str) -> Result:
    places = ("--config", str(CHECKOUT / "config"), "--data-dir", str(tmp_path / "none"))
    return dispatcher("dead-letters", "list", *places, *arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--older-than", "5"], "--older-than: 5 has no unit; write 5s for seconds"),
        (["--newer-than", "soon"], "--newer-than: 'soon' is not a duration"),
        (["--queue", "wrok"], "there is no queue 'wrok'"),
        (["--limit", "0"], "Invalid value for '--limit'"),
    ],
)
def test_wrong_options_about_dead_letters_are_wrong_usage(tmp_path: Path, arguments: list[str], words: str) -> None:
    result = list_dead_letters(tmp_path, *arguments)
    assert result.exit_code == 2
    assert words in result.stderr


def test_dead_letters_without_a_service_are_one_line_and_exit_code_3(tmp_path: Path) -> None:
    result = list_dead_letters(tmp_path)
    assert result.exit_code == 3
    (line,) = result.stderr.splitlines()
    assert "start one with `dispatcher run --local" in line


def test_a_connection_string_that_is_none_is_one_line_without_it_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BURST_SERVICE_BUS__CONNECTION_STRING", "SharedAccessKey=hush")
    result = list_dead_letters(tmp_path)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: service_bus.connection_string: names no Endpoint; copy it whole")
    assert "hush" not in line


# --- demo -----------------------------------------------------------------------------------------------------------


def test_the_demo_leaves_folders_alone_that_are_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    result = dispatcher("demo", "--output", str(tmp_path))
    assert result.exit_code == 2
    assert "not empty and not a demo's" in result.stderr
    assert (tmp_path / "thesis.txt").exists()


def test_the_demo_writes_a_configuration_without_mistakes(tmp_path: Path) -> None:
    from dispatcher.demo import Demo, Scale
    from dispatcher.settings import load

    demo = Demo(Scale.scaled(items=24, seed=1, budget_usd="0.5", subnet="10.1.0.0/28"), tmp_path / "out")
    demo._clear()
    demo._write_config()
    settings = load(tmp_path / "out" / "config", local=True, environ={})
    assert settings.virtual_node is not None
    assert settings.virtual_node.addresses == 11
    assert str(settings.budgets[0].limit_usd) == "0.5"
    written = yaml.safe_load((tmp_path / "out/config/tasks.yaml").read_text())
    assert written["tasks"][0]["env"]["BURST_RUN_LOG"] == str(tmp_path / "out/runs.jsonl")


# --- budgets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["--author", "--reason"])
def test_money_without_author_or_reason_is_refused_before_anybody_is_asked(missing: str) -> None:
    said = {"--author": "Ann", "--reason": "reports", missing: " "}
    options = [word for pair in said.items() for word in pair]
    result = dispatcher("budgets", "top-up", "daily", "--usd", "5", *options, "--url", "http://127.0.0.1:1")
    assert result.exit_code == 2
    assert f"{missing} is missing" in result.stderr
