"""What is on disk before a client hears "accepted".

The journal is an SQLite file in WAL mode that mirrors the queues: one row per message, one mark per delivery
whose lock is still out. One thread writes it. While it commits, everything that arrives meanwhile gathers for
the next commit, so the cost of a commit is shared by whatever load there is. A unit is what has to be written
together; its `done` is called on the event loop once the unit is durable, or with the error if it is not.

If a commit fails the units of it are tried once more in two groups, those that only free space first: a full
disk must not keep anybody from completing messages. What fails again is refused.

After a restart a message that was out is available again and that delivery counts, as when a lock expires.
What a queue does with its messages is not known here, nor what a message says.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple, Protocol

import structlog

from .errors import BrokerError
from .messages import Content
from .model import Change, Kind, Message, State
from .queue import Queue

log = structlog.get_logger(__name__)

_SEQUENCE_BITS = 44  # a row id is the number of the queue above the sequence number of the message
_SEQUENCE_MASK = (1 << _SEQUENCE_BITS) - 1

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS queues (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, last_sequence INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY, dead INTEGER NOT NULL, state INTEGER NOT NULL, delivery_count INTEGER NOT NULL,
    enqueued_ms INTEGER NOT NULL, due_ms INTEGER NOT NULL, ttl_ms INTEGER, header BLOB NOT NULL,
    annotations BLOB NOT NULL, annotation_count INTEGER NOT NULL,
    delivery_annotations BLOB NOT NULL, delivery_annotation_count INTEGER NOT NULL, body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS deliveries (id INTEGER PRIMARY KEY);
"""

Done = Callable[[BaseException | None], None]
_Statement = tuple[str, tuple[object, ...]]


class Journal(Protocol):
    """Where changes become durable. `path` is None for a journal that keeps nothing."""

    path: Path | None

    def submit(self, changes: Sequence[Change], done: Done) -> None:
        """Writes the changes together and calls `done`, at once or later, always on the event loop."""

    def delivered(self, queue: Queue, message: Message) -> None:
        """The message is out under a lock. Nobody waits for this to be durable."""

    def released(self, queue: Queue, message: Message) -> None:
        """The message is back without having been delivered. Nobody waits for this to be durable."""

    async def close(self) -> None:
        """Writes what has been submitted and lets go of the file."""


class MemoryJournal:
    """Keeps nothing: every change counts as durable at once."""

    path: Path | None = None

    def submit(self, changes: Sequence[Change], done: Done) -> None:
        """Calls `done` at once."""
        done(None)

    def delivered(self, queue: Queue, message: Message) -> None:
        """Nothing to remember."""

    def released(self, queue: Queue, message: Message) -> None:
        """Nothing to forget."""

    async def close(self) -> None:
        """Nothing to write."""


class _Unit(NamedTuple):
    statements: list[_Statement]
    last_sequences: dict[int, int]  # number of a queue -> the highest sequence number it has given
    grows: bool
    done: Done | None


class SqliteJournal:
    """A journal in one SQLite file. Make one with `open`."""

    def __init__(
        self,
        store: _Store,
        numbers: dict[Queue, tuple[int, int]],
        writer: ThreadPoolExecutor,
        lock: IO[str],
    ) -> None:
        self.path: Path | None = store.path
        self.on_failure: Callable[[BaseException | None], None] = lambda error: None
        self._loop = asyncio.get_running_loop()
        self._lock = lock
        self._writer = writer
        self._store = store
        self._numbers = numbers  # queue -> (number, 1 if it is a dead-letter queue)
        self._gathered: list[_Unit] = []
        self._writing: asyncio.Future[list[BaseException | None]] | None = None
        self._flush_scheduled = False

    @classmethod
    async def open(
        cls, path: Path, queues: dict[str, Queue], *, fsync: bool = True, pages_max: int | None = None
    ) -> SqliteJournal:
        """Opens or creates the file and gives every queue its messages back.

        Raises BrokerError if another broker has the file, or if it cannot be read.
        """
        lock = _take_file(path)
        writer = ThreadPoolExecutor(1, "broker-journal")
        try:
            store, numbers = await asyncio.get_running_loop().run_in_executor(
                writer, _load, path, queues, fsync, pages_max
            )
        except (sqlite3.Error, OSError, BrokerError) as error:
            writer.shutdown(wait=False)
            lock.close()
            if isinstance(error, BrokerError):
                raise
            raise BrokerError(f"journal {path}: {error}") from error
        return cls(store, numbers, writer, lock)

    def submit(self, changes: Sequence[Change], done: Done) -> None:
        """Gathers the changes for the next commit."""
        statements: list[_Statement] = []
        last_sequences: dict[int, int] = {}
        grows = False
        for change in changes:
            number, _dead = self._numbers[change.queue]
            statements += _statements(change, number)
            if change.kind is Kind.PUT or change.kind is Kind.ACTIVATE:
                last_sequences[number] = change.sequence
            grows = grows or change.kind is Kind.PUT
        self._gather(_Unit(statements, last_sequences, grows, done))

    def delivered(self, queue: Queue, message: Message) -> None:
        """Marks the message as being out."""
        self._gather_mark(_MARK, queue, message)

    def released(self, queue: Queue, message: Message) -> None:
        """Takes the mark away."""
        self._gather_mark(_UNMARK, queue, message)

    def _gather_mark(self, statement: str, queue: Queue, message: Message) -> None:
        row = _row(self._numbers[queue][0], message.sequence)
        self._gather(_Unit([(statement, (row,))], {}, False, None))

    def _gather(self, unit: _Unit) -> None:
        self._gathered.append(unit)
        if not self._flush_scheduled and self._writing is None:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._writing is None and self._gathered:
            units, self._gathered = self._gathered, []
            self._writing = self._loop.run_in_executor(self._writer, self._store.write, units)
            self._writing.add_done_callback(lambda future: self._written(units, future))

    def _written(self, units: list[_Unit], future: asyncio.Future[list[BaseException | None]]) -> None:
        self._writing = None
        failure = future.exception()
        errors = [failure] * len(units) if failure is not None else future.result()
        # The next commit starts first: the disk works while the loop answers the clients of this one.
        self._flush()
        self.on_failure(next((error for error in errors if error is not None), None))
        for unit, error in zip(units, errors, strict=True):
            if unit.done is not None:
                unit.done(error)

    async def close(self) -> None:
        """Writes what has been submitted and lets go of the file."""
        while self._writing is not None or self._gathered:
            self._flush()
            if self._writing is not None:
                await asyncio.wait([self._writing])
                await asyncio.sleep(0)  # lets `_written` run
        await self._loop.run_in_executor(self._writer, self._store.close)
        self._writer.shutdown(wait=False)
        self._lock.close()


def _load(
    path: Path, queues: dict[str, Queue], fsync: bool, pages_max: int | None
) -> tuple[_Store, dict[Queue, tuple[int, int]]]:
    store = _Store(path, fsync, pages_max)
    return store, store.load(queues)


def _take_file(path: Path) -> IO[str]:
    """A lock beside the journal that ends with this process, however it ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(path.name + ".lock").open("a+")
    except OSError as error:
        raise BrokerError(f"journal {path}: {error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise BrokerError(f"journal {path} is in use by another broker (process {holder})") from error
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _row(number: int, sequence: int) -> int:
    return number << _SEQUENCE_BITS | sequence


_PUT = "INSERT INTO messages VALUES (?, 0, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_DROP = "DELETE FROM messages WHERE id = ?"
_SET = "UPDATE messages SET state = ?, delivery_count = ? WHERE id = ?"
_BURY = "UPDATE messages SET dead = 1, state = 0, delivery_count = ?, body = ? WHERE id = ?"
_ACTIVATE = "UPDATE messages SET id = ?, state = 0, enqueued_ms = due_ms WHERE id = ?"
_LAST = "UPDATE queues SET last_sequence = max(last_sequence, ?) WHERE number = ?"
_MARK = "INSERT OR IGNORE INTO deliveries VALUES (?)"
_UNMARK = "DELETE FROM deliveries WHERE id = ?"


def _statements(change: Change, number: int) -> list[_Statement]:
    message, content = change.message, change.content
    row = _row(number, message.sequence)
    if change.kind is Kind.PUT:
        put = (
            row, int(message.state), message.enqueued_ms, message.due_ms, content.ttl_ms, content.header,
            content.annotations, content.annotation_count, content.delivery_annotations,
            content.delivery_annotation_count, content.body,
        )  # fmt: skip
        return [(_PUT, put)]
    if change.kind is Kind.DROP:
        return [(_DROP, (row,)), (_UNMARK, (row,))]
    if change.kind is Kind.ACTIVATE:
        return [(_ACTIVATE, (_row(number, change.sequence), row))]
    if change.kind is Kind.BURY:
        return [(_BURY, (change.delivery_count, content.body, row)), (_UNMARK, (row,))]
    state = State.DEFERRED if change.kind is Kind.DEFER else message.state
    return [(_SET, (int(state), change.delivery_count, row)), (_UNMARK, (row,))]


class _Store:
    """The SQLite file; lives in the writer's thread."""

    def __init__(self, path: Path, fsync: bool, pages_max: int | None) -> None:
        self.path = path
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(f"PRAGMA synchronous = {'FULL' if fsync else 'NORMAL'}")
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        if pages_max is not None:
            self._db.execute(f"PRAGMA max_page_count = {int(pages_max)}")
        self._make_schema()

    def _make_schema(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and version != _SCHEMA_VERSION:
            raise BrokerError(
                f"journal {self.path}: its layout is version {version}, this broker reads {_SCHEMA_VERSION}; "
                "move the file away to start with empty queues"
            )
        self._db.executescript(f"{_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION};")

    def load(self, queues: dict[str, Queue]) -> dict[Queue, tuple[int, int]]:
        """Hands every queue its messages and answers the numbers the file knows the queues by."""
        numbers: dict[Queue, tuple[int, int]] = {}
        self._count_lost_deliveries()
        for name, queue in queues.items():
            self._db.execute("INSERT OR IGNORE INTO queues (name) VALUES (?)", (name,))
            number, queue.last_sequence = self._db.execute(
                "SELECT number, last_sequence FROM queues WHERE name = ?", (name,)
            ).fetchone()
            numbers[queue] = (number, 0)
            if queue.dead_letters is not None:
                numbers[queue.dead_letters] = (number, 1)
            self._load_queue(number, queue)
        return numbers

    def _count_lost_deliveries(self) -> None:
        self._db.execute("BEGIN")
        self._db.execute(
            "UPDATE messages SET delivery_count = delivery_count + 1 WHERE id IN (SELECT id FROM deliveries)"
        )
        self._db.execute("DELETE FROM deliveries")
        self._db.execute("COMMIT")

    def _load_queue(self, number: int, queue: Queue) -> None:
        rows = self._db.execute(
            "SELECT id, dead, state, delivery_count, enqueued_ms, due_ms, body, annotations, annotation_count,"
            " delivery_annotations, delivery_annotation_count, header, ttl_ms"
            " FROM messages WHERE id BETWEEN ? AND ? ORDER BY id",
            (_row(number, 0), _row(number, _SEQUENCE_MASK)),
        )
        for row, dead, state, delivery_count, enqueued_ms, due_ms, body, a, a_count, d, d_count, header, ttl in rows:
            content = Content(body, a, a_count, d, d_count, header, ttl, due_ms or None)
            message = Message(row & _SEQUENCE_MASK, content, enqueued_ms, State(state), due_ms, delivery_count)
            (queue.dead_letters if dead and queue.dead_letters is not None else queue).restore(message)

    def write(self, units: list[_Unit]) -> list[BaseException | None]:
        """Commits the units and answers, for each, the error that kept it out, or None."""
        error = self._commit(units)
        if error is None:
            return [None] * len(units)
        log.warning("journal.commit_failed", error=str(error), units=len(units))
        shrinking = [unit for unit in units if not unit.grows]
        growing = [unit for unit in units if unit.grows]
        shrink_error = self._commit(shrinking) if shrinking else None
        grow_error = self._commit(growing) if growing else None
        return [grow_error if unit.grows else shrink_error for unit in units]

    def _commit(self, units: list[_Unit]) -> BaseException | None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            execute = self._db.execute
            last_sequences: dict[int, int] = {}
            for unit in units:
                for statement, parameters in unit.statements:
                    execute(statement, parameters)
                last_sequences |= unit.last_sequences
            for number, sequence in last_sequences.items():
                execute(_LAST, (sequence, number))
            execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            # Some errors end the transaction by themselves; a rollback then has nothing to do.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            return error
        return None

    def close(self) -> None:
        """Closes the file; what was committed is in it."""
        self._db.close()
