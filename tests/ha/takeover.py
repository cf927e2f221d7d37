"""One takeover, read off the API server's own history: the last write of the old leader, the first ones of the new.

Pure. A leader's epoch stands in the ledger, which it writes before anything else, and on every Job that it creates.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.crash.history import Version

_EPOCH = "burst-dispatcher.io/epoch"


@dataclass(frozen=True)
class Takeover:
    """Seconds of one takeover."""

    from_kill: float
    """From kill -9 to the new leader's first write."""
    from_last_write: float
    """From the old leader's last write to the new leader's first: nobody acted in between."""
    to_first_job: float
    """From kill -9 to the first Job that the new leader created."""


@dataclass(frozen=True)
class Writes:
    """When what was seen."""

    last_of_old: float
    first_of_new: float | None
    first_job_of_new: float | None


def epoch_of(ledger: Mapping[str, Any]) -> int:
    """The epoch in a ledger's ConfigMap."""
    return int(json.loads(ledger["data"]["ledger.json"])["epoch"])


def writes_in(history: Iterable[Version], ledger_name: str, old_epoch: int) -> Writes | None:
    """What the history says of a change of leader after that epoch; None before the old one has written anything."""
    last_of_old = first_of_new = first_job = None
    for version in history:
        metadata = version.object["metadata"]
        if version.kind == "configmaps":
            if metadata["name"] == ledger_name and epoch_of(version.object) > old_epoch:
                first_of_new = first_of_new or version.seen_at
            elif first_of_new is None:
                last_of_old = version.seen_at
        elif version.kind == "jobs" and int(metadata.get("annotations", {}).get(_EPOCH, "0")) > old_epoch:
            first_job = first_job or version.seen_at
    return None if last_of_old is None else Writes(last_of_old, first_of_new, first_job)


def takeover(seen: Writes | None, killed_at: float) -> Takeover:
    """The seconds of a change of leader that is over. Raises ValueError for one that is not."""
    if seen is None or seen.first_of_new is None or seen.first_job_of_new is None:
        raise ValueError("nobody has taken over yet")
    return Takeover(
        seen.first_of_new - killed_at, seen.first_of_new - seen.last_of_old, seen.first_job_of_new - killed_at
    )


def summary(seconds: Iterable[float]) -> str:
    """Median and greatest."""
    found = sorted(seconds)
    return f"{median(found):.1f} s / {found[-1]:.1f} s" if found else "none"
