"""After a takeover: a create that the leader before has sent may still land, and is waited for, also where the ledger
that told of it was lost.

Found by the simulator at seed 619: a person deleted the ledger while a retry's create was under way. The retry looked
like one that waits, its items were settled by a late success, and then its Job came to be.
"""

from __future__ import annotations

import pytest

from dispatcher.core.attempts import Stage
from dispatcher.stages.leading import _may_land
from tests.builders import a_record

JOB = {"metadata": {"name": "burst-b1-2"}}


@pytest.mark.parametrize(
    ("stage", "was_lost", "written", "may"),
    [
        (Stage.OPENED, False, True, True),
        (Stage.HELD, True, True, True),
        (Stage.HELD, True, False, False),
        (Stage.HELD, False, True, False),
        (Stage.RUNNING, True, True, False),
    ],
)
def test_a_create_under_way_is_not_forgotten_with_the_ledger(
    stage: Stage, was_lost: bool, written: bool, may: bool
) -> None:
    record = a_record(parent="burst-b1-1", attempt=2, job=JOB if written else None)
    assert _may_land(record, stage, was_lost=was_lost) is may
