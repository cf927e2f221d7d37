"""The LedgerStore of the embedded default: the ledger and the records as objects, with compare-and-swap.

Decides how they are kept; what a record may hold stands in `limits`. Knows nothing of what is written in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dispatcher.core.jobs import FINALIZER
from dispatcher.embedded.answers import Failed
from dispatcher.embedded.limits import annotations_fault, record_fault
from dispatcher.embedded.objects import ObjectStore, StoredObject, Transaction
from dispatcher.errors import Deposed
from dispatcher.ports import Answer, ObjectRef, RecordCreated, StoredLedger, StoredRecord

if TYPE_CHECKING:
    from dispatcher.ports import LedgerStore

RECORD_KIND = "record"
_LEDGER_KIND = "ledger"
_LEDGER_NAME = "ledger"


class EmbeddedLedgerStore:
    """Ledger and records in an object store that somebody else opens and closes."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    async def read_ledger(self) -> StoredLedger | None:
        """The ledger as it stands; None if there is none. Raises LookFailed."""
        stored = await self._objects.read(lambda seen: seen.get(_LEDGER_KIND, _LEDGER_NAME))
        return None if stored is None else StoredLedger(stored.body, str(stored.version))

    async def write_ledger(self, document: Mapping[str, Any], replacing: str | None) -> str:
        """Replaces the ledger and returns the new version. Raises Deposed, OutcomeUnknown or StoreWriteFailed."""

        def swap(seen: Transaction) -> str:
            stored = seen.get(_LEDGER_KIND, _LEDGER_NAME)
            stands = None if stored is None else str(stored.version)
            if stands != replacing:
                raise Deposed(f"the ledger has version {stands}, not {replacing}: another leader has written")
            if stored is None:
                return str(seen.add(_LEDGER_KIND, _LEDGER_NAME, document).version)
            return str(seen.change(stored, body=document).version)

        return await self._objects.write(swap)

    async def create_records(
        self, records: Sequence[tuple[str, Mapping[str, str], Mapping[str, str]]]
    ) -> Sequence[RecordCreated]:
        """Creates records of (name, data, annotations), each for itself; one that is refused stops no other."""

        def create(seen: Transaction) -> list[RecordCreated]:
            return [_create(seen, name, data, annotations) for name, data, annotations in records]

        failed = Failed()
        answers: list[RecordCreated] = []
        with failed:
            answers = await self._objects.write(create)
        if failed.answer is None:
            return answers
        return [RecordCreated(failed.answer, text=failed.text) for _ in records]

    async def get_record(self, name: str) -> StoredRecord | None:
        """The record of that name; None if there is none. Raises LookFailed."""
        stored = await self._objects.read(lambda seen: seen.get(RECORD_KIND, name))
        return None if stored is None else _record(stored)

    async def list_records(self) -> Sequence[StoredRecord]:
        """All records, by name. Raises LookFailed."""
        return [_record(stored) for stored in await self._objects.read(lambda seen: seen.all(RECORD_KIND))]

    async def replace_annotations(self, name: str, version: str, annotations: Mapping[str, str]) -> tuple[Answer, str]:
        """Replaces annotations if the record still has that version; the text is the new version, or why not."""

        def swap(seen: Transaction) -> tuple[Answer, str]:
            stored = seen.get(RECORD_KIND, name)
            if stored is None:
                return Answer.NOT_FOUND, f"there is no record {name}"
            if str(stored.version) != version:
                return Answer.CONFLICT, f"record {name} has version {stored.version}, not {version}"
            if fault := annotations_fault(annotations):
                return Answer.REFUSED, fault
            changed = seen.change(stored, body={**stored.body, "annotations": dict(annotations)})
            return Answer.DONE, str(changed.version)

        failed = Failed()
        with failed:
            return await self._objects.write(swap)
        return failed.answer or Answer.UNKNOWN, failed.text

    async def delete_record(self, ref: ObjectRef) -> Answer:
        """Takes our finalizer off and deletes, if the record of that name has that uid."""

        def delete(seen: Transaction) -> Answer:
            stored = seen.get(RECORD_KIND, ref.name)
            if stored is None:
                return Answer.NOT_FOUND
            if stored.uid != ref.uid:
                return Answer.CONFLICT
            seen.remove(RECORD_KIND, ref.name)
            return Answer.DONE

        failed = Failed()
        with failed:
            return await self._objects.write(delete)
        return failed.answer or Answer.UNKNOWN


def _create(seen: Transaction, name: str, data: Mapping[str, str], annotations: Mapping[str, str]) -> RecordCreated:
    stored = seen.get(RECORD_KIND, name)
    if stored is not None:
        return RecordCreated(Answer.DONE, _record(stored), already=True)
    if fault := record_fault(name, data, annotations):
        return RecordCreated(Answer.REFUSED, text=fault)
    body = {"data": dict(data), "annotations": dict(annotations)}
    return RecordCreated(Answer.DONE, _record(seen.add(RECORD_KIND, name, body, finalizers=(FINALIZER,))))


def _record(stored: StoredObject) -> StoredRecord:
    body = stored.body
    return StoredRecord(
        stored.name, stored.uid, str(stored.version), body["data"], body["annotations"], stored.marked
    )  # fmt: skip


if TYPE_CHECKING:

    def _is_a_ledger_store(store: EmbeddedLedgerStore) -> LedgerStore:
        return store
