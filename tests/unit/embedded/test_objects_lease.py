"""The lease: who holds it, and when it is free."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dispatcher.embedded.identity import ProcessIdentity
from dispatcher.embedded.lease import EmbeddedLease
from dispatcher.embedded.objects import ObjectStore

LASTS = timedelta(seconds=15)


class HandClock:
    def __init__(self) -> None:
        self.at = datetime(2026, 3, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ObjectStore]:
    made = ObjectStore(tmp_path / "objects.db")
    await made.open()
    yield made
    await made.close()


async def test_one_contender_holds_the_lease_and_renews_it(store: ObjectStore) -> None:
    clock = HandClock()
    first, second = (EmbeddedLease(store, clock, lasts=LASTS) for _ in range(2))
    assert await first.acquire()
    assert not await second.acquire()
    clock.at += LASTS - timedelta(seconds=1)
    assert await first.acquire()
    clock.at += LASTS - timedelta(seconds=1)
    assert not await second.acquire()


async def test_a_lease_that_ran_out_is_taken_and_its_old_holder_learns_of_it(store: ObjectStore) -> None:
    clock = HandClock()
    first, second = (EmbeddedLease(store, clock, lasts=LASTS) for _ in range(2))
    assert await first.acquire()
    clock.at += LASTS
    assert await second.acquire()
    assert not await first.acquire()


async def test_a_lease_that_is_released_is_free_at_once(store: ObjectStore) -> None:
    clock = HandClock()
    first, second = (EmbeddedLease(store, clock) for _ in range(2))
    assert await first.acquire()
    await second.release()
    assert not await second.acquire()
    await first.release()
    assert await second.acquire()


async def test_the_lease_of_a_dead_process_is_taken_at_once_and_that_of_a_live_one_is_not(store: ObjectStore) -> None:
    program = f"""
import asyncio, datetime, pathlib
from dispatcher.embedded.lease import EmbeddedLease
from dispatcher.embedded.objects import ObjectStore
class Clock:
    def now(self): return datetime.datetime.now(datetime.UTC)
async def main():
    store = ObjectStore(pathlib.Path({str(store.path)!r}))
    await store.open()
    print(await EmbeddedLease(store, Clock(), lasts=datetime.timedelta(hours=1)).acquire(), flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=Path(__file__).parents[3], stdout=asyncio.subprocess.PIPE
    )  # fmt: skip
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"True\n"
    clock = HandClock()
    clock.at = datetime.now(UTC)
    lease = EmbeddedLease(store, clock)
    assert not await lease.acquire()
    holder.kill()
    await holder.wait()
    assert await lease.acquire()


def test_a_process_is_known_by_its_start_as_well_as_its_pid() -> None:
    me = ProcessIdentity.mine()
    assert me.lives()
    assert not ProcessIdentity(me.pid, me.start + "0", me.boot).lives()
    assert not ProcessIdentity(me.pid, me.start, "another-boot").lives()


async def test_a_lease_that_cannot_be_renewed_is_held_until_it_runs_out(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path / "objects.db")
    await store.open()
    clock = HandClock()
    lease = EmbeddedLease(store, clock, lasts=LASTS)
    assert await lease.acquire()
    await store.close()
    store = ObjectStore(tmp_path / "objects.db")
    await store.open()
    await store.read(lambda seen: seen._connection.execute("PRAGMA query_only = ON"))
    lease._objects = store
    assert await lease.acquire()
    clock.at += LASTS
    assert not await lease.acquire()
    await asyncio.gather(lease.release(), store.close())
