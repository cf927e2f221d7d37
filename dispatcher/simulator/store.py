"""Ledger, records and lease of the simulated world, with compare-and-swap."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from dispatcher.errors import Deposed, OutcomeUnknown
from dispatcher.ports import Answer, ObjectRef, RecordCreated, StoredLedger, StoredRecord
from dispatcher.simulator.faults import Faults


@dataclass(slots=True)
class SimulatedStore:
    """Behind the LedgerStore port."""

    faults: Faults
    ledger: StoredLedger | None = None
    records: dict[str, StoredRecord] = field(default_factory=dict)
    _version: int = 0

    def _next(self) -> str:
        self._version += 1
        return str(self._version)

    async def read_ledger(self) -> StoredLedger | None:
        """The ledger as it stands."""
        self.faults.read("read ledger")
        return self.ledger

    async def write_ledger(self, document: Mapping[str, Any], replacing: str | None) -> str:
        """Replaces exactly that version."""

        def perform() -> str:
            if (self.ledger.version if self.ledger else None) != replacing:
                raise Deposed("the ledger has another version")
            self.ledger = StoredLedger(json.loads(json.dumps(document)), self._next())
            return self.ledger.version

        def unknown() -> str:
            raise OutcomeUnknown("no answer to the write of the ledger")

        return self.faults.act("write ledger", perform, unknown)

    async def create_records(
        self, records: Sequence[tuple[str, Mapping[str, str], Mapping[str, str]]]
    ) -> Sequence[RecordCreated]:
        """Each by itself."""
        return [
            self.faults.act(
                "create record",
                partial(self._create, name, data, annotations),
                lambda: RecordCreated(Answer.UNKNOWN),
            )
            for name, data, annotations in records
        ]

    def _create(self, name: str, data: Mapping[str, str], annotations: Mapping[str, str]) -> RecordCreated:
        if name in self.records:
            return RecordCreated(Answer.DONE, self.records[name], already=True)
        version = self._next()
        self.records[name] = StoredRecord(name, f"record-{version}", version, dict(data), dict(annotations))
        return RecordCreated(Answer.DONE, self.records[name])

    async def get_record(self, name: str) -> StoredRecord | None:
        """By name."""
        self.faults.read("get record")
        return self.records.get(name)

    async def list_records(self) -> Sequence[StoredRecord]:
        """All of them."""
        self.faults.read("list records")
        return list(self.records.values())

    async def replace_annotations(self, name: str, version: str, annotations: Mapping[str, str]) -> tuple[Answer, str]:
        """Replaces exactly that version."""

        def perform() -> tuple[Answer, str]:
            record = self.records.get(name)
            if record is None:
                return Answer.NOT_FOUND, ""
            if record.version != version:
                return Answer.CONFLICT, record.version
            self.records[name] = replace(record, version=self._next(), annotations=dict(annotations))
            return Answer.DONE, self.records[name].version

        return self.faults.act("write record", perform, lambda: (Answer.UNKNOWN, ""))

    async def delete_record(self, ref: ObjectRef) -> Answer:
        """By name and uid."""

        def perform() -> Answer:
            record = self.records.get(ref.name)
            if record is None:
                return Answer.NOT_FOUND
            if record.uid != ref.uid:
                return Answer.CONFLICT
            del self.records[ref.name]
            return Answer.DONE

        return self.faults.act("delete record", perform, lambda: Answer.UNKNOWN)


@dataclass(slots=True)
class SimulatedLease:
    """One lease; each contender has its own view of it."""

    holder: list[str]
    me: str

    async def acquire(self) -> bool:
        """Takes it if nobody has it."""
        if not self.holder:
            self.holder.append(self.me)
        return self.holder[0] == self.me

    async def release(self) -> None:
        """Gives it up."""
        if self.holder and self.holder[0] == self.me:
            self.holder.clear()
