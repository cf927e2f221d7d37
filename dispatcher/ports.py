"""The world, as the reconciler needs it: a work queue, a cluster of Jobs, a store for ledger and records, a clock.

Every method answers within a bounded time; the adapters carry the time-outs. An act answers with a value, since "it is
not there" and "nobody knows" are things to decide on. A read that fails raises LookFailed: nothing follows from it.
Nothing here waits for news: what has arrived is handed over at once, and adapters ring the bell that they were given.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from dispatcher.core.observations import AccountSeen, ClusterChanges, ClusterSeen, JobSeen, NodeHeadroom
from dispatcher.core.outcomes import Outcome
from dispatcher.core.work import WorkItem

T = TypeVar("T")


class Answer(StrEnum):
    """How an act went."""

    DONE = "done"
    """It happened, or had happened before."""
    NOT_FOUND = "not_found"
    """What it was to act on is not there (for the broker: proves nothing, see WorkQueue)."""
    CONFLICT = "conflict"
    """A precondition failed: another uid, another version, a lost lock."""
    REFUSED = "refused"
    """The server understood and will not; nothing happened. The text says why."""
    UNKNOWN = "unknown"
    """No answer: it may have happened, may still happen, or never."""


class Clock(Protocol):
    """Time. ``now`` is the time that windows and entries are reckoned in, always in UTC."""

    def now(self) -> datetime:
        """The present instant, timezone-aware."""
        ...


class Ids(Protocol):
    """New names. Random in production, seeded in the simulator."""

    def batch_id(self) -> str:
        """A new batch id: lower-case letters and digits, never derived from items, never used before."""
        ...


# --- the queue ------------------------------------------------------------------------------------------------------


class MessageState(StrEnum):
    """Where the broker has a message. A locked message shows as active."""

    ACTIVE = "active"
    DEFERRED = "deferred"
    SCHEDULED = "scheduled"


@dataclass(frozen=True, slots=True)
class Message:
    """A message as the broker shows it, whether delivered or peeked at."""

    sequence_number: int
    message_id: str
    body: bytes
    enqueued_at: datetime
    expires_at: datetime | None = None
    content_type: str | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)
    delivery_count: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message delivered under a lock that ends by itself at ``locked_until`` (the broker's lock, our clock)."""

    message: Message
    lock_token: str
    locked_until: datetime


@dataclass(frozen=True, slots=True)
class Peeked:
    """A message looked at without a lock."""

    message: Message
    state: MessageState


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What a dead-lettered message carries for the person who finds it."""

    reason: str
    """Short and stable, at most 128 characters: for filters."""
    description: str
    """For people, at most 4096 characters: cause, attempts, placement, last message, log tail."""


class WorkQueue(Protocol):
    """One queue. An item leaves it only by remove_deferred or by one of the dead_letter calls."""

    @property
    def name(self) -> str:
        """The queue's name; part of every item's identity."""
        ...

    async def receive(self, count_max: int) -> Sequence[Delivery]:
        """Hands over what has been delivered, at most ``count_max``, at once.

        ``count_max`` is also how many more may be fetched; 0 lets go of everything that was not handed over yet.
        """
        ...

    async def defer(self, lock_tokens: Sequence[str]) -> Mapping[str, Answer]:
        """Defers delivered messages. CONFLICT: the lock was lost, so the message will be delivered again."""
        ...

    async def dead_letter(self, letters: Mapping[str, DeadLetter]) -> Mapping[str, Answer]:
        """Dead-letters delivered messages, by lock token. CONFLICT: the lock was lost."""
        ...

    async def abandon(self, lock_tokens: Sequence[str]) -> None:
        """Gives delivered messages back, as far as that goes; a lock that cannot be given back ends by itself."""
        ...

    async def remove_deferred(self, sequence_numbers: Sequence[int]) -> Answer:
        """Removes deferred messages for good, in one request of at most 100 numbers.

        NOT_FOUND: at least one is not deferred and unlocked, and none was removed. It proves nothing of any single one.
        """
        ...

    async def dead_letter_deferred(self, sequence_number: int, letter: DeadLetter) -> Answer:
        """Moves one deferred message to the dead-letter queue. NOT_FOUND proves nothing; UNKNOWN may have happened."""
        ...

    async def look_up(self, sequence_numbers: Sequence[int]) -> Mapping[int, MessageState | None]:
        """Where each number is now; None: the broker has it no more. Raises LookFailed."""
        ...

    async def peek(self, from_sequence_number: int, count_max: int) -> Sequence[Peeked]:
        """Messages of all states from a number on, in order.

        Nothing returned means the end; little does not. Raises LookFailed.
        """
        ...


# --- reports of pods that carry several items -----------------------------------------------------------------------


class Reports(Protocol):
    """The queue that pods send their reports to. A report leaves it only by complete or dead_letter."""

    async def receive(self, count_max: int) -> Sequence[Delivery]:
        """Hands over what has been delivered, at most ``count_max``, at once; 0 lets go of what was not handed over."""
        ...

    async def complete(self, lock_tokens: Sequence[str]) -> Mapping[str, Answer]:
        """Removes delivered reports for good. CONFLICT: the lock was lost, so the report will be delivered again."""
        ...

    async def dead_letter(self, letters: Mapping[str, DeadLetter]) -> Mapping[str, Answer]:
        """Puts aside what is no report, by lock token. CONFLICT: the lock was lost."""
        ...

    async def abandon(self, lock_tokens: Sequence[str]) -> None:
        """Gives delivered reports back, as far as that goes."""
        ...

    async def oldest(self, besides: Collection[int]) -> datetime | None:
        """When the oldest report came that is still on the queue, locked or not, by the broker's clock.

        ``besides``: sequence numbers that do not count. None: there is no other, by a look that began after this call.
        Raises LookFailed.
        """
        ...


# --- senders ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OutcomeAnswer:
    """What became of one outcome that was handed over. UNKNOWN: it may be on the reply queue."""

    event_id: str
    answer: Answer
    text: str = ""
    """Why it was not taken, for people."""


class Outcomes(Protocol):
    """Where senders are told how their items ended. Neither method waits for a reply queue."""

    async def send(self, outcomes: Sequence[Outcome]) -> None:
        """Takes outcomes over, each to be sent once to the queue that it names. Never fails."""
        ...

    async def answers(self) -> Sequence[OutcomeAnswer]:
        """What became of them since last asked. Each that was handed over is answered once, within a bounded time."""
        ...


# --- the cluster ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Created:
    """How a create went. ``already`` tells that the name was taken: whether by our own Job, ``job`` shows."""

    answer: Answer
    job: JobSeen | None = None
    already: bool = False
    text: str = ""
    later: bool = False
    """The refusal is not the manifest's fault (a quota, a right that is missing): the same create may be taken yet."""


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """A name that only counts together with its uid."""

    name: str
    uid: str


class JobCluster(Protocol):
    """Where Jobs run. Manifests are plain batch/v1 Jobs; names are unique across the dispatcher's namespaces."""

    async def create_jobs(self, manifests: Sequence[Mapping[str, Any]]) -> Sequence[Created]:
        """Creates Jobs, each under its own name, answers in the same order.

        A name that exists is DONE with ``already`` set.
        """
        ...

    async def get_job(self, name: str) -> JobSeen | None:
        """The Job of that name from a consistent read; None only if the server says that there is none.

        Raises LookFailed.
        """
        ...

    async def list_all(self) -> ClusterSeen:
        """All our Jobs and pods, consistent, all pages. Raises LookFailed."""
        ...

    async def changes(self) -> ClusterChanges:
        """What has been seen to change since the last call, at once; may lag, repeat or miss. Raises LookFailed."""
        ...

    async def delete_jobs(self, refs: Sequence[ObjectRef]) -> Sequence[Answer]:
        """Marks Jobs for deletion (background).

        Our finalizer keeps them readable; no new pods are made, running pods run on.
        """
        ...

    async def release_jobs(self, refs: Sequence[ObjectRef]) -> Sequence[Answer]:
        """Takes our finalizer off and deletes: the Job and what is left of its pods go. NOT_FOUND counts as gone."""
        ...

    async def delete_pods(self, refs: Sequence[ObjectRef]) -> Sequence[Answer]:
        """Deletes pods, whatever they are doing."""
        ...

    async def headroom(self) -> NodeHeadroom:
        """What is free on the real nodes now, as far as seen. Raises LookFailed."""
        ...

    async def has_pod(self, namespace: str, pod: ObjectRef) -> bool:
        """Whether that very pod is there, ours or anybody's, from a consistent read. Raises LookFailed."""
        ...

    async def log_tail(self, pod: ObjectRef, bytes_max: int) -> str:
        """The end of a pod's log; empty where there is none to be had. Never raises for a log that is gone."""
        ...


class AciAccount(Protocol):
    """Read access to ACI: each group's own times, by pod. Optional: without it charges are upper bounds."""

    async def look(self, wanted: Collection[str]) -> AccountSeen:
        """What is known of all groups of our Jobs' pods, at once; it may be a while old, and says how old.

        Of groups whose pods' uids are ``wanted`` the own times are read too, in this look or for one of the next.
        Raises LookFailed.
        """
        ...


# --- ledger and records ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredLedger:
    """The ledger document and the version that a write of it must replace."""

    document: Mapping[str, Any]
    version: str


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record: ``data`` never changes (it is the manifest that the pods mount), ``annotations`` do, by version."""

    name: str
    uid: str
    version: str
    data: Mapping[str, str]
    annotations: Mapping[str, str]
    marked_for_deletion: bool = False


@dataclass(frozen=True, slots=True)
class RecordCreated:
    """How the create of a record went; ``record`` is what stands under the name now."""

    answer: Answer
    record: StoredRecord | None = None
    already: bool = False
    text: str = ""


class LedgerStore(Protocol):
    """Ledger and records, with compare-and-swap. Holds nothing else, and knows nothing of what is written in them."""

    async def read_ledger(self) -> StoredLedger | None:
        """The ledger as it stands; None if there is none. Raises LookFailed."""
        ...

    async def write_ledger(self, document: Mapping[str, Any], replacing: str | None) -> str:
        """Replaces the ledger as a whole and returns the new version; ``replacing=None`` creates it.

        Raises Deposed if another version stands there (or one exists already), OutcomeUnknown if no answer came.
        """
        ...

    async def create_records(
        self, records: Sequence[tuple[str, Mapping[str, str], Mapping[str, str]]]
    ) -> Sequence[RecordCreated]:
        """Creates records of (name, data, annotations), with our finalizer.

        A name that exists is DONE with ``already`` set.
        """
        ...

    async def get_record(self, name: str) -> StoredRecord | None:
        """The record of that name from a consistent read; None if there is none. Raises LookFailed."""
        ...

    async def list_records(self) -> Sequence[StoredRecord]:
        """All records, consistent, all pages. Raises LookFailed."""
        ...

    async def replace_annotations(self, name: str, version: str, annotations: Mapping[str, str]) -> tuple[Answer, str]:
        """Replaces a record's annotations if it still has that version.

        (DONE, new version); CONFLICT: it has another; UNKNOWN: read it to see which.
        """
        ...

    async def delete_record(self, ref: ObjectRef) -> Answer:
        """Takes our finalizer off and deletes. NOT_FOUND counts as gone; CONFLICT: another uid."""
        ...


class Lease(Protocol):
    """Who leads. Saves trouble; nothing rests on it (the ledger's version is the fence)."""

    async def acquire(self) -> bool:
        """Takes or renews the lease; whether we hold it now."""
        ...

    async def release(self) -> None:
        """Gives the lease up, as far as that goes."""
        ...


class Events(Protocol):
    """Where decisions are told, as events with facts. Never blocks, never fails."""

    def emit(self, event: str, **facts: Any) -> None:
        """Tells one event; names are ``noun.past_participle``, facts are plain JSON values."""
        ...


class Together(Protocol):
    """How acts that do not depend on each other are carried out."""

    async def __call__(self, acts: Sequence[Callable[[], Awaitable[T]]]) -> Sequence[T]:
        """Carries them out, results in the same order. Raises what one has raised; the others may have happened."""
        ...


async def one_after_another(acts: Sequence[Callable[[], Awaitable[T]]]) -> Sequence[T]:
    """For worlds in which nothing waits; what fails ends it."""
    return [await act() for act in acts]


MessageReader = Callable[[str, Message], WorkItem]


# --- all of it -------------------------------------------------------------------------------------------------------


def clocks_agree() -> str | None:
    """For worlds with one clock, which has nothing to disagree with."""
    return None


@dataclass(frozen=True, slots=True)
class Ports:
    """The world, as the composition root has put it together."""

    queues: Mapping[str, WorkQueue]
    cluster: JobCluster
    store: LedgerStore
    lease: Lease
    clock: Clock
    ids: Ids
    events: Events
    read_message: MessageReader
    """Queue name and message -> work item; raises BadMessage."""
    outcomes: Outcomes
    reports: Reports | None = None
    """None: no task has pods that report."""
    account: AciAccount | None = None
    together: Together = one_after_another
    clock_fault: Callable[[], str | None] = clocks_agree
    """Why ``clock`` cannot be relied upon at present, in words for a person; None where it can."""
