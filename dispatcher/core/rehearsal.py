"""A rehearsal: what the backlog would do now under some policy, what that may cost, and how long all of it takes.

Decides what a dry run says, with the very plan that a cycle makes; nothing is launched by it, written or reserved. What
starts now is exact. How long the rest takes is an estimate from what was learned of run times (what a task may take at
most, as long as nobody has seen enough), as if what starts now were repeated until nothing waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from dispatcher.core.ledger import Draft
from dispatcher.core.plan import Hold, Launch, Snapshot, plan_cycle
from dispatcher.core.policy import Policy
from dispatcher.core.pricing import cost_of, group_rate
from dispatcher.core.units import NO_MONEY, Money, to_text
from dispatcher.core.words import span
from dispatcher.core.work import Placement, Task

_WITHOUT_LIMIT = 1_000_000
"""Launches of one plan: a cycle makes fewer, and the next goes on at once."""


@dataclass(frozen=True, slots=True)
class Starts:
    """What of one task and tenant would start now in one place."""

    task: str
    tenant: str
    placement: Placement
    why: str
    items: int
    jobs: int
    pods: int
    cost_max: Money
    """What would be set aside."""
    cost_expected: Money
    """If pods take as long as they did on the mean."""
    takes: timedelta
    """One pod, start and run."""
    learned: bool
    """Whether that is known, or the most that the task allows."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What would happen."""

    starts: tuple[Starts, ...]
    holds: tuple[Hold, ...]
    rejected: int
    unknown: int
    """Items of tasks that the policy does not have: their messages could not have come."""
    until_done: timedelta | None
    """Until nothing waits, about; None: something waits of which nothing starts now."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; amounts are dollars, times seconds."""
        return {
            "starts": [
                {
                    "task": each.task,
                    "tenant": each.tenant,
                    "placement": each.placement,
                    "why": each.why,
                    "items": each.items,
                    "jobs": each.jobs,
                    "pods": each.pods,
                    "cost_max_usd": str(each.cost_max),
                    "cost_expected_usd": str(each.cost_expected),
                    "takes_seconds": each.takes.total_seconds(),
                    "learned": each.learned,
                }
                for each in self.starts
            ],
            "holds": [
                {
                    "task": hold.task,
                    "tenant": hold.tenant,
                    "items": hold.count,
                    "reason": hold.held.reason,
                    "until": hold.held.until and to_text(hold.held.until),
                    "detail": hold.held.detail,
                }
                for hold in self.holds
            ],
            "rejected": self.rejected,
            "unknown": self.unknown,
            "cost_max_usd": str(sum((each.cost_max for each in self.starts), start=NO_MONEY)),
            "cost_expected_usd": str(sum((each.cost_expected for each in self.starts), start=NO_MONEY)),
            "until_done_seconds": None if self.until_done is None else self.until_done.total_seconds(),
            "until_done": None if self.until_done is None else span(self.until_done),
        }


def rehearse(snapshot: Snapshot, policy: Policy, now: datetime) -> Rehearsal:
    """What that backlog would do under that policy, which may be another than the one in force."""
    draft = Draft(snapshot.ledger, policy.budgets, timedelta(0))
    draft.take_over()  # as a leader under that policy would find the accounts
    known = [lane for lane in snapshot.lanes if lane.key.task in policy.tasks]
    retries = [retry for retry in snapshot.retries if retry.task in policy.tasks]
    unknown = sum(len(lane.items) for lane in snapshot.lanes) - sum(len(lane.items) for lane in known)
    plan = plan_cycle(
        replace(snapshot, lanes=known, retries=retries, ledger=draft.peek()),
        replace(policy, launches_per_cycle_max=_WITHOUT_LIMIT),
        now,
    )
    counts = {retry.name: retry.count for retry in retries}
    starts = tuple(_starts(plan.launches, counts, snapshot, policy))
    rejected = sum(len(each.items) for each in plan.rejections)
    return Rehearsal(starts, plan.holds, rejected, unknown, _until_done(starts, plan.holds))


def _starts(
    launches: tuple[Launch, ...], counts: dict[str, int], snapshot: Snapshot, policy: Policy
) -> Iterator[Starts]:
    groups: dict[tuple[str, str, Placement, str], list[Launch]] = {}
    for launch in launches:
        key = (launch.task, launch.tenant, launch.placed.where, launch.placed.why.value)
        groups.setdefault(key, []).append(launch)
    for (name, tenant, where, why), group in groups.items():
        task = policy.tasks[name]
        takes, learned = _takes(task, where, snapshot)
        pods = sum(launch.placed.shape.completions for launch in group)
        rate = NO_MONEY
        if where is Placement.VIRTUAL_NODE and policy.virtual_node is not None:
            rate = group_rate(policy.virtual_node.of_group(task.requests), policy.virtual_node.rates)
        yield Starts(
            name,
            tenant,
            where,
            why,
            items=sum(counts[launch.retry] if launch.retry else len(launch.items) for launch in group),
            jobs=len(group),
            pods=pods,
            cost_max=sum((launch.placed.cost_max for launch in group), start=NO_MONEY),
            cost_expected=cost_of(rate, takes) * pods,
            takes=takes,
            learned=learned,
        )


def _takes(task: Task, where: Placement, snapshot: Snapshot) -> tuple[timedelta, bool]:
    """How long one pod takes, and whether that was learned."""
    learned = snapshot.experience.learned if snapshot.experience is not None else None
    run = learned.mean_run(task.name) if learned is not None else None
    if learned is None or run is None:
        return task.start_deadline + task.item_timeout, False
    return learned.start(task.name, where, 50, task.start_deadline) + run, True


def _until_done(starts: tuple[Starts, ...], holds: tuple[Hold, ...]) -> timedelta | None:
    waiting: Counter[str] = Counter()
    started: Counter[str] = Counter()
    takes: dict[str, timedelta] = {}
    for hold in holds:
        waiting[hold.task] += hold.count
    for each in starts:
        started[each.task] += each.items
        takes[each.task] = max(each.takes, takes.get(each.task, timedelta(0)))
    if any(not started[task] for task, count in waiting.items() if count):
        return None
    rounds = (takes[task] * (1 + -(-waiting[task] // count)) for task, count in started.items())
    return max(rounds, default=timedelta(0))
