"""A launch whose create got no answer is taken up again a bounded time after its entry, however often leaders change.

Found by the API server's faults, seed 19: a lease that changed hands every twenty seconds put the minute off again each
time, for as long as that went on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from dispatcher.core.attempts import Stage
from dispatcher.core.budgets import LAUNCH_GRACE
from dispatcher.core.ledger import Draft
from dispatcher.core.plan import Plan
from dispatcher.memory import Memory, Tallies
from dispatcher.ports import Answer, Created, Ports
from dispatcher.stages.launching import launch
from tests.builders import NOW, SECOND, a_ledger, a_policy, an_attempt, an_entry

JOB = "burst-b1-1"


class World:
    """A clock that stands, a ledger that takes every write, a cluster in which there is no Job and no answer."""

    def __init__(self) -> None:
        self.created: list[str] = []

    def now(self) -> Any:
        return NOW

    def emit(self, event: str, **facts: Any) -> None:
        pass

    async def get_job(self, name: str) -> None:
        return None

    async def create_jobs(self, manifests: Sequence[Mapping[str, Any]]) -> list[Created]:
        self.created += [manifest["metadata"]["name"] for manifest in manifests]
        return [Created(Answer.UNKNOWN) for _ in manifests]

    async def write_ledger(self, document: Mapping[str, Any], replacing: str | None) -> str:
        return "2"

    def ports(self) -> Ports:
        nothing: Any = None
        me: Any = self
        return Ports({}, me, me, nothing, me, nothing, me, nothing, nothing)


@pytest.mark.parametrize(
    ("since_entry", "since_takeover", "again"),
    [
        (LAUNCH_GRACE, 10 * SECOND, True),
        (LAUNCH_GRACE - SECOND, 10 * SECOND, False),
        (LAUNCH_GRACE - SECOND, 80 * SECOND, False),
    ],
    ids=["leaders change all the time", "it may still land", "a leader before may not know that it is deposed"],
)
async def test_it_is_sent_again_with_a_new_reservation(
    since_entry: timedelta, since_takeover: timedelta, *, again: bool
) -> None:
    ledger = a_ledger(an_entry(written=NOW - since_entry))
    memory = Memory(ledger, "1", Draft(ledger, (), timedelta(0)), NOW - since_takeover)
    attempt = an_attempt()
    attempt.stage, attempt.create_unknown = Stage.OPENED, True
    manifest = {
        "metadata": {"name": JOB, "annotations": {}},
        "spec": {"template": {"spec": {"containers": [{"env": []}]}}},
    }
    attempt.record = replace(attempt.record, job=manifest)
    memory.attempts[JOB] = attempt
    world = World()
    await launch(memory, world.ports(), a_policy(), Plan(), Tallies())
    assert world.created == ([JOB] if again else [])
    assert memory.ledger.entries[JOB].written == (NOW if again else NOW - since_entry)
