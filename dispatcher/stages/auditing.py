"""Audit: what ACI itself lists is compared with the pods. Groups without one are warned of, charged and waited out.

Looks at the account (a look that fails leaves what was seen before, which says how old it is), opens a leak for each
group that has outlived its pod by more than was set aside, and charges it as it bills on. Also says what quotas really
leave to us. Believes a pod missing only when a read by name has said so. Decides nothing of what an ordinary pod costs.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta

from dispatcher.core.leaks import Leak, covered_until, is_leaked
from dispatcher.core.ledger import Entry
from dispatcher.core.observations import AccountSeen, GroupSeen
from dispatcher.core.policy import Policy, VirtualNodePolicy
from dispatcher.core.pricing import billed, group_rate
from dispatcher.core.units import UTC, to_text
from dispatcher.errors import LookFailed
from dispatcher.memory import Memory
from dispatcher.ports import ObjectRef, Ports

LOOK_EVERY = timedelta(seconds=10)
"""How often the account is looked at while nothing in particular is wanted of it."""
QUOTAS_LAST = timedelta(minutes=5)
"""How long quotas that were read count; after that the configured ones do."""
NOTHING_READ = AccountSeen(datetime.min.replace(tzinfo=UTC), {})


async def look(memory: Memory, ports: Ports, wanted: Collection[str]) -> None:
    """Looks at the account, if there is one, and if anything is wanted of it or it is time."""
    if ports.account is None:
        return
    if memory.account_seen is None:
        memory.account_seen = NOTHING_READ
    now = ports.clock.now()
    followed = {uid for uid, leak in memory.draft.leaks.items() if leak.bills} | memory.without_pod.keys()
    due = memory.look_at_account_at is None or now >= memory.look_at_account_at
    if not (wanted or followed or due):
        return
    memory.look_at_account_at = now + LOOK_EVERY
    try:
        memory.account_seen = await ports.account.look({*wanted, *followed})
    except LookFailed as failure:
        if not memory.account_fault:
            ports.events.emit("account.not_read", text=str(failure))
        memory.account_fault = str(failure)
    else:
        if memory.account_fault:
            ports.events.emit("account.read_again")
        memory.account_fault = ""


async def audit(memory: Memory, ports: Ports, policy: Policy) -> None:
    """Seeks groups without pods in each new look, and follows those that were found."""
    seen = memory.account_seen
    if seen is None or policy.virtual_node is None or memory.audited == seen.as_of:
        return
    memory.audited = seen.as_of
    _follow(memory, ports, seen)
    memory.without_pod = {uid: at for uid, at in memory.without_pod.items() if uid in seen.groups}
    for group in seen.groups.values():
        if group.gone or group.pod_uid in memory.draft.leaks:
            continue
        await _examine(memory, ports, policy.virtual_node, group)
    memory.draft.forget_leaks(ports.clock.now())


def _follow(memory: Memory, ports: Ports, seen: AccountSeen) -> None:
    """Charges each leak for as long as it was seen to bill; the look that shows it no more is its end at the latest."""
    for uid, leak in list(memory.draft.leaks.items()):
        if leak.held_until is not None or seen.as_of <= leak.since:
            continue
        group = seen.groups.get(uid)
        if group is None or group.gone:
            stopped = group.stopped_at if group is not None else None
            if stopped is not None and not leak.stopped:
                memory.draft.leak_stopped(uid, stopped)
            memory.draft.leak_gone(uid, seen.as_of)
        elif group.stopped_at is None:
            memory.draft.leak_seen(uid, seen.as_of)
        elif not leak.stopped:
            memory.draft.leak_stopped(uid, group.stopped_at)
        after = memory.draft.leaks[uid]
        if leak.bills and not after.bills:
            ports.events.emit(
                "leak.resolved", group=leak.group, job=leak.job, pod=uid, cost_usd=str(after.spent),
                how="stopped" if after.held_until is None else "gone",
            )  # fmt: skip


async def _examine(memory: Memory, ports: Ports, node: VirtualNodePolicy, group: GroupSeen) -> None:
    uid, now = group.pod_uid, ports.clock.now()
    job = memory.job_of_pod.get(uid, group.job)
    entry = memory.draft.entries.get(job)
    sight = memory.sightings.get(job)
    if sight is not None and uid in sight.pods and uid not in sight.gone:
        memory.without_pod.pop(uid, None)
        return
    note = entry.pods.get(uid) if entry is not None else None
    gone_at = note.gone_at if note is not None else None
    since = memory.without_pod.setdefault(uid, gone_at or now)
    tail = entry.tail if entry is not None and entry.paid else node.tail
    if not is_leaked(since, tail, now):
        return
    if await ports.cluster.has_pod(group.namespace, ObjectRef(group.pod, uid)):
        memory.without_pod[uid] = now  # another's, or its news is late
        return
    _open(memory, ports, node, group, entry, since)


def _open(
    memory: Memory, ports: Ports, node: VirtualNodePolicy, group: GroupSeen, entry: Entry | None, since: datetime
) -> None:
    """From here on it is a leak. What its pod had reserved is charged to its end in the same write."""
    uid, now = group.pod_uid, ports.clock.now()
    paid = entry if entry is not None and entry.paid else None
    note = paid.pods.get(uid) if paid is not None else None
    # Of one that nobody knows any more it is not known either what was charged for it: too much rather than too little.
    start = group.started_at or (note.created_at if note is not None else since)
    charged_until = group.stopped_at or start
    if paid is not None and note is not None and not note.charged and group.stopped_at is None:
        charged_until = covered_until(start, since, paid.shape.deadline, paid.tail)
        cost = memory.draft.charge(paid.name, uid, start, charged_until, estimated=True)
        if uid not in memory.draft.entries[paid.name].pods:
            memory.sight(paid.name).dropped.add(uid)
        ports.events.emit("pod.charged", job=paid.name, pod=uid, cost_usd=str(cost), estimated=True)
    leak = Leak(
        group=group.name,
        job=paid.name if paid is not None else group.job,
        tenant=entry.tenant if entry is not None else "",
        task=entry.task if entry is not None else "",
        rate=paid.rate if paid is not None else group_rate(group.requests, node.rates),
        cpu_millis=paid.cpu_millis if paid is not None else billed(group.requests).cpu_millis,
        since=now,
        charged_until=charged_until,
        stopped=group.stopped_at is not None,
    )
    memory.draft.leak_found(uid, leak)
    memory.without_pod.pop(uid, None)
    bills = "bills on" if leak.bills else "is left"
    ports.events.emit(
        "group.leaked", group=leak.group, job=leak.job, pod=uid, bills=leak.bills, charged_until=to_text(charged_until)
    )
    ports.events.emit("alarm.raised", what=f"container group {leak.group} {bills} without a pod", job=leak.job)


def as_quotas_are(policy: Policy, memory: Memory, now: datetime) -> Policy:
    """The policy with the quotas that Azure itself tells, less what others use of them.

    Unchanged where it tells none.
    """
    seen, node = memory.account_seen, policy.virtual_node
    if seen is None or node is None or now > seen.as_of + QUOTAS_LAST:
        return policy
    ours = [group for group in seen.groups.values() if not group.gone]
    if seen.group_quota is not None:
        others = max(0, seen.group_quota.used - len(ours))
        node = replace(node, groups_max=max(0, seen.group_quota.limit - others))
    if seen.core_quota is not None:
        own_cores = -(-sum(billed(group.requests).cpu_millis for group in ours) // 1000)
        others = max(0, seen.core_quota.used - own_cores)
        node = replace(node, cores_max=max(0, seen.core_quota.limit - others))
    return replace(policy, virtual_node=node)
