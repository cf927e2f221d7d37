"""What a worker reports of one item of a pod that carries several, and which items those are.

Decides how a report is written down and which are taken: a report that does not name its item beyond doubt is none.
What it says for people is clipped, never refused: a ``done`` is not given up for a long message. Knows nothing of how
reports travel, and rules nothing: a report is evidence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from dispatcher.core.failures import FailureCause
from dispatcher.core.units import UTC, from_text, to_text

REPORT_FORMAT = 1
"""What a report says of itself. Fields may be added without a new number: readers leave alone what they do not know."""
REPORT_BYTES_MAX = 16 * 1024
MESSAGE_LENGTH_MAX = 500
TAIL_BYTES_MAX = 1024
REF_LENGTH_MAX = 1024

PODS_VARIABLE = "BURST_PODS"
"""Tells a pod among how many pods its Job's items are shared out; not set where every pod has one item."""

_BATCH = re.compile(r"[a-z0-9]{1,40}")
_POD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SEQUENCE_MAX = 2**63 - 1
_COUNT_MAX = 2**31 - 1


def positions_of(index: int, pods: int, items: int) -> range:
    """The positions that the pod of a completion index carries: every so many-th, so that no pod has two more than
    another. Done in this order."""
    return range(index, items, pods)


def index_of(position: int, pods: int) -> int:
    """The completion index whose pod carries a position."""
    return position % pods


class ReportedOutcome(StrEnum):
    """How one run of an item ended, as its worker saw it."""

    DONE = "done"
    FAILED = "failed"


CAUSES = (FailureCause.APPLICATION, FailureCause.ITEM_TIMEOUT, FailureCause.TEMPLATE, FailureCause.CANCELLED)
"""What a worker can know of a failure: the program failed, ran too long, does not exist, or was stopped on the way."""


@dataclass(frozen=True, slots=True)
class ItemReport:
    """The outcome of one item, as the pod that ran it tells it. Batch and attempt are the fencing token."""

    batch: str
    attempt: int
    pod: str
    """The uid of the pod."""
    position: int
    """Of the item in the record of that attempt."""
    queue: str
    sequence_number: int
    digest: str
    outcome: ReportedOutcome
    cause: FailureCause | None = None
    """Of a failure, one of :data:`CAUSES`; None where it is done."""
    exit_code: int | None = None
    """None where the program never ran; minus the number of the signal that ended it, where one did."""
    message: str = ""
    """For people, one line."""
    log_tail: str = ""
    """The end of what the item's run printed."""
    result_ref: str | None = None
    """Where the result lies, if the worker says so."""
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def message_id(self) -> str:
        """The same whenever this outcome of this run is sent again, so that duplicate detection swallows copies."""
        return f"{self.batch}-{self.attempt}-{self.pod}-{self.position}-{self.outcome}"


def report_to_body(report: ItemReport) -> bytes:
    """The report as JSON: the body of its message."""
    facts: dict[str, Any] = {
        "format": REPORT_FORMAT,
        "batch": report.batch,
        "attempt": report.attempt,
        "pod": report.pod,
        "position": report.position,
        "queue": report.queue,
        "sequence_number": report.sequence_number,
        "digest": report.digest,
        "outcome": report.outcome.value,
        "cause": report.cause and report.cause.value,
        "exit_code": report.exit_code,
        "message": report.message,
        "log_tail": report.log_tail,
        "result_ref": report.result_ref,
        "started_at": report.started_at and to_text(report.started_at),
        "finished_at": report.finished_at and to_text(report.finished_at),
    }
    return json.dumps({name: value for name, value in facts.items() if value is not None and value != ""}).encode()


def read_report(body: bytes) -> ItemReport:
    """The report that a message's body holds. Raises ValueError with a sentence that names the field."""
    if len(body) > REPORT_BYTES_MAX:
        raise ValueError(f"a report of {len(body)} bytes; at most {REPORT_BYTES_MAX} are read")
    facts = _object(body)
    if facts.get("format") != REPORT_FORMAT or isinstance(facts["format"], bool):
        raise ValueError(f"format: {facts.get('format')!r}; this version reads {REPORT_FORMAT}")
    outcome = ReportedOutcome(_chosen(facts, "outcome", tuple(ReportedOutcome)))
    failed = outcome is ReportedOutcome.FAILED
    return ItemReport(
        batch=_matching(facts, "batch", _BATCH),
        attempt=_number(facts, "attempt", 1, _COUNT_MAX),
        pod=_matching(facts, "pod", _POD),
        position=_number(facts, "position", 0, _COUNT_MAX),
        queue=_named(facts, "queue"),
        sequence_number=_number(facts, "sequence_number", 0, _SEQUENCE_MAX),
        digest=_matching(facts, "digest", _DIGEST),
        outcome=outcome,
        cause=FailureCause(_chosen(facts, "cause", CAUSES, FailureCause.APPLICATION)) if failed else None,
        exit_code=None if facts.get("exit_code") is None else _number(facts, "exit_code", -_COUNT_MAX, _COUNT_MAX),
        message=" ".join(_told(facts, "message").split())[:MESSAGE_LENGTH_MAX],
        log_tail=_told(facts, "log_tail").encode()[-TAIL_BYTES_MAX:].decode(errors="ignore"),
        result_ref=_reference(facts),
        started_at=_instant(facts, "started_at"),
        finished_at=_instant(facts, "finished_at"),
    )


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        facts = json.loads(body.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no report: {error}") from None
    if not isinstance(facts, dict):
        raise ValueError(f"no report: a JSON object is needed, not {type(facts).__name__}")  # noqa: TRY004 - one kind
    return facts


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key stands twice")
    return fields


def _number(facts: Mapping[str, Any], name: str, least: int, most: int) -> int:
    value = facts.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{name}: a whole number from {least} to {most} is needed, not {_shown(value)}")
    return value


def _matching(facts: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = facts.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{name}: a text like {pattern.pattern} is needed, not {_shown(value)}")
    return value


def _named(facts: Mapping[str, Any], name: str) -> str:
    value = facts.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 260 or not value.isprintable():
        raise ValueError(f"{name}: a name is needed, not {_shown(value)}")
    return value


def _chosen(facts: Mapping[str, Any], name: str, known: tuple[StrEnum, ...], default: StrEnum | None = None) -> str:
    value = facts.get(name)
    if value is None and default is not None:
        return default.value
    if not isinstance(value, str) or value not in tuple(each.value for each in known):
        raise ValueError(f"{name}: one of {', '.join(known)} is needed, not {_shown(value)}")
    return value


def _told(facts: Mapping[str, Any], name: str) -> str:
    """A text for people: whatever cannot be kept of it is left out, halves of surrogate pairs among it."""
    value = facts.get(name)
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _reference(facts: Mapping[str, Any]) -> str | None:
    """Where the result lies; one that nobody could use is left out: the item is done all the same."""
    value = facts.get("result_ref")
    fits = isinstance(value, str) and 0 < len(value) <= REF_LENGTH_MAX and value.isprintable()
    return value if fits else None


def _instant(facts: Mapping[str, Any], name: str) -> datetime | None:
    """A time; a pod whose clock or spelling is off still knows how its item ended."""
    value = facts.get(name)
    try:
        instant = from_text(value) if isinstance(value, str) else None
        return None if instant is None or instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
