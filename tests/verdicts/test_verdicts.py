"""The templates' three verdicts held against each other: by hand, the judge's, and what the connector really did."""

from __future__ import annotations

import asyncio

import pytest

from dispatcher.judge import Effect, Level
from testbed.virtual import VirtualNode

from . import report
from .templates import Outcome, Template, all_templates
from .trying import OPTIONS, attempt

TEMPLATES = {each.name: each for each in all_templates()}
RECORDS = report.read_records()
SAMPLE = (
    "02-pod-clean",
    "05-claim",
    "07-host-network",
    "10-init-with-resources",
    "12-gpu",
    "21-private-image",
    "22-private-image-with-secret",
    "24-cpu-1981m",
    "35-sub-path",
    "38-projected-token",
    "47-secret-variable",
    "48-kept-off",
)
"""Quick ones, of every outcome."""
AS_THE_JUDGE_SAYS = {
    Outcome.FAILS: {Effect.FAILS},
    Outcome.PENDING: {Effect.PENDING},
    Outcome.IGNORED: {Effect.IGNORED, Effect.DIFFERS},
}


def refusals(template: Template) -> list[Effect]:
    return [each.effect for each in template.findings if each.level is Level.ERROR]


def test_every_template_was_tried() -> None:
    assert RECORDS.keys() == TEMPLATES.keys()


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_connector_did_what_was_written_by_hand(name: str) -> None:
    assert RECORDS[name]["outcome"] == TEMPLATES[name].expected, RECORDS[name]["words"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_the_judge_lets_through_ran_and_what_it_refuses_came_to_the_end_that_it_tells(name: str) -> None:
    outcome, effects = Outcome(RECORDS[name]["outcome"]), refusals(TEMPLATES[name])
    if outcome in (Outcome.FAILS, Outcome.PENDING):
        assert set(effects) & AS_THE_JUDGE_SAYS[outcome]
    elif outcome is Outcome.IGNORED:
        assert {each.effect for each in TEMPLATES[name].findings} & AS_THE_JUDGE_SAYS[outcome]
    elif outcome is Outcome.RUNS:
        assert effects == []


def test_the_document_shows_what_was_seen() -> None:
    table = report.markdown(list(TEMPLATES.values()), RECORDS)
    assert table in report.DOCUMENT.read_text(encoding="utf-8"), "run: make verdicts WRITE=1"


@pytest.mark.timeout(180)
async def test_a_sample_comes_to_the_same_end_again(virtual_node: VirtualNode) -> None:
    await virtual_node.aci.reset(**OPTIONS)
    seen = await asyncio.gather(*(attempt(virtual_node, TEMPLATES[name]) for name in SAMPLE))
    assert {name: each.to_json() for name, each in zip(SAMPLE, seen, strict=True)} == {
        name: RECORDS[name] for name in SAMPLE
    }
