"""Acts by sequence number, on messages that were deferred; and by lock, where the receiver of a message is gone.

Decides what each act's failure proves. Removal is one request by a receiver in RECEIVE_AND_DELETE mode: what it
receives is gone, and it is never asked to receive anything else. Everything else goes through a second receiver.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import structlog

from dispatcher.ports import Answer, DeadLetter
from dispatcher.queue.config import ServiceBusConfig
from dispatcher.queue.dispositions import Act, Disposition, ask
from dispatcher.queue.links import Link, MonotonicClock, Pace, patiently
from dispatcher.queue.translate import answer_to, told

__all__ = ["NUMBERS_MAX", "Settlement"]

NUMBERS_MAX = 100
"""How many deferred messages one request may remove."""


class Settlement:
    """Removes and dead-letters what was deferred. Every method answers within the time of one operation."""

    def __init__(
        self, config: ServiceBusConfig, remover: Link, steward: Link, pace: Pace, clock: MonotonicClock
    ) -> None:
        self._config = config
        self._remover = remover
        self._steward = steward
        self._pace = pace
        self._clock = clock
        self._log = structlog.get_logger("dispatcher.queue").bind(queue=config.queue)

    async def remove(self, sequence_numbers: Sequence[int]) -> Answer:
        """Removes deferred messages for good. Raises ValueError for more than NUMBERS_MAX numbers."""
        numbers = list(dict.fromkeys(sequence_numbers))
        if len(numbers) > NUMBERS_MAX:
            raise ValueError(f"{len(numbers)} sequence numbers in one request; at most {NUMBERS_MAX} are taken")
        if not numbers:
            return Answer.DONE

        async def once(until: float) -> Answer:
            await self._pace.spend(len(numbers) - 1)
            async with self._pace.turn():
                removed = await self._remover.run(
                    lambda receiver: receiver.receive_deferred_messages(numbers), self._left(until)
                )
            if len(removed) != len(numbers):
                self._log.error("removal.shortened", asked=len(numbers), removed=len(removed))
                return Answer.UNKNOWN
            return Answer.DONE

        return await self._answered("removal.failed", once, numbers)

    async def dead_letter(self, sequence_number: int, letter: DeadLetter) -> Answer:
        """Moves one deferred message to the dead-letter queue: takes its lock, then moves it under that lock.

        UNKNOWN and CONFLICT leave it locked for up to one lock duration, or moved.
        """

        async def once(until: float) -> Answer:
            async with self._pace.turn():
                found = await self._steward.run(
                    lambda receiver: receiver.receive_deferred_messages([sequence_number]), self._left(until)
                )
            if not found:
                return Answer.NOT_FOUND

            async def move() -> None:
                async with self._pace.turn():
                    await self._steward.run(
                        lambda receiver: ask(receiver, Act.DEAD_LETTER, found[0], letter), self._left(until)
                    )

            await patiently(move, self._left(until))
            return Answer.DONE

        return await self._answered("dead_lettering.failed", once, [sequence_number])

    async def settle_otherwise(self, asked: Disposition, until: float) -> Answer:
        """Settles a message by its lock where the receiver that it came through is gone, if time is left."""

        async def once(until: float) -> Answer:
            async with self._pace.turn():
                await self._steward.run(
                    lambda receiver: ask(receiver, asked.act, asked.held.received, asked.letter), self._left(until)
                )
            return Answer.DONE

        if self._left(until) <= 0:
            return Answer.UNKNOWN
        return await self._answered("settling.failed", once, [asked.held.delivery.message.sequence_number], until)

    async def _answered(
        self,
        event: str,
        once: Callable[[float], Awaitable[Answer]],
        numbers: Sequence[int],
        until: float | None = None,
    ) -> Answer:
        """Asks, and asks again if there was no answer and time is left: most often a connection had died unnoticed.

        What the second try finds missing or locked may be the work of the first.
        """
        until = until if until is not None else self._clock() + self._config.operation_timeout_seconds
        answer = await self._tried(event, once, until, numbers)
        if answer is Answer.UNKNOWN and self._left(until) > 0:
            answer = await self._tried(event, once, until, numbers)
            if answer in (Answer.NOT_FOUND, Answer.CONFLICT):
                return Answer.UNKNOWN
        return answer

    async def _tried(
        self, event: str, once: Callable[[float], Awaitable[Answer]], until: float, numbers: Sequence[int]
    ) -> Answer:
        try:
            return await patiently(lambda: once(until), self._left(until))
        except Exception as error:  # noqa: BLE001 - translated here, once
            answer = answer_to(error)
            if answer in (Answer.UNKNOWN, Answer.REFUSED):
                self._log.warning(event, answer=answer, error=told(error), first=numbers[0], count=len(numbers))
            return answer

    def _left(self, until: float) -> float:
        return max(until - self._clock(), 0.0)
