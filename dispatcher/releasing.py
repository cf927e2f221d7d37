"""Returning the deferred backlog of a queue to the queue as ordinary messages: for a rollback, or to uninstall.

Decides what may be returned and in which order. What an attempt claims is in flight and stays, unless that is said.
Each message is taken under lock, its copy is sent, then it is removed: what breaks off in between leaves both, and the
next time the same copy goes out under the same message id, which a queue that detects duplicates swallows. A
dispatcher that comes later takes both for one item, since both carry the sender's id and the same body. Refuses to
know where claims are kept and who else might lead: it asks the ports.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dispatcher.core.ledger import Ledger
from dispatcher.core.records import decode
from dispatcher.core.work import ItemId
from dispatcher.errors import Deposed, LookFailed
from dispatcher.ports import Lease, LedgerStore, Message
from dispatcher.queue.backlog import TakenMessage
from dispatcher.queue.moving import Became, Sender, Source, moved, not_had
from dispatcher.queue.replays import original_id

__all__ = ["Deferred", "Found", "Released", "claims", "look", "release"]

_GROUP = 50
"""So many are locked at a time: they are done with long before their locks end."""


@dataclass(frozen=True, slots=True)
class Deferred:
    """One deferred message. ``claimed_by``: the attempt that it is in flight with, if any."""

    queue: str
    sequence_number: int
    message_id: str
    original_id: str
    claimed_by: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "queue": self.queue,
            "sequence_number": self.sequence_number,
            "message_id": self.message_id,
            "original_message_id": self.original_id,
            "claimed_by": self.claimed_by,
        }


@dataclass(slots=True)
class Found:
    """What is deferred on a queue, oldest first."""

    free: list[Deferred] = field(default_factory=list)
    in_flight: list[Deferred] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Released:
    """One message that was dealt with."""

    deferred: Deferred
    became: Became
    new_message_id: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**self.deferred.to_json(), "became": self.became.value, "new_message_id": self.new_message_id}


class Backlog(Source[TakenMessage], Protocol):
    """The deferred messages of one queue."""

    @property
    def name(self) -> str:
        """The queue's name."""
        ...

    def pages(self) -> AsyncIterator[Sequence[Message]]:
        """All that is deferred, by ascending sequence number."""
        ...

    async def take(self, numbers: Sequence[int]) -> Sequence[TakenMessage]:
        """Takes these under lock; what cannot be had is left out."""
        ...

    def has_time(self, taken: TakenMessage) -> bool:
        """Whether enough of its lock is left."""
        ...


async def claims(store: LedgerStore) -> Mapping[ItemId, str]:
    """Which items are in flight, and with which attempt. Raises LookFailed, also for a record that cannot be read.

    A record without parent that no entry knows is the draft of a leader that died: nothing was launched with it, and
    its items are backlog.
    """
    stored = await store.read_ledger()
    entries = Ledger.from_document(stored.document).entries if stored is not None else {}
    claimed: dict[ItemId, str] = {}
    for each in await store.list_records():
        try:
            record = decode(each.data, each.annotations)
        except (ValueError, KeyError, TypeError) as error:
            raise LookFailed(f"record {each.name} cannot be read, so what it claims is not known: {error}") from error
        if record.parent is not None or record.name in entries:
            claimed.update((item.id, record.name) for item in record.items)
    return claimed


async def look(backlog: Backlog, claimed: Mapping[ItemId, str]) -> Found:
    """All deferred messages of a queue, told apart by whether an attempt claims them. Raises LookFailed."""
    found = Found()
    async for page in backlog.pages():
        for message in page:
            attempt = claimed.get(ItemId(backlog.name, message.sequence_number))
            deferred = Deferred(
                backlog.name, message.sequence_number, message.message_id, original_id(message), attempt
            )
            (found.free if attempt is None else found.in_flight).append(deferred)
    return found


async def release(
    backlog: Backlog,
    sender: Sender,
    messages: Sequence[Deferred],
    *,
    lease: Lease | None,
    tell: Callable[[Released], None],
    stopped: Callable[[], bool],
) -> None:
    """Returns each of these messages to its queue and tells what became of it.

    ``lease``: held meanwhile, so that no dispatcher leads; None where nobody can be asked. Raises Deposed if it is
    lost, LookFailed or OutcomeUnknown where the broker does not answer: what was told of by then is done, everything
    else is still there.
    """
    for start in range(0, len(messages), _GROUP):
        if stopped():
            return
        if lease is not None and not await lease.acquire():
            raise Deposed("a dispatcher has taken the lease meanwhile: stop it, then run the same command again")
        waiting = {each.sequence_number: each for each in messages[start : start + _GROUP]}
        for taken in await backlog.take(list(waiting)):
            if stopped():
                return
            if backlog.has_time(taken):
                number = taken.message.sequence_number
                copy = taken.copy(backlog.name)
                became, message_id = await moved(backlog, sender, taken, number, copy, well=Became.RELEASED)
                tell(Released(waiting.pop(number), became, message_id))
        for number, became in (await not_had(backlog, waiting)).items():
            tell(Released(waiting[number], became))
