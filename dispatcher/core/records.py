"""The record of an attempt: its items, what each has been through, and what was ruled for each.

Decides how a record is written down. ``data`` never changes and is the manifest that the pods mount, one file an item;
the annotations carry everything else and are replaced by version: the Job as it is to be created, the parent attempt,
the failures so far, the evidence of new ones, and the rulings. Knows nothing of where records are stored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from dispatcher.core.failures import FailureCause
from dispatcher.core.jobs import attempt_name, has_reports, shape_in
from dispatcher.core.reports import index_of, positions_of
from dispatcher.core.retries import Failure, Tries
from dispatcher.core.trace import TraceContext
from dispatcher.core.units import NO_MONEY, Money, from_text, to_text
from dispatcher.core.work import Placement, WorkItem

FORMAT = 2
"""What this version writes. 2 added the trace of an item, and what is told to its sender."""
FORMAT_OF_REPORTS = 3
"""Of records whose pods carry several items: an earlier version would take their completion indexes for positions."""
_READABLE = ("1", "2", "3")
_PREFIX = "burst-dispatcher.io/"


class RulingKind(StrEnum):
    """What was decided for an item of an attempt. Written once, before anything is done about it."""

    DONE = "done"
    DEAD = "dead"
    RETRY = "retry"
    CANCELLED = "cancelled"
    """A retry that does not count, because the Job was never seen."""


@dataclass(frozen=True, slots=True)
class RunSeen:
    """What was seen of the run that an item's end was ruled by. Written with the ruling, so that whoever tells the
    sender, and however often, tells the same."""

    ruled_at: datetime
    started_at: datetime | None = None
    """None: it never started, or its pod was not seen."""
    finished_at: datetime | None = None
    cost: Money | None = NO_MONEY
    """Of all the item's pods, as far as seen; None: of a paid run nothing was seen."""
    placement: Placement | None = None
    """Where it was launched; None: it never was."""
    result_ref: str | None = None
    """Where the result lies, where the worker has told it."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """The decision, and for all but ``done`` what the item has been through by now."""

    kind: RulingKind
    tries: Tries = Tries()
    not_before: datetime | None = None
    run: RunSeen | None = None
    """Only where the item ends here and its sender asked for the outcome."""

    @property
    def goes_on(self) -> bool:
        """Whether the item is carried into the next attempt."""
        return self.kind in (RulingKind.RETRY, RulingKind.CANCELLED)


@dataclass(frozen=True, slots=True)
class Record:
    """One attempt, as written."""

    batch: str
    attempt: int
    task: str
    tenant: str
    priority: int
    epoch: int
    created_at: datetime
    items: tuple[WorkItem, ...]
    tries: tuple[Tries, ...]
    """What each item had been through before this attempt; same order as ``items``."""
    parent: str | None = None
    """The attempt that this one retries; None: its items came from the backlog."""
    after_cancel: bool = False
    """The parent's Job was never seen: this one may be opened only once nothing of the parent is left."""
    not_before: datetime | None = None
    job: Mapping[str, Any] | None = None
    rulings: Mapping[int, Ruling] = field(default_factory=dict)
    confirmed: tuple[int, ...] | None = None
    """Of a record that was made for its rulings alone: the positions whose rulings a leader has made its own, having
    written the ledger after it. The others had ended otherwise by then. None: no leader has yet."""
    evidence: Mapping[int, Mapping[str, Failure]] = field(default_factory=dict)
    """Failures of pods seen in this attempt, by completion index and pod uid: written down before the pod is deleted.

    The index is the position, but where a pod carries several items."""
    reported: Mapping[int, Mapping[str, Failure]] = field(default_factory=dict)
    """Failures that pods of several items have reported, by position and pod: evidence, never a ruling."""

    @property
    def name(self) -> str:
        """The name that record, entry and Job share."""
        return attempt_name(self.batch, self.attempt)

    @property
    def has_reports(self) -> bool:
        """Whether its pods may carry several items and report each."""
        return self.job is not None and has_reports(self.job)

    @property
    def pods(self) -> int:
        """Among how many pods its items are shared out."""
        return shape_in(self.job).completions if self.job is not None and self.has_reports else len(self.items)

    def index_of(self, position: int) -> int:
        """The completion index whose pod has an item."""
        return index_of(position, self.pods) if self.has_reports else position

    def positions_of(self, index: int) -> Sequence[int]:
        """The items of a completion index's pod, in the order in which it does them."""
        return positions_of(index, self.pods, len(self.items)) if self.has_reports else (index,)

    @property
    def items_digest(self) -> str:
        """Which items these are, so that a name that exists can be told from a name that is ours."""
        text = ",".join(f"{item.queue}/{item.sequence_number}/{item.digest}" for item in self.items)
        return hashlib.sha256(text.encode()).hexdigest()


def _tries_to_json(tries: Tries) -> list[Any]:
    facts = [tries.own, tries.platform, tries.cause, tries.message, tries.log_tail, tries.repeated]
    return [*facts, tries.cost.picos] if tries.cost else facts


def _tries_from_json(data: list[Any]) -> Tries:
    own, platform, cause, message, log_tail, repeated, *cost = data
    money = Money(cost[0]) if cost else NO_MONEY
    return Tries(own, platform, cause and FailureCause(cause), message, log_tail, repeated, money)


def _ruling_to_json(ruling: Ruling) -> list[Any]:
    facts = [ruling.kind, _tries_to_json(ruling.tries), ruling.not_before and to_text(ruling.not_before)]
    if ruling.run is None:
        return facts
    run = ruling.run
    times = [at and to_text(at) for at in (run.ruled_at, run.started_at, run.finished_at)]
    told = [*times, None if run.cost is None else run.cost.picos, run.placement]
    return [*facts, told if run.result_ref is None else [*told, run.result_ref]]


def _ruling_from_json(data: list[Any]) -> Ruling:
    kind, tries, not_before, *seen = data
    run = None
    if seen:
        ruled, started, finished, picos, placement, *result_ref = seen[0]
        run = RunSeen(
            from_text(ruled),
            started and from_text(started),
            finished and from_text(finished),
            None if picos is None else Money(picos),
            placement and Placement(placement),
            *result_ref,
        )
    return Ruling(RulingKind(kind), _tries_from_json(tries), not_before and from_text(not_before), run)


def _item_to_json(item: WorkItem, attempt: int) -> str:
    """The file that the worker reads. ``params`` stands last, as the sender wrote it."""
    facts: dict[str, Any] = {
        "format": FORMAT,
        "id": item.message_id,
        "sequence_number": item.sequence_number,
        "queue": item.queue,
        "task": item.task,
        "tenant": item.tenant,
        "priority": item.priority,
        "attempt": attempt,
        "digest": item.digest,
        "enqueued_at": to_text(item.enqueued_at),
        "received_at": to_text(item.received_at),
        "expires_at": item.expires_at and to_text(item.expires_at),
    }
    if item.reply_to is not None:
        facts["reply_to"] = item.reply_to
    if item.trace is not None:
        facts["traceparent"] = item.trace.traceparent
        if item.trace.tracestate is not None:
            facts["tracestate"] = item.trace.tracestate
    return f'{json.dumps(facts)[:-1]}, "params": {item.params_json}}}'


def _item_from_json(text: str) -> WorkItem:
    facts = json.loads(text)
    return WorkItem(
        queue=facts["queue"],
        sequence_number=facts["sequence_number"],
        message_id=facts["id"],
        digest=facts["digest"],
        task=facts["task"],
        tenant=facts["tenant"],
        priority=facts["priority"],
        params_json=json.dumps(facts["params"], separators=(",", ":"), ensure_ascii=False),
        enqueued_at=from_text(facts["enqueued_at"]),
        received_at=from_text(facts["received_at"]),
        expires_at=facts["expires_at"] and from_text(facts["expires_at"]),
        reply_to=facts.get("reply_to"),
        trace=TraceContext(facts["traceparent"], facts.get("tracestate")) if "traceparent" in facts else None,
    )


def to_data(record: Record) -> dict[str, str]:
    """The manifest: one file an item, named by its completion index."""
    return {f"{index}.json": _item_to_json(item, record.attempt) for index, item in enumerate(record.items)}


def to_annotations(record: Record) -> dict[str, str]:
    """Everything that may change or that pods need not see."""
    rulings = {index: _ruling_to_json(ruling) for index, ruling in record.rulings.items()}
    facts = {
        "batch": record.batch,
        "attempt": record.attempt,
        "task": record.task,
        "tenant": record.tenant,
        "priority": record.priority,
        "epoch": record.epoch,
        "createdAt": to_text(record.created_at),
        "parent": record.parent,
        "afterCancel": record.after_cancel,
        "notBefore": record.not_before and to_text(record.not_before),
    }
    if record.confirmed is not None:
        facts["confirmed"] = list(record.confirmed)
    reports = {f"{_PREFIX}reported": json.dumps(_failures_to_json(record.reported))} if record.reported else {}
    return {
        f"{_PREFIX}format": str(FORMAT_OF_REPORTS if record.has_reports else FORMAT),
        f"{_PREFIX}attempt": json.dumps(facts),
        f"{_PREFIX}tries": json.dumps([_tries_to_json(tries) for tries in record.tries]),
        f"{_PREFIX}job": json.dumps(record.job),
        f"{_PREFIX}rulings": json.dumps(rulings),
        f"{_PREFIX}evidence": json.dumps(_failures_to_json(record.evidence)),
        **reports,
    }


def _failures_to_json(found: Mapping[int, Mapping[str, Failure]]) -> dict[int, dict[str, list[str]]]:
    return {
        index: {uid: [f.cause, f.message, f.log_tail] for uid, f in failures.items()}
        for index, failures in found.items()
    }


def _failures_from_json(text: str) -> dict[int, dict[str, Failure]]:
    return {
        int(index): {uid: Failure(FailureCause(cause), message, tail) for uid, (cause, message, tail) in pods.items()}
        for index, pods in json.loads(text).items()
    }


def task_of(annotations: Mapping[str, str]) -> str:
    """The task that a record's annotations name."""
    return str(json.loads(annotations[f"{_PREFIX}attempt"])["task"])


def decode(data: Mapping[str, str], annotations: Mapping[str, str]) -> Record:
    """Reads what :func:`to_data` and :func:`to_annotations` wrote, also those of the version before this one.

    Raises ValueError for a format not known.
    """
    if annotations.get(f"{_PREFIX}format") not in _READABLE:
        known = ", ".join(_READABLE)
        raise ValueError(f"record format {annotations.get(f'{_PREFIX}format')!r}; this version reads {known}")
    facts = json.loads(annotations[f"{_PREFIX}attempt"])
    rulings = {
        int(index): _ruling_from_json(ruling) for index, ruling in json.loads(annotations[f"{_PREFIX}rulings"]).items()
    }
    return Record(
        batch=facts["batch"],
        attempt=facts["attempt"],
        task=facts["task"],
        tenant=facts["tenant"],
        priority=facts["priority"],
        epoch=facts["epoch"],
        created_at=from_text(facts["createdAt"]),
        items=tuple(_item_from_json(data[f"{index}.json"]) for index in range(len(data))),
        tries=tuple(_tries_from_json(tries) for tries in json.loads(annotations[f"{_PREFIX}tries"])),
        parent=facts["parent"],
        after_cancel=facts["afterCancel"],
        not_before=facts["notBefore"] and from_text(facts["notBefore"]),
        job=json.loads(annotations[f"{_PREFIX}job"]),
        rulings=rulings,
        confirmed=tuple(facts["confirmed"]) if "confirmed" in facts else None,
        evidence=_failures_from_json(annotations[f"{_PREFIX}evidence"]),
        reported=_failures_from_json(annotations.get(f"{_PREFIX}reported", "{}")),
    )


def next_record(record: Record, epoch: int, now: datetime) -> Record | None:
    """The record that carries on what this one's rulings say goes on; None where nothing does.

    It follows from the rulings alone, so that whoever finds them makes the same record.
    """
    going = [(record.items[index], ruling) for index, ruling in sorted(record.rulings.items()) if ruling.goes_on]
    if not going:
        return None
    if record.has_reports:
        # Whoever has failed by itself goes last: should it bring its pod down, the others have had their turn.
        going.sort(key=lambda pair: pair[1].tries.own)
    cancelled = any(ruling.kind is RulingKind.CANCELLED for _, ruling in going)
    waits = [ruling.not_before for _, ruling in going if ruling.not_before is not None]
    return Record(
        batch=record.batch,
        attempt=record.attempt + 1,
        task=record.task,
        tenant=record.tenant,
        priority=record.priority,
        epoch=epoch,
        created_at=now,
        items=tuple(item for item, _ in going),
        tries=tuple(ruling.tries for _, ruling in going),
        parent=record.name,
        after_cancel=cancelled,
        not_before=max(waits, default=None),
    )
