"""The example that goes around beside the dispatcher's own Job, as the document shows the two."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dispatcher.core.jobs import manifest, shape_of
from dispatcher.core.work import Placement
from dispatcher.settings.tasks import TaskSettings
from tests.crash.report import markdown
from tests.e2e import brief_job


def ours() -> dict[str, Any]:
    work = TaskSettings.model_validate(brief_job.task(Path("work"))).task()
    shape = shape_of(work, placement=Placement.VIRTUAL_NODE, completions=50, parallelism=50, allowance_left=3)
    return manifest(
        work, shape, placement=Placement.VIRTUAL_NODE, batch_id="a", attempt=1, sequence_numbers=tuple(range(50))
    )


def test_the_document_shows_the_two_side_by_side() -> None:
    rows = brief_job.side_by_side(brief_job.example(), ours())
    table = markdown(brief_job.COLUMNS, rows)
    assert table in brief_job.DOCUMENT.read_text(encoding="utf-8"), "run: make brief-job WRITE=1"


def test_the_same_selector_tolerations_and_restart_policy_are_no_difference() -> None:
    rows = {name: (there, here) for name, there, here, _ in brief_job.side_by_side(brief_job.example(), ours())}
    assert rows["limits"] == ("2, 4Gi", "1, 2200M")
    assert rows["requests"] == ("1, 2Gi", "1, 2200M")
    assert not {"tolerations", "restartPolicy"} & rows.keys()


def theirs(**changes: Any) -> brief_job.Refused:
    facts: dict[str, Any] = {
        "ran": 0,
        "reason": "Failed, BackoffLimitExceeded",
        "words": "ContainerLimitGreaterThanContainerGroupTotalRequest",
        "seconds": 9.0,
    }
    return brief_job.Refused(**{**facts, **changes})


def ran(**changes: Any) -> brief_job.Ran:
    facts: dict[str, Any] = {
        "done": 198,
        "dead": 2,
        "failed_once": 10,
        "jobs": 12,
        "groups": 216,
        "peak": 50,
        "refused": {},
        "billed": Decimal("0.01"),
        "charged": Decimal("0.02"),
        "seconds": 90.0,
        "manifest": {},
    }
    return brief_job.Ran(**{**facts, **changes})


@pytest.mark.parametrize(
    ("there", "here", "problem"),
    [
        ({"ran": 1}, {}, "1 pods of the example ran"),
        ({"words": "Other"}, {}, "the example was refused with 'Other'"),
        ({}, {"done": 197}, "197 done and 2 dead-lettered"),
        ({}, {"failed_once": 9}, "9 items were tried again"),
        ({}, {"peak": 51}, "51 groups ran at once"),
        ({}, {"refused": {"SubnetIsFull": 1}}, "Azure refused {'SubnetIsFull': 1}"),
        ({}, {"billed": Decimal("0.03")}, "$0.03 billed, $0.02 charged"),
    ],
)
def test_what_is_not_as_it_should_be_is_named(there: dict[str, Any], here: dict[str, Any], problem: str) -> None:
    assert brief_job.problems(theirs(**there), ran(**here)) == [problem]
    assert brief_job.problems(theirs(), ran()) == []
