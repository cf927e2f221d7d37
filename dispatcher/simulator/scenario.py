"""A seed draws a whole world: policy, quotas, money, nodes, workload, behaviour and which faults are switched on.

Decides what worlds there are. Every world can be drained: no quota or budget is smaller than the largest batch needs,
since what can never fit is a mistake of configuration that the settings refuse.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from random import Random
from zoneinfo import ZoneInfo

from dispatcher.core.batching import pods_for
from dispatcher.core.budgets import Budget, Scope, WhenExhausted, WorstCase
from dispatcher.core.jobs import shape_of
from dispatcher.core.observations import NodeRoom
from dispatcher.core.policy import (
    Autoscaling,
    CircuitPolicy,
    GuardAction,
    GuardPolicy,
    NodePoolPolicy,
    Policy,
    VirtualNodePolicy,
)
from dispatcher.core.pricing import NodePrice, group_rate
from dispatcher.core.units import UTC, Money, Resources
from dispatcher.core.windows import BusinessHours, WindowKind
from dispatcher.core.work import Placement, Task
from dispatcher.simulator.arrivals import Arrivals, arrival_times
from dispatcher.simulator.faults import Fault, FaultPlan
from dispatcher.simulator.replies import REPLY_TO

TENANTS = ("red", "blue", "green")
CREATES_PER_HOUR_LEAST = 30
GB = 10**9

SWITCHED_ON = 0.45
"""The share of worlds in which a fault is switched on."""
RATES: dict[Fault, tuple[float, float]] = {
    Fault.CRASH_BEFORE: (0.001, 0.01),
    Fault.CRASH_AFTER: (0.002, 0.015),
    Fault.LOST_ACT: (0.005, 0.04),
    Fault.LOST_ANSWER: (0.01, 0.08),
    Fault.LATE_ACT: (0.005, 0.05),
    Fault.SLOW_ANSWER: (0.002, 0.02),
    Fault.FAILED_READ: (0.002, 0.03),
    Fault.THROTTLED: (0.01, 0.1),
    Fault.LOCK_LOST: (0.02, 0.2),
    Fault.STALE_WATCH: (0.02, 0.3),
    Fault.MISSED_EVENT: (0.01, 0.2),
    Fault.REPEATED_EVENT: (0.02, 0.3),
    Fault.REORDERED_EVENTS: (0.02, 0.5),
    Fault.STALLED_LEADER: (0.001, 0.006),
    Fault.TWO_LEADERS: (0.01, 0.06),
    Fault.CLOCK_STEP: (0.02, 0.2),
    Fault.JOB_DELETED: (0.01, 0.06),
    Fault.POD_DELETED: (0.01, 0.06),
    Fault.JOB_REFUSED: (0.01, 0.08),
    Fault.NODE_LOST: (0.01, 0.06),
    Fault.POD_REFUSED: (0.05, 0.5),
    Fault.POD_SLOW: (0.1, 0.5),
    Fault.POD_STUCK: (0.02, 0.2),
    Fault.POD_EVICTED: (0.02, 0.2),
    Fault.GROUP_LEAKED: (0.05, 0.5),
}
RARE: dict[Fault, tuple[float, float, float]] = {
    Fault.GROUP_BEYOND_TAIL: (0.15, 0.05, 0.3),
    Fault.LEDGER_LOST: (0.06, 0.01, 0.03),
    Fault.CONTRADICTORY: (0.5, 0.2, 0.8),
}
"""Switched on in fewer worlds: share, least rate, greatest."""
REPORT_RATES: dict[Fault, tuple[float, float]] = {
    Fault.REPORT_LOST: (0.02, 0.3),
    Fault.REPORT_LATE: (0.05, 0.6),
    Fault.REPORT_TWICE: (0.05, 0.6),
}
CARRIERS_SHARE = 0.35
"""In so many worlds pods of some tasks carry several items."""
FULL_REGION_SHARE = 0.1
"""In so many worlds ACI refuses most pods, so that the circuit opens and is probed."""
PARTED_CLOCKS_SHARE = 0.2
"""In so many worlds the clocks part: nothing is launched meanwhile, and in many worlds more too little would happen."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A message that will be sent."""

    at: timedelta
    message_id: str
    body: bytes
    kind: str
    time_to_live: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """One world, as drawn."""

    seed: int
    start: datetime
    policy: Policy
    with_account: bool
    nodes: tuple[NodeRoom, ...]
    release_lag: timedelta
    arrivals: Arrivals
    messages: tuple[Planned, ...]
    faults: FaultPlan
    fault_cycles: int
    replies_lag: bool = False
    """Whether reply queues answer only after the cycle in which they were sent to."""


def draw(seed: int, *, fault_cycles: int = 120) -> Scenario:
    """The world of that seed."""
    random = Random(f"world {seed}")
    virtual = _virtual_node(random)
    carriers = Random(f"{seed} carriers")
    tasks = _carrying(carriers, _tasks(random, virtual))
    window = random.choice((WindowKind.HOUR, WindowKind.HOUR, WindowKind.DAY))
    policy = Policy(
        tasks={task.name: task for task in tasks},
        node_pool=NodePoolPolicy(pods_max=random.choice((None, None, 2, 6))),
        virtual_node=virtual,
        budgets=_budgets(random, tasks, virtual, window),
        circuit=CircuitPolicy(
            failures=random.randint(2, 5),
            cool_down_min=timedelta(seconds=random.choice((5, 20, 60))),
            cool_down_max=timedelta(seconds=random.choice((60, 300))),
        ),
        lookahead_max=random.choice((8, 1000, 1000, 1000)),
        platform_retries_max=random.choice((3, 8, 20)),
        retry_delay_min=timedelta(seconds=random.choice((1, 5, 10))),
        retry_delay_max=timedelta(seconds=60),
        lock_hold_max=timedelta(seconds=random.choice((1, 3, 10))),
        sweep_every=timedelta(seconds=random.choice((60, 300))),
        lock_duration=timedelta(seconds=random.choice((20, 60))),
        manifest_bytes_max=random.choice((2000, 100_000)),
        launches_per_cycle_max=random.choice((1, 2, 50, 50)),
        tenant_weights={"red": random.choice((1, 3))},
    )
    arrivals = random.choice(list(Arrivals))
    # Drawn apart, so that what is added here leaves every other seed's world as it was.
    apart = Random(f"{seed} apart")
    if apart.random() < 0.3:
        policy = replace(policy, budgets=(*policy.budgets, _odd_budget(apart, tasks, virtual)))
    hasty = apart.random() < 0.15
    senders = Random(f"{seed} senders")
    policy = replace(policy, reply_hold_max=timedelta(seconds=senders.choice((30, 120, 600))))
    fairness = Random(f"{seed} fairness")
    if fairness.random() < 0.2:
        policy = replace(policy, tenant_pods_max={"red": fairness.randint(1, 3)})
    region = Random(f"{seed} region") if Random(f"{seed} full").random() < FULL_REGION_SHARE else None
    if region is not None:
        policy = replace(policy, circuit=replace(policy.circuit, failures=2, cool_down_max=timedelta(seconds=300)))
    nodes = _nodes(random)
    policy = _with_routing(Random(f"{seed} routing"), policy, nodes)
    return Scenario(
        seed=seed,
        start=_start(random, window),
        policy=policy,
        with_account=random.random() < 0.5,
        nodes=nodes,
        release_lag=timedelta(seconds=random.uniform(0, 40)),
        arrivals=arrivals,
        messages=_asking(senders, _with_deadlines(apart, _messages(random, arrivals, tasks), hasty=hasty)),
        faults=_with_full_region(
            region,
            _with_parted_clocks(
                Random(f"{seed} clocks"),
                _with_reply_faults(senders, _with_report_faults(carriers, tasks, _faults(random))),
            ),
        ),
        fault_cycles=fault_cycles,
        replies_lag=senders.random() < 0.5,
    )


def _with_routing(random: Random, policy: Policy, nodes: tuple[NodeRoom, ...]) -> Policy:
    """In some worlds tasks have an objective, or a bound of their own; nodes come and go; steady work is kept off.

    Work is kept off only where every node takes a pod of it: who waits for nodes must be able to get one.
    """
    tasks = dict(policy.tasks)
    if random.random() < 0.7:
        start_by = timedelta(seconds=random.choice((90, 180, 600)))
        tasks = {name: replace(task, start_by=start_by) for name, task in tasks.items()}
    if random.random() < 0.2:
        most = random.choice((1, 2, 4))
        tasks = {name: replace(task, virtual_pods_max=most) for name, task in tasks.items()}
    policy = replace(policy, tasks=tasks)
    if random.random() < 0.2:
        price = NodePrice("simulated", Money.from_usd(random.choice(("0.02", "0.2"))), nodes[0].free)
        scaling = Autoscaling(nodes_max=len(nodes), start_up=timedelta(seconds=60))
        policy = replace(policy, node_pool=replace(policy.node_pool, price=price, autoscaling=scaling))
    takes_all = all(task.requests.fits_in(node.free) for task in tasks.values() for node in nodes)
    if random.random() < 0.3 and takes_all:
        guard = GuardPolicy(5, timedelta(minutes=10), timedelta(seconds=30), GuardAction.STOP)
        policy = replace(policy, guard=guard)
    return policy


def _virtual_node(random: Random) -> VirtualNodePolicy:
    tail = timedelta(seconds=random.choice((120, 180)))
    return VirtualNodePolicy(
        subnet_prefix=random.choice((28, 28, 27)),
        address_headroom=random.choice((0, 0, 5)),
        release_hold=tail + timedelta(seconds=60),
        groups_max=random.choice((4, 10, 100)),
        cores_max=random.choice((2, 4, 10, 100)),
        creates_per_5min=random.choice((5, 20, 100)),
        creates_per_hour=random.choice((CREATES_PER_HOUR_LEAST, 60, 300)),
        deletes_per_5min=random.choice((5, 20, 100)),
        deletes_per_hour=random.choice((60, 300)),
        tail=tail,
    )


def _tasks(random: Random, virtual: VirtualNodePolicy) -> list[Task]:
    return [_task(f"task-{number}", random, virtual) for number in range(random.randint(1, 3))]


def _carrying(random: Random, tasks: list[Task]) -> list[Task]:
    """In some worlds pods of some tasks carry several items; no batch needs more pods for that."""
    if random.random() >= CARRIERS_SHARE:
        return tasks
    carrying = []
    for task in tasks:
        per_pod = random.choice((1, 2, 3, None))
        size = task.batch_size_max * (random.randint(1, per_pod) if per_pod is not None else 1)
        carrying.append(replace(task, items_per_pod=per_pod, batch_size_max=size))
    return carrying


def _task(name: str, random: Random, virtual: VirtualNodePolicy) -> Task:
    cpu = random.choice((250, 500, 1000))
    fits = min(
        virtual.addresses_max, virtual.groups_max, virtual.cores_max * 1000 // cpu, virtual.creates_per_5min,
        virtual.creates_per_hour,
    )  # fmt: skip
    both = (Placement.NODE_POOL, Placement.VIRTUAL_NODE)
    parallelism = random.choice((2, 6, 50))
    return Task(
        name=name,
        image="simulated",
        command=("work",),
        requests=Resources(cpu, random.choice((1, 2)) * GB),
        item_timeout=timedelta(seconds=random.choice((20, 40))),
        start_deadline=timedelta(seconds=random.choice((20, 40))),
        backoff_limit=random.choice((0, 1, 3)),
        batch_size_max=min(random.choice((1, 3, 8)), fits, parallelism),
        linger=timedelta(seconds=random.choice((0, 1, 2))),
        parallelism_max=parallelism,
        placements=random.choice((both, both, both, (Placement.NODE_POOL,), (Placement.VIRTUAL_NODE,))),
        spill_after=timedelta(seconds=random.choice((0, 2, 5))),
    )


def _budgets(random: Random, tasks: list[Task], virtual: VirtualNodePolicy, window: WindowKind) -> tuple[Budget, ...]:
    """Tight ones let one or two of the largest batches run at a time, and a window's end turn them loose again."""
    largest = max((_worst(task, virtual) for task in tasks), key=lambda money: money.picos)
    budgets = []
    if random.random() < 0.8:
        budgets.append(Budget("everyone", largest * _times(random, window), Scope.ALL, window))
    if random.random() < 0.5:
        each = random.choice((WindowKind.HOUR, WindowKind.DAY))
        budgets.append(Budget("each", largest * _times(random, each), Scope.TENANT, each))
    if random.random() < 0.2:
        budgets.append(Budget("red-only", largest * _times(random, window), Scope.TENANT, window, tenant="red"))
    return tuple(budgets)


def _odd_budget(random: Random, tasks: list[Task], virtual: VirtualNodePolicy) -> Budget:
    """One of the less usual kinds: other scopes, business hours, and something to be done when it is spent."""
    task = random.choice(tasks)
    scope = random.choice((Scope.TASK, Scope.TENANT_TASK, Scope.TENANT, Scope.ALL))
    action = random.choice((*WhenExhausted, WhenExhausted.DEAD_LETTER))
    rejects = action is WhenExhausted.DEAD_LETTER
    largest = max((_worst(each, virtual) for each in tasks), key=lambda money: money.picos)
    hours = BusinessHours(frozenset(range(7)), time(6), time(22)) if random.random() < 0.5 else None
    return Budget(
        "odd",
        largest * (1 if rejects else random.choice((1, 1, 2))),
        scope,
        WindowKind.DAY if rejects else WindowKind.HOUR,  # what holds must get its money back before long
        random.choice((ZoneInfo("UTC"), ZoneInfo("Asia/Kathmandu"))),
        tenant="red" if scope in (Scope.TENANT, Scope.TENANT_TASK) and random.random() < 0.5 else None,
        task=task.name if scope in (Scope.TASK, Scope.TENANT_TASK) else None,
        hours=hours,
        warn_at=(50, 90),
        when_exhausted=action,
    )


def _with_deadlines(random: Random, messages: tuple[Planned, ...], *, hasty: bool) -> tuple[Planned, ...]:
    """Some messages that are of no use after a while."""
    if not hasty:
        return messages
    return tuple(
        replace(planned, time_to_live=timedelta(seconds=random.choice((20, 90)))) if random.random() < 0.5 else planned
        for planned in messages
    )


def _asking(random: Random, messages: tuple[Planned, ...]) -> tuple[Planned, ...]:
    """In half of the worlds some senders ask to be told how their messages end; copies ask as their firsts do."""
    share = random.choice((0.0, 0.0, 0.5, 1.0))
    bodies: dict[bytes, bytes] = {}
    for planned in messages:
        if planned.body not in bodies:
            asks = random.random() < share
            asking = json.dumps({**json.loads(planned.body), "reply_to": REPLY_TO}).encode()
            bodies[planned.body] = asking if asks else planned.body
    return tuple(replace(planned, body=bodies[planned.body]) for planned in messages)


def _with_report_faults(random: Random, tasks: list[Task], plan: FaultPlan) -> FaultPlan:
    if not plan.rates or not any(task.reports for task in tasks):
        return plan
    drawn = {fault: random.uniform(*bounds) for fault, bounds in REPORT_RATES.items() if random.random() < SWITCHED_ON}
    return FaultPlan({**plan.rates, **drawn})


def _with_reply_faults(random: Random, plan: FaultPlan) -> FaultPlan:
    if plan.rates and random.random() < SWITCHED_ON:
        return FaultPlan({**plan.rates, Fault.REPLY_REFUSED: random.uniform(0.02, 0.3)})
    return plan


def _with_full_region(random: Random | None, plan: FaultPlan) -> FaultPlan:
    if random is not None and plan.rates:
        return FaultPlan({**plan.rates, Fault.POD_REFUSED: random.uniform(0.6, 0.95)})
    return plan


def _with_parted_clocks(random: Random, plan: FaultPlan) -> FaultPlan:
    if plan.rates and random.random() < PARTED_CLOCKS_SHARE:
        return FaultPlan({**plan.rates, Fault.CLOCKS_APART: random.uniform(0.02, 0.1)})
    return plan


def _times(random: Random, window: WindowKind) -> int:
    """How many of the largest batches a budget holds at once; what is used up comes back with the window's end."""
    return random.choice((2, 3, 100) if window is WindowKind.HOUR else (12, 20, 100))


def _worst(task: Task, virtual: VirtualNodePolicy) -> Money:
    """Of its largest batch; where pods carry as many as need be, in whatever pods that costs most."""
    loads = range(1, task.batch_size_max + 1) if task.items_per_pod is None else (task.items_per_pod,)
    return max((_worst_of(task, load, virtual) for load in loads), key=lambda money: money.picos)


def _worst_of(task: Task, items_per_pod: int, virtual: VirtualNodePolicy) -> Money:
    count = pods_for(task.batch_size_max, items_per_pod)
    shape = shape_of(
        task,
        placement=Placement.VIRTUAL_NODE,
        completions=count,
        parallelism=count,
        allowance_left=0,
        items_per_pod=items_per_pod,
    )
    return WorstCase(shape, group_rate(task.requests, virtual.rates), virtual.tail).total()


def _start(random: Random, window: WindowKind) -> datetime:
    """Often just before a window ends, where cost and reservation are easily booked apart."""
    day = datetime(2026, 3, 2, tzinfo=UTC)
    if random.random() < 0.4:
        return day + timedelta(hours=random.randint(0, 20), minutes=random.randint(0, 50))
    hour = 24 if window is WindowKind.DAY else random.randint(1, 23)
    return day + timedelta(hours=hour) - timedelta(seconds=random.randint(5, 240))


def _nodes(random: Random) -> tuple[NodeRoom, ...]:
    return tuple(
        NodeRoom(f"node-{number}", Resources(random.choice((1000, 2000)), 8 * GB), random.choice((3, 30)))
        for number in range(random.choice((1, 1, 2)))
    )


_KINDS = {"ok": 70, "flaky": 10, "bad": 5, "slow": 3, "image": 2, "template": 1, "poison": 4, "copy": 3, "namesake": 2}


_SLOW_KINDS = {**_KINDS, "ok": 20, "slow": 60}
"""In some worlds most of the work runs to its deadline: reservations are used up to the last second."""


def _messages(random: Random, arrivals: Arrivals, tasks: list[Task]) -> tuple[Planned, ...]:
    count = random.choice((6, 12, 25, 40))
    times = arrival_times(arrivals, count, timedelta(seconds=random.choice((5, 60, 150))), random)
    tenants = TENANTS[: random.randint(1, 3)]
    kinds = _SLOW_KINDS if random.random() < 0.1 else _KINDS
    planned: list[Planned] = []
    for number, at in enumerate(times):
        kind = random.choices(list(kinds), list(kinds.values()))[0]
        earlier = [other for other in planned if other.kind in ("ok", "flaky", "bad")]
        if kind == "copy" and earlier:
            first = random.choice(earlier[-5:])
            planned.append(Planned(at, first.message_id, first.body, first.kind))
            continue
        message_id = f"m{number}"
        if kind == "namesake" and earlier:
            message_id = random.choice(earlier).message_id
        if kind in ("copy", "namesake"):
            kind = "ok"
        if kind == "poison":
            planned.append(Planned(at, message_id, b'{"task": "nobody knows it"}', kind))
            continue
        params = {"kind": kind, "n": number}
        body = {"task": random.choice(tasks).name, "tenant": random.choice(tenants), "params": params}
        planned.append(Planned(at, message_id, json.dumps(body).encode(), kind))
    return tuple(planned)


def _faults(random: Random) -> FaultPlan:
    if random.random() < 0.05:
        return FaultPlan()
    rates = {}
    for fault, (least, greatest) in RATES.items():
        if random.random() < SWITCHED_ON:
            rates[fault] = random.uniform(least, greatest)
    for fault, (share, least, greatest) in RARE.items():
        if random.random() < share:
            rates[fault] = random.uniform(least, greatest)
    return FaultPlan(rates)
