"""With read access to ACI a pod is charged its group's own times, read before it is deleted; what cannot be read in
time is charged at its bound; and what outlives its pod is sought, asked for by name, and followed to its end.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from dispatcher.core.ledger import Draft
from dispatcher.core.observations import AccountSeen, GroupSeen, JobCondition, PodPhase, PodSeen, Quota
from dispatcher.core.policy import VirtualNodePolicy
from dispatcher.core.units import Resources
from dispatcher.errors import LookFailed
from dispatcher.memory import Memory
from dispatcher.ports import ObjectRef, Ports
from dispatcher.stages.accounting import READ_PATIENCE, account, finished_pods
from dispatcher.stages.auditing import QUOTAS_LAST, as_quotas_are, audit
from tests.builders import HOUR, NOW, SECOND, a_budget, a_job_seen, a_ledger, a_pod_seen, a_policy, a_shape, an_entry

JOB = "burst-b1-1"
TAIL = timedelta(minutes=2)
HOLD = VirtualNodePolicy().release_hold
BUDGETS = (a_budget(),)
POLICY = a_policy(budgets=BUDGETS)


class World:
    """A clock, an account that shows what it is told to, and pods that are there or not."""

    def __init__(self) -> None:
        self.at = NOW
        self.groups: dict[str, GroupSeen] = {}
        self.fails = False
        self.pods_there: set[str] = set()
        self.wanted: set[str] = set()
        self.told: list[tuple[str, dict[str, Any]]] = []
        ledger = a_ledger(an_entry(shape=a_shape(1), job_uid=f"uid-{JOB}", may_come=1), budgets=BUDGETS)
        self.memory = Memory(ledger, "1", Draft(ledger, BUDGETS, timedelta(seconds=1)), NOW - HOUR)
        self.memory.sight(JOB).job = a_job_seen()

    def now(self) -> datetime:
        return self.at

    def emit(self, event: str, **facts: Any) -> None:
        self.told.append((event, facts))

    def of(self, event: str) -> list[dict[str, Any]]:
        return [facts for name, facts in self.told if name == event]

    async def look(self, wanted: Collection[str]) -> AccountSeen:
        self.wanted = set(wanted)
        if self.fails:
            raise LookFailed("Azure does not answer")
        read = {uid: replace(group, read_at=group.read_at and self.at) for uid, group in self.groups.items()}
        return AccountSeen(self.at, read)

    async def has_pod(self, namespace: str, pod: ObjectRef) -> bool:
        return pod.uid in self.pods_there

    def shows(self, started: float | None = None, stopped: float | None = None, *, read: bool = True) -> None:
        times = [None if each is None else NOW + timedelta(seconds=each) for each in (started, stopped)]
        group = GroupSeen(
            "p0", "work-p0", *times, read_at=self.at if read else None, namespace="work", pod=f"{JOB}-0-abcde"
        )
        self.groups = {"p0": group}

    def pod(self, **changes: Any) -> PodSeen:
        pod = a_pod_seen(0, "p0", **changes)
        self.memory.sight(JOB).pods["p0"] = pod
        self.memory.job_of_pod["p0"] = JOB
        return pod

    def pod_gone(self) -> None:
        self.memory.sight(JOB).gone.add("p0")

    async def turn(self, seconds: float = 0) -> None:
        self.at += timedelta(seconds=seconds)
        self.memory.dirty = {JOB}
        nothing: Any = None
        me: Any = self
        ports = Ports({}, me, nothing, nothing, self, nothing, self, nothing, nothing, account=me)
        await account(self.memory, ports)
        await audit(self.memory, ports, POLICY)
        self.memory.ledger = self.memory.draft.finish(self.at)
        self.memory.new_draft(POLICY)

    def may_be_deleted(self) -> bool:
        return [pod.uid for _, pod in finished_pods(self.memory, self.at)] == ["p0"]

    @property
    def spent(self) -> str:
        accounts = self.memory.ledger.accounts.values()
        return str(next(iter(accounts)).spent)


ENDED = NOW + timedelta(seconds=20)


async def test_a_pod_is_charged_what_its_group_bills_and_only_then_deleted() -> None:
    world = World()
    world.pod(phase=PodPhase.SUCCEEDED, finished_at=ENDED)
    world.shows(read=False)
    await world.turn(25)
    assert world.wanted == {"p0"}
    assert not world.may_be_deleted()
    world.shows(2.5, 20)
    await world.turn(1)
    assert world.spent == str(world.memory.ledger.entries[JOB].rate * 18)
    assert world.of("pod.charged")[0]["estimated"] is False
    assert world.may_be_deleted()
    await world.turn(1)
    assert len(world.of("pod.charged")) == 1


async def test_a_failed_pod_whose_group_runs_on_is_deleted_at_once_and_charged_when_it_has_stopped() -> None:
    world = World()
    world.pod(phase=PodPhase.FAILED, finished_at=ENDED)
    world.at += timedelta(seconds=25)
    world.shows(2)
    await world.turn()
    assert world.may_be_deleted()
    assert world.of("pod.charged") == []
    world.pod_gone()
    world.shows(2, 27)
    await world.turn(3)
    assert world.spent == str(world.memory.ledger.entries[JOB].rate * 25)


async def test_a_group_that_went_before_it_was_read_is_charged_up_to_the_look_that_missed_it() -> None:
    world = World()
    world.pod(phase=PodPhase.RUNNING)
    world.shows(2, read=False)
    await world.turn(10)
    world.pod_gone()
    world.groups = {}
    await world.turn(1)
    await world.turn(1)
    (charged,) = world.of("pod.charged")
    assert charged["estimated"] is True
    assert charged["cost_usd"] == str(world.memory.ledger.entries[JOB].rate * 16)  # to the look, and the clocks' error


@pytest.mark.parametrize("phase", [PodPhase.SUCCEEDED, PodPhase.FAILED])
async def test_where_the_account_does_not_answer_in_time_the_bound_is_charged(phase: PodPhase) -> None:
    world = World()
    world.fails = True
    world.pod(phase=phase, finished_at=ENDED)
    await world.turn(21)
    assert not world.may_be_deleted()
    assert len(world.of("account.not_read")) == 1
    await world.turn(READ_PATIENCE.total_seconds())
    assert world.may_be_deleted()
    if phase is PodPhase.FAILED:
        assert world.of("pod.charged") == []  # its group may run on for as long as the tail
        await world.turn(TAIL.total_seconds())
    (charged,) = world.of("pod.charged")
    assert charged["estimated"] is True
    assert len(world.of("account.not_read")) == 1


async def leaking() -> World:
    """A world in which a group has outlived its pod by more than its tail."""
    world = World()
    world.pod(phase=PodPhase.RUNNING)
    world.shows(2)
    await world.turn(10)
    world.pod_gone()
    await world.turn(1)
    await world.turn(TAIL.total_seconds() + 10)
    return world


async def test_a_group_that_outlives_its_pod_is_charged_its_tail_and_then_as_it_bills_on() -> None:
    world = await leaking()
    (leaked,) = world.of("group.leaked")
    assert (leaked["group"], leaked["job"], leaked["bills"]) == ("work-p0", JOB, True)
    assert [facts for facts in world.of("alarm.raised") if "without a pod" in facts["what"]]
    rate = world.memory.ledger.entries[JOB].rate
    covered = 11 - 2 + int(TAIL.total_seconds())
    assert world.of("pod.charged")[0]["cost_usd"] == str(rate * covered)
    await world.turn(40)
    assert str(world.memory.ledger.leaks["p0"].spent) == str(rate * 50)
    world.groups = {}
    await world.turn(10)
    (resolved,) = world.of("leak.resolved")
    assert (resolved["how"], resolved["cost_usd"]) == ("gone", str(rate * 60))
    assert world.spent == str(rate * (covered + 60))
    assert not world.memory.ledger.accounts[next(iter(world.memory.ledger.accounts))].overrun
    await world.turn(HOLD.total_seconds())
    assert world.memory.ledger.leaks == {}


async def test_one_that_stops_by_itself_is_charged_to_that_instant_and_counted_until_it_is_gone() -> None:
    world = await leaking()
    rate = world.memory.ledger.entries[JOB].rate
    world.at += timedelta(seconds=10)
    world.shows(2, 11 + TAIL.total_seconds() + 3)
    await world.turn()
    (resolved,) = world.of("leak.resolved")
    assert (resolved["how"], resolved["cost_usd"]) == ("stopped", str(rate * 3))
    assert world.memory.ledger.leaks["p0"].held_until is None
    world.groups = {}
    await world.turn(10)
    await world.turn(HOLD.total_seconds())
    assert world.memory.ledger.leaks == {}
    assert len(world.of("leak.resolved")) == 1


async def test_a_group_whose_pod_is_there_after_all_is_no_leak() -> None:
    world = World()
    world.pods_there = {"p0"}
    world.memory.sight(JOB).pods.clear()
    world.shows(2)
    for _ in range(4):
        await world.turn(TAIL.total_seconds() + 10)
    assert world.of("group.leaked") == []


async def test_a_group_that_nobody_knows_any_more_is_charged_from_its_beginning() -> None:
    world = World()
    world.groups = {
        "lost": GroupSeen(
            "lost", "work-lost", NOW, None, NOW, False, "work", "burst-x-1-0-abcde", Resources(1000, 10**9)
        )
    }
    await world.turn(1)
    assert world.wanted == set()
    await world.turn(VirtualNodePolicy().tail.total_seconds() + 10)
    assert "lost" in world.wanted
    (leaked,) = world.of("group.leaked")
    assert leaked["job"] == "burst-x-1"
    await world.turn(10)
    leak = world.memory.ledger.leaks["lost"]
    assert (leak.tenant, leak.charged_until) == ("", world.at)
    assert leak.spent == leak.rate * int((world.at - NOW).total_seconds())


async def test_a_job_is_settled_as_soon_as_its_groups_own_times_are_charged() -> None:
    world = World()
    world.pod(phase=PodPhase.FAILED, finished_at=ENDED)
    world.memory.sight(JOB).job = a_job_seen(condition=JobCondition.FAILED, failed=1)
    world.at += timedelta(seconds=25)
    world.shows(2, 20)
    await world.turn()
    assert world.memory.ledger.entries[JOB].money_settled


def test_quotas_are_azures_less_what_others_use_of_them_for_as_long_as_they_are_fresh() -> None:
    world = World()
    ours = {"p0": GroupSeen("p0", "g", None, None, requests=Resources(1500, 10**9))}
    world.memory.account_seen = AccountSeen(NOW, ours, Quota(11, 50), Quota(12, 40))
    node = as_quotas_are(POLICY, world.memory, NOW + SECOND).virtual_node
    assert node is not None
    assert (node.groups_max, node.cores_max) == (40, 30)
    assert as_quotas_are(POLICY, world.memory, NOW + QUOTAS_LAST + SECOND) == POLICY
    world.memory.account_seen = replace(world.memory.account_seen, core_quota=None)
    node = as_quotas_are(POLICY, world.memory, NOW).virtual_node
    assert node is not None
    assert (node.groups_max, node.cores_max) == (40, 100)
