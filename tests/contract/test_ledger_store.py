"""What every LedgerStore does. One suite, held against every world in `ledger_worlds.WORLDS` and a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import kubernetes_worlds
import pytest
from kubernetes_worlds import KUBERNETES, world_of
from ledger_worlds import WORLDS, World

from dispatcher.errors import Deposed
from dispatcher.ports import Answer, LedgerStore, ObjectRef, StoredRecord

DATA = {"0.json": '{"n":0}', "1.json": '{"n":"ü"}'}


@pytest.fixture(params=[*WORLDS, KUBERNETES])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with world_of(request, WORLDS, kubernetes_worlds.ledger) as made:
        yield made


async def a_record(store: LedgerStore, name: str = "burst-b-1") -> StoredRecord:
    (created,) = await store.create_records([(name, DATA, {"manifest": "{}"})])
    assert created.answer is Answer.DONE
    assert created.record is not None
    return created.record


# --- the ledger -----------------------------------------------------------------------------------------------------


async def test_there_is_no_ledger_before_one_is_written(world: World) -> None:
    assert await world.store.read_ledger() is None


async def test_the_ledger_reads_as_it_was_written_with_the_version_that_was_returned(world: World) -> None:
    version = await world.store.write_ledger({"epoch": 1, "entries": [{"name": "ü"}]}, replacing=None)
    for reader in (world.store, world.rival):
        stored = await reader.read_ledger()
        assert stored is not None
        assert (stored.document, stored.version) == ({"epoch": 1, "entries": [{"name": "ü"}]}, version)


async def test_a_write_replaces_the_ledger_as_a_whole_and_gives_it_another_version(world: World) -> None:
    first = await world.store.write_ledger({"epoch": 1, "old": True}, replacing=None)
    second = await world.store.write_ledger({"epoch": 2}, replacing=first)
    stored = await world.store.read_ledger()
    assert stored is not None
    assert stored.document == {"epoch": 2}
    assert stored.version == second != first


async def test_writing_the_same_again_gives_another_version_too(world: World) -> None:
    first = await world.store.write_ledger({"epoch": 1}, replacing=None)
    assert await world.store.write_ledger({"epoch": 1}, replacing=first) != first


async def test_what_was_written_stays_whatever_the_writer_does_with_it_afterwards(world: World) -> None:
    document = {"epoch": 1, "entries": ["one"]}
    await world.store.write_ledger(document, replacing=None)
    document["entries"].append("two")
    stored = await world.store.read_ledger()
    assert stored is not None
    assert stored.document == {"epoch": 1, "entries": ["one"]}


async def test_a_leader_that_missed_a_write_is_deposed_and_changes_nothing(world: World) -> None:
    old = await world.store.write_ledger({"epoch": 1}, replacing=None)
    await world.rival.write_ledger({"epoch": 2}, replacing=old)
    with pytest.raises(Deposed):
        await world.store.write_ledger({"epoch": 1, "more": True}, replacing=old)
    stored = await world.store.read_ledger()
    assert stored is not None
    assert stored.document == {"epoch": 2}


async def test_a_second_first_ledger_is_refused(world: World) -> None:
    await world.store.write_ledger({"epoch": 1}, replacing=None)
    with pytest.raises(Deposed):
        await world.rival.write_ledger({"epoch": 1}, replacing=None)


async def test_of_many_writers_of_one_version_exactly_one_wins(world: World) -> None:
    version = await world.store.write_ledger({"epoch": 0}, replacing=None)
    writers = [(world.store, world.rival)[n % 2].write_ledger({"writer": n}, replacing=version) for n in range(10)]
    results = await asyncio.gather(*writers, return_exceptions=True)
    won = [n for n, result in enumerate(results) if isinstance(result, str)]
    assert len(won) == 1
    assert all(isinstance(result, Deposed) for result in results if not isinstance(result, str))
    stored = await world.store.read_ledger()
    assert stored is not None
    assert stored.document == {"writer": won[0]}


# --- records --------------------------------------------------------------------------------------------------------


async def test_a_record_reads_as_it_was_created(world: World) -> None:
    created = await a_record(world.store)
    assert await world.rival.get_record("burst-b-1") == created
    assert (created.data, created.annotations, created.marked_for_deletion) == (DATA, {"manifest": "{}"}, False)
    assert await world.store.get_record("burst-none-1") is None


async def test_a_name_that_exists_answers_with_the_record_that_has_it(world: World) -> None:
    first = await a_record(world.store)
    other, new = await world.store.create_records([("burst-b-1", {"0.json": "other"}, {}), ("burst-c-1", DATA, {})])
    assert (other.answer, other.already, other.record) == (Answer.DONE, True, first)
    assert (new.answer, new.already) == (Answer.DONE, False)


async def test_what_cannot_be_an_object_is_refused_and_stops_no_other(world: World) -> None:
    answers = await world.store.create_records(
        [
            ("Not A Name", DATA, {}),
            ("burst-key-1", {"../escape": "x"}, {}),
            ("burst-big-1", {"0.json": "x" * (1024 * 1024 + 1)}, {}),
            ("burst-notes-1", DATA, {"notes": "x" * (256 * 1024 + 1)}),
            ("burst-fine-1", DATA, {}),
        ]
    )
    assert [answer.answer for answer in answers] == [*[Answer.REFUSED] * 4, Answer.DONE]
    assert all(answer.text for answer in answers[:4])
    assert [record.name for record in await world.store.list_records()] == ["burst-fine-1"]


async def test_annotations_are_replaced_by_version_and_the_data_stay(world: World) -> None:
    record = await a_record(world.store)
    answer, version = await world.store.replace_annotations(record.name, record.version, {"rulings": "done"})
    assert answer is Answer.DONE
    changed = await world.store.get_record(record.name)
    assert changed is not None
    assert (changed.annotations, changed.data, changed.version) == ({"rulings": "done"}, DATA, version)
    assert changed.uid == record.uid


async def test_a_ruling_is_written_once(world: World) -> None:
    record = await a_record(world.store)
    await world.rival.replace_annotations(record.name, record.version, {"rulings": "done"})
    answer, _ = await world.store.replace_annotations(record.name, record.version, {"rulings": "dead"})
    assert answer is Answer.CONFLICT
    stands = await world.store.get_record(record.name)
    assert stands is not None
    assert stands.annotations == {"rulings": "done"}


async def test_annotations_of_a_record_that_is_gone_are_not_found(world: World) -> None:
    assert (await world.store.replace_annotations("burst-none-1", "1", {}))[0] is Answer.NOT_FOUND


async def test_annotations_that_are_too_large_are_refused_and_change_nothing(world: World) -> None:
    record = await a_record(world.store)
    answer, _ = await world.store.replace_annotations(record.name, record.version, {"a": "x" * (256 * 1024 + 1)})
    assert answer is Answer.REFUSED
    assert await world.store.get_record(record.name) == record


async def test_a_record_is_deleted_only_by_its_uid(world: World) -> None:
    record = await a_record(world.store)
    assert await world.store.delete_record(ObjectRef(record.name, "another-uid")) is Answer.CONFLICT
    assert await world.store.delete_record(ObjectRef(record.name, record.uid)) is Answer.DONE
    assert await world.store.get_record(record.name) is None
    assert await world.store.delete_record(ObjectRef(record.name, record.uid)) is Answer.NOT_FOUND


async def test_a_record_made_again_under_its_old_name_is_another_one(world: World) -> None:
    first = await a_record(world.store)
    await world.store.delete_record(ObjectRef(first.name, first.uid))
    second = await a_record(world.store)
    assert second.uid != first.uid
    assert second.version != first.version


async def test_all_records_are_listed_and_the_ledger_is_none_of_them(world: World) -> None:
    await world.store.write_ledger({"epoch": 1}, replacing=None)
    made = {(await a_record(world.store, f"burst-b-{n}")).uid for n in range(1, 30)}
    assert {record.uid for record in await world.rival.list_records()} == made
