"""Close: what nobody needs any more is cleared away, in an order that keeps a crash harmless.

Record first, then Job, then entry: a create still under way has no power once the record is gone, since its pods cannot
start without it. Finished pods of the virtual node go as soon as they are noted and written up: each holds an address.
"""

from __future__ import annotations

from functools import partial

from dispatcher.core.addresses import deletes_left
from dispatcher.core.attempts import Sighting
from dispatcher.core.budgets import LAUNCH_GRACE
from dispatcher.core.jobs import attempt_name
from dispatcher.core.ledger import Entry, EntryState
from dispatcher.core.policy import Policy
from dispatcher.core.units import whole_seconds
from dispatcher.memory import Memory
from dispatcher.ports import Answer, ObjectRef, Ports
from dispatcher.stages import accounting, bookkeeping, watching

_GONE = (Answer.DONE, Answer.NOT_FOUND)


def close(memory: Memory, ports: Ports) -> None:
    """Of attempts that are over nothing is claimed any more.

    With the next ledger write the entry is closing, and what is left is cleared away.
    """
    for name in sorted(memory.dirty):
        attempt = memory.attempts.get(name)
        if attempt is None or not attempt.over:
            continue
        if name in memory.draft.entries:
            memory.draft.close(name)
        else:
            # a held retry whose items all ended otherwise, or a rejection: only its record is left
            if attempt.record.parent in memory.records:
                continue  # it shows that its parent was carried on: without it that would happen once more
            memory.give_up_record(name, ports.clock.now())
        del memory.attempts[name]


async def clear_away(memory: Memory, ports: Ports, policy: Policy) -> None:
    """Deletes finished pods, closed attempts, powerless latecomers and records of launches that were given up."""
    await _delete_finished_pods(memory, ports, policy)
    closing = [
        entry
        for name, entry in memory.ledger.entries.items()
        if entry.state is EntryState.CLOSING and name in memory.dirty and name in memory.draft.entries
    ]
    await ports.together([partial(_clear, memory, ports, policy, entry) for entry in closing])
    for name in list(memory.strays):
        await _delete_stray(memory, ports, name)
    for name in list(memory.latecomers):
        await _release_latecomer(memory, ports, name)


async def _delete_finished_pods(memory: Memory, ports: Ports, policy: Policy) -> None:
    if policy.virtual_node is None:
        return
    now = ports.clock.now()
    finished = accounting.finished_pods(memory, now)
    left = deletes_left(memory.draft.deletes, policy.virtual_node, now) - accounting.deletes_under_way(memory)
    allowed = finished[: max(0, left)]
    if not allowed:
        return
    answers = await ports.cluster.delete_pods([ObjectRef(pod.name, pod.uid) for _, pod in allowed])
    for (name, pod), answer in zip(allowed, answers, strict=True):
        if answer in _GONE:
            memory.sightings[name].deleted.add(pod.uid)


async def _clear(memory: Memory, ports: Ports, policy: Policy, entry: Entry) -> None:
    name = entry.name
    if not memory.sight(name).answered and ports.clock.now() < entry.written + LAUNCH_GRACE:
        return  # a create without an answer may still land: as long as the Job is there it does nothing
    if attempt_name(entry.batch, entry.attempt - 1) in memory.records:
        return  # records go in their order: the last one of a batch is what shows that the others were carried on
    uid = memory.records.get(name)
    if uid is not None:
        if await ports.store.delete_record(ObjectRef(name, uid)) not in _GONE:
            return
        del memory.records[name]
    sight = memory.sight(name)
    if not sight.job_gone:
        await _release_job(memory, ports, policy, entry)
    entry = memory.draft.entries[name]
    if not sight.job_gone or (entry.paid and not entry.money_settled):
        return
    if entry.addresses(ports.clock.now()) == 0:
        _drop(memory, ports, entry)


async def _release_job(memory: Memory, ports: Ports, policy: Policy, entry: Entry) -> None:
    """Takes the Job away, but not before each of its paid pods is noted: afterwards nobody could tell what it cost; nor
    before those that have ended were deleted, within the rate of deletes: its pods go with it."""
    sight = memory.sight(entry.name)
    if sight.job is None:
        await watching.look_for_job(memory, ports, entry.name)
    job = sight.job
    if job is None:
        # Never seen, and its record is gone: a create that still lands has no power, and is cleared on sight.
        sight.job_gone = True
        return
    accepted, now = memory.ledger.entries[entry.name], ports.clock.now()
    if entry.paid and any(uid not in accepted.pods and uid not in sight.dropped for uid in sight.pods):
        return
    there = [pod for uid, pod in sight.pods.items() if uid not in sight.gone and pod.finished]
    if entry.paid and not all(accounting.is_read(memory, accepted, pod, now) for pod in there):
        return  # its pods go with it, and with them what their groups tell
    waits = any(pod.uid not in sight.deleted for pod in there)
    if entry.paid and waits and policy.virtual_node is not None:
        return
    [answer] = await ports.cluster.release_jobs([ObjectRef(entry.name, job.uid)])
    if answer in _GONE:
        await watching.look_for_job(memory, ports, entry.name)


def _drop(memory: Memory, ports: Ports, entry: Entry) -> None:
    memory.draft.drop(entry.name)
    sight = memory.sightings.pop(entry.name, None)
    if sight is not None:
        for uid in sight.pods:
            memory.job_of_pod.pop(uid, None)
    memory.probes.discard(entry.name)
    memory.listed_stopped.discard(entry.name)
    ports.events.emit(
        "attempt.closed",
        job=entry.name,
        placement=entry.placement,
        task=entry.task,
        tenant=entry.tenant,
        items=entry.items,
        cost_usd=str(entry.spent),
        reserved_usd=str(entry.worst_case.total()) if entry.paid else "0",
        pods=len(sight.pods) if sight is not None else entry.noted,
        pod_seconds=_pod_seconds(sight),
    )


def _pod_seconds(sight: Sighting | None) -> int:
    """From the making of each pod to its end, together, as far as seen."""
    pods = sight.pods.values() if sight is not None else ()
    return sum(whole_seconds(pod.finished_at - pod.created_at) for pod in pods if pod.finished_at is not None)


async def _delete_stray(memory: Memory, ports: Ports, name: str) -> None:
    """A record without an entry: whatever became of its create, it is taken away by name and uid."""
    if ports.clock.now() < memory.strays[name]:
        return
    uid = memory.records.get(name)
    if uid is None:
        stored = await ports.store.get_record(name)
        if stored is None:
            del memory.strays[name]
            return
        uid = stored.uid
    if await ports.store.delete_record(ObjectRef(name, uid)) in _GONE:
        memory.records.pop(name, None)
        del memory.strays[name]


async def _release_latecomer(memory: Memory, ports: Ports, name: str) -> None:
    """A Job that no entry knows: a create that landed after its attempt was closed. Its record is gone, so its pods
    could not start; what its groups cost all the same is beyond what was reserved.

    It may as well be a new leader's, of which this one has not heard: the ledger that stands must be ours.
    """
    memory.latecomers.discard(name)
    if name in memory.draft.entries:
        return
    job = await ports.cluster.get_job(name)
    if job is None:
        return
    await bookkeeping.must_be_ours(memory, ports)
    await ports.cluster.release_jobs([ObjectRef(name, job.uid)])
    ports.events.emit("alarm.raised", what="a Job that no entry knows was removed", job=name)
