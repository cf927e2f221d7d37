"""Replaying and purging dead letters, one at a time, in the order that loses nothing.

A replay sends the copy first and removes the dead letter second, under its lock; what breaks off in between leaves
both, and the next replay sends the same copy under the same message id, which a queue that detects duplicates swallows.
A purge saves first and removes second. Decides when to stop and what became of each. Refuses to know how it is shown.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from dispatcher.dead_letters.selecting import Letter
from dispatcher.queue.dead_letters import TakenLetter
from dispatcher.queue.moving import Became, Sender, Source, moved, not_had, removed

__all__ = ["Result", "purge", "replay"]

_GROUP_SECONDS = 5
_GROUP_MAX = 200


@dataclass(frozen=True, slots=True)
class Result:
    """One dead letter that was dealt with. ``new_message_id``: of the copy, where one was sent."""

    letter: Letter
    became: Became
    new_message_id: str | None = None

    def to_json(self, now: datetime) -> dict[str, Any]:
        """As plain JSON, without the description."""
        known = self.letter.to_json(now)
        del known["description"]
        return {**known, "became": self.became.value, "new_message_id": self.new_message_id}


class TakingQueue(Source[TakenLetter], Protocol):
    """Where dead letters are taken from."""

    @property
    def name(self) -> str:
        """The queue that the messages were sent to."""
        ...

    def take(
        self, numbers: Iterable[int], deferred: Iterable[int] = (), *, at_once: int
    ) -> AsyncGenerator[Sequence[TakenLetter], None]:
        """Takes these under lock, group by group."""
        ...

    def has_time(self, taken: TakenLetter) -> bool:
        """Whether enough of its lock is left."""
        ...


async def replay(
    queue: TakingQueue,
    sender: Sender,
    letters: Sequence[Letter],
    *,
    per_second: int,
    turn: Callable[[], AbstractAsyncContextManager[Any]],
    now: Callable[[], datetime],
    tell: Callable[[Result], None],
    stopped: Callable[[], bool],
) -> None:
    """Sends each of the letters back to its queue and tells what became of it.

    ``turn`` paces it to ``per_second``. Raises LookFailed or OutcomeUnknown where the broker does not answer: what was
    told of by then is done, everything else is still there.
    """

    async def act(taken: TakenLetter) -> tuple[Became, str | None]:
        copy = taken.copy(queue.name, now())
        return await moved(queue, sender, taken, taken.dead.message.sequence_number, copy, well=Became.REPLAYED)

    at_once = max(1, min(_GROUP_MAX, per_second * _GROUP_SECONDS))
    await _each(queue, letters, act, tell, stopped, at_once=at_once, turn=turn)


async def purge(
    queue: TakingQueue,
    letters: Sequence[Letter],
    *,
    save: Callable[[TakenLetter, Letter], None],
    tell: Callable[[Result], None],
    stopped: Callable[[], bool],
    turn: Callable[[], AbstractAsyncContextManager[Any]],
) -> None:
    """Saves each of the letters, removes it for good, and tells what became of it.

    Raises LookFailed where the broker does not answer, and whatever ``save`` raises: what it has not saved stays.
    """
    by_number = {letter.sequence_number: letter for letter in letters}

    async def act(taken: TakenLetter) -> tuple[Became, str | None]:
        number = taken.dead.message.sequence_number
        save(taken, by_number[number])
        return await removed(queue, taken, number, well=Became.PURGED), None

    await _each(queue, letters, act, tell, stopped, at_once=_GROUP_MAX, turn=turn)


async def _each(
    queue: TakingQueue,
    letters: Sequence[Letter],
    act: Callable[[TakenLetter], Any],
    tell: Callable[[Result], None],
    stopped: Callable[[], bool],
    *,
    at_once: int,
    turn: Callable[[], AbstractAsyncContextManager[Any]],
) -> None:
    waiting = {letter.sequence_number: letter for letter in letters}
    numbers = [letter.sequence_number for letter in letters if not letter.deferred]
    deferred = [letter.sequence_number for letter in letters if letter.deferred]
    async with aclosing(queue.take(numbers, deferred, at_once=at_once)) as taking:
        async for group in taking:
            for taken in group:
                async with turn():
                    if stopped():
                        return
                    letter = waiting.get(taken.dead.message.sequence_number)
                    # One whose lock is nearly over is left for the next time: a lock that ends between the copy and
                    # the removal would leave both.
                    if letter is not None and queue.has_time(taken):
                        became, message_id = await act(taken)
                        del waiting[letter.sequence_number]
                        tell(Result(letter, became, message_id))
    for number, became in (await not_had(queue, waiting)).items():
        tell(Result(waiting[number], became))
