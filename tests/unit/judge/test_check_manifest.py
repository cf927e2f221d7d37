"""``dispatcher check-manifest``: what it prints where, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dispatcher.cli import app

TEMPLATES = Path(__file__).parents[2] / "fixtures/templates"
GOOD, BAD = TEMPLATES / "01-job-clean.yaml", TEMPLATES / "03-brief-report-generator.yaml"


def check(*arguments: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["check-manifest", *map(str, arguments)], input=stdin)


def test_what_fits_prints_nothing_and_ends_with_0() -> None:
    result = check(GOOD)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "fits virtual-node-v1" in result.stderr


def test_what_does_not_fit_prints_a_line_a_finding_and_ends_with_1() -> None:
    result = check(BAD)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert all(line.startswith(("ERROR ", "WARNING ")) for line in lines)
    path = "Job/report-generator spec.template.spec.containers[0].resources.limits.cpu"
    assert any(line.startswith(f"ERROR limits-above-requests {path}: 2 is more than the 1000m") for line in lines)


def test_several_documents_come_from_stdin() -> None:
    text = "---\n".join((GOOD.read_text(), "kind: Service\nmetadata: {name: web}\n", BAD.read_text()))
    result = check("-", stdin=text)
    assert result.exit_code == 1
    assert "Job/report-generator" in result.stdout
    assert "Service/web makes no pods" in result.stderr
    assert "2 objects judged" in result.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [("{", "is not valid YAML"), ("", "holds no object"), ("kind: Service\n", "holds nothing that makes pods")],
)
def test_what_cannot_be_read_ends_with_2(text: str, says: str) -> None:
    result = check("-", stdin=text)
    assert result.exit_code == 2
    assert f"stdin: {says}" in result.stderr


def test_a_file_that_is_not_there_ends_with_2_and_the_others_are_judged_all_the_same(tmp_path: Path) -> None:
    result = check(BAD, tmp_path / "nowhere.yaml")
    assert result.exit_code == 2
    assert "limits-above-requests" in result.stdout
    assert "name a file that is there" in result.stderr


def test_no_file_and_no_such_placement_are_wrong_usage() -> None:
    assert check().exit_code == 2
    result = check("--placement", "virtual-node-v3", GOOD)
    assert result.exit_code == 2
    assert "known are virtual-node-v1, virtual-node-v2, nodes" in result.stderr


def test_json_has_every_finding_with_effect_and_source() -> None:
    result = check("--json", BAD, GOOD)
    content = json.loads(result.stdout)
    assert (result.exit_code, content["fits"], content["placement"]) == (1, False, "virtual-node-v1")
    bad, good = content["files"]
    assert good["findings"] == []
    assert {each["rule"] for each in bad["findings"]} >= {"limits-above-requests", "private-image"}
    assert bad["findings"][0].keys() == {
        "level", "rule", "workload", "path", "message", "remedy", "effect", "source",
    }  # fmt: skip


def test_the_rules_of_a_placement_can_be_printed() -> None:
    assert "ERROR volume-pvc: a persistent volume claim; fails;" in check("--rules").stdout
    of_nodes = json.loads(check("--rules", "--json", "--placement", "nodes").stdout)
    assert "not-kept-off" in {each["rule"] for each in of_nodes}
