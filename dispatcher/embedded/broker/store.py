"""The SQLite file behind the journal: its layout, what a change is in SQL, and what a restart makes of it.

It mirrors the queues: one row per message, one mark per delivery whose lock is still out, one row per message
id that is remembered for duplicate detection. Everything here runs in the thread of the writer. When anything
is written is the business of `journal`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from .errors import BrokerError
from .messages import Content
from .model import Change, Kind, Message, State
from .queue import Queue

log = structlog.get_logger(__name__)

Done = Callable[[BaseException | None], None]
Statement = tuple[str, tuple[object, ...]]

_SEQUENCE_BITS = 44  # a row id is the number of the queue above the sequence number of the message
_SEQUENCE_MASK = (1 << _SEQUENCE_BITS) - 1

_SCHEMA_VERSION = 2
_SCHEMAS_READ = (1, 2)  # 1: before message ids were remembered; only their table is missing
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
CREATE TABLE IF NOT EXISTS message_ids (
    queue INTEGER NOT NULL, message_id BLOB NOT NULL, sequence INTEGER NOT NULL, accepted_ms INTEGER NOT NULL,
    PRIMARY KEY (queue, message_id)
) WITHOUT ROWID;
"""


class Unit(NamedTuple):
    """What has to be written together, and who wants to know."""

    statements: list[Statement]
    last_sequences: dict[int, int]  # number of a queue -> the highest sequence number it has given
    grows: bool
    done: Done | None


def row_of(number: int, sequence: int) -> int:
    """The row of a message."""
    return number << _SEQUENCE_BITS | sequence


_PUT = "INSERT INTO messages VALUES (?, 0, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_DROP = "DELETE FROM messages WHERE id = ?"
_SET = "UPDATE messages SET state = ?, delivery_count = ? WHERE id = ?"
_BURY = "UPDATE messages SET dead = 1, state = 0, delivery_count = ?, body = ? WHERE id = ?"
_ACTIVATE = "UPDATE messages SET id = ?, state = 0, enqueued_ms = due_ms WHERE id = ?"
_LAST = "UPDATE queues SET last_sequence = max(last_sequence, ?) WHERE number = ?"
_REMEMBER = "INSERT OR REPLACE INTO message_ids VALUES (?, ?, ?, ?)"
_FORGET = "DELETE FROM message_ids WHERE queue = ? AND message_id = ?"
MARK = "INSERT OR IGNORE INTO deliveries VALUES (?)"
UNMARK = "DELETE FROM deliveries WHERE id = ?"


def statements_of(change: Change, number: int) -> list[Statement]:
    """What a change of a message in the queue of that number is in SQL."""
    message, content = change.message, change.content
    row = row_of(number, message.sequence)
    if change.kind is Kind.PUT:
        put = (
            row, int(message.state), message.enqueued_ms, message.due_ms, content.ttl_ms, content.header,
            content.annotations, content.annotation_count, content.delivery_annotations,
            content.delivery_annotation_count, content.body,
        )  # fmt: skip
        if change.message_id is None:
            return [(_PUT, put)]
        return [(_PUT, put), (_REMEMBER, (number, change.message_id, message.sequence, message.enqueued_ms))]
    if change.kind is Kind.DROP:
        return [(_DROP, (row,)), (UNMARK, (row,))]
    if change.kind is Kind.ACTIVATE:
        return [(_ACTIVATE, (row_of(number, change.sequence), row))]
    if change.kind is Kind.BURY:
        return [(_BURY, (change.delivery_count, content.body, row)), (UNMARK, (row,))]
    state = State.DEFERRED if change.kind is Kind.DEFER else message.state
    return [(_SET, (int(state), change.delivery_count, row)), (UNMARK, (row,))]


def forget_statements(number: int, message_ids: Sequence[bytes]) -> list[Statement]:
    """Takes message ids out of the memory of the queue of that number."""
    return [(_FORGET, (number, message_id)) for message_id in message_ids]


class Store:
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
        if tables and version not in _SCHEMAS_READ:
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
            self._load_message_ids(number, queue)
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
            (row_of(number, 0), row_of(number, _SEQUENCE_MASK)),
        )
        for row, dead, state, delivery_count, enqueued_ms, due_ms, body, a, a_count, d, d_count, header, ttl in rows:
            content = Content(body, a, a_count, d, d_count, header, ttl, due_ms or None)
            message = Message(row & _SEQUENCE_MASK, content, enqueued_ms, State(state), due_ms, delivery_count)
            (queue.dead_letters if dead and queue.dead_letters is not None else queue).restore(message)

    def _load_message_ids(self, number: int, queue: Queue) -> None:
        if queue.duplicates is None:
            self._db.execute("DELETE FROM message_ids WHERE queue = ?", (number,))
            return
        rows = self._db.execute(
            "SELECT message_id, sequence, accepted_ms FROM message_ids WHERE queue = ? ORDER BY accepted_ms", (number,)
        )
        for message_id, sequence, accepted_ms in rows:
            queue.duplicates.restore(message_id, sequence, accepted_ms)

    def write(self, units: list[Unit]) -> list[BaseException | None]:
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

    def _commit(self, units: list[Unit]) -> BaseException | None:
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
