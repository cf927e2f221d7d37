"""Ledger, records and lease of the simulated world, with compare-and-swap.

Keeps what the laws look at: every ledger that was accepted, and every ruling as it was first written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from dispatcher.embedded.limits import annotations_fault, record_fault
from dispatcher.errors import Deposed, OutcomeUnknown
from dispatcher.ports import Answer, ObjectRef, RecordCreated, StoredLedger, StoredRecord
from dispatcher.simulator.wire import Wire

RULINGS = "burst-dispatcher.io/rulings"
EVIDENCE = "burst-dispatcher.io/evidence"


@dataclass(slots=True)
class Store:
    """What the API server keeps."""

    ledger: StoredLedger | None = None
    records: dict[str, StoredRecord] = field(default_factory=dict)
    on_ledger: list[Callable[[Mapping[str, Any] | None, Mapping[str, Any]], None]] = field(default_factory=list)
    """Told of each accepted write: the document before, the document now."""
    on_record: list[Callable[[StoredRecord, StoredRecord], None]] = field(default_factory=list)
    """Told of each accepted change of a record: before, now."""
    version: int = 0

    def _next(self) -> str:
        self.version += 1
        return str(self.version)

    def write_ledger(self, document: Mapping[str, Any], replacing: str | None) -> str:
        """Replaces exactly that version."""
        if (self.ledger.version if self.ledger else None) != replacing:
            raise Deposed("the ledger has another version")
        before = self.ledger.document if self.ledger else None
        self.ledger = StoredLedger(json.loads(json.dumps(document)), self._next())
        for told in self.on_ledger:
            told(before, self.ledger.document)
        return self.ledger.version

    def create_record(self, name: str, data: Mapping[str, str], annotations: Mapping[str, str]) -> RecordCreated:
        """Creates one, or shows what stands there."""
        if name in self.records:
            return RecordCreated(Answer.DONE, self.records[name], already=True)
        if fault := record_fault(name, data, annotations):
            return RecordCreated(Answer.REFUSED, text=fault)
        version = self._next()
        self.records[name] = StoredRecord(name, f"record-{version}", version, dict(data), dict(annotations))
        return RecordCreated(Answer.DONE, self.records[name])

    def replace_annotations(self, name: str, version: str, annotations: Mapping[str, str]) -> tuple[Answer, str]:
        """Replaces exactly that version."""
        record = self.records.get(name)
        if record is None:
            return Answer.NOT_FOUND, f"there is no record {name}"
        if record.version != version:
            return Answer.CONFLICT, f"record {name} has version {record.version}, not {version}"
        if fault := annotations_fault(annotations):
            return Answer.REFUSED, fault
        self.records[name] = replace(record, version=self._next(), annotations=dict(annotations))
        for told in self.on_record:
            told(record, self.records[name])
        return Answer.DONE, self.records[name].version

    def delete_record(self, ref: ObjectRef) -> Answer:
        """By name and uid."""
        record = self.records.get(ref.name)
        if record is None:
            return Answer.NOT_FOUND
        if record.uid != ref.uid:
            return Answer.CONFLICT
        del self.records[ref.name]
        return Answer.DONE


@dataclass(slots=True)
class StorePort:
    """The LedgerStore port of one process."""

    store: Store
    wire: Wire

    async def read_ledger(self) -> StoredLedger | None:
        """The ledger as it stands, through JSON as on the wire."""
        await self.wire.read("read ledger")
        stored = self.store.ledger
        return stored and StoredLedger(json.loads(json.dumps(stored.document)), stored.version)

    async def write_ledger(self, document: Mapping[str, Any], replacing: str | None) -> str:
        """Replaces exactly that version."""

        def unknown() -> str:
            raise OutcomeUnknown("no answer to the write of the ledger")

        return await self.wire.act("write ledger", partial(self.store.write_ledger, document, replacing), unknown)

    async def create_records(
        self, records: Sequence[tuple[str, Mapping[str, str], Mapping[str, str]]]
    ) -> Sequence[RecordCreated]:
        """Each by itself."""
        return [
            await self.wire.act(
                f"create record {name}",
                partial(self.store.create_record, name, data, annotations),
                lambda: RecordCreated(Answer.UNKNOWN),
            )
            for name, data, annotations in records
        ]

    async def get_record(self, name: str) -> StoredRecord | None:
        """By name."""
        await self.wire.read(f"get record {name}")
        return self.store.records.get(name)

    async def list_records(self) -> Sequence[StoredRecord]:
        """All of them."""
        await self.wire.read("list records")
        return list(self.store.records.values())

    async def replace_annotations(self, name: str, version: str, annotations: Mapping[str, str]) -> tuple[Answer, str]:
        """Replaces exactly that version."""
        return await self.wire.act(
            f"write record {name}",
            partial(self.store.replace_annotations, name, version, annotations),
            lambda: (Answer.UNKNOWN, ""),
        )

    async def delete_record(self, ref: ObjectRef) -> Answer:
        """By name and uid."""
        return await self.wire.act(
            f"delete record {ref.name}", partial(self.store.delete_record, ref), lambda: Answer.UNKNOWN
        )


@dataclass(slots=True)
class Lease:
    """Who leads, as the API server has it."""

    holder: str | None = None


@dataclass(slots=True)
class LeasePort:
    """One contender's view of the lease; it may be told yes although another holds it."""

    lease: Lease
    me: str
    lies_left: int = 0

    async def acquire(self) -> bool:
        """Takes it if nobody has it."""
        if self.lease.holder is None:
            self.lease.holder = self.me
        if self.lease.holder == self.me:
            return True
        if self.lies_left > 0:
            self.lies_left -= 1
            return True
        return False

    async def release(self) -> None:
        """Gives it up."""
        if self.lease.holder == self.me:
            self.lease.holder = None
