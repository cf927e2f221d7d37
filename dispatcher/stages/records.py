"""Writing into records: evidence, rulings, and the record of the next attempt.

Decides nothing. Every write replaces exactly the version that was read; where another has written, or no answer came,
the record is read again and what stands there is followed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dispatcher.core import attempts as rules
from dispatcher.core.attempts import Attempt
from dispatcher.core.circuit import Circuit
from dispatcher.core.failures import FailureCause
from dispatcher.core.observations import PodSeen
from dispatcher.core.policy import Policy
from dispatcher.core.records import Record, Ruling, decode, to_annotations
from dispatcher.core.retries import RETRY_RULES
from dispatcher.core.work import Placement
from dispatcher.errors import Deposed
from dispatcher.memory import Memory, Ports
from dispatcher.ports import Answer, ObjectRef


async def write_evidence(
    memory: Memory, ports: Ports, policy: Policy, attempt: Attempt, failed: Sequence[PodSeen]
) -> None:
    """Writes down why pods failed, with the end of their logs, before they are deleted."""
    found = {}
    for pod in failed:
        tail = await ports.cluster.log_tail(ObjectRef(pod.name, pod.uid), rules.LOG_TAIL_BYTES)
        found[pod.uid] = (pod, tail)
    evidence = rules.with_evidence(attempt.record, found)
    if not await _replace(ports, attempt, replace(attempt.record, evidence=evidence)):
        return
    entry = memory.draft.entries.get(attempt.name)
    if entry is not None and entry.placement is Placement.VIRTUAL_NODE:
        for pod in failed:
            _report_to_circuit(memory, ports, policy, attempt, evidence[pod.index][pod.uid].cause)


def _report_to_circuit(memory: Memory, ports: Ports, policy: Policy, attempt: Attempt, cause: FailureCause) -> None:
    before = memory.circuit
    now = ports.clock.now()
    if cause in (FailureCause.APPLICATION, FailureCause.ITEM_TIMEOUT):
        report_success(memory, ports, attempt.name)  # its program ran: whatever it did, the place works
    if not RETRY_RULES[cause].opens_circuit:
        return
    if attempt.name in memory.probes:
        memory.probes.discard(attempt.name)
        memory.circuit = before.after_failed_probe(policy.circuit, now)
    else:
        memory.circuit = before.after_failure(policy.circuit, now)
    if memory.circuit.is_open and memory.circuit.probe_at != before.probe_at:
        ports.events.emit("circuit.opened", cause=str(cause), failures=memory.circuit.failures)


def report_success(memory: Memory, ports: Ports, name: str) -> None:
    """A pod ran on the virtual node: its circuit closes."""
    memory.probes.discard(name)
    if memory.circuit.is_open:
        ports.events.emit("circuit.closed", job=name)
    memory.circuit = Circuit()


async def write_rulings(ports: Ports, attempt: Attempt, rulings: Mapping[int, Ruling]) -> bool:
    """Writes rulings where there are none yet. False: not written; the record as it stands was read instead."""
    merged = {**rulings, **attempt.record.rulings}
    evidence = rules.without_tails(attempt.record.evidence, merged)
    return await _replace(ports, attempt, replace(attempt.record, rulings=merged, evidence=evidence))


async def write_job(ports: Ports, attempt: Attempt, record: Record) -> bool:
    """Writes the Job that a held retry is to be launched with."""
    return await _replace(ports, attempt, record)


async def _replace(ports: Ports, attempt: Attempt, record: Record) -> bool:
    """Raises Deposed where the record is not there any more: another leader has closed its attempt."""
    answer, version = await ports.store.replace_annotations(
        attempt.name, attempt.record_version, to_annotations(record)
    )
    if answer is Answer.DONE:
        attempt.record, attempt.record_version = record, version
        return True
    stored = await ports.store.get_record(attempt.name)
    if stored is None or stored.uid != attempt.record_uid:
        raise Deposed(f"record {attempt.name} is gone")
    attempt.record = decode(stored.data, stored.annotations)
    attempt.record_version = stored.version
    return False
