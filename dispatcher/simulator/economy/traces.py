"""Work as it really came: read from the dispatcher's own event log, or from CSV.

Decides what a line means. An event log says when items were received, and for each that was done when its Job was
launched and when it was settled: between the two it ran, its start included, so that run times are an upper bound.
CSV has the columns at (seconds, or an ISO time), run_seconds, and perhaps task and tenant.
"""

from __future__ import annotations

import csv
import json
from collections import OrderedDict
from datetime import datetime
from pathlib import Path

from dispatcher.core.units import UTC
from dispatcher.errors import BadConfiguration
from dispatcher.simulator.economy.workload import Workload, from_rows

_JOBS_MAX = 200_000


def read_trace(path: Path, seed: int = 1) -> Workload:
    """The workload of a recorded trace. Raises BadConfiguration, naming the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BadConfiguration([f"{path} cannot be read: {error.strerror}"]) from None
    rows = _of_csv(path, lines) if path.suffix == ".csv" else _of_events(path, lines)
    if not rows:
        raise BadConfiguration([f"{path} holds no item that was received and done; record a longer one"])
    first = min(at for at, _run, _task, _tenant in rows)
    tasks = tuple(dict.fromkeys(task for _at, _run, task, _tenant in rows))
    tenants = tuple(dict.fromkeys(tenant for _at, _run, _task, tenant in rows))
    numbered = [(at - first, run, tasks.index(task), tenants.index(tenant)) for at, run, task, tenant in rows]
    return from_rows(path.name, numbered, tasks, tenants, seed)


def _of_csv(path: Path, lines: list[str]) -> list[tuple[float, float, str, str]]:
    rows = []
    reader = csv.DictReader(lines)
    missing = {"at", "run_seconds"} - set(reader.fieldnames or ())
    if missing:
        raise BadConfiguration([f"{path}: column {name} is missing; the first line names them" for name in missing])
    for number, row in enumerate(reader, start=2):
        try:
            run = float(row["run_seconds"])
            rows.append((_seconds(row["at"]), run, row.get("task") or "work", row.get("tenant") or "default"))
        except (TypeError, ValueError):
            raise BadConfiguration(
                [f"{path}: line {number}: at and run_seconds must be numbers (or at an ISO time)"]
            ) from None
        if run <= 0:
            raise BadConfiguration([f"{path}: line {number}: run_seconds must be more than 0"])
    return rows


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def _of_events(path: Path, lines: list[str]) -> list[tuple[float, float, str, str]]:
    launched: OrderedDict[str, float] = OrderedDict()
    received: dict[object, float] = {}
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            event = json.loads(line)
            kind, at = event.get("event"), _seconds(event["at"])
            if kind == "item.received":
                received.setdefault(event["sequence_number"], at)
            elif kind == "batch.launched":
                launched[event["job"]] = at
                if len(launched) > _JOBS_MAX:
                    launched.popitem(last=False)
            elif kind == "item.done" and event["job"] in launched:
                came = received.pop(event["sequence_number"], launched[event["job"]])
                rows.append((came, max(0.1, at - launched[event["job"]]), event["task"], event["tenant"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadConfiguration(
                [f"{path}: line {number} is no line of an event log ({error}); name an events.jsonl, or a .csv"]
            ) from None
    return rows
