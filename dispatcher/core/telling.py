"""Decisions in plain words: why work is where it is, why it is not elsewhere, and what would have to change.

Decides the sentences. They are for somebody who has never seen this program: no setting is assumed to be known, and
each that is named stands where it can be changed. Knows nothing of where the values come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from dispatcher.core.considered import BudgetRoom, Considered, VirtualRoom
from dispatcher.core.policy import Policy
from dispatcher.core.units import Money
from dispatcher.core.verdicts import Held, HoldReason, Why
from dispatcher.core.words import counted, dollars, due, moment, size, span
from dispatcher.core.work import Placement, Task

EVERY_CYCLE = "In every cycle: at the latest a second after the one before, and at once when something happens."
PLACES = {Placement.NODE_POOL: "the nodes", Placement.VIRTUAL_NODE: "the virtual node"}
_SHORT_OF = {
    HoldReason.SUBNET_ADDRESSES: "addresses of the subnet",
    HoldReason.ACI_GROUP_QUOTA: "container groups that Azure's quota allows at once",
    HoldReason.ACI_CORE_QUOTA: "cores that Azure's quota allows at once",
    HoldReason.ACI_CREATE_RATE: "creates of container groups that Azure allows",
}


@dataclass(frozen=True, slots=True)
class Reasons:
    """One verdict in words, under the headings of an explanation."""

    why: list[str] = field(default_factory=list)
    not_elsewhere: list[str] = field(default_factory=list)
    next_look: list[str] = field(default_factory=list)
    would_change: list[str] = field(default_factory=list)


# --- verdicts -------------------------------------------------------------------------------------------------------


def held(verdict: Held, considered: Considered | None, task: Task, policy: Policy, now: datetime) -> Reasons:
    """Why it is held."""
    found = Reasons(next_look=[EVERY_CYCLE])
    if verdict.until is not None:
        found.next_look.append(f"What holds it ends by itself at {due(verdict.until, now)}.")
    why, change = _hold_words(verdict, considered, task, policy, now)
    found.why.extend(why)
    found.would_change.extend(change)
    if considered is not None:
        found.not_elsewhere.extend(_closed_places(verdict.reason, considered, task, policy, now))
    return found


def placed(why: Why, where: Placement, considered: Considered | None, task: Task, policy: Policy) -> Reasons:
    """Why it was placed where it is."""
    found = Reasons()
    if considered is None:
        found.why.append(f"The reason that was written down is {why.value!r}; its numbers were not.")
        return found
    at, nodes = considered.at, considered.node_slots
    when = f"When this was decided, at {moment(at, at)},"
    if where is Placement.NODE_POOL:
        found.why.append(
            f"{when} the nodes had room for {counted(nodes or 0, 'such pod')} ({size(task.requests)} each). Nodes come "
            "first: they are paid for anyway."
        )
        found.not_elsewhere.append("The virtual node is only for what the nodes cannot start in time; it costs extra.")
        return found
    virtual = considered.virtual
    if why is Why.NO_NODES_ALLOWED:
        found.why.append(f"The task {task.name} may run on the virtual node only (its `placements`).")
    elif why is Why.NODES_TOO_LATE:
        objective = span(task.start_by) if task.start_by is not None else "a while"
        found.why.append(
            f"{when} no node was expected to have room for a pod of {task.name} ({size(task.requests)}) early "
            "enough: the "
            f"work had waited {span(considered.waited)}, and is to start within {objective} (`start_by`)."
        )
        found.not_elsewhere.append("The nodes would have come too late.")
    else:
        found.why.append(
            f"{when} no node had room for a pod of {task.name} ({size(task.requests)}; free places: {nodes or 0}), "
            "and the "
            f"work had waited {span(considered.waited)}; this task waits {span(task.spill_after)} for the nodes."
        )
        found.not_elsewhere.append("The nodes were full, and the work was not to wait longer for them.")
    if virtual is not None:
        found.why.append(
            f"The virtual node had room for {counted(virtual.groups, 'such pod')}: {virtual.addresses_in_use} of "
            f"{virtual.addresses_max} addresses were in use."
        )
        found.why.extend(_budget_line(room, at) for room in virtual.budgets)
    return found


def _hold_words(
    verdict: Held, considered: Considered | None, task: Task, policy: Policy, now: datetime
) -> tuple[list[str], list[str]]:
    """Why, and what would have to change."""
    reason, virtual = verdict.reason, considered.virtual if considered else None
    if reason is HoldReason.LINGER:
        why = verdict.detail and f": {verdict.detail}"
        return (
            [f"It waits a moment for company, so that fewer Jobs are made{why}. It may wait {span(task.linger)}."],
            ["Nothing: it goes at the end of that moment, or sooner with a full batch."],
        )
    if reason is HoldReason.TASK_PARALLELISM:
        return (
            [
                f"The task {task.name} may run {counted(task.parallelism_max, 'pod')} at once, and as many are in "
                "flight."
            ],
            ["One of them ends; or `parallelism_max` of the task is raised."],
        )
    if reason is HoldReason.TENANT_PARALLELISM:
        return (
            [f"The tenant has as many pods in flight as it may: {verdict.detail}."],
            ["One of them ends; or its bound in `fairness.tenant_pods_max` is raised."],
        )
    if reason is HoldReason.NODE_HEADROOM:
        elsewhere = " It may run nowhere else." if Placement.VIRTUAL_NODE not in task.placements else ""
        there_is_none = " There is no virtual node." if not elsewhere and policy.virtual_node is None else ""
        return (
            [f"No node has room for a pod of {task.name} ({size(task.requests)}).{elsewhere}{there_is_none}"],
            ["A pod on the nodes ends; or a node is added; or the task may run on the virtual node too."],
        )
    if reason is HoldReason.WAITING_TO_SPILL:
        return (
            [
                f"No node has room for a pod of {task.name} ({size(task.requests)}), and work of this task waits "
                f"{span(task.spill_after)} for one before it may go to the virtual node."
            ],
            ["A node gets room before that; or the time is over; or `spill_after` of the task is shortened."],
        )
    if reason is HoldReason.NODES_IN_TIME:
        objective = f" within the {span(task.start_by)} of its `start_by`" if task.start_by is not None else " in time"
        return (
            [f"No node has room yet, but one is expected to have it{objective}: {verdict.detail}."],
            ["A node gets room; or it is expected too late after all: then it goes to the virtual node."],
        )
    if reason is HoldReason.VIRTUAL_NODE_BOUND:
        return (
            [f"No node has room, and the task may have no more pods on the virtual node: {verdict.detail}."],
            ["One of them ends; or `virtual_pods_max` of the task is raised; or a node gets room."],
        )
    if reason is HoldReason.STEADY_WORK:
        return (
            [f"The task {task.name} runs so much of the time that it belongs on nodes, and is to wait for them."],
            ["A node gets room or is added; or the guard is told to do no more than advise."],
        )
    if reason is HoldReason.BUDGET_EXHAUSTED:
        return _budget_words(verdict, virtual, now)
    if reason in _SHORT_OF:
        return _quota_words(reason, virtual, policy, now)
    if reason is HoldReason.CIRCUIT_OPEN:
        failures = virtual.failures if virtual else 0
        return (
            [
                f"The virtual node has failed {counted(failures, 'time')} in a row for reasons that are not the "
                "work's, and is left alone for a while."
            ],
            ["A single probe goes there next; when it runs, everything may. Or a node gets room."],
        )
    if reason is HoldReason.RETRY_DELAY:
        return (
            ["It failed before, and waits before it is tried again; the wait doubles with every failure."],
            ["Nothing: it is tried again when the wait is over."],
        )
    if reason is HoldReason.VIRTUAL_NODE_FROZEN:
        return (
            [f"Nothing may be started on the virtual node: {verdict.detail or 'an operator must look first'}."],
            ["An operator looks at the bill and lifts the freeze; or a node gets room."],
        )
    if reason is HoldReason.LEAKED_GROUPS:
        return (
            [f"Nothing is started on the virtual node while money is spent on what does no work: {verdict.detail}."],
            ["The container group is deleted in Azure, or ends by itself; or a node gets room."],
        )
    if reason is HoldReason.LEDGER_FULL:
        return (["So much is under way that the ledger cannot hold more."], ["Attempts that are under way end."])
    if reason in (HoldReason.CLOCK_BEHIND, HoldReason.CLOCKS_APART):
        return (
            [f"The time cannot be relied upon, and with it the window that money is spent in: {verdict.detail}."],
            ["The clocks agree again; look at time synchronisation of this machine."],
        )
    return (["This cycle has launched as much as one may."], ["Nothing: the next cycle goes on at once."])


def _budget_words(verdict: Held, virtual: VirtualRoom | None, now: datetime) -> tuple[list[str], list[str]]:
    short = [room for room in (virtual.budgets if virtual else ()) if not room.pods]
    if not short:
        return ([f"A budget is spent: {verdict.detail}."], ["Its window ends; or an operator adds money to it."])
    change: list[str] = []
    for room in short:
        if room.overrun:
            change.append(f"Somebody looks why budget {room.budget} was charged more than was set aside.")
            continue
        missing = room.needed - room.left
        change.append(
            f"Budget {room.budget} gets {dollars(missing)} more: its window ends at {due(room.until, now)}; or work "
            f"that is under way ends and gives back part of the {dollars(room.reserved)} that is set aside; or an "
            f"operator adds it (`dispatcher budgets top-up {room.budget}`)."
        )
    change.append("Or a node gets room: nodes cost nothing more.")
    return [_budget_line(room, now) for room in short], change


def _budget_line(room: BudgetRoom, now: datetime) -> str:
    whose = "" if room.owner == "*" else f" (the account of {room.owner})"
    if room.overrun:
        return f"Budget {room.budget}{whose} was charged more than was set aside, so that nothing is started on it."
    left = f"{dollars(room.left)} is left" if room.left.picos >= 0 else f"it is {dollars(Money(-room.left.picos))} over"
    return (
        f"Budget {room.budget}{whose}: {dollars(room.limit)} until {moment(room.until, now)}, {dollars(room.spent)} "
        f"spent, {dollars(room.reserved)} set aside for work under way: {left}. One more pod may cost up to "
        f"{dollars(room.needed)}."
    )


def _quota_words(
    reason: HoldReason, virtual: VirtualRoom | None, policy: Policy, now: datetime
) -> tuple[list[str], list[str]]:
    profile = policy.virtual_node
    what = _SHORT_OF[reason]
    numbers = ""
    change = ["One of the pods there ends."]
    if profile is not None and virtual is not None:
        if reason is HoldReason.SUBNET_ADDRESSES:
            numbers = (
                f": {virtual.addresses_in_use} of {profile.addresses_max} are held, by pods and for "
                f"{span(profile.release_hold)} after each is gone"
            )
        else:
            numbers = {
                HoldReason.ACI_GROUP_QUOTA: f": the quota is {profile.groups_max}",
                HoldReason.ACI_CORE_QUOTA: f": the quota is {profile.cores_max}",
                HoldReason.ACI_CREATE_RATE: (
                    f": at most {profile.creates_per_5min} in five minutes, {profile.creates_per_hour} in an hour"
                ),
            }[reason]
        if virtual.frees_at is not None:
            change = [f"The next is free again at {due(virtual.frees_at, now)}."]
    remedy = (
        "Or the subnet is enlarged (`virtual_node.subnet`)."
        if reason is HoldReason.SUBNET_ADDRESSES
        else "Or Azure raises the quota, and `virtual_node` in the configuration says so."
    )
    return [f"The virtual node is short of {what}{numbers}."], [*change, remedy, "Or a node gets room."]


def _closed_places(
    reason: HoldReason, considered: Considered, task: Task, policy: Policy, now: datetime
) -> Iterator[str]:
    """Every place, and all that speaks against it at present; the verdict named only the first."""
    if considered.node_slots is None:
        yield f"Nodes: the task {task.name} may not run there (its `placements`)."
    elif considered.node_slots == 0:
        yield f"Nodes: none has room for {size(task.requests)}."
    else:
        yield f"Nodes: there is room for {counted(considered.node_slots, 'such pod')}."
    if considered.virtual is None:
        why = "there is none" if policy.virtual_node is None else f"the task {task.name} may not run there"
        yield f"Virtual node: {why}."
        return
    against = list(_against(considered.virtual, now))
    yield f"Virtual node: {'; '.join(against) if against else 'nothing else speaks against it'}."


def _against(virtual: VirtualRoom, now: datetime) -> Iterator[str]:
    if virtual.frozen:
        yield "it is frozen until an operator has looked"
    if virtual.spill_at > now:
        yield f"this work may go there from {due(virtual.spill_at, now)}"
    if virtual.probe_at is not None:
        probe = due(virtual.probe_at, now)
        yield f"it has failed {counted(virtual.failures, 'time')} in a row; the next probe goes at {probe}"
    if not virtual.groups:
        yield f"it is short of {_SHORT_OF[virtual.scarce]}"
    short = sorted({room.budget for room in virtual.budgets if not room.pods})
    if short:
        yield f"no money for one more pod in {_listed(short)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"budget {name}" for name in names)
