"""The decision event log: every event with its facts, one JSON line each, for judges, dashboards and people.

Decides how an event is written and that telling never fails: a disk that refuses is counted and shown in the health,
and nobody else notices. A file begins with a line that says its format.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import structlog

from dispatcher.core.units import from_text, to_text

log = structlog.get_logger("dispatcher.events")

EVENT_FORMAT = "burst-dispatcher.events"
EVENT_FORMAT_VERSION = 1
_BYTES_MAX = 256 * 1024 * 1024
_KEPT = 3
_LINE_BYTES_MAX = 1024 * 1024
_LATEST_BYTES = 8 * 1024 * 1024
_LEVELS = {
    "alarm.raised": "error",
    "attempt.closed": "info",
    "batch.held": "info",
    "batch.launched": "info",
    "budget.over_limit": "warning",
    "budget.threshold_passed": "warning",
    "budget.topped_up": "info",
    "circuit.opened": "warning",
    "circuit.closed": "info",
    "account.not_read": "warning",
    "account.read_again": "info",
    "group.leaked": "warning",
    "item.dead_lettered": "warning",
    "item.rejected": "warning",
    "item.retried": "info",
    "job.refused": "warning",
    "job.suspended": "warning",
    "leak.resolved": "info",
    "takeover.finished": "info",
}
"""How loud each event is in the log; one that is not named here is told at debug, since the event log has it anyway."""

Sink = Callable[[str, datetime, Mapping[str, Any]], None]


class Clock(Protocol):
    """What the time is."""

    def now(self) -> datetime:
        """The present instant, timezone-aware."""
        ...


class EventHub:
    """Takes every event and hands it to all who listen. Satisfies the ``Events`` port: never blocks, never fails."""

    def __init__(self, clock: Clock, *sinks: Sink) -> None:
        self._clock = clock
        self._sinks = sinks
        self.failures = 0
        """How often a listener failed; more than none is shown in the health."""

    def emit(self, event: str, **facts: Any) -> None:
        """Tells one event."""
        at = self._clock.now()
        for sink in self._sinks:
            try:
                sink(event, at, facts)
            except Exception:  # whoever tells an event is in the middle of a decision and must be able to go on
                self.failures += 1
                log.exception("event.not_told", failed_event=event)


class LoggedEvents:
    """Puts each event into the log too, as loud as it deserves."""

    def __call__(self, event: str, at: datetime, facts: Mapping[str, Any]) -> None:
        """Logs one event."""
        tell = getattr(log, _LEVELS.get(event, "debug"))
        tell(event, **{("fact_" + key if key in ("event", "level", "timestamp") else key): facts[key] for key in facts})


class EventFile:
    """One JSON line an event, appended and flushed. When it grows too long it is set aside and a new one begun."""

    def __init__(self, path: Path, *, bytes_max: int = _BYTES_MAX) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._file: int | None = None
        self._size = 0
        self.failures = 0
        """How many events could not be written."""
        self.fault: str | None = None
        """Why the last one could not, in words; None while all is well."""

    def __call__(self, event: str, at: datetime, facts: Mapping[str, Any]) -> None:
        """Appends one event; a disk that refuses is noted, not raised."""
        line = _line({"event": event, "at": to_text(at), **facts})
        try:
            self._append(line, at)
        except OSError as error:
            self.failures += 1
            if self.fault is None:
                # A full disk needs a sentence, not a traceback.
                log.error("event_log.not_written", path=str(self._path), error=error.strerror)  # noqa: TRY400
            self.fault = f"{self._path} cannot be written: {error.strerror}"
            self.close()
        else:
            if self.fault is not None:
                log.info("event_log.written_again", path=str(self._path), lost=self.failures)
            self.fault = None

    def latest(self, bytes_max: int = _LATEST_BYTES) -> Iterator[tuple[str, datetime, Mapping[str, Any]]]:
        """The last events of the file, in order, as far as they can be read; none where there is no file."""
        try:
            yield from read_events(self._path, bytes_max)
        except OSError:
            return

    def close(self) -> None:
        """Lets go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _append(self, line: bytes, at: datetime) -> None:
        if self._file is not None and self._size + len(line) > self._bytes_max:
            self.close()
            self._set_aside()
        if self._file is None:
            self._open(at)
        self._write(line)

    def _open(self, at: datetime) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._size = os.fstat(self._file).st_size
        if self._size == 0:
            self._write(_line({"format": EVENT_FORMAT, "version": EVENT_FORMAT_VERSION, "at": to_text(at)}))
        else:
            self._cut_torn_line()

    def _cut_torn_line(self) -> None:
        """A crash may have cut the last line short: every line that readers see is whole, so it goes."""
        if self._file is None:
            return
        start = max(0, self._size - _LINE_BYTES_MAX)
        end = os.pread(self._file, self._size - start, start)
        if not end.endswith(b"\n") and b"\n" in end:
            self._size = start + end.rindex(b"\n") + 1
            os.ftruncate(self._file, self._size)

    def _write(self, line: bytes) -> None:
        if self._file is None:
            return
        written = os.write(self._file, line)
        self._size += written
        if written < len(line):
            os.ftruncate(self._file, self._size - written)
            self._size -= written
            raise OSError(28, "only a part of the line fitted on the disk")

    def _set_aside(self) -> None:
        for age in range(_KEPT, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{age}")
            newer = self._path if age == 1 else self._path.with_name(f"{self._path.name}.{age - 1}")
            if newer.exists():
                newer.replace(older)


def read_events(path: Path, bytes_max: int | None = None) -> Iterator[tuple[str, datetime, Mapping[str, Any]]]:
    """The events of an event log, in order, or those of its last bytes. Raises OSError."""
    with path.open("rb") as file:
        if bytes_max is not None:
            file.seek(max(0, os.fstat(file.fileno()).st_size - bytes_max))
        for line in file:
            try:
                facts = json.loads(line)
                event, at = facts.pop("event"), from_text(facts.pop("at"))
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # the first line of a file, one that was cut, or one of another version
            yield event, at, facts


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, default=str, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
