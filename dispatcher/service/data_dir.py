"""The folder of a local service: who runs on it, and how the commands find that service.

    broker.db       messages              cluster.db      Jobs, pods, ledger and records
    pods/           one folder a pod      events.jsonl    every decision
    service.json    url, pid, where the connection string is; only while a service runs
    service.lock    held by the running service; the system lets go of it when the process ends, however it ends
    broker.key, connection-string         readable by the owner alone, as are
    report.key, reports/                  what lets pods of several items report how each ended

Decides that one service runs on a folder at a time. Knows nothing of what the others keep in it.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dispatcher import __version__
from dispatcher.core.jobs import REPORTS_KEY
from dispatcher.errors import BadConfiguration

SERVICE_FORMAT_VERSION = 1


class DataDir:
    """A data directory, held by this process while the block lasts."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._lock: int | None = None

    @property
    def broker_journal(self) -> Path:
        """Where the broker keeps its messages."""
        return self.path / "broker.db"

    @property
    def object_store(self) -> Path:
        """Where Jobs, pods, ledger and records are kept."""
        return self.path / "cluster.db"

    @property
    def event_log(self) -> Path:
        """Where every decision is told."""
        return self.path / "events.jsonl"

    @property
    def service_file(self) -> Path:
        """Where commands read how to reach the service."""
        return self.path / "service.json"

    @property
    def connection_string_file(self) -> Path:
        """What producers connect to the broker with."""
        return self.path / "connection-string"

    def __enter__(self) -> Self:
        """Takes the folder. Raises BadConfiguration, in one line, where another service has it or it cannot be used."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / "service.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._let_go()
            raise BadConfiguration([f"local.data_dir: {self._who()}; stop it, or choose another --data-dir"]) from None
        except OSError as error:
            self._let_go()
            fault = f"{self.path} cannot be used ({error.strerror})"
            raise BadConfiguration([f"local.data_dir: {fault}; choose another --data-dir"]) from error
        self.service_file.unlink(missing_ok=True)  # of a service that ended without a word
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.service_file.unlink(missing_ok=True)
        self._let_go()

    @property
    def reports_folder(self) -> Path:
        """Where pods find the connection string that they report with."""
        return self.path / "reports"

    def let_report(self, connection_string: str) -> None:
        """Writes what pods report with; those that run already read it again."""
        self.reports_folder.mkdir(mode=0o700, exist_ok=True)
        write_private(self.reports_folder / REPORTS_KEY, connection_string)

    def broker_key(self) -> str:
        """The key of the embedded broker: made once, so that producers need not be told anew after a restart."""
        return self._key("broker.key")

    def report_key(self) -> str:
        """The key that pods report with."""
        return self._key("report.key")

    def _key(self, name: str) -> str:
        path = self.path / name
        if path.exists() and (key := path.read_text(encoding="ascii").strip()):
            return key
        key = secrets.token_hex(24)
        write_private(path, key)
        return key

    def announce(self, facts: RunningFacts) -> None:
        """Writes how to reach the service, once everything is there."""
        write_private(self.connection_string_file, facts.connection_string)
        content: dict[str, Any] = {
            "format": "burst-dispatcher.service",
            "version": SERVICE_FORMAT_VERSION,
            "dispatcher": __version__,
            "url": facts.url,
            "pid": os.getpid(),
            "queues": list(facts.queues),
            "connection_string_file": str(self.connection_string_file),
            "event_log": str(self.event_log),
        }
        temporary = self.service_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        temporary.replace(self.service_file)

    def _who(self) -> str:
        try:
            content = json.loads(self.service_file.read_text(encoding="utf-8"))
            return f"a service (process {content['pid']}, {content['url']}) runs on {self.path}"
        except (OSError, ValueError, KeyError):
            return f"another service runs on {self.path}"

    def _let_go(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@dataclass(frozen=True)
class RunningFacts:
    """What others need to know of a running service."""

    url: str
    connection_string: str
    queues: tuple[str, ...]

    def __repr__(self) -> str:
        return f"RunningFacts(url={self.url!r}, queues={self.queues!r})"


def write_private(path: Path, text: str) -> None:
    """Writes a file that its owner alone can read, whole or not at all. Raises OSError."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)
