"""Pod templates, good and bad: what was written by hand about each, and what the judge says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from dispatcher.judge import RULES, Level, documents_of, findings_of, known_profiles

FOLDER = Path(__file__).parents[2] / "fixtures/templates"
VERDICTS: dict[str, dict[str, Any]] = yaml.safe_load((FOLDER / "verdicts.yaml").read_text(encoding="utf-8"))
TEMPLATES = sorted(path.stem for path in FOLDER.glob("[0-9]*.yaml"))
V1 = known_profiles()["virtual-node-v1"]


def rules_broken(name: str, level: Level) -> set[str]:
    documents = documents_of((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    found = [findings_of(document, V1) for document in documents]
    return {each.rule for findings in found if findings is not None for each in findings if each.level is level}


def test_there_are_forty_of_them_and_each_has_a_verdict_with_its_source() -> None:
    assert len(TEMPLATES) >= 40
    assert sorted(VERDICTS) == TEMPLATES
    assert all(verdict["source"] for verdict in VERDICTS.values())


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_judge_agrees_with_what_was_written_by_hand(name: str) -> None:
    verdict = VERDICTS[name]
    assert rules_broken(name, Level.ERROR) == set(verdict.get("errors", ()))
    assert rules_broken(name, Level.WARNING) == set(verdict.get("warnings", ()))


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_does_not_run_as_written_is_refused_or_warned_of_and_what_is_refused_does_not(name: str) -> None:
    verdict = VERDICTS[name]
    if verdict["connector"] in ("fails", "pending"):
        assert verdict["errors"]
    if verdict["connector"] == "ignored":
        assert verdict.get("errors") or verdict.get("warnings")
    if verdict["connector"] == "runs":
        assert not verdict.get("errors")


def test_verdicts_name_rules_that_there_are() -> None:
    named = {rule for verdict in VERDICTS.values() for key in ("errors", "warnings") for rule in verdict.get(key, ())}
    assert named <= RULES.keys()
