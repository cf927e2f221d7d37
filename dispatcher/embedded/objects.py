"""The embedded object store: JSON objects by kind and name in one SQLite file, changed in transactions.

Decides what is durable and what a failed write means. Knows nothing of what the objects are. Each object has a uid
and a version that only grows, as in the Kubernetes API, so that whatever is built on this can be built on that too.

SQLite runs on one thread of its own, never on the event loop. The journal is a WAL with ``synchronous=FULL``: what
was answered stays true after a power cut, as the broker's journal does; otherwise the ledger could be older than the
queue. A second process may open the same file: SQLite lets one write at a time, and versions settle who was first.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from dispatcher.errors import DispatcherError, LookFailed, OutcomeUnknown

T = TypeVar("T")

_LOCK_WAIT_MS = 5_000
_ANSWER_WITHIN_S = 20.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    kind TEXT NOT NULL, name TEXT NOT NULL, uid TEXT NOT NULL, version INTEGER NOT NULL,
    body TEXT NOT NULL, finalizers TEXT NOT NULL, marked INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
);
CREATE TABLE IF NOT EXISTS counter (version INTEGER NOT NULL);
INSERT INTO counter SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM counter);
"""


class StoreWriteFailed(DispatcherError):
    """A write did not happen, for certain, and nothing of it is in the store. The text names the file and the cause."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as it stands: ``version`` is what a careful writer replaces."""

    kind: str
    name: str
    uid: str
    version: int
    body: Any
    finalizers: tuple[str, ...] = ()
    marked: bool = False


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


class Transaction:
    """The objects as one transaction sees them. Lives on the store's thread, for the length of one call."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def get(self, kind: str, name: str) -> StoredObject | None:
        """The object of that kind and name, if there is one."""
        query = "SELECT * FROM objects WHERE kind = ? AND name = ?"
        row = self._connection.execute(query, (kind, name)).fetchone()
        return None if row is None else _read(row)

    def all(self, kind: str) -> list[StoredObject]:
        """All objects of a kind, by name."""
        query = "SELECT * FROM objects WHERE kind = ? ORDER BY name"
        return [_read(row) for row in self._connection.execute(query, (kind,))]

    def has(self, kind: str, name: str) -> bool:
        """Whether there is one, without reading it."""
        query = "SELECT 1 FROM objects WHERE kind = ? AND name = ?"
        return self._connection.execute(query, (kind, name)).fetchone() is not None

    def add(
        self, kind: str, name: str, body: Any, *, finalizers: tuple[str, ...] = (), uid: str | None = None
    ) -> StoredObject:
        """Adds an object under a name that must be free (look first: the transaction is the only writer)."""
        added = StoredObject(kind, name, uid or str(uuid.uuid4()), self._next_version(), body, finalizers)
        self._connection.execute("INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?)", _row(added))
        return added

    def change(self, stored: StoredObject, *, body: Any) -> StoredObject:
        """Gives an object another body, and so another version."""
        changed = replace(stored, version=self._next_version(), body=body)
        self._connection.execute("REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?)", _row(changed))
        return changed

    def put(self, kind: str, name: str, body: Any, *, uid: str) -> None:
        """Writes an object whatever was there: for kinds that have one writer only."""
        put = StoredObject(kind, name, uid, self._next_version(), body)
        self._connection.execute("REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?)", _row(put))

    def remove(self, kind: str, name: str) -> None:
        """Removes an object, if it is there."""
        self._connection.execute("DELETE FROM objects WHERE kind = ? AND name = ?", (kind, name))

    def _next_version(self) -> int:
        row = self._connection.execute("UPDATE counter SET version = version + 1 RETURNING version").fetchone()
        return int(row[0])


class ObjectStore:
    """One SQLite file of objects. ``open`` before use, ``close`` after; both may be called once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="object-store")
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Opens the file, and makes it where there is none. Raises StoreWriteFailed naming the path."""
        try:
            await self._on_thread(self._open)
        except (sqlite3.Error, OSError) as error:
            raise StoreWriteFailed(f"{self.path}: the object store cannot be opened: {error}") from error

    async def close(self) -> None:
        """Ends the last call, closes the file and ends the thread."""
        await self._on_thread(self._close)
        self._thread.shutdown(wait=False)

    async def read(self, look: Callable[[Transaction], T]) -> T:
        """Runs ``look`` on one consistent state. Raises LookFailed."""
        try:
            return await self._on_thread(self._read, look)
        except (sqlite3.Error, TimeoutError, ValueError) as error:
            raise LookFailed(f"{self.path}: reading failed: {error}") from error

    async def write(self, change: Callable[[Transaction], T]) -> T:
        """Runs ``change`` as one transaction: all of it is kept, or nothing.

        Whatever ``change`` raises undoes it and comes through. Raises StoreWriteFailed if it did not happen, and
        OutcomeUnknown only where even that could not be found out.
        """
        try:
            return await self._on_thread(self._write, change)
        except TimeoutError as error:
            raise OutcomeUnknown(f"{self.path}: a write gave {error}") from error

    async def _on_thread(self, call: Callable[..., T], *args: Any) -> T:
        work = asyncio.get_running_loop().run_in_executor(self._thread, lambda: call(*args))
        done, _ = await asyncio.wait({work}, timeout=_ANSWER_WITHIN_S)
        if not done:
            work.add_done_callback(lambda late: late.exception())  # seen, so that asyncio does not complain of it
            raise TimeoutError(f"no answer within {_ANSWER_WITHIN_S:.0f} s")
        return work.result()

    # --- on the thread ---

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=_LOCK_WAIT_MS / 1000)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(_SCHEMA)
        self.path.chmod(0o600)
        self._connection = connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.ProgrammingError("the store is not open")
        return self._connection

    def _read(self, look: Callable[[Transaction], T]) -> T:
        connection = self._opened()
        _undo(connection)
        connection.execute("BEGIN")
        try:
            return look(Transaction(connection))
        finally:
            connection.execute("ROLLBACK")

    def _write(self, change: Callable[[Transaction], T]) -> T:
        connection = self._opened()
        try:
            _undo(connection)  # what an earlier failure may have left open
            connection.execute("BEGIN IMMEDIATE")
            before = _version(connection)
            result = change(Transaction(connection))
        except sqlite3.Error as error:
            _undo(connection)
            raise StoreWriteFailed(f"{self.path}: nothing was written: {error}") from error
        except BaseException:
            _undo(connection)
            raise
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._after_failed_commit(connection, before, error) from error
        return result

    def _after_failed_commit(self, connection: sqlite3.Connection, before: int, error: sqlite3.Error) -> Exception:
        try:
            _undo(connection)
            if _version(connection) == before:
                return StoreWriteFailed(f"{self.path}: nothing was written: {error}")
        except sqlite3.Error:
            pass  # the file cannot even be read, so nobody knows
        return OutcomeUnknown(f"{self.path}: the end of a write failed: {error}")


def _undo(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT version FROM counter").fetchone()[0])


def _row(stored: StoredObject) -> tuple[str, str, str, int, str, str, int]:
    body = json.dumps(stored.body, default=_plain, separators=(",", ":"), ensure_ascii=False)
    finalizers = json.dumps(stored.finalizers)
    return (stored.kind, stored.name, stored.uid, stored.version, body, finalizers, int(stored.marked))


def _read(row: tuple[Any, ...]) -> StoredObject:
    kind, name, uid, version, body, finalizers, marked = row
    return StoredObject(kind, name, uid, version, json.loads(body), tuple(json.loads(finalizers)), bool(marked))
