"""A message that goes back to its queue under a new id: its copy is sent, then it is removed, and what became of it.

Decides the order that loses nothing, for replays of dead letters and for released backlog alike, and what an answer
that leaves the removal open means: the broker is asked. Refuses to know how messages are taken under lock, and which.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Protocol, TypeVar

from azure.servicebus.amqp import AmqpAnnotatedMessage

from dispatcher.ports import Answer

__all__ = ["Became", "Sender", "Source", "moved", "not_had", "removed"]

T_contra = TypeVar("T_contra", contravariant=True)
T = TypeVar("T")


class Became(StrEnum):
    """What became of one message."""

    REPLAYED = "replayed"
    PURGED = "purged"
    RELEASED = "released"
    GONE = "gone"
    """It was no longer there: somebody else has dealt with it."""
    LOCKED = "locked"
    """It is there, and somebody else's at the moment."""
    TOO_LARGE = "too_large"
    """With what its copy adds it is larger than the queue takes."""
    NOT_REMOVED = "not_removed"
    """Its copy was sent, or it was saved, and it is still there."""

    @property
    def is_well(self) -> bool:
        """Whether nothing is left to do about it."""
        return self in (Became.REPLAYED, Became.PURGED, Became.RELEASED, Became.GONE)


class Sender(Protocol):
    """Where copies are sent."""

    async def send(self, copy: AmqpAnnotatedMessage) -> Answer:
        """DONE, or REFUSED for one that is too large. Raises OutcomeUnknown."""
        ...


class Source(Protocol[T_contra]):
    """Where messages were taken under lock."""

    async def remove(self, taken: T_contra) -> Answer:
        """Removes one that was taken."""
        ...

    async def remaining(self, numbers: Sequence[int]) -> set[int]:
        """Those that are still there."""
        ...


async def moved(
    source: Source[T], sender: Sender, taken: T, number: int, copy: tuple[str, AmqpAnnotatedMessage], *, well: Became
) -> tuple[Became, str | None]:
    """Sends the copy, removes the message, and answers what became of it (``well`` if all went so) and the copy's id.

    Raises OutcomeUnknown if nobody knows whether the copy was sent; then nothing was removed.
    """
    message_id, message = copy
    if await sender.send(message) is not Answer.DONE:
        return Became.TOO_LARGE, None
    return await removed(source, taken, number, well=well), message_id


async def removed(source: Source[T], taken: T, number: int, *, well: Became) -> Became:
    """Removes it. Where the answer leaves open whether it is gone, the broker is asked."""
    if await source.remove(taken) is Answer.DONE or number not in await source.remaining([number]):
        return well
    return Became.NOT_REMOVED


async def not_had(source: Source[T], numbers: Collection[int]) -> Mapping[int, Became]:
    """What is the matter with those that could not be taken."""
    there = await source.remaining(list(numbers)) if numbers else set()
    return {number: Became.LOCKED if number in there else Became.GONE for number in numbers}
