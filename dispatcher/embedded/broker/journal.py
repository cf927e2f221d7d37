"""What is on disk before a client hears "accepted".

The journal is an SQLite file in WAL mode that mirrors the queues. One thread writes it. While it commits,
everything that arrives meanwhile gathers for the next commit, so the cost of a commit is shared by whatever
load there is. A unit is what has to be written together; its `done` is called on the event loop once the unit
is durable, or with the error if it is not.

If a commit fails the units of it are tried once more in two groups, those that only free space first: a full
disk must not keep anybody from completing messages. What fails again is refused.

After a restart a message that was out is available again and that delivery counts, as when a lock expires.
What a queue does with its messages is not known here, nor what a message says, nor what the file looks like.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Protocol

from .errors import BrokerError
from .model import Change, Kind, Message
from .queue import Queue
from .store import MARK, UNMARK, Done, Statement, Store, Unit, forget_statements, row_of, statements_of

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

    def forget(self, queue: Queue, message_ids: Sequence[bytes]) -> None:
        """Duplicates of these ids are welcome again. Nobody waits for this to be durable."""

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

    def forget(self, queue: Queue, message_ids: Sequence[bytes]) -> None:
        """Nothing to forget."""

    async def close(self) -> None:
        """Nothing to write."""


class SqliteJournal:
    """A journal in one SQLite file. Make one with `open`."""

    def __init__(
        self,
        store: Store,
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
        self._gathered: list[Unit] = []
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
        statements: list[Statement] = []
        last_sequences: dict[int, int] = {}
        grows = False
        for change in changes:
            number, _dead = self._numbers[change.queue]
            statements += statements_of(change, number)
            if change.kind is Kind.PUT or change.kind is Kind.ACTIVATE:
                last_sequences[number] = change.sequence
            grows = grows or change.kind is Kind.PUT
        self._gather(Unit(statements, last_sequences, grows, done))

    def delivered(self, queue: Queue, message: Message) -> None:
        """Marks the message as being out."""
        self._gather_mark(MARK, queue, message)

    def released(self, queue: Queue, message: Message) -> None:
        """Takes the mark away."""
        self._gather_mark(UNMARK, queue, message)

    def forget(self, queue: Queue, message_ids: Sequence[bytes]) -> None:
        """Takes the ids out of the file."""
        if message_ids:
            self._gather(Unit(forget_statements(self._numbers[queue][0], message_ids), {}, False, None))

    def _gather_mark(self, statement: str, queue: Queue, message: Message) -> None:
        row = row_of(self._numbers[queue][0], message.sequence)
        self._gather(Unit([(statement, (row,))], {}, False, None))

    def _gather(self, unit: Unit) -> None:
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

    def _written(self, units: list[Unit], future: asyncio.Future[list[BaseException | None]]) -> None:
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
) -> tuple[Store, dict[Queue, tuple[int, int]]]:
    store = Store(path, fsync, pages_max)
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
