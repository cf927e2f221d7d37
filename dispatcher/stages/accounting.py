"""Account: what was seen of paid pods is noted, charged once, and given back what is left.

Brings sightings into the ledger's draft. Decides when a group has stopped and what it cost: with read access to ACI
from the group's own times; without it from ours, as an upper bound, after the tail by which a group may outlive its
pod.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from dispatcher.core.attempts import Sighting, is_stopped
from dispatcher.core.budgets import CLOCK_ERROR
from dispatcher.core.ledger import Entry
from dispatcher.core.observations import GroupSeen, PodPhase, PodSeen
from dispatcher.memory import Memory
from dispatcher.ports import Ports
from dispatcher.stages import watching


async def account(memory: Memory, ports: Ports) -> None:
    """Notes, charges and settles for every paid entry that something has happened to."""
    now = ports.clock.now()
    await _look_for_unseen(memory, ports)
    entries = memory.draft.entries
    paid = [name for name in sorted(memory.dirty) if name in entries and entries[name].paid]
    for name in paid:
        _note(memory, name, memory.sight(name), now)
    open_money = [name for name in paid if not entries[name].money_settled]
    if not open_money:
        return
    groups = await ports.account.groups() if ports.account is not None else None
    for name in open_money:
        _charge(memory, ports, name, memory.sight(name), groups, now)
        _settle(memory, ports, name, memory.sight(name), groups, now)


async def _look_for_unseen(memory: Memory, ports: Ports) -> None:
    """A pod that the Job has counted and we have not seen may have come and gone, or its news may be late: then it is
    there, with its address. A consistent list says which, once, before any is written off."""
    in_doubt = [
        name
        for name in sorted(memory.dirty)
        if (entry := memory.draft.entries.get(name)) is not None and entry.paid and _is_in_doubt(memory, entry)
    ]
    if not in_doubt:
        return
    watching.relist(memory, await ports.cluster.list_all())
    memory.listed_stopped.update(in_doubt)


def _is_in_doubt(memory: Memory, entry: Entry) -> bool:
    sight = memory.sight(entry.name)
    if not entry.may_come or entry.name in memory.listed_stopped or not is_stopped(sight):
        return False
    unknown = sum(1 for uid in sight.pods if uid not in entry.pods and uid not in sight.dropped)
    return _unseen(entry, sight) > unknown


def _note(memory: Memory, name: str, sight: Sighting, now: datetime) -> None:
    """Pods seen, ended and gone; what can come no more."""
    for pod in sight.pods.values():
        ended = _ended_at(pod, now)
        note = memory.draft.entries[name].pods.get(pod.uid)
        known = note is not None or pod.uid in sight.dropped
        if not known or (note is not None and note.ended_at is None and ended is not None):
            memory.draft.pod_seen(name, pod.uid, pod.created_at, ended)
    for uid in sight.gone:
        memory.draft.pod_gone(name, uid, now)
    for uid in sight.pods:
        if uid not in memory.draft.entries[name].pods:
            sight.dropped.add(uid)
    if is_stopped(sight) and memory.draft.entries[name].may_come:
        memory.draft.pods_unseen(name, _unseen(memory.draft.entries[name], sight), now)
        memory.draft.no_more_pods(name)


def _unseen(entry: Entry, sight: Sighting) -> int:
    """How many pods of a stopped Job may have come and gone unseen.

    A Job that ended by itself has counted all its pods. One that was marked for deletion, or is gone, was counted no
    more: any that it could still have made may have been.
    """
    if sight.job is None and entry.job_uid is None:
        return 0  # its Job never was
    if sight.job is not None and sight.job.condition is not None:
        return max(0, sight.job.succeeded + sight.job.failed - entry.noted)
    return entry.may_come


def _ended_at(pod: PodSeen, now: datetime) -> datetime | None:
    return (pod.finished_at or now) if pod.finished else None


def _charge(
    memory: Memory,
    ports: Ports,
    name: str,
    sight: Sighting,
    groups: Mapping[str, GroupSeen] | None,
    now: datetime,
) -> None:
    entry = memory.draft.entries[name]
    for uid, note in list(entry.pods.items()):
        if note.charged:
            continue
        billed = _billed(entry, uid, sight.pods.get(uid), groups, now)
        if billed is not None:
            cost = memory.draft.charge(name, uid, billed.start, billed.end, estimated=billed.estimated)
            if uid not in memory.draft.entries[name].pods:
                sight.dropped.add(uid)  # gone already, so that the ledger has dropped it at once
            ports.events.emit("pod.charged", job=name, pod=uid, cost_usd=str(cost))


@dataclass(frozen=True, slots=True)
class _Billed:
    start: datetime
    end: datetime
    estimated: bool = True
    """An upper bound from our own sightings, not the group's own times."""


def _billed(
    entry: Entry, uid: str, pod: PodSeen | None, groups: Mapping[str, GroupSeen] | None, now: datetime
) -> _Billed | None:
    """When the pod's group was billed, once it has stopped; None: not known to have stopped yet."""
    note = entry.pods[uid]
    ended = note.ended_at or note.gone_at
    if groups is not None:
        group = groups.get(uid)
        if group is not None and group.stopped_at is not None:
            return _Billed(group.started_at or group.stopped_at, group.stopped_at, estimated=False)
        if group is None and note.gone_at is not None:
            # Never billed, or gone before we looked: it has stopped by now, at the latest.
            return _Billed(note.created_at, now + CLOCK_ERROR)
        return None
    if ended is None:
        return None
    if pod is not None and pod.phase is PodPhase.SUCCEEDED:
        # Its own word counts, and the last one: it may have been seen as failed before.
        return _Billed(note.created_at, max(ended, pod.finished_at or ended))
    if note.ended_at is None:
        ended += CLOCK_ERROR  # by our clock, which may be behind the bill's
    # "Failed" does not prove that the group has stopped: it may run on for as long as the tail.
    last = ended + entry.tail
    return _Billed(note.created_at, last) if now >= last else None


def _settle(
    memory: Memory,
    ports: Ports,
    name: str,
    sight: Sighting,
    groups: Mapping[str, GroupSeen] | None,
    now: datetime,
) -> None:
    """Gives back what is left, once nothing of the attempt can bill any more."""
    entry = memory.draft.entries[name]
    seen_or_impossible = entry.job_uid is not None or sight.job_gone
    if not seen_or_impossible or not is_stopped(sight):
        return
    if any(not note.charged for note in entry.pods.values()):
        return
    if groups is None and entry.noted and now < _last_left(sight, entry) + entry.tail:
        return
    estimated = memory.draft.settle_money(name)
    if estimated:
        ports.events.emit("pods.estimated", job=name, cost_usd=str(estimated))


def _last_left(sight: Sighting, entry: Entry) -> datetime:
    """When the last pod left, as far as known."""
    ends = [pod.finished_at for pod in sight.pods.values() if pod.finished_at is not None]
    return max(ends, default=entry.written)


def finished_pods(memory: Memory) -> list[tuple[str, PodSeen]]:
    """Pods on the virtual node that have ended, are noted in the accepted ledger and written up: they may be deleted.

    Failed ones first: their group may still run, and bill.
    """
    found = [
        (name, pod)
        for name, entry in memory.ledger.entries.items()
        if entry.paid and name in memory.sightings
        for pod in memory.sightings[name].pods.values()
        if _may_go(memory, entry, memory.sightings[name], pod)
    ]
    return sorted(found, key=lambda pair: (pair[1].phase is not PodPhase.FAILED, pair[1].uid))


def _may_go(memory: Memory, entry: Entry, sight: Sighting, pod: PodSeen) -> bool:
    if not pod.finished or pod.uid in sight.gone or pod.marked_for_deletion or pod.uid in sight.deleted:
        return False
    note = entry.pods.get(pod.uid)
    noted = note is not None and note.ended_at is not None
    attempt = memory.attempts.get(entry.name)
    if attempt is None:
        return noted
    ruled = pod.index in attempt.record.rulings
    written_up = pod.uid in attempt.record.evidence.get(pod.index, {})
    return noted and (ruled or written_up)
