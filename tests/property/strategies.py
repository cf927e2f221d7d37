"""What Hypothesis draws from: instants, zones, shapes, Jobs that run, items, records, worlds to plan in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from dispatcher.core.budgets import Budget, Scope, WhenExhausted
from dispatcher.core.circuit import Circuit
from dispatcher.core.failures import FailureCause
from dispatcher.core.jobs import JobShape
from dispatcher.core.ledger import Draft, Ledger, NoRoom
from dispatcher.core.observations import NodeHeadroom
from dispatcher.core.plan import HeldRetry, Snapshot
from dispatcher.core.policy import NodePoolPolicy, Policy, VirtualNodePolicy
from dispatcher.core.records import Record, Ruling, RulingKind
from dispatcher.core.retries import Failure, Tries
from dispatcher.core.units import UTC, Money, Resources
from dispatcher.core.windows import BusinessHours, WindowKind
from dispatcher.core.work import Placement, Task, WorkItem
from tests.builders import NOW, a_node, a_policy, a_retry, a_shape, a_task, an_entry, an_item, lane_of

TENANTS = ("acme", "globex", "initech")

# --- time -------------------------------------------------------------------------------------------------------------

ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/Havana",
    "Atlantic/Azores", "America/Santiago", "Africa/Cairo", "Asia/Kathmandu", "Pacific/Apia", "Pacific/Chatham",
    "Asia/Beirut", "America/St_Johns", "Africa/Casablanca",
)  # fmt: skip
"""Half-hour offsets, changes at midnight both ways, a change by half an hour, a day that never was."""

zones = st.sampled_from(ZONES).map(ZoneInfo)
window_kinds = st.sampled_from(WindowKind)
instants = st.datetimes(datetime(2010, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@st.composite
def instants_near_clock_changes(draw: st.DrawFn, zone: ZoneInfo) -> datetime:
    """Any instant, or one within hours of where the zone's offset changes."""
    instant = draw(instants)
    if draw(st.booleans()):
        return instant
    first = instant
    for _ in range(400):
        following = first + timedelta(days=1)
        if first.astimezone(zone).utcoffset() != following.astimezone(zone).utcoffset():
            return first + timedelta(minutes=draw(st.integers(-180, 36 * 60)))
        first = following
    return instant


# --- Jobs, and what they are billed -----------------------------------------------------------------------------------


def seconds(at_least: int, at_most: int) -> st.SearchStrategy[timedelta]:
    """A whole number of seconds."""
    return st.integers(at_least, at_most).map(lambda count: timedelta(seconds=count))


@st.composite
def shapes(draw: st.DrawFn, pods_max: int = 5, deadline_max: int = 60) -> JobShape:
    """A small Job: several waves, retries inside."""
    completions = draw(st.integers(1, pods_max))
    parallelism = draw(st.integers(1, completions))
    return JobShape(completions, parallelism, draw(st.integers(0, 2)), draw(seconds(1, deadline_max)))


@dataclass(frozen=True, slots=True)
class Group:
    """A container group of a simulated Job: billed in each second of [start, end)."""

    index: int
    start: datetime
    left: datetime
    """When its pod left the active set."""
    end: datetime

    def seconds_within(self, start: datetime, end: datetime) -> int:
        """How many of its billed seconds lie in [start, end)."""
        return max(0, int((min(end, self.end) - max(start, self.start)).total_seconds()))


def run_job(
    shape: JobShape, started: datetime, durations: Sequence[int | None], tails: Sequence[int], fails: Sequence[bool]
) -> list[Group]:
    """A Job controller at its least convenient, second by second.

    It keeps up to P pods active while indexes are left, replaces a failed one at once, and stops everything at the
    deadline. The n-th pod lives ``durations[n]`` seconds (None: until stopped), fails or not, and its group bills
    ``tails[n]`` seconds longer than the pod is active. What is beyond the lists repeats them from the beginning.
    """
    waiting = [(index, 0) for index in range(shape.completions)]
    active: list[tuple[int, int, int, int]] = []  # index, try, number, second of its start
    groups: list[Group] = []
    made = 0
    deadline = int(shape.deadline.total_seconds())
    for second in range(deadline + 1):
        for pod in list(active):
            index, attempt, number, since = pod
            lifetime = durations[number % len(durations)]
            if second < deadline and (lifetime is None or second - since < lifetime):
                continue
            active.remove(pod)
            left = started + timedelta(seconds=second)
            tail = timedelta(seconds=tails[number % len(tails)])
            groups.append(Group(index, started + timedelta(seconds=since), left, left + tail))
            if fails[number % len(fails)] and attempt < shape.backoff_limit_per_index:
                waiting.insert(0, (index, attempt + 1))
        while waiting and len(active) < shape.parallelism and second < deadline:
            index, attempt = waiting.pop(0)
            active.append((index, attempt, made, second))
            made += 1
    return groups


@st.composite
def job_runs(draw: st.DrawFn, shape: JobShape, tail: timedelta, started: datetime) -> list[Group]:
    """What a Job of that shape may do, within the assumptions: no group outlives its pod by more than the tail."""
    longest = int(shape.deadline.total_seconds())
    durations = draw(st.lists(st.one_of(st.none(), st.integers(0, longest)), min_size=1, max_size=6))
    tails = draw(st.lists(st.integers(0, int(tail.total_seconds())), min_size=1, max_size=6))
    fails = draw(st.lists(st.booleans(), min_size=1, max_size=6))
    return run_job(shape, started, durations, tails, fails)


# --- money ------------------------------------------------------------------------------------------------------------

money = st.integers(0, 10**18).map(Money)
small_limits = st.sampled_from([10**6, 40, 10, 3, 1, 0]).map(lambda pods: Money.from_usd("0.0000146") * (pods * 300))


business_hours = st.builds(
    BusinessHours,
    st.frozensets(st.integers(0, 6), min_size=1),
    st.integers(0, 23).map(time),
    st.integers(0, 23).map(lambda hour: time(hour, 30)),
)


@st.composite
def budgets(draw: st.DrawFn, names: Sequence[str] = ("one", "two", "three")) -> tuple[Budget, ...]:
    """Up to three budgets of different scope, window, zone and hours, with room for a few pods each."""
    return tuple(
        Budget(
            name,
            draw(small_limits),
            draw(st.sampled_from(Scope)),
            draw(window_kinds),
            draw(zones),
            draw(st.sampled_from((None, *TENANTS))),
            draw(st.sampled_from((None, "report"))),
            draw(st.none() | business_hours),
            draw(st.sampled_from([(), (50, 90)])),
            draw(st.sampled_from(WhenExhausted)),
        )
        for name in draw(st.lists(st.sampled_from(names), unique=True, max_size=3))
    )


# --- items, records ---------------------------------------------------------------------------------------------------

any_text = st.text(st.characters(codec="utf-8"), max_size=20)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def any_items(draw: st.DrawFn) -> WorkItem:
    """An item with odd text everywhere, its parameters written as the reader of messages writes them."""
    params: Any = draw(st.dictionaries(any_text, json_values, max_size=3))
    return an_item(
        draw(st.integers(1, 2**63 - 1)),
        message_id=draw(any_text),
        tenant=draw(any_text),
        priority=draw(st.integers(0, 9)),
        params_json=json.dumps(params, ensure_ascii=False, separators=(",", ":")),
        enqueued_at=draw(instants),
        received_at=draw(instants),
        expires_at=draw(st.none() | instants),
    )


causes = st.sampled_from(FailureCause)
failures = st.builds(Failure, causes, any_text, any_text)
tries = st.builds(
    Tries,
    own=st.integers(0, 5),
    platform=st.integers(0, 25),
    cause=st.none() | causes,
    message=any_text,
    log_tail=any_text,
    repeated=st.integers(0, 5),
)
rulings = st.builds(Ruling, st.sampled_from(RulingKind), tries, st.none() | instants)


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Any record, at any point of its life."""
    items = draw(st.lists(any_items(), min_size=1, max_size=4))
    indexes = st.integers(0, len(items) - 1)
    return Record(
        batch=draw(st.text("abcdefghij0123456789", min_size=1, max_size=10)),
        attempt=draw(st.integers(1, 50)),
        task=draw(any_text),
        tenant=draw(any_text),
        priority=draw(st.integers(0, 9)),
        epoch=draw(st.integers(0, 1000)),
        created_at=draw(instants),
        items=tuple(items),
        tries=tuple(draw(tries) for _ in items),
        parent=draw(st.none() | st.just("burst-b1-1")),
        after_cancel=draw(st.booleans()),
        not_before=draw(st.none() | instants),
        job=draw(st.none() | st.dictionaries(any_text, json_values, max_size=2)),
        rulings=draw(st.dictionaries(indexes, rulings, max_size=4)),
        evidence=draw(
            st.dictionaries(indexes, st.dictionaries(any_text, failures, min_size=1, max_size=2), max_size=3)
        ),
    )


# --- worlds to plan in ------------------------------------------------------------------------------------------------


@st.composite
def tasks(draw: st.DrawFn, name: str) -> Task:
    """A task of any appetite."""
    both = tuple(Placement)
    placements = draw(st.sampled_from([both, both, (Placement.NODE_POOL,), (Placement.VIRTUAL_NODE,)]))
    return a_task(
        name,
        requests=Resources(draw(st.integers(1, 20)) * 100, draw(st.integers(1, 20)) * 10**8),
        batch_size_max=draw(st.integers(1, 6)),
        parallelism_max=draw(st.integers(2, 14)),
        backoff_limit=draw(st.integers(0, 3)),
        placements=placements,
        spill_after=draw(seconds(0, 10)),
        linger=draw(seconds(0, 10)),
        item_timeout=draw(seconds(1, 300)),
        start_deadline=draw(seconds(1, 180)),
    )


virtual_nodes = st.builds(
    VirtualNodePolicy,
    subnet_prefix=st.integers(26, 29),
    address_headroom=st.integers(0, 3),
    groups_max=st.sampled_from([50, 20, 4]),
    cores_max=st.sampled_from([50, 20, 4]),
    creates_per_5min=st.sampled_from([50, 20, 4]),
    creates_per_hour=st.sampled_from([60, 30, 6]),
    tail=seconds(0, 60),
    rate_windows=st.sampled_from([VirtualNodePolicy().rate_windows, (timedelta(seconds=30), timedelta(seconds=360))]),
)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Two tasks, perhaps a virtual node, perhaps budgets."""
    return a_policy(
        draw(tasks("report")),
        draw(tasks("resize")),
        node_pool=NodePoolPolicy(pods_max=draw(st.none() | st.integers(0, 10))),
        virtual_node=draw(virtual_nodes) if draw(st.integers(0, 5)) else None,
        budgets=draw(budgets()),
        manifest_bytes_max=draw(st.sampled_from([500, 1000, 2000, 100_000])),
        launches_per_cycle_max=1000,
        tenant_weights=draw(st.dictionaries(st.sampled_from(TENANTS), st.integers(1, 3), max_size=2)),
    )


def item_from(code: int, number: int, names: Sequence[str]) -> WorkItem:
    """One of the few kinds of items that make a difference to a plan, by number: one draw instead of five."""
    code, task = divmod(code, len(names))
    code, tenant = divmod(code, len(TENANTS))
    code, priority = divmod(code, 2)
    age, length = divmod(code, 3)
    return an_item(
        number,
        task=names[task],
        tenant=TENANTS[tenant],
        priority=priority,
        params_json='"' + "x" * (0, 10, 700)[length] + '"',
        received_at=NOW - timedelta(seconds=age),
    )


@st.composite
def waiting_items(draw: st.DrawFn, policy: Policy) -> list[WorkItem]:
    """A backlog, in the order of its arrival."""
    names = sorted(policy.tasks)
    codes = draw(st.lists(st.integers(0, len(names) * len(TENANTS) * 2 * 3 * 30 - 1), min_size=3, max_size=25))
    return [item_from(code, number, names) for number, code in enumerate(codes, 1)]


@st.composite
def held_retries(draw: st.DrawFn, policy: Policy) -> list[HeldRetry]:
    """Retries that wait for their turn, some for their time."""
    return [
        a_retry(
            draw(st.integers(1, 6)),
            name=f"burst-r{number}-2",
            task=draw(st.sampled_from(sorted(policy.tasks))),
            tenant=draw(st.sampled_from(TENANTS)),
            priority=draw(st.integers(0, 1)),
            waiting_since=NOW - draw(seconds(0, 100)),
            not_before=NOW + timedelta(seconds=draw(st.integers(-10, 10))),
            allowance_left=draw(st.integers(0, 3)),
        )
        for number in range(draw(st.integers(0, 3)))
    ]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Snapshot, Policy]:
    """All that a plan is made from: a policy, a backlog, retries, nodes, and a ledger in which something is open."""
    policy = draw(policies())
    lanes: dict[tuple[str, str, int], list[WorkItem]] = {}
    for item in draw(waiting_items(policy)):
        lanes.setdefault((item.task, item.tenant, item.priority), []).append(item)
    nodes = tuple(
        a_node(draw(st.integers(0, 6)), draw(st.integers(0, 6)), draw(st.integers(0, 6)), f"node-{number}")
        for number in range(draw(st.integers(0, 3)))
    )
    starting = [(policy.tasks["report"].requests, draw(st.integers(0, 2)))] if nodes else []
    snapshot = Snapshot(
        lanes=[lane_of(items) for items in lanes.values()],
        retries=draw(held_retries(policy)),
        ledger=open_ledger(draw, policy),
        headroom=NodeHeadroom(nodes),
        starting=starting,
        active=draw(st.dictionaries(st.sampled_from(["report", "resize"]), st.integers(0, 3))),
        active_of_tenant=draw(st.dictionaries(st.sampled_from(TENANTS), st.integers(0, 5))),
        node_pods=sum(count for _, count in starting),
        circuit=draw(
            st.sampled_from(
                [
                    Circuit(),
                    Circuit(2),
                    Circuit(4),
                    Circuit(5, NOW - timedelta(seconds=1), timedelta(seconds=60)),
                    Circuit(5, NOW + timedelta(seconds=9), timedelta(seconds=60)),
                ]
            )
        ),
    )
    return snapshot, policy


def open_ledger(draw: st.DrawFn, policy: Policy) -> Ledger:
    """A ledger with up to three attempts open, as far as budgets let them, and creates in the last hour."""
    draft = Draft(Ledger(epoch=1), policy.budgets, timedelta(minutes=5))
    for number in range(draw(st.integers(0, 3))):
        entry = an_entry(f"e{number}", tenant=draw(st.sampled_from(TENANTS)), shape=a_shape(draw(st.integers(1, 3))))
        try:
            draft.open(entry)
        except NoRoom:
            continue
        for pod in range(draw(st.integers(0, entry.shape.completions))):
            draft.pod_seen(entry.name, f"{entry.name}-{pod}", NOW - draw(seconds(0, 3000)), None)
            if draw(st.booleans()):
                draft.pod_gone(entry.name, f"{entry.name}-{pod}", NOW - draw(seconds(0, 400)))
    return draft.finish(NOW)
