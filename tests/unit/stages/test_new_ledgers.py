"""A new ledger does not begin at epoch one: a leader of a ledger that was deleted may only have stalled.

Found by the simulator at seed 8799: a person deleted the ledger while a leader stood still between its fence and its
list of records. It went on, saw the records of the new ledger's leader, held them for drafts of a predecessor because
their epoch was lower, and deleted them; their items came into a second Job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from dispatcher.core.ledger import Ledger
from dispatcher.core.observations import ClusterSeen
from dispatcher.core.records import Ruling, RulingKind, to_annotations, to_data
from dispatcher.errors import Deposed
from dispatcher.memory import Memory
from dispatcher.ports import Answer, ObjectRef, Ports, StoredRecord
from dispatcher.stages.leading import _fence, _recall
from tests.builders import NOW, a_policy, a_record

TAKEOVERS_OF_A_LONG_LIFE = 10_000_000


class Store:
    """A store in which there is no ledger any more; it keeps in mind which records were deleted."""

    def __init__(self) -> None:
        self.ledger: Mapping[str, Any] | None = None
        self.deleted: list[str] = []

    def now(self) -> Any:
        return NOW

    def emit(self, event: str, **facts: Any) -> None:
        pass

    async def read_ledger(self) -> None:
        return None

    async def list_records(self) -> Sequence[StoredRecord]:
        return []

    async def write_ledger(self, document: Mapping[str, Any], replacing: str | None) -> str:
        self.ledger = document
        return "1"

    async def delete_record(self, ref: ObjectRef) -> Answer:
        self.deleted.append(ref.name)
        return Answer.DONE

    def ports(self) -> Ports:
        nothing: Any = None
        me: Any = self
        return Ports({}, me, me, nothing, me, nothing, me, nothing, nothing)


async def _a_leader() -> tuple[Store, Memory]:
    store = Store()
    memory, _ = await _fence(store.ports(), a_policy())
    return store, memory


def _stored(epoch: int, **changes: Any) -> StoredRecord:
    record = a_record(epoch=epoch, **changes)
    return StoredRecord(record.name, "uid", "1", to_data(record), to_annotations(record))


async def _recalled_by_a_leader_of(epoch: int, record: StoredRecord, store: Store) -> None:
    _, memory = await _a_leader()
    memory.ledger = Ledger(epoch=epoch)
    await _recall(memory, store.ports(), a_policy(), [record], ClusterSeen((), ()), was_lost=False)


async def test_a_leader_of_a_deleted_ledger_leaves_the_records_of_the_new_one_alone() -> None:
    store, new = await _a_leader()
    with pytest.raises(Deposed):
        await _recalled_by_a_leader_of(TAKEOVERS_OF_A_LONG_LIFE, _stored(new.ledger.epoch), store)
    assert store.deleted == []


async def test_the_draft_of_a_leader_before_it_is_still_deleted() -> None:
    store, new = await _a_leader()
    await _recalled_by_a_leader_of(new.ledger.epoch + 1, _stored(new.ledger.epoch), store)
    assert store.deleted == [a_record().name]


async def test_what_was_ruled_is_no_draft_although_its_entry_went_with_a_ledger_that_was_lost_long_ago() -> None:
    """Found by the simulator at seed 114: its senders had not been told yet."""
    store, new = await _a_leader()
    ruled = _stored(new.ledger.epoch, rulings={0: Ruling(RulingKind.DEAD)})
    await _recalled_by_a_leader_of(new.ledger.epoch + 1, ruled, store)
    assert store.deleted == []
