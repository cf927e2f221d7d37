"""A cluster whose Jobs have ended the next time that they are looked at, and a store in memory: both always answer.

They are here so that nothing but the queue can be slow or fail. The cluster counts how often each item ran; an item
that is to fail does so once and for all. Told to hold, it lets Jobs run on until it is told to let go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from dispatcher.core.failures import FailureCause
from dispatcher.core.jobs import ANNOTATION_SEQUENCE_NUMBERS
from dispatcher.core.observations import (
    ClusterChanges,
    ClusterSeen,
    JobCondition,
    JobSeen,
    NodeHeadroom,
    NodeRoom,
    PodPhase,
    PodSeen,
)
from dispatcher.core.units import Resources
from dispatcher.ports import Answer, Created, ObjectRef, RecordCreated, StoredLedger, StoredRecord
from dispatcher.simulator.store import Store

_ROOM = NodeHeadroom((NodeRoom("node", Resources(10**9, 10**15), 10**6),))


class InstantCluster:
    """A JobCluster. ``fails`` says of a sequence number whether its work fails; ``ring`` is the bell for news."""

    def __init__(self, fails: Callable[[int], bool], ring: Callable[[], None]) -> None:
        self.ran: Counter[int] = Counter()
        """How often the work of each sequence number was done or tried."""
        self.is_holding = False
        """While it is, no Job is seen to end."""
        self._fails = fails
        self._ring = ring
        self._jobs: dict[str, JobSeen] = {}
        self._pods: dict[str, tuple[PodSeen, ...]] = {}
        self._news: list[str] = []
        self._made = 0

    async def create_jobs(self, manifests: Sequence[Mapping[str, Any]]) -> Sequence[Created]:
        """Runs every item at once; how it went is seen with the next changes."""
        created = [self._create(manifest["metadata"]) for manifest in manifests]
        self._ring()
        return created

    def _create(self, metadata: Mapping[str, Any]) -> Created:
        name, annotations = metadata["name"], metadata["annotations"]
        if name in self._jobs:
            return Created(Answer.DONE, self._jobs[name], already=True)
        numbers = [int(number) for number in annotations[ANNOTATION_SEQUENCE_NUMBERS].split(",")]
        self.ran.update(numbers)
        self._made += 1
        now = datetime.now(UTC)
        failed = frozenset(index for index, number in enumerate(numbers) if self._fails(number))
        self._pods[name] = tuple(_failed_pod(name, index, now) for index in failed)
        self._jobs[name] = JobSeen(
            name=name,
            uid=f"job-{self._made}",
            created_at=now,
            annotations=annotations,
            condition=JobCondition.FAILED if failed else JobCondition.COMPLETE,
            succeeded=len(numbers) - len(failed),
            failed=len(failed),
            completed_indexes=frozenset(range(len(numbers))) - failed,
            failed_indexes=failed,
        )
        self._news.append(name)
        running = JobSeen(name=name, uid=f"job-{self._made}", created_at=now, annotations=annotations)
        return Created(Answer.DONE, running)

    def let_go(self) -> None:
        """Every Job that was held ends."""
        self.is_holding = False
        self._ring()

    async def get_job(self, name: str) -> JobSeen | None:
        """As it has ended."""
        return self._jobs.get(name)

    async def list_all(self) -> ClusterSeen:
        """Everything that was not released."""
        return ClusterSeen(tuple(self._jobs.values()), tuple(pod for pods in self._pods.values() for pod in pods))

    async def changes(self) -> ClusterChanges:
        """The Jobs made since the last call; they have ended, unless they are held."""
        if self.is_holding:
            return ClusterChanges()
        names, self._news = [name for name in self._news if name in self._jobs], []
        return ClusterChanges(
            jobs=tuple(self._jobs[name] for name in names),
            pods=tuple(pod for name in names for pod in self._pods[name]),
        )

    async def delete_jobs(self, refs: Sequence[ObjectRef]) -> Sequence[Answer]:
        """They have ended already."""
        return [Answer.DONE for _ in refs]

    async def release_jobs(self, refs: Sequence[ObjectRef]) -> Sequence[Answer]:
        """They and their pods are gone."""
        for ref in refs:
            self._jobs.pop(ref.name, None)
            self._pods.pop(ref.name, None)
        return [Answer.DONE for _ in refs]

    async def delete_pods(self, refs: Sequence[ObjectRef]) -> Sequence[Answer]:
        """They have ended already."""
        return [Answer.DONE for _ in refs]

    async def headroom(self) -> NodeHeadroom:
        """Always enough."""
        return _ROOM

    async def log_tail(self, pod: ObjectRef, bytes_max: int) -> str:
        """One line."""
        return "it was to fail\n"[:bytes_max]


def _failed_pod(job: str, index: int, now: datetime) -> PodSeen:
    return PodSeen(
        name=f"{job}-{index}",
        uid=f"{job}-{index}",
        job=job,
        index=index,
        phase=PodPhase.FAILED,
        created_at=now,
        started_at=now,
        finished_at=now,
        node="node",
        cause=FailureCause.APPLICATION,
        exit_code=1,
    )


class InstantStore:
    """A LedgerStore that answers at once."""

    def __init__(self) -> None:
        self._store = Store()

    async def read_ledger(self) -> StoredLedger | None:
        """As it stands."""
        return self._store.ledger

    async def write_ledger(self, document: Mapping[str, Any], replacing: str | None) -> str:
        """Replaces exactly that version."""
        return self._store.write_ledger(document, replacing)

    async def create_records(
        self, records: Sequence[tuple[str, Mapping[str, str], Mapping[str, str]]]
    ) -> Sequence[RecordCreated]:
        """Each by itself."""
        return [self._store.create_record(*each) for each in records]

    async def get_record(self, name: str) -> StoredRecord | None:
        """By name."""
        return self._store.records.get(name)

    async def list_records(self) -> Sequence[StoredRecord]:
        """All."""
        return list(self._store.records.values())

    async def replace_annotations(self, name: str, version: str, annotations: Mapping[str, str]) -> tuple[Answer, str]:
        """Replaces exactly that version."""
        return self._store.replace_annotations(name, version, annotations)

    async def delete_record(self, ref: ObjectRef) -> Answer:
        """By name and uid."""
        return self._store.delete_record(ref)


class OnlyOne:
    """A Lease that nobody else wants."""

    async def acquire(self) -> bool:
        """It is ours."""
        return True

    async def release(self) -> None:
        """Nobody waits for it."""
