"""The journal alone: grouping, refusal, and what a restart finds."""

from __future__ import annotations

import asyncio
import sqlite3
from itertools import count
from pathlib import Path

import pytest

from dispatcher.embedded.broker.duplicates import DuplicateWindow
from dispatcher.embedded.broker.errors import BrokerError
from dispatcher.embedded.broker.journal import SqliteJournal
from dispatcher.embedded.broker.messages import Content
from dispatcher.embedded.broker.model import Change, Consumer
from dispatcher.embedded.broker.queue import Queue

BODY = b"\x00\x53\x75\xb0\x00\x00\x0f\xa0" + bytes(4000)


def a_queue() -> Queue:
    numbers = count(1)

    def token() -> bytes:
        return next(numbers).to_bytes(16, "big")

    dead = Queue(lock_duration_ms=1000, max_delivery_count=2, new_token=token)
    return Queue(lock_duration_ms=1000, max_delivery_count=2, new_token=token, dead_letters=dead)


async def write(journal: SqliteJournal, *changes: Change) -> BaseException | None:
    """Submits changes as one unit and carries out what the journal says."""
    spoken: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
    journal.submit(changes, spoken.set_result)
    error = await asyncio.wait_for(spoken, 5)
    for change in changes:
        change.queue.commit(change) if error is None else change.queue.cancel(change, 0)
    return error


def put(queue: Queue) -> Change:
    return queue.begin_put(Content(BODY), 0)


async def reopened(path: Path) -> Queue:
    queue = a_queue()
    journal = await SqliteJournal.open(path, {"jobs": queue})
    await journal.close()
    return queue


async def test_a_unit_is_written_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path, queue = tmp_path / "j", a_queue()
    journal = await SqliteJournal.open(path, {"jobs": queue}, pages_max=40)
    assert await write(journal, put(queue)) is None
    assert await write(journal, *(put(queue) for _ in range(100))) is not None
    await journal.close()
    assert len(queue) == len(await reopened(path)) == 1


async def test_a_full_journal_still_takes_what_frees_space_in_the_same_commit(tmp_path: Path) -> None:
    path, queue = tmp_path / "j", a_queue()
    failures: list[BaseException | None] = []
    journal = await SqliteJournal.open(path, {"jobs": queue}, pages_max=40)
    journal.on_failure = failures.append
    while await write(journal, put(queue)) is None:
        pass
    before = len(queue)
    consumer = Consumer(settled=False)
    queue.consumers.grant(consumer, 1)
    ((_, message),) = queue.assign(0, 1)
    results = await asyncio.gather(
        write(journal, *(put(queue) for _ in range(5))), write(journal, queue.begin_drop(message))
    )
    assert results[0] is not None
    assert results[1] is None
    assert failures[-1] is not None
    assert await write(journal, put(queue)) is None
    assert failures[-1] is None
    await journal.close()
    assert len(queue) == len(await reopened(path)) == before


async def test_a_restart_finds_every_state_as_it_was(tmp_path: Path) -> None:
    path, queue = tmp_path / "j", a_queue()
    journal = await SqliteJournal.open(path, {"jobs": queue})
    await write(journal, *(put(queue) for _ in range(5)), queue.begin_put(Content(BODY, due_ms=10**15), 0))
    consumer = Consumer(settled=False)
    queue.consumers.grant(consumer, 4)
    deferred, dropped, returned, locked = (message for _, message in queue.assign(0, 4))
    for message in (deferred, dropped, returned, locked):
        journal.delivered(queue, message)
    await write(journal, queue.begin_defer(deferred))
    await write(journal, queue.begin_drop(dropped))
    await write(journal, queue.begin_return(returned))
    await journal.close()
    again = await reopened(path)
    found = [(m.sequence, m.state.name, m.delivery_count) for m in again.shelf.peek(0, 10, 10**9)]
    assert found == [(1, "DEFERRED", 0), (3, "ACTIVE", 1), (4, "ACTIVE", 1), (5, "ACTIVE", 0), (6, "SCHEDULED", 0)]
    assert again.last_sequence == 6
    assert again.shelf.peek(6, 1, 10)[0].due_ms == 10**15


async def test_a_released_message_comes_back_uncounted(tmp_path: Path) -> None:
    path, queue = tmp_path / "j", a_queue()
    journal = await SqliteJournal.open(path, {"jobs": queue})
    await write(journal, put(queue))
    queue.consumers.grant(Consumer(settled=False), 1)
    ((_, message),) = queue.assign(0, 1)
    journal.delivered(queue, message)
    queue.release(message)
    journal.released(queue, message)
    await journal.close()
    assert [m.delivery_count for m in (await reopened(path)).shelf.peek(0, 10, 10**9)] == [0]


async def test_what_was_submitted_is_written_before_the_journal_closes(tmp_path: Path) -> None:
    path, queue = tmp_path / "j", a_queue()
    journal = await SqliteJournal.open(path, {"jobs": queue})
    for _ in range(50):
        journal.submit([put(queue)], lambda error: None)
    await journal.close()
    assert len(await reopened(path)) == 50


async def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BrokerError, match=r"journal .*file/j"):
        await SqliteJournal.open(tmp_path / "file" / "j", {"jobs": a_queue()})


async def test_a_journal_of_another_layout_is_refused_and_left_alone(tmp_path: Path) -> None:
    await reopened(tmp_path / "j")
    with sqlite3.connect(tmp_path / "j") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(BrokerError, match="its layout is version 99"):
        await SqliteJournal.open(tmp_path / "j", {"jobs": a_queue()})


async def test_a_journal_from_before_message_ids_were_remembered_is_read(tmp_path: Path) -> None:
    path, queue = tmp_path / "j", a_queue()
    journal = await SqliteJournal.open(path, {"jobs": queue})
    assert await write(journal, put(queue)) is None
    await journal.close()
    with sqlite3.connect(path) as db:
        db.executescript("DROP TABLE message_ids; PRAGMA user_version = 1;")
    db.close()
    assert len(await reopened(path)) == 1


async def test_message_ids_are_remembered_with_their_messages_until_they_are_forgotten(tmp_path: Path) -> None:
    path, queue = tmp_path / "j", a_queue()
    journal = await SqliteJournal.open(path, {"jobs": queue}, pages_max=40)
    assert await write(journal, queue.begin_put(Content(BODY), 5, b"kept")) is None
    assert await write(journal, queue.begin_put(Content(BODY), 5, b"forgotten")) is None
    assert await write(journal, *(queue.begin_put(Content(BODY), 5, b"%d" % n) for n in range(100))) is not None
    journal.forget(queue, [b"forgotten"])
    await journal.close()
    again = a_queue()
    again.duplicates = DuplicateWindow(1000)
    await (await SqliteJournal.open(path, {"jobs": again})).close()
    assert again.duplicates.find(b"kept", 1004) == 1
    assert len(again.duplicates) == 1
    assert again.duplicates.forget(1005) == [b"kept"]
