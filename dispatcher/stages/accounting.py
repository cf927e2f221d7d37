"""Account: what was seen of paid pods is noted, charged once, and given back what is left.

Brings sightings into the ledger's draft. Decides when a group has stopped and what it cost: with read access to ACI
from the group's own times, which are read before its pod is deleted; without it, and where they cannot be read in time,
from ours, as an upper bound, after the tail by which a group may outlive its pod.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from dispatcher.core.attempts import Sighting, ended_indexes, is_stopped
from dispatcher.core.budgets import CLOCK_ERROR
from dispatcher.core.ledger import Entry, PodNote
from dispatcher.core.observations import AccountSeen, PodPhase, PodSeen
from dispatcher.memory import Memory
from dispatcher.ports import Ports
from dispatcher.stages import auditing, watching

READ_PATIENCE = timedelta(seconds=30)
"""How long a pod that has ended waits for its group's own times to be read; its address waits with it."""

WHOLE_SECONDS = timedelta(seconds=1)
"""By how much a time of Kubernetes may be too early: it is cut to the second."""


async def account(memory: Memory, ports: Ports) -> None:
    """Notes, charges and settles for every paid entry that something has happened to."""
    now = ports.clock.now()
    await _look_for_unseen(memory, ports)
    entries = memory.draft.entries
    paid = [name for name in sorted(memory.dirty) if name in entries and entries[name].paid]
    for name in paid:
        _note(memory, name, memory.sight(name), now)
    unread = _unread(memory)
    await auditing.look(memory, ports, unread)
    seen = memory.account_seen
    told = {name for uid, name in unread.items() if seen is not None and _has_stopped(seen, uid)}
    for name in [name for name in sorted({*paid, *told}) if not entries[name].money_settled]:
        _charge(memory, ports, name, memory.sight(name), seen, now)
        if ports.clock_fault() is None:
            _lower(memory, name, memory.sight(name), now)
        _settle(memory, ports, name, memory.sight(name), seen, now)


def _unread(memory: Memory) -> dict[str, str]:
    """Pods that are over, as far as known, and not charged yet, with their Jobs: their groups' times are wanted."""
    return {
        uid: entry.name
        for entry in memory.draft.entries.values()
        if entry.paid and not entry.money_settled
        for uid, note in entry.pods.items()
        if not note.charged and (note.ended_at or note.gone_at)
    }


def _has_stopped(seen: AccountSeen, uid: str) -> bool:
    group = seen.groups.get(uid)
    return group is not None and group.stopped_at is not None


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
        ended, asked_by = _ended_at(pod, now), _asked_by(pod, now)
        note = memory.draft.entries[name].pods.get(pod.uid)
        known = note is not None or pod.uid in sight.dropped
        news = note is not None and (
            (note.ended_at is None and ended is not None) or (not note.asked_for and asked_by is not None)
        )
        if not known or news:
            memory.draft.pod_seen(name, pod.uid, pod.created_at, ended, asked_by)
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


def _asked_by(pod: PodSeen, now: datetime) -> datetime | None:
    """When Azure had been asked for its group at the latest; None: it may not have been yet.

    The pod is there first: the connector takes its time, and more of it for many pods.
    """
    if pod.started_at is not None:
        return min(now, pod.started_at + WHOLE_SECONDS)
    return now if pod.finished else None


def _ended_at(pod: PodSeen, now: datetime) -> datetime | None:
    return (pod.finished_at or now) if pod.finished else None


def _charge(
    memory: Memory,
    ports: Ports,
    name: str,
    sight: Sighting,
    seen: AccountSeen | None,
    now: datetime,
) -> None:
    entry = memory.draft.entries[name]
    for uid, note in list(entry.pods.items()):
        if note.charged:
            continue
        billed = _billed(memory, entry, uid, sight.pods.get(uid), seen, now)
        if billed is not None:
            cost = memory.draft.charge(name, uid, billed.start, billed.end, estimated=billed.estimated)
            if uid not in memory.draft.entries[name].pods:
                sight.dropped.add(uid)  # gone already, so that the ledger has dropped it at once
            ports.events.emit("pod.charged", job=name, pod=uid, cost_usd=str(cost), estimated=billed.estimated)


def _lower(memory: Memory, name: str, sight: Sighting, now: datetime) -> None:
    """Gives back, while the Job runs, what it can cost no more. Not where time or the Job's own clock is in doubt."""
    job, entry = sight.job, memory.draft.entries[name]
    if job is None or entry.job_uid != job.uid or job.suspended:
        return
    noted = {pod.index for uid, pod in sight.pods.items() if uid in entry.pods or uid in sight.dropped}
    memory.draft.lower(name, len(ended_indexes(sight) & noted), job.created_at, now)


@dataclass(frozen=True, slots=True)
class _Billed:
    start: datetime
    end: datetime
    estimated: bool = True
    """An upper bound from our own sightings, not the group's own times."""


def _billed(
    memory: Memory, entry: Entry, uid: str, pod: PodSeen | None, seen: AccountSeen | None, now: datetime
) -> _Billed | None:
    """When the pod's group was billed, once it has stopped; None: not known to have stopped yet."""
    note = entry.pods[uid]
    if seen is not None:
        told = _as_told(note, uid, seen)
        if told is not None or not _given_up(memory, note, uid, seen, now):
            return told
    return _bound(entry, note, pod, now)


def _as_told(note: PodNote, uid: str, seen: AccountSeen) -> _Billed | None:
    """What ACI says of it; None: not that it has stopped."""
    group = seen.groups.get(uid)
    if group is not None:
        if group.stopped_at is None:
            return None
        return _Billed(group.started_at or group.stopped_at, group.stopped_at, estimated=False)
    if note.gone_at is None or seen.as_of < note.gone_at:
        return None
    # Never billed, or gone before we looked: it has stopped by then, at the latest.
    return _Billed(note.created_at, seen.as_of + CLOCK_ERROR)


def _given_up(memory: Memory, note: PodNote, uid: str, seen: AccountSeen, now: datetime) -> bool:
    """Whether its times were waited for in vain: then it is charged as if nobody could read them."""
    ended = note.gone_at or note.ended_at
    if ended is None or now < max(ended, memory.took_over_at) + READ_PATIENCE:
        return False
    return not _was_looked_at(seen, uid, ended)


def _was_looked_at(seen: AccountSeen, uid: str, since: datetime) -> bool:
    """Whether its group was read, or was found missing, since then."""
    group = seen.groups.get(uid)
    looked_at = seen.as_of if group is None else group.read_at
    return looked_at is not None and looked_at >= since


def _bound(entry: Entry, note: PodNote, pod: PodSeen | None, now: datetime) -> _Billed | None:
    """The most that it can have been, from what was seen of its pod."""
    ended = note.ended_at or note.gone_at
    if ended is None:
        return None
    if pod is not None and pod.phase is PodPhase.SUCCEEDED:
        # Its own word counts, and the last one: it may have been seen as failed before.
        return _Billed(note.created_at, max(ended, pod.finished_at or ended) + WHOLE_SECONDS)
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
    seen: AccountSeen | None,
    now: datetime,
) -> None:
    """Gives back what is left, once nothing of the attempt can bill any more."""
    entry = memory.draft.entries[name]
    seen_or_impossible = entry.job_uid is not None or sight.job_gone
    if not seen_or_impossible or not is_stopped(sight):
        return
    if any(not note.charged for note in entry.pods.values()):
        return
    left = _last_left(sight, entry)
    nobody_can_tell = seen is None or seen.as_of < left
    if nobody_can_tell and entry.noted and now < left + entry.tail:
        return
    estimated = memory.draft.settle_money(name)
    if estimated:
        ports.events.emit("pods.estimated", job=name, cost_usd=str(estimated))


def _last_left(sight: Sighting, entry: Entry) -> datetime:
    """When the last pod left, as far as known."""
    ends = [pod.finished_at for pod in sight.pods.values() if pod.finished_at is not None]
    return max(ends, default=entry.written)


def deletes_under_way(memory: Memory) -> int:
    """How many pods on the virtual node are on their way out, whoever deleted them: a delete of each group may come."""
    return sum(
        1
        for name, entry in memory.ledger.entries.items()
        if entry.paid and name in memory.sightings
        for uid, pod in memory.sightings[name].pods.items()
        if (pod.marked_for_deletion or uid in memory.sightings[name].deleted) and uid not in memory.sightings[name].gone
    )


def finished_pods(memory: Memory, now: datetime) -> list[tuple[str, PodSeen]]:
    """Pods on the virtual node that have ended, are noted in the accepted ledger and written up: they may be deleted.

    Where ACI may be read, not before their groups' own times were, or were waited for in vain: with its group a pod's
    times are gone. Failed ones first: their group may still run, and bill.
    """
    found = [
        (name, pod)
        for name, entry in memory.ledger.entries.items()
        if entry.paid and name in memory.sightings
        for pod in memory.sightings[name].pods.values()
        if _may_go(memory, entry, memory.sightings[name], pod) and is_read(memory, entry, pod, now)
    ]
    return sorted(found, key=lambda pair: (pair[1].phase is not PodPhase.FAILED, pair[1].uid))


def is_read(memory: Memory, entry: Entry, pod: PodSeen, now: datetime) -> bool:
    """Whether nothing is to be had any more from a pod that has ended: its group's times are charged, or there are none
    to wait for."""
    note, seen = entry.pods.get(pod.uid), memory.account_seen
    if seen is None or note is None or note.charged or note.ended_at is None:
        return True
    if now >= max(note.ended_at, memory.took_over_at) + READ_PATIENCE:
        return True
    if _has_stopped(seen, pod.uid):
        return False  # its times are there: they are charged before anything else
    # A group that is not there has no times; one that runs on after its pod has failed must be stopped first.
    missing = pod.uid not in seen.groups
    return (missing or pod.phase is PodPhase.FAILED) and _was_looked_at(seen, pod.uid, note.ended_at)


def _may_go(memory: Memory, entry: Entry, sight: Sighting, pod: PodSeen) -> bool:
    if not pod.finished or pod.uid in sight.gone or pod.marked_for_deletion or pod.uid in sight.deleted:
        return False
    note = entry.pods.get(pod.uid)
    noted = note is not None and note.ended_at is not None
    attempt = memory.attempts.get(entry.name)
    if attempt is None:
        return noted
    record = attempt.record
    ruled = all(position in record.rulings for position in record.positions_of(pod.index))
    written_up = pod.uid in record.evidence.get(pod.index, {})
    return noted and (ruled or written_up)
