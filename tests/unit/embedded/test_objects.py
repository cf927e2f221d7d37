"""The object store: what is durable, and what a write that fails means."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dispatcher.embedded import objects
from dispatcher.embedded.ledger_store import EmbeddedLedgerStore
from dispatcher.embedded.objects import ObjectStore, StoreWriteFailed, Transaction
from dispatcher.errors import LookFailed, OutcomeUnknown
from dispatcher.ports import Answer

ROOT = Path(__file__).parents[3]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ObjectStore]:
    made = ObjectStore(tmp_path / "data" / "objects.db")
    await made.open()
    yield made
    await made.close()


async def bodies(store: ObjectStore) -> list[object]:
    return [stored.body for stored in await store.read(lambda seen: seen.all("thing"))]


def fill_the_disk(store: ObjectStore, full: bool = True) -> None:
    """As many pages as there are now are all there will ever be."""
    connection = store._connection
    assert connection is not None
    pages = connection.execute("PRAGMA page_count").fetchone()[0] if full else 2**30
    connection.execute(f"PRAGMA max_page_count = {pages}")


async def test_what_was_written_is_there_after_the_file_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "objects.db"
    for expected in ([], [{"n": 1}]):
        store = ObjectStore(path)
        await store.open()
        assert await bodies(store) == expected
        if not expected:
            await store.write(lambda seen: seen.add("thing", "a", {"n": 1}))
        await store.close()


async def test_versions_only_grow_and_a_name_used_again_has_another_uid(store: ObjectStore) -> None:
    first = await store.write(lambda seen: seen.add("thing", "a", 1))
    changed = await store.write(lambda seen: seen.change(first, body=2))
    await store.write(lambda seen: seen.remove("thing", "a"))
    again = await store.write(lambda seen: seen.add("thing", "a", 1))
    assert first.version < changed.version < again.version
    assert first.uid == changed.uid != again.uid


async def test_a_change_that_raises_leaves_nothing_behind(store: ObjectStore) -> None:
    def change(seen: Transaction) -> None:
        seen.add("thing", "a", 1)
        raise LookupError("on second thoughts")

    with pytest.raises(LookupError, match="second thoughts"):
        await store.write(change)
    assert await bodies(store) == []


async def test_a_full_disk_is_an_error_that_names_the_file_and_nothing_is_half_written(store: ObjectStore) -> None:
    await store.write(lambda seen: seen.add("thing", "a", "before"))
    await store.read(lambda _: fill_the_disk(store))

    def change(seen: Transaction) -> None:
        seen.add("thing", "b", "small")
        seen.add("thing", "c", "x" * 1_000_000)

    with pytest.raises(StoreWriteFailed, match=r"objects\.db.*full"):
        await store.write(change)
    assert await bodies(store) == ["before"]
    await store.read(lambda _: fill_the_disk(store, full=False))
    await store.write(change)
    assert len(await bodies(store)) == 3


async def test_ledger_and_records_say_by_their_answers_that_the_disk_is_full(store: ObjectStore) -> None:
    ledger = EmbeddedLedgerStore(store)
    version = await ledger.write_ledger({"epoch": 1}, replacing=None)
    (created,) = await ledger.create_records([("burst-b-1", {"0.json": "{}"}, {})])
    assert created.record is not None
    await store.read(lambda _: fill_the_disk(store))
    big = "x" * 200_000
    with pytest.raises(StoreWriteFailed, match="nothing was written"):
        await ledger.write_ledger({"epoch": 2, "big": big}, replacing=version)
    answers = await ledger.create_records([("burst-c-1", {"0.json": big}, {})])
    assert [(answer.answer, str(store.path) in answer.text) for answer in answers] == [(Answer.REFUSED, True)]
    answer, text = await ledger.replace_annotations("burst-b-1", created.record.version, {"a": big})
    assert (answer, str(store.path) in text) == (Answer.REFUSED, True)
    stored = await ledger.read_ledger()
    assert stored is not None
    assert stored.version == version


class FailingCommit:
    """A connection whose COMMIT says that the disk failed, whether it was done or not."""

    def __init__(self, real: sqlite3.Connection, *, done: bool, blind: bool = False) -> None:
        self._real = real
        self._done = done
        self._blind = blind
        self._committed = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def execute(self, text: str, *values: object) -> sqlite3.Cursor:
        if self._committed and self._blind:
            raise sqlite3.OperationalError("disk I/O error")
        if text != "COMMIT":
            return self._real.execute(text, *values)
        self._committed = True
        if self._done:
            self._real.execute(text)
        raise sqlite3.OperationalError("disk I/O error")


@pytest.mark.parametrize(
    ("done", "blind", "expected"),
    [(False, False, StoreWriteFailed), (True, False, OutcomeUnknown), (False, True, OutcomeUnknown)],
)
async def test_a_failed_commit_is_unknown_only_where_it_cannot_be_found_out_to_have_failed(
    store: ObjectStore, done: bool, blind: bool, expected: type[Exception]
) -> None:
    real = store._connection
    assert real is not None
    store._connection = FailingCommit(real, done=done, blind=blind)  # type: ignore[assignment]
    with pytest.raises(expected, match=r"objects\.db"):
        await store.write(lambda seen: seen.add("thing", "a", 1))
    store._connection = real
    assert (await bodies(store) == [1]) is done


async def test_a_write_without_an_answer_has_an_unknown_outcome_and_a_read_has_failed(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_ANSWER_WITHIN_S", 0.05)
    loop = asyncio.get_running_loop()
    release = asyncio.Event()

    def wait(_: Transaction) -> None:
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result()

    with pytest.raises(OutcomeUnknown, match=r"objects\.db"):
        await store.write(wait)
    with pytest.raises(LookFailed, match=r"objects\.db"):
        await store.read(lambda seen: seen.all("thing"))
    release.set()


async def test_a_place_where_no_file_can_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreWriteFailed, match=r"file/objects\.db"):
        await ObjectStore(tmp_path / "file" / "objects.db").open()


async def test_a_store_that_is_not_open_cannot_be_looked_into(tmp_path: Path) -> None:
    with pytest.raises(LookFailed, match="not open"):
        await ObjectStore(tmp_path / "objects.db").read(lambda seen: seen.all("thing"))


async def test_two_processes_count_on_the_same_object_without_losing_a_step(tmp_path: Path) -> None:
    path = tmp_path / "objects.db"
    program = f"""
import asyncio, pathlib
from dispatcher.embedded.objects import ObjectStore
def step(seen):
    stored = seen.get("thing", "count")
    return seen.add("thing", "count", 1) if stored is None else seen.change(stored, body=stored.body + 1)
async def main():
    store = ObjectStore(pathlib.Path({str(path)!r}))
    await store.open()
    for _ in range(100):
        await store.write(step)
    await store.close()
asyncio.run(main())
"""
    both = [await asyncio.create_subprocess_exec(sys.executable, "-c", program, cwd=ROOT) for _ in range(2)]
    async with asyncio.timeout(30):
        assert [await process.wait() for process in both] == [0, 0]
    store = ObjectStore(path)
    await store.open()
    assert await bodies(store) == [200]
    await store.close()


async def test_what_was_answered_survives_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "objects.db"
    program = f"""
import asyncio, pathlib
from dispatcher.embedded.objects import ObjectStore
async def main():
    store = ObjectStore(pathlib.Path({str(path)!r}))
    await store.open()
    for n in range(10**6):
        await store.write(lambda seen: (seen.add("thing", f"{{n:07}}", n), seen.add("thing", f"{{n:07}}-twin", n)))
        print(n, flush=True)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )  # fmt: skip
    assert process.stdout is not None
    for _ in range(50):
        await process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    answered = 49 + len((await process.stdout.read()).split())
    await process.wait()
    store = ObjectStore(path)
    await store.open()
    kept = await bodies(store)
    await store.close()
    assert sorted(set(kept)) == list(range(len(kept) // 2))  # type: ignore[type-var]
    assert len(kept) % 2 == 0
    assert len(kept) // 2 > answered - 1
