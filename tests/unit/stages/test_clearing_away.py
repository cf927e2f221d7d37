"""Clearing away what has ended: a pod goes on billing after its Job, and a create without an answer may still land.

Both were bugs that the simulator found. Worlds in which they break a law are rare by now, since other guards stand
before them: a paid Job goes only after its pods were deleted, and a record lands late only within the launch grace.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from dispatcher.core.attempts import Sighting
from dispatcher.core.budgets import LAUNCH_GRACE
from dispatcher.core.ledger import Draft, EntryState
from dispatcher.memory import Memory
from dispatcher.ports import Answer, ObjectRef, Ports
from dispatcher.stages import closing, watching
from tests.builders import NOW, SECOND, a_ledger, a_pod_seen, a_policy, an_entry

JOB = "burst-b1-1"


class World:
    """No Job is there any more; keeps in mind which records and Jobs were taken away."""

    def __init__(self) -> None:
        self.deleted: list[str] = []

    def now(self) -> Any:
        return NOW

    async def get_job(self, name: str) -> None:
        return None

    async def delete_record(self, ref: ObjectRef) -> Answer:
        self.deleted.append(ref.name)
        return Answer.DONE

    def emit(self, event: str, **facts: Any) -> None:
        pass

    def ports(self) -> Ports:
        nothing: Any = None
        me: Any = self
        return Ports({}, me, me, nothing, me, nothing, me, nothing, nothing)


def _memory(pods: Sequence[Any] = (), **changes: Any) -> Memory:
    ledger = a_ledger(an_entry(**changes))
    memory = Memory(ledger, "1", Draft(ledger, (), timedelta(0)), NOW - timedelta(hours=1))
    memory.sightings[JOB] = Sighting(pods={pod.uid: pod for pod in pods})
    memory.records[JOB] = "uid"
    memory.dirty.add(JOB)
    return memory


async def test_pods_of_a_job_that_has_gone_are_not_gone_with_it() -> None:
    memory = _memory([a_pod_seen(0), a_pod_seen(1)])
    await watching.look_for_job(memory, World().ports(), JOB)
    assert memory.sightings[JOB].job_gone
    assert not memory.sightings[JOB].gone
    assert len(list(memory.sightings[JOB].live_pods())) == 2


@pytest.mark.parametrize(
    ("answered", "since", "cleared"),
    [(False, LAUNCH_GRACE - SECOND, False), (False, LAUNCH_GRACE, True), (True, SECOND, True)],
    ids=["it may still land", "it can land no more", "it was answered"],
)
async def test_a_closing_attempt_whose_create_got_no_answer_is_cleared_once_it_can_land_no_more(
    since: timedelta, *, answered: bool, cleared: bool
) -> None:
    memory = _memory(state=EntryState.CLOSING, written=NOW - since)
    memory.sightings[JOB].answered = answered
    world = World()
    await closing.clear_away(memory, world.ports(), a_policy())
    assert world.deleted == ([JOB] if cleared else [])
