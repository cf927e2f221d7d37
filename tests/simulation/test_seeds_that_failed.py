"""Bugs of the product that the simulator found, by name: each is put back and a law must catch it; without it all hold.

A seed names the world in which the law first broke. Worlds change as the simulator grows, so a hunt goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from dispatcher.core.attempts import Sighting
from dispatcher.core.ledger import Draft
from dispatcher.core.observations import AccountSeen
from dispatcher.core.units import Money
from dispatcher.memory import Memory
from dispatcher.ports import Answer, Ports
from dispatcher.simulator.faults import Fault
from dispatcher.simulator.mutations import (
    ADMISSION,
    CAPACITY,
    CHARGE,
    COVER,
    DRAINS,
    MUTATIONS,
    ONE_JOB,
    SETTLED,
    TOLD,
    UNSEEN,
    Mutation,
    Patches,
    hunt,
    world_for,
)
from dispatcher.simulator.run import run, run_seed
from dispatcher.stages import accounting, bookkeeping, leading, rejecting, settling

pytestmark = pytest.mark.timeout(600)
"""A hunt is bounded by its seeds; on a busy machine, and under coverage, they take their time."""

SEEDS_MAX = 400


def _caught(patches: Patches, *laws: str, seed: int = 0, faults: Mapping[Fault, float] | None = None) -> None:
    bug = Mutation("bug", "", patches, laws, faults)
    found = hunt(bug, seed, SEEDS_MAX)
    assert found.law in laws, f"{found.law} after {found.seeds} seeds: {found.text}"
    without = run(world_for(bug, seed + found.seeds - 1))
    assert without.held, f"{without.law}: {without.text}"


def _mutation_is_caught(name: str) -> None:
    mutation = next(mutation for mutation in MUTATIONS if mutation.name == name)
    _caught(mutation.patches, *mutation.caught_by, faults=mutation.faults)


def test_a_pod_that_was_charged_and_dropped_at_once_was_charged_again() -> None:
    def charge(
        memory: Memory,
        ports: Ports,
        name: str,
        sight: Sighting,
        seen: AccountSeen | None,
        now: datetime,
    ) -> None:
        dropped = set(sight.dropped)
        right(memory, ports, name, sight, seen, now)
        sight.dropped = dropped

    right = accounting._charge
    _caught(
        [(accounting, "_charge", charge)],
        ADMISSION,
        COVER,
        CAPACITY,
        DRAINS,
        seed=60,
        faults={**UNSEEN, Fault.POD_EVICTED: 0.4},
    )


def test_the_delay_of_our_own_sightings_was_taken_for_an_overrun() -> None:
    def charge(self: Draft, name: str, uid: str, start: datetime, end: datetime, *, estimated: bool = False) -> Money:
        return right(self, name, uid, start, end)

    right = Draft.charge
    _caught([(Draft, "charge", charge)], ADMISSION, seed=0)


def test_what_came_and_went_unseen_cost_nothing_and_used_no_create() -> None:
    _mutation_is_caught("unseen is free")


def test_an_end_by_a_clock_that_is_behind_was_charged_too_little() -> None:
    _caught([(accounting, "CLOCK_ERROR", timedelta(0))], COVER, CHARGE, faults={**UNSEEN, Fault.CLOCK_STEP: 0.5})


def test_a_retrys_record_that_was_created_once_more_came_to_life_again() -> None:
    _mutation_is_caught("late records live")


def test_an_idle_leader_never_heard_that_an_operator_had_lifted_the_freeze() -> None:
    async def must_be_ours(memory: Memory, ports: Ports) -> None:
        return None

    _caught([(bookkeeping, "must_be_ours", must_be_ours)], DRAINS, faults={Fault.LEDGER_LOST: 0.05})


def test_a_takeover_that_broke_off_deleted_the_records_of_running_jobs() -> None:
    async def fence(ports: Ports, policy: Any) -> tuple[Memory, bool]:
        memory, was_lost = await right(ports, policy)
        return memory, was_lost and memory.ledger.epoch == 1

    right = leading._fence
    faults = {Fault.LEDGER_LOST: 0.05, Fault.LATE_ACT: 0.1, Fault.CRASH_AFTER: 0.05, Fault.FAILED_READ: 0.1}
    _caught([(leading, "_fence", fence)], ONE_JOB, SETTLED, DRAINS, faults=faults)


def test_a_copy_was_asked_for_together_with_its_first_that_was_gone_for_ever() -> None:
    async def remove(memory: Memory, ports: Ports, tallies: Any, queue: str, chunk: Sequence[Any]) -> None:
        asked = 0
        broker = ports.queues[queue]

        class Once:
            async def remove_deferred(self, numbers: Sequence[int]) -> Answer:
                nonlocal asked
                asked += 1
                return await broker.remove_deferred(numbers) if asked == 1 else Answer.NOT_FOUND

            def __getattr__(self, name: str) -> Any:
                return getattr(broker, name)

        await right(memory, replace(ports, queues={**ports.queues, queue: Once()}), tallies, queue, chunk)  # type: ignore[dict-item]

    right = settling._remove
    faults = {Fault.TWO_LEADERS: 0.2, Fault.CRASH_AFTER: 0.05, Fault.LATE_ACT: 0.2, Fault.LOST_ACT: 0.2}
    _caught([(settling, "_remove", remove)], DRAINS, seed=60, faults=faults)


def test_the_tenant_whose_name_came_last_starved() -> None:
    _mutation_is_caught("turn by name")


def test_a_hold_was_told_in_every_cycle_where_a_lane_and_its_retry_were_held_for_different_reasons() -> None:
    lines: list[str] = []
    result = run_seed(50, lines.append)
    told = sum(1 for line in lines if " batch.held " in line)
    assert result.held
    assert 0 < told < result.cycles


def test_work_that_had_expired_was_planned_and_rejected_in_one_cycle() -> None:
    for seed in (56, 75, 133):
        result = run_seed(seed)
        assert result.held, f"{result.law}: {result.text}"


def test_a_stalled_leaders_rejection_dead_lettered_what_another_had_in_a_job() -> None:
    async def reject(memory: Memory, ports: Ports, rejections: Sequence[Any]) -> None:
        before = memory.draft.changed
        await right(memory, ports, rejections)
        memory.draft.changed = before

    right = rejecting.reject
    faults = {Fault.STALLED_LEADER: 0.03, Fault.SLOW_ANSWER: 0.02}
    _caught([(rejecting, "reject", reject)], ONE_JOB, SETTLED, DRAINS, TOLD, faults=faults)


@pytest.mark.parametrize("seed", [5018, 3408], ids=["with a lost ledger", "behind a late rejection"])
def test_what_a_sender_was_still_to_be_told_went_with_its_record(seed: int) -> None:
    found = run_seed(seed)
    assert found.held, f"{found.law}: {found.text}"


def test_a_stalled_leader_of_a_deleted_ledger_took_the_records_of_the_new_one_for_drafts() -> None:
    found = run_seed(8799)
    assert found.held, f"{found.law}: {found.text}"


def test_what_was_ruled_before_a_ledger_was_lost_was_taken_for_a_draft_once_the_loss_was_forgotten() -> None:
    found = run_seed(114)
    assert found.held, f"{found.law}: {found.text}"
