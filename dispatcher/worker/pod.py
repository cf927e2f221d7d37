"""What the pod was given: its share of the items, its deadline, and who it is.

Decides what is read from the environment and from the items' files, and refuses what cannot be worked with in one line
that names the variable. Knows nothing of running and reporting.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

ITEMS_PATH = "/var/run/burst/items"
REPORTS_PATH = "/var/run/burst/reports"
CONNECTION_STRING = "connection-string"
ITEM_TIMEOUT_USUAL = timedelta(minutes=10)
_NAMED_BY = ("queue", "sequence_number", "digest")


class BadPod(Exception):
    """The pod was not given what it takes; the text names what is missing and what to do."""


class BadItem(Exception):
    """An item's file cannot be read."""


class Item(NamedTuple):
    """One item of the pod."""

    position: int
    path: Path
    facts: Mapping[str, Any]

    def environment(self) -> dict[str, str]:
        """What the command is told of it, so that a program made for pods of one item finds its own."""
        told = {
            "JOB_COMPLETION_INDEX": str(self.position),
            "BURST_ITEM_FILE": str(self.path),
            "BURST_SEQUENCE_NUMBER": str(self.facts["sequence_number"]),
        }
        for variable, field in (("TRACEPARENT", "traceparent"), ("TRACESTATE", "tracestate")):
            if isinstance(self.facts.get(field), str):
                told[variable] = self.facts[field]
        return told


class Pod(NamedTuple):
    """One pod, as its environment tells."""

    items_dir: Path
    first: int
    """Its completion index, which is its first position too."""
    pods: int | None
    """Among how many pods the items are shared out; None: one item a pod, and nobody reads reports."""
    batch: str
    attempt: int
    uid: str
    item_timeout: timedelta
    stop_at: datetime | None
    connection_file: Path

    def positions(self) -> Iterator[int]:
        """The positions of this pod, in the order in which they are done."""
        position = self.first
        while (self.items_dir / f"{position}.json").exists():
            yield position
            position += self.pods or 1

    def item(self, position: int) -> Item:
        """The item of a position. Raises BadItem."""
        path = self.items_dir / f"{position}.json"
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadItem(f"{path} cannot be read: {error}") from error
        missing = [name for name in _NAMED_BY if not isinstance(facts, dict) or name not in facts]
        if missing:
            raise BadItem(f"{path} lacks {missing[0]}, so that nobody could be told which item it is")
        return Item(position, path, facts)


def read_pod(environment: Mapping[str, str]) -> Pod:
    """The pod that an environment describes. Raises BadPod."""
    several = bool(environment.get("BURST_PODS"))
    items_dir = Path(environment.get("BURST_ITEMS_DIR") or ITEMS_PATH)
    pod = Pod(
        items_dir=items_dir,
        first=_number(environment, "JOB_COMPLETION_INDEX", 0),
        pods=_number(environment, "BURST_PODS", 1) if several else None,
        batch=_text(environment, "BURST_BATCH") if several else "",
        attempt=_number(environment, "BURST_ATTEMPT", 1) if several else 1,
        uid=_text(environment, "BURST_POD_UID") if several else "",
        item_timeout=_seconds(environment, "BURST_ITEM_TIMEOUT", ITEM_TIMEOUT_USUAL),
        stop_at=_instant(environment, "BURST_STOP_AT"),
        connection_file=Path(environment.get("BURST_REPORTS_DIR") or REPORTS_PATH) / CONNECTION_STRING,
    )
    if not (items_dir / f"{pod.first}.json").exists():
        raise BadPod(f"there is no {items_dir}/{pod.first}.json; is the record mounted, and BURST_ITEMS_DIR right?")
    return pod


def _text(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise BadPod(f"{name} is not set; the dispatcher sets it on every pod, so this is no pod of a batch")
    return value


def _number(environment: Mapping[str, str], name: str, least: int) -> int:
    text = _text(environment, name)
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < least:
        raise BadPod(f"{name} is {text!r}; a whole number of at least {least} is needed")
    return int(text)


def _seconds(environment: Mapping[str, str], name: str, usual: timedelta) -> timedelta:
    text = environment.get(name, "")
    if not text:
        return usual
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text) or float(text) <= 0:
        raise BadPod(f"{name} is {text!r}; a number of seconds above 0 is needed")
    return timedelta(seconds=float(text))


def _instant(environment: Mapping[str, str], name: str) -> datetime | None:
    text = environment.get(name, "")
    if not text:
        return None
    try:
        instant = datetime.fromisoformat(re.sub("[Zz]$", "+00:00", text))  # 3.9 knows no Z
    except ValueError:
        raise BadPod(f"{name} is {text!r}; an instant such as 2026-03-01T12:00:00Z is needed") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=timezone.utc)
