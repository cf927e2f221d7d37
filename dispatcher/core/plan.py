"""The plan of one cycle: what is launched now and where, and what is held and why.

Decides the order in which work is considered: held retries first (they have waited longest), then the lanes of the
backlog by priority, in rounds, so that no lane takes all the room while another has work; among equals the tenant with
the least in flight for its weight goes first, then the one that was served least for its weight. Each verdict is
routing's. Knows nothing of how a plan is carried out.

A plan costs time for lanes and launches, not for the length of the backlog: only the front of each lane is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dispatcher.core.batching import Lane, LaneKey, has_lingered, next_batch
from dispatcher.core.capacity import NodeSpace
from dispatcher.core.circuit import Circuit
from dispatcher.core.considered import Considered
from dispatcher.core.experience import Experience, Seen
from dispatcher.core.ledger import Ledger
from dispatcher.core.observations import NodeHeadroom
from dispatcher.core.outlook import Outlook
from dispatcher.core.policy import Policy, ShareBy
from dispatcher.core.pricing import Rates, group_rate
from dispatcher.core.routing import Demand, Room
from dispatcher.core.units import Resources
from dispatcher.core.verdicts import Held, HoldReason, Placed, Rejected
from dispatcher.core.work import Task, WorkItem


@dataclass(frozen=True, slots=True)
class HeldRetry:
    """An attempt that exists as a record and waits for its turn."""

    name: str
    task: str
    tenant: str
    priority: int
    count: int
    waiting_since: datetime
    not_before: datetime
    allowance_left: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a plan is made from, frozen for as long as it is made."""

    lanes: Sequence[Lane]
    retries: Sequence[HeldRetry]
    ledger: Ledger
    headroom: NodeHeadroom
    starting: Sequence[tuple[Resources, int]] = ()
    """Pods on nodes that were launched and that the headroom does not show yet."""
    active: Mapping[str, int] = field(default_factory=dict)
    """Pods in flight, by task."""
    active_of_tenant: Mapping[str, int] = field(default_factory=dict)
    share_of_tenant: Mapping[str, int] = field(default_factory=dict)
    """What each tenant has in flight, counted as shares are: see :func:`share`."""
    served: Mapping[str, int] = field(default_factory=dict)
    """What each tenant was served so far, by its weight: who has had less is next. See :func:`after_service`."""
    node_pods: int = 0
    """Our pods on the nodes, or about to be."""
    on_nodes: Mapping[str, int] = field(default_factory=dict)
    """The same by task."""
    experience: Experience | None = None
    """What was learned so far; None: nothing. Not changed while a plan is made."""
    circuit: Circuit = Circuit()
    ledger_full: bool = False
    clock_fault: str | None = None
    """Why the time of this plan cannot be relied upon, in words; None where it can."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A batch to be launched: either new items from a lane, or a held retry by name."""

    placed: Placed
    task: str
    tenant: str
    priority: int
    items: tuple[WorkItem, ...] = ()
    retry: str | None = None
    considered: Considered | None = field(default=None, compare=False)
    """What that was decided with."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Work that is not launched in this cycle."""

    task: str
    tenant: str
    priority: int
    count: int
    held: Held
    considered: Considered | None = field(default=None, compare=False)
    """What that was decided with; None: routing was not asked."""
    retry: str | None = field(default=None, compare=False)
    """The attempt that is held, by name; None: new items of a lane."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Items that are never launched and go to the dead-letter queue."""

    items: tuple[WorkItem, ...]
    rejected: Rejected


@dataclass(frozen=True, slots=True)
class Plan:
    """What one cycle does."""

    launches: tuple[Launch, ...] = ()
    holds: tuple[Hold, ...] = ()
    rejections: tuple[Rejection, ...] = ()


def plan_cycle(snapshot: Snapshot, policy: Policy, now: datetime) -> Plan:
    """Decides what is launched now; planning again at once, with the launches in the ledger, launches nothing more."""
    nodes = NodeSpace(snapshot.headroom, policy.node_pool, snapshot.node_pods)
    nodes.take_all(snapshot.starting)
    room = Room(
        policy,
        snapshot.ledger,
        nodes,
        snapshot.circuit,
        snapshot.active,
        snapshot.ledger_full,
        now,
        clock_fault=snapshot.clock_fault,
        outlook=Outlook(policy, snapshot.experience, len(snapshot.headroom.nodes), snapshot.on_nodes, now),
    )
    planner = _Planner(snapshot, policy, room, now)
    planner.consider_retries()
    planner.consider_lanes()
    return Plan(tuple(planner.launches), tuple(planner.holds), tuple(planner.rejections))


_NOT_TAKEN = frozenset(
    {
        HoldReason.NODE_HEADROOM,
        HoldReason.VIRTUAL_NODE_BOUND,
        HoldReason.STEADY_WORK,
        HoldReason.SUBNET_ADDRESSES,
        HoldReason.ACI_GROUP_QUOTA,
        HoldReason.ACI_CORE_QUOTA,
        HoldReason.ACI_CREATE_RATE,
        HoldReason.BUDGET_EXHAUSTED,
        HoldReason.CIRCUIT_OPEN,
        HoldReason.VIRTUAL_NODE_FROZEN,
        HoldReason.LEAKED_GROUPS,
    }
)
"""Held because the virtual node does not take it (or may not): more nodes would help."""


def seen_in(snapshot: Snapshot, plan: Plan, policy: Policy, now: datetime) -> Seen:
    """What there was to do when that plan was made, for the experience."""
    waiting: Counter[str] = Counter()
    oldest: dict[tuple[str, str, int], datetime] = {}
    for lane in snapshot.lanes:
        waiting[lane.key.task] += len(lane.items)
        if len(lane.items):
            oldest[lane.key] = next(iter(lane.items.values())).received_at
    for retry in snapshot.retries:
        if retry.not_before <= now:
            waiting[retry.task] += retry.count
    stuck: Counter[str] = Counter()
    kept_off: Counter[str] = Counter()
    for hold in plan.holds:
        since = oldest.get((hold.task, hold.tenant, hold.priority))
        if hold.held.reason in _NOT_TAKEN and since is not None and now - since >= _patience(policy, hold.task):
            stuck[hold.task] += hold.count
        if hold.held.reason is HoldReason.STEADY_WORK:
            kept_off[hold.task] += hold.count
    elsewhere = Counter(snapshot.active)
    elsewhere.subtract(snapshot.on_nodes)
    return Seen(snapshot.on_nodes, elsewhere, waiting, stuck, kept_off)


def _patience(policy: Policy, task: str) -> timedelta:
    """How long the virtual node may hold work up before nodes are wanted for it.

    As long as a node takes to start, since sooner none would help; and as long as one still starts in time for the
    objective: quotas give room again by themselves.
    """
    pool, objective = policy.node_pool.autoscaling, policy.tasks[task].start_by
    start_up = pool.start_up if pool is not None else timedelta(0)
    return max(start_up, objective - start_up) if objective is not None else start_up


SERVICE_UNIT = 1000
"""One pod of a tenant with weight 1."""


def share(policy: Policy, task: Task, pods: int) -> int:
    """What so many pods of a task count in a tenant's share: their number, or what they would cost a second."""
    if policy.share_by is ShareBy.PODS:
        return pods
    rates = policy.virtual_node.rates if policy.virtual_node is not None else Rates()
    return group_rate(task.requests, rates).picos * pods


def after_service(served: Mapping[str, int], waiting: Collection[str], tenant: str, pods: int, weight: int) -> int:
    """What a tenant counts as served once it got so many pods, or so much of what shares are counted in.

    One that comes new, or comes back, starts level with the least served of those that wait: it gets its turn soon and
    has no claim on the past.
    """
    level = min((served[other] for other in waiting if other in served), default=0)
    return max(served.get(tenant, 0), level) + pods * SERVICE_UNIT // weight


_Judged = tuple[Placed | Held | Rejected, Considered | None]


class _Planner:
    """The launches and holds of one plan, as they come together."""

    def __init__(self, snapshot: Snapshot, policy: Policy, room: Room, now: datetime) -> None:
        self._snapshot = snapshot
        self._policy = policy
        self._room = room
        self._now = now
        self._of_tenant = Counter(snapshot.active_of_tenant)
        self.launches: list[Launch] = []
        self.holds: list[Hold] = []
        self.rejections: list[Rejection] = []

    def consider_retries(self) -> None:
        for retry in sorted(self._snapshot.retries, key=self._retry_turn):
            verdict, considered = self._retry_verdict(retry)
            of = (retry.task, retry.tenant, retry.priority)
            if isinstance(verdict, Placed):
                self.launches.append(Launch(verdict, *of, retry=retry.name, considered=considered))
            elif isinstance(verdict, Held):
                self.holds.append(Hold(*of, retry.count, verdict, considered, retry.name))

    def _retry_verdict(self, retry: HeldRetry) -> _Judged:
        if self._now < retry.not_before:
            return Held(HoldReason.RETRY_DELAY, retry.not_before), None
        if self._full:
            return Held(HoldReason.LAUNCHES_PER_CYCLE), None
        left = self._left_of_tenant(retry.tenant)
        if isinstance(left, Held):
            return left, None
        demand = Demand(
            task=self._policy.tasks[retry.task],
            tenant=retry.tenant,
            pods_max=left,
            count=retry.count,
            waiting_since=retry.waiting_since,
            whole=True,
            may_spill_at_once=True,
            allowance_left=retry.allowance_left,
        )
        return self._judged(demand)

    def _judged(self, demand: Demand) -> _Judged:
        considered = self._room.look(demand)  # before: a verdict that places it uses the room up
        verdict = self._room.route(demand)
        if isinstance(verdict, Placed):
            self._of_tenant[demand.tenant] += verdict.shape.parallelism
        return verdict, considered

    def _left_of_tenant(self, tenant: str) -> int | Held | None:
        """How many more pods the tenant may have in flight (None: any number); or that it may have none."""
        most = self._policy.tenant_pods_max.get(tenant)
        if most is None:
            return None
        in_flight = self._of_tenant[tenant]
        if in_flight >= most:
            return Held(HoldReason.TENANT_PARALLELISM, detail=f"{in_flight} pods of {tenant} in flight, {most} allowed")
        return most - in_flight

    def _aged(self, priority: int, since: datetime) -> int:
        """The priority, and one for every so long that it has waited: no priority starves another for ever."""
        ageing = self._policy.priority_ageing
        return priority if not ageing else priority + max(timedelta(0), self._now - since) // ageing

    def _retry_turn(self, retry: HeldRetry) -> tuple[int, datetime]:
        return (-self._aged(retry.priority, retry.waiting_since), retry.waiting_since)

    @property
    def _full(self) -> bool:
        return len(self.launches) + len(self.rejections) >= self._policy.launches_per_cycle_max

    def consider_lanes(self) -> None:
        """Rounds over the lanes: each launches at most one batch a round, until none can."""
        waiting = {lane.key: (lane, 0) for lane in sorted(self._snapshot.lanes, key=self._turn) if len(lane.items)}
        while waiting:
            for key, (lane, taken) in list(waiting.items()):
                launched = self._consider(lane, taken)
                if launched and taken + launched < len(lane.items):
                    waiting[key] = (lane, taken + launched)
                else:
                    del waiting[key]

    def _turn(self, lane: Lane) -> tuple[int, float, int, str, str]:
        """Highest priority first, aged; then who has the least in flight for its weight, then who was served least.

        In flight alone is not enough: where room for one pod frees at a time nobody has anything in flight, and the
        tenant whose name comes first would always go first.
        """
        weight = self._policy.tenant_weights.get(lane.key.tenant, 1)
        in_flight = self._snapshot.share_of_tenant or self._snapshot.active_of_tenant
        has = in_flight.get(lane.key.tenant, 0) / weight
        oldest = next(iter(lane.items.values()), None)
        priority = lane.key.priority if oldest is None else self._aged(lane.key.priority, oldest.received_at)
        served = self._snapshot.served.get(lane.key.tenant, 0)
        return (-priority, has, served, lane.key.tenant, lane.key.task)

    def _consider(self, lane: Lane, taken: int) -> int:
        """Launches the lane's next batch if it may, or rejects it; how many items that took."""
        task = self._policy.tasks[lane.key.task]
        items = next_batch(lane, taken, task, self._policy.manifest_bytes_max)
        behind = len(lane.items) - taken - len(items)
        verdict, considered = self._lane_verdict(lane.key, items, alone=taken == 0, behind=behind)
        if isinstance(verdict, Held):
            self._hold(lane, taken, verdict, considered)
            return 0
        if isinstance(verdict, Rejected):
            self.rejections.append(Rejection(tuple(items), verdict))
            return len(items)
        count = min(verdict.items_max, len(items))
        of = (lane.key.task, lane.key.tenant, lane.key.priority)
        self.launches.append(Launch(verdict, *of, tuple(items[:count]), considered=considered))
        return count

    def _lane_verdict(self, key: LaneKey, items: Sequence[WorkItem], *, alone: bool, behind: int) -> _Judged:
        task, oldest = self._policy.tasks[key.task], items[0]
        in_flight = self._snapshot.active.get(task.name, 0) > 0 or not alone
        small = not behind and len(items) < task.batch_size_max  # with more behind it, it is full by bytes
        if in_flight and small and not has_lingered(oldest, task, self._now):
            return Held(HoldReason.LINGER, oldest.received_at + task.linger), None
        if self._full:
            return Held(HoldReason.LAUNCHES_PER_CYCLE), None
        left = self._left_of_tenant(key.tenant)
        if isinstance(left, Held):
            return left, None
        demand = Demand(
            task=task,
            tenant=key.tenant,
            pods_max=left,
            count=len(items),
            waiting_since=oldest.received_at,
            allowance_left=task.backoff_limit,
            items=items,
            behind=behind,
        )
        return self._judged(demand)

    def _hold(self, lane: Lane, taken: int, held: Held, considered: Considered | None) -> None:
        key = lane.key
        self.holds.append(Hold(key.task, key.tenant, key.priority, len(lane.items) - taken, held, considered))
