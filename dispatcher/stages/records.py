"""Writing records: new ones, and evidence and rulings into those that stand.

Decides nothing. Every write replaces exactly the version that was read; where another has written, or no answer came,
the record is read again and what stands there is followed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from dispatcher.core import attempts as rules
from dispatcher.core.attempts import Attempt
from dispatcher.core.observations import PodSeen
from dispatcher.core.policy import Policy
from dispatcher.core.records import Record, Ruling, decode, to_annotations, to_data
from dispatcher.core.retries import Failure
from dispatcher.errors import Deposed
from dispatcher.memory import Memory
from dispatcher.ports import Answer, ObjectRef, Ports, RecordCreated
from dispatcher.stages import circuit


async def create(memory: Memory, ports: Ports, wanted: Sequence[Record]) -> list[RecordCreated]:
    """Creates records, answers in the same order; what stands now is remembered."""
    answers = await ports.store.create_records(
        [(record.name, to_data(record), to_annotations(record)) for record in wanted]
    )
    for record, created in zip(wanted, answers, strict=True):
        if created.answer is Answer.DONE and created.record is not None:
            memory.records[record.name] = created.record.uid
    return list(answers)


def is_ours(created: RecordCreated, wanted: Record) -> bool:
    """Whether what stands is the new record that was to be created, and nothing has happened to it since.

    One that was there already is ours where a try of this very create had got no answer: names of new batches are
    random, and every word of it is as we wrote it.
    """
    stored = created.record
    if stored is None or not created.already:
        return stored is not None
    same = dict(stored.data) == to_data(wanted) and dict(stored.annotations) == to_annotations(wanted)
    return same and not stored.marked_for_deletion


async def write_evidence(
    memory: Memory, ports: Ports, policy: Policy, attempt: Attempt, failed: Sequence[PodSeen]
) -> None:
    """Writes down why pods failed, with the end of their logs, before they are deleted."""
    refs = [ObjectRef(pod.name, pod.uid) for pod in failed]
    tails = await ports.together([partial(ports.cluster.log_tail, ref, rules.LOG_TAIL_BYTES) for ref in refs])
    found = {pod.uid: (pod, tail) for pod, tail in zip(failed, tails, strict=True)}
    evidence = rules.with_evidence(attempt.record, found)
    if not await _replace(ports, attempt, replace(attempt.record, evidence=evidence)):
        return
    for pod in failed:
        circuit.report_failure(memory, ports, policy, attempt.name, evidence[pod.index][pod.uid].cause)


async def write_rulings(ports: Ports, attempt: Attempt, rulings: Mapping[int, Ruling]) -> bool:
    """Writes rulings where there are none yet. False: not written; the record as it stands was read instead."""
    return await _replace(ports, attempt, _ruled(attempt.record, rulings))


def _ruled(record: Record, rulings: Mapping[int, Ruling]) -> Record:
    merged = {**rulings, **record.rulings}
    ruled = {index for index in record.evidence if all(each in merged for each in record.positions_of(index))}
    evidence = rules.without_tails(record.evidence, ruled)
    return replace(record, rulings=merged, evidence=evidence, reported=rules.without_tails(record.reported, merged))


async def write_reports(
    ports: Ports, attempt: Attempt, rulings: Mapping[int, Ruling], failures: Mapping[int, Mapping[str, Failure]]
) -> bool:
    """Writes what pods have reported: rulings where there are none yet, and failures as evidence.

    False: not written; the record as it stands was read instead.
    """
    record = attempt.record
    reported = {**record.reported}
    for position, told in failures.items():
        reported[position] = {**record.reported.get(position, {}), **told}
    return await _replace(ports, attempt, _ruled(replace(record, reported=reported), rulings))


async def write_job(ports: Ports, attempt: Attempt, record: Record) -> bool:
    """Writes the Job that a held retry is to be launched with."""
    return await _replace(ports, attempt, record)


async def write_confirmation(ports: Ports, attempt: Attempt, positions: Sequence[int]) -> bool:
    """Writes which rulings of a record that was made for them a leader follows. False: not written; it was read."""
    return await _replace(ports, attempt, replace(attempt.record, confirmed=tuple(positions)))


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
