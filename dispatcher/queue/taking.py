"""Particular dead letters under lock.

A dead letter cannot be asked for by number unless it was deferred: what stands before it must be received too. Decides
how that is done without harm. Everything is received in order and under lock; what is wanted is handed over, what is
not is kept until the end of the round and then released, as if it had never been delivered; so is what the caller
leaves unsettled. A round ends when half of its first lock is over, so that no lock is renewed and none ends by itself;
the next one begins at the front again. docs/decisions/0004 has the reasons and the other ways. Refuses to know what is
done with what was taken.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusReceiver
from azure.servicebus.exceptions import ServiceBusError

from dispatcher.errors import DispatcherError, LookFailed
from dispatcher.ports import Answer
from dispatcher.queue.config import ServiceBusConfig
from dispatcher.queue.links import Link, Pace, patiently
from dispatcher.queue.sdk import give_back_credit, release
from dispatcher.queue.translate import answer_to, refusal, told

__all__ = ["OutOfReach", "Taken", "Taking"]

_WAIT_SECONDS = 2.0
"""How long an empty receive waits: the broker may need a moment for what another receiver has let go."""
_FAILURES_MAX = 3
_LOCK_SHARE = 2
"""A round lasts for one part in so many of a lock."""


class OutOfReach(DispatcherError):
    """So many dead letters stand before those that are wanted that a lock would end before they are reached."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A message under our lock. ``generation``: the receiver that it came through; None: it was asked for by number."""

    received: ServiceBusReceivedMessage = field(repr=False)
    generation: int | None
    until: datetime
    """To act under its lock after this would be too late."""


class Taking:
    """Receives through one link to the dead letters, and through another what was deferred there."""

    def __init__(
        self, config: ServiceBusConfig, sweeper: Link, steward: Link, pace: Pace, now: Callable[[], datetime]
    ) -> None:
        self._config = config
        self._sweeper = sweeper
        self._steward = steward
        self._pace = pace
        self._now = now
        self._log = structlog.get_logger("dispatcher.queue").bind(queue=config.queue)

    async def sweep(self, numbers: Iterable[int], at_once: int) -> AsyncGenerator[Sequence[Taken], None]:
        """Takes these, a few at a time, in the order of the queue, until all are taken or no more is there.

        What is handed over is locked; the next is asked for when the caller is done with it. Close the generator when
        leaving early (``aclosing``), so that everything else is let go. Raises OutOfReach, and LookFailed where the
        broker does not answer.
        """
        wanted = set(numbers)
        failures = 0
        while wanted:
            before = len(wanted)
            try:
                async with aclosing(self._round(wanted, at_once)) as taking:
                    async for taken in taking:
                        yield taken
            except _Over:
                return
            except (ServiceBusError, TimeoutError, OSError) as error:
                failures += 1
                self._log.warning("taking.failed", error=told(error), failures=failures)
                if failures >= _FAILURES_MAX or refusal(error) is not None:
                    raise LookFailed(f"receiving dead letters failed: {refusal(error) or told(error)}") from error
                continue
            if wanted and len(wanted) == before:
                raise OutOfReach(
                    f"more dead letters stand before the {len(wanted)} that are wanted than can be passed over within "
                    "half a lock; replay or purge those first, or let the queue lock for longer (up to 5 minutes)"
                )

    async def by_number(self, *numbers: int) -> Sequence[Taken]:
        """Takes those that were deferred, all of them in one request; none if one cannot be had. Raises LookFailed."""

        async def once() -> Sequence[ServiceBusReceivedMessage]:
            async with self._pace.turn():
                return await self._steward.run(
                    lambda receiver: receiver.receive_deferred_messages(list(numbers)),
                    self._config.operation_timeout_seconds,
                )

        try:
            found = await patiently(once, self._config.operation_timeout_seconds)
        except (ServiceBusError, TimeoutError, OSError) as error:
            if answer_to(error) is Answer.NOT_FOUND:
                return []
            raise LookFailed(f"receiving deferred messages failed: {refusal(error) or told(error)}") from error
        return [self._taken(each, None) for each in found]

    async def complete(self, taken: Taken) -> Answer:
        """Removes one that was taken. CONFLICT: its lock was lost; UNKNOWN: it may be gone or not.

        Where the receiver that it came through is gone or gives no answer, the lock itself is enough for the other
        link. What the second try finds lost may be the work of the first.
        """
        links = [self._steward, self._steward]  # the second time over a new connection
        if taken.generation is not None and taken.generation == self._sweeper.generation:
            links.insert(0, self._sweeper)
        for tries, link in enumerate(links):
            answer = await self._completed(link, taken)
            if answer is Answer.DONE or (tries == 0 and answer is not Answer.UNKNOWN):
                return answer
        return Answer.UNKNOWN

    def has_time(self, taken: Taken) -> bool:
        """Whether enough of its lock is left to act under it."""
        return self._now() < taken.until

    async def _completed(self, link: Link, taken: Taken) -> Answer:
        async def once() -> None:
            async with self._pace.turn():
                await link.run(
                    lambda receiver: receiver.complete_message(taken.received), self._config.operation_timeout_seconds
                )

        try:
            await patiently(once, self._config.operation_timeout_seconds)
        except (ServiceBusError, TimeoutError, OSError, ValueError) as error:
            answer = answer_to(error)
            self._log.info("removal.failed", answer=answer, error=told(error), number=taken.received.sequence_number)
            return answer
        return Answer.DONE

    # --- one round --------------------------------------------------------------------------------------------------

    async def _round(self, wanted: set[int], at_once: int) -> AsyncGenerator[Sequence[Taken], None]:
        held: list[Taken] = []
        ends: datetime | None = None
        generation = None
        is_over = False
        try:
            while wanted and (ends is None or self._now() < ends):
                got = await self._received(at_once)
                if not got:
                    is_over = True
                    break
                generation = self._sweeper.generation
                ends = ends or self._end(got)
                chosen: list[Taken] = []
                for each in (self._taken(received, generation) for received in got):
                    is_chosen = each.received.sequence_number in wanted and self.has_time(each)
                    (chosen if is_chosen else held).append(each)
                if chosen:
                    held += chosen  # in case the caller leaves some of them as they are
                    yield chosen
                    wanted.difference_update(each.received.sequence_number for each in chosen)
        finally:
            await self._let_go(held, generation)
        if is_over:
            raise _Over

    async def _received(self, at_once: int) -> Sequence[ServiceBusReceivedMessage]:
        wait = _WAIT_SECONDS
        got = await patiently(
            lambda: self._sweeper.run(
                lambda receiver: receiver.receive_messages(max_message_count=at_once, max_wait_time=wait),
                wait + self._config.operation_timeout_seconds,
            ),
            self._config.operation_timeout_seconds,
        )
        for _ in got:
            async with self._pace.turn():
                pass
        return got

    async def _let_go(self, held: Sequence[Taken], generation: int | None) -> None:
        """Takes back what was asked for in vain and releases the rest: first the one, else it would come right back."""
        if generation is None or generation != self._sweeper.generation:
            return  # they came through a receiver that is gone: their locks end by themselves

        async def all_of_it(receiver: ServiceBusReceiver) -> None:
            await give_back_credit(receiver)
            await release(receiver, [each.received for each in held if each.generation == generation])

        try:
            await self._sweeper.run(all_of_it, self._config.operation_timeout_seconds)
        except Exception as error:  # noqa: BLE001 - as far as that goes: locks end by themselves
            self._log.info("locks.left", error=told(error), count=len(held))

    def _taken(self, received: ServiceBusReceivedMessage, generation: int | None) -> Taken:
        """Of a short lock a quarter is left at the end, of a long one the margin that the adapter keeps."""
        now, margin = self._now(), self._config.lock_margin
        lock = received.locked_until_utc - now if received.locked_until_utc is not None else margin * 2
        return Taken(received, generation, now + lock - min(margin, lock / 4))

    def _end(self, got: Sequence[ServiceBusReceivedMessage]) -> datetime:
        now = self._now()
        untils = [each.locked_until_utc for each in got if each.locked_until_utc is not None]
        return now + (min(untils) - now) / _LOCK_SHARE if untils else now + self._config.lock_margin


class _Over(Exception):
    """Nothing more is to be had."""
