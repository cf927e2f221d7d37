"""Small worlds for tests: each builder gives a sensible whole, and a test names the one thing that it changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from dispatcher.core.addresses import group_cpu_millis
from dispatcher.core.attempts import Attempt, Sighting, Stage
from dispatcher.core.batching import Lane, LaneKey
from dispatcher.core.budgets import Budget
from dispatcher.core.jobs import JobShape, attempt_name
from dispatcher.core.ledger import Draft, Entry, Ledger
from dispatcher.core.observations import JobSeen, NodeHeadroom, NodeRoom, PodPhase, PodSeen
from dispatcher.core.plan import HeldRetry, Launch, Plan, Snapshot
from dispatcher.core.policy import Policy, VirtualNodePolicy
from dispatcher.core.pricing import group_rate
from dispatcher.core.records import Record
from dispatcher.core.retries import Tries
from dispatcher.core.units import NO_MONEY, UTC, Money, Resources
from dispatcher.core.work import ItemId, Placement, Task, WorkItem

NOW = datetime(2026, 3, 4, 9, 20, tzinfo=UTC)
"""A Wednesday, twenty past nine: far from the edge of every window."""
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)

VIRTUAL_ONLY = (Placement.VIRTUAL_NODE,)
NODES_ONLY = (Placement.NODE_POOL,)


def seconds(count: float) -> timedelta:
    """So many seconds."""
    return timedelta(seconds=count)


# --- work -----------------------------------------------------------------------------------------------------------


def a_task(name: str = "report", **changes: Any) -> Task:
    """One core, two gigabytes, ten minutes, three retries; may run anywhere."""
    task = Task(name=name, image=f"registry.example/{name}:1", command=("run",), requests=Resources(1000, 2 * 10**9))
    return replace(task, **changes)


def an_item(number: int = 1, **changes: Any) -> WorkItem:
    """A small item of ``report`` for ``acme`` that came long enough ago to wait for nothing any more."""
    item = WorkItem(
        queue="work",
        sequence_number=number,
        message_id=f"message-{number}",
        digest=f"{number:064x}",
        task="report",
        tenant="acme",
        priority=0,
        params_json='{"country":"FR"}',
        enqueued_at=NOW - HOUR,
        received_at=NOW - MINUTE,
    )
    return replace(item, **changes)


def items(count: int, first: int = 1, **changes: Any) -> list[WorkItem]:
    """So many items, in the order in which they came."""
    return [an_item(number, **changes) for number in range(first, first + count)]


def lane_of(waiting: Iterable[WorkItem], key: LaneKey | None = None) -> Lane:
    """A lane that holds these items, in this order."""
    held: dict[ItemId, WorkItem] = {item.id: item for item in waiting}
    first = next(iter(held.values()), None)
    if key is None:
        key = LaneKey(first.task, first.tenant, first.priority) if first else LaneKey("report", "acme", 0)
    return Lane(key, held)


# --- policy, money --------------------------------------------------------------------------------------------------


def a_budget(limit: str = "100", **changes: Any) -> Budget:
    """So many dollars a day, for all together."""
    return replace(Budget("daily", Money.from_usd(limit)), **changes)


def a_policy(*tasks: Task, **changes: Any) -> Policy:
    """The given tasks (or ``report``), a virtual node with Azure's default quotas, no budget."""
    known = {task.name: task for task in tasks or (a_task(),)}
    return replace(Policy(tasks=known, virtual_node=VirtualNodePolicy()), **changes)


def a_shape(completions: int = 1, **changes: Any) -> JobShape:
    """All pods at once, no retries inside, ten minutes."""
    return replace(JobShape(completions, completions, 0, timedelta(minutes=10)), **changes)


def an_entry(batch: str = "b1", **changes: Any) -> Entry:
    """One pod on the virtual node, at $0.0000146 a second, with a tail of two minutes."""
    entry = Entry(
        batch=batch,
        attempt=1,
        task="report",
        tenant="acme",
        placement=Placement.VIRTUAL_NODE,
        items=1,
        written=NOW,
        epoch=1,
        shape=a_shape(),
        rate=Money.from_usd("0.0000146"),
        tail=timedelta(minutes=2),
        cpu_millis=1000,
    )
    return replace(entry, **changes)


def a_draft(
    *entries: Entry,
    budgets: tuple[Budget, ...] = (),
    ledger: Ledger | None = None,
    release_hold: timedelta = 5 * MINUTE,
) -> Draft:
    """A draft in which these entries are open."""
    draft = Draft(ledger or Ledger(epoch=1), budgets, release_hold)
    for entry in entries:
        draft.open(entry)
    return draft


def a_ledger(*entries: Entry, budgets: tuple[Budget, ...] = (), now: datetime = NOW, **changes: Any) -> Ledger:
    """A written ledger in which these entries are open, each with its worst case set aside."""
    return replace(a_draft(*entries, budgets=budgets).finish(now), **changes)


# --- what was seen --------------------------------------------------------------------------------------------------


def a_node(cores: float = 4, gigabytes: float = 8, pods: int = 30, name: str = "node-0") -> NodeRoom:
    """A node with that much free."""
    return NodeRoom(name, Resources(int(cores * 1000), int(gigabytes * 10**9)), pods)


NOTHING = NodeHeadroom()
"""No node, or none with anything free."""


def a_headroom(*nodes: NodeRoom) -> NodeHeadroom:
    """These nodes."""
    return NodeHeadroom(nodes)


def a_job_seen(name: str = "burst-b1-1", **changes: Any) -> JobSeen:
    """A Job that runs."""
    return replace(JobSeen(name=name, uid=f"uid-{name}", created_at=NOW), **changes)


def a_pod_seen(index: int = 0, uid: str | None = None, job: str = "burst-b1-1", **changes: Any) -> PodSeen:
    """A pod that runs."""
    uid = uid if uid is not None else f"pod-{index}"
    pod = PodSeen(
        name=f"{job}-{uid}", uid=uid, job=job, index=index, phase=PodPhase.RUNNING, created_at=NOW, started_at=NOW
    )
    return replace(pod, **changes)


def a_record(count: int = 1, **changes: Any) -> Record:
    """The first attempt of batch ``b1``, with so many fresh items."""
    record = Record(
        batch="b1",
        attempt=1,
        task="report",
        tenant="acme",
        priority=0,
        epoch=1,
        created_at=NOW,
        items=tuple(items(count)),
        tries=(Tries(),) * count,
    )
    return replace(record, **changes)


def an_attempt(
    record: Record | None = None, job: JobSeen | None = None, pods: Iterable[PodSeen] = (), **changes: Any
) -> Attempt:
    """A running attempt, of which this Job and these pods were seen."""
    sight = Sighting(job=job, pods={pod.uid: pod for pod in pods})
    attempt = Attempt(record or a_record(), "record-uid", "1", Stage.RUNNING, sight)
    for name, value in changes.items():
        setattr(attempt if hasattr(attempt, name) else sight, name, value)
    return attempt


# --- plans ----------------------------------------------------------------------------------------------------------


def a_retry(count: int = 1, **changes: Any) -> HeldRetry:
    """A second attempt that may start now."""
    retry = HeldRetry(
        name="burst-r1-2",
        task="report",
        tenant="acme",
        priority=0,
        count=count,
        waiting_since=NOW - HOUR,
        not_before=NOW - MINUTE,
        allowance_left=2,
    )
    return replace(retry, **changes)


def a_snapshot(*waiting: Sequence[WorkItem], **changes: Any) -> Snapshot:
    """Lanes of these items (one lane for each sequence); no node has room, and nothing is in flight."""
    lanes = [lane_of(lane) for lane in waiting]
    return replace(Snapshot(lanes=lanes, retries=(), ledger=Ledger(epoch=1), headroom=NOTHING), **changes)


def entry_of(launch: Launch, batch: str, policy: Policy, now: datetime = NOW) -> Entry:
    """The entry that a launch opens."""
    shape, requests = launch.placed.shape, policy.tasks[launch.task].requests
    paid = launch.placed.where is Placement.VIRTUAL_NODE and policy.virtual_node is not None
    return Entry(
        batch=batch,
        attempt=1,
        task=launch.task,
        tenant=launch.tenant,
        placement=launch.placed.where,
        items=shape.completions,
        written=now,
        epoch=1,
        shape=shape,
        rate=group_rate(requests, policy.virtual_node.rates) if paid and policy.virtual_node else NO_MONEY,
        tail=policy.virtual_node.tail if paid and policy.virtual_node else timedelta(0),
        cpu_millis=group_cpu_millis(requests) if paid else 0,
    )


def after_launches(snapshot: Snapshot, plan: Plan, policy: Policy, now: datetime = NOW) -> Snapshot:
    """The snapshot once the plan was carried out: its launches stand in the ledger, and what it took is gone.

    Raises NoRoom where the plan was made beyond an account.
    """
    hold = policy.virtual_node.release_hold if policy.virtual_node else timedelta(0)
    draft = Draft(snapshot.ledger, policy.budgets, hold)
    active, of_tenant = Counter(snapshot.active), Counter(snapshot.active_of_tenant)
    starting, node_pods, circuit = list(snapshot.starting), snapshot.node_pods, snapshot.circuit
    gone = {item.id for rejection in plan.rejections for item in rejection.items}
    for number, launch in enumerate(plan.launches):
        pods = launch.placed.shape.parallelism
        draft.open(entry_of(launch, f"planned{number}", policy, now))
        active[launch.task] += pods
        of_tenant[launch.tenant] += pods
        gone |= {item.id for item in launch.items}
        if launch.placed.where is Placement.NODE_POOL:
            starting.append((policy.tasks[launch.task].requests, pods))
            node_pods += pods
        else:
            circuit = circuit.probed(now)
    retried = {launch.retry for launch in plan.launches}
    return replace(
        snapshot,
        lanes=[
            lane_of((item for item in lane.items.values() if item.id not in gone), lane.key) for lane in snapshot.lanes
        ],
        retries=[retry for retry in snapshot.retries if retry.name not in retried],
        ledger=draft.finish(now),
        starting=starting,
        active=active,
        active_of_tenant=of_tenant,
        node_pods=node_pods,
        circuit=circuit,
    )


def name_of(batch: str = "b1", attempt: int = 1) -> str:
    """The name of an attempt."""
    return attempt_name(batch, attempt)


def launched(plan: Plan) -> list[tuple[Placement, list[int]]]:
    """Where each launch goes and which items, by number, it takes."""
    return [(launch.placed.where, [item.sequence_number for item in launch.items]) for launch in plan.launches]


def reasons(plan: Plan) -> Mapping[str, int]:
    """How many items are held for each reason."""
    held: Counter[str] = Counter()
    for hold in plan.holds:
        held[hold.held.reason] += hold.count
    return held
