"""One Azure Service Bus queue behind the WorkQueue port. The composition of this room.

Three receivers of the SDK, each with one owner: the pump's, which messages are delivered through; the remover's, in
RECEIVE_AND_DELETE mode, which only ever receives deferred messages by number; the steward's, for everything else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog
from azure.servicebus import ServiceBusReceiveMode
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver

from dispatcher.ports import Answer, DeadLetter, Delivery, MessageState, Peeked
from dispatcher.queue.config import Health, ServiceBusConfig
from dispatcher.queue.dispositions import Act, Disposition
from dispatcher.queue.links import Clients, Link, MonotonicClock, Pace, utc_now
from dispatcher.queue.peeking import Peeking
from dispatcher.queue.pump import Pump
from dispatcher.queue.seen import PARTITION_BITS
from dispatcher.queue.settlement import Settlement

__all__ = ["ServiceBusQueue"]

_WATCH_EVERY_SECONDS = 1.0


def _no_bell() -> None:
    pass


class ServiceBusQueue:
    """One queue. ``start`` it, use it as a WorkQueue, ``stop`` it.

    ``on_news`` is the bell: called on the event loop whenever deliveries have arrived. ``clock`` is monotonic and for
    waiting; ``now`` is compared with the ends of locks, which the broker reckons in UTC.
    """

    def __init__(
        self,
        config: ServiceBusConfig,
        on_news: Callable[[], None] = _no_bell,
        clock: MonotonicClock = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._config = config
        self._clock = clock
        self._clients = Clients(config)
        pace = Pace(config.operations_per_second)
        self._pump = Pump(config, self._clients, pace, on_news, clock, now)
        self._remover = Link("remover", self._clients, config, clock, self._receiver_that_removes)
        self._steward = Link("steward", self._clients, config, clock, self._receiver_that_locks)
        self._settlement = Settlement(config, self._remover, self._steward, pace, clock)
        self._peeking = Peeking(config, self._steward, pace)
        self._watch: asyncio.Task[None] | None = None
        self._now = now
        self._lock_seen: timedelta | None = None
        self._is_partitioned = False
        self._log = structlog.get_logger("dispatcher.queue").bind(queue=config.queue)

    @property
    def name(self) -> str:
        """The queue's name."""
        return self._config.queue

    async def start(self) -> None:
        """Begins to connect and to receive. Returns at once: a broker that is down or refuses shows in ``health``."""
        if self._watch is not None:
            return
        self._pump.start()
        self._watch = asyncio.create_task(self._watched(), name=f"watchdog of {self.name}")
        self._log.info("queue.started")

    async def stop(self) -> None:
        """Gives back what nobody called for and closes everything, within bounds. Not to be started again.

        Deliveries that were handed over and not settled stay locked until their locks end; abandon them before.
        """
        if self._watch is None:
            return
        self._watch.cancel()
        self._watch = None
        await self._pump.stop()
        await asyncio.gather(self._pump.close(), self._remover.close(), self._steward.close())
        await self._clients.close()
        self._log.info("queue.stopped")

    def health(self) -> Health:
        """How the adapter is doing now."""
        pump = self._pump
        return Health(
            alive=self._takes_turns() and pump.silent_seconds < self._config.watchdog_seconds,
            last_receive_age_seconds=None if pump.heard_at is None else self._clock() - pump.heard_at,
            refused=pump.refused,
            last_error=pump.last_error,
            buffered=pump.holding.buffered,
            held=len(pump.holding),
            receive_batch=pump.batch,
            receivers_rebuilt=pump.rebuilt + self._remover.rebuilt + self._steward.rebuilt,
            clients_rebuilt=self._clients.rebuilt,
            lock_seen=self._lock_seen,
            is_partitioned=self._is_partitioned,
        )

    # --- the port ---------------------------------------------------------------------------------------------------

    async def receive(self, count_max: int) -> Sequence[Delivery]:
        """Hands over what has been delivered, at once; what is left of the count may be fetched meanwhile."""
        taken = self._pump.take(max(count_max, 0))
        self._notice(taken)
        return taken

    async def defer(self, lock_tokens: Sequence[str]) -> Mapping[str, Answer]:
        """Defers delivered messages. CONFLICT: the lock was lost, so the message will be delivered again."""
        return await self._settled(Act.DEFER, dict.fromkeys(lock_tokens))

    async def dead_letter(self, letters: Mapping[str, DeadLetter]) -> Mapping[str, Answer]:
        """Dead-letters delivered messages, by lock token. CONFLICT: the lock was lost."""
        return await self._settled(Act.DEAD_LETTER, letters)

    async def abandon(self, lock_tokens: Sequence[str]) -> None:
        """Gives delivered messages back, as far as that goes; each counts as a delivery that failed."""
        await self._settled(Act.ABANDON, dict.fromkeys(lock_tokens))

    async def remove_deferred(self, sequence_numbers: Sequence[int]) -> Answer:
        """Removes deferred messages for good. Raises ValueError for more than 100 numbers."""
        return await self._settlement.remove(sequence_numbers)

    async def dead_letter_deferred(self, sequence_number: int, letter: DeadLetter) -> Answer:
        """Moves one deferred message to the dead-letter queue. After UNKNOWN or CONFLICT it may stay locked a while."""
        return await self._settlement.dead_letter(sequence_number, letter)

    async def look_up(self, sequence_numbers: Sequence[int]) -> Mapping[int, MessageState | None]:
        """Where each number is now; None: the broker has it no more. Raises LookFailed."""
        return await self._peeking.look_up(sequence_numbers)

    async def peek(self, from_sequence_number: int, count_max: int) -> Sequence[Peeked]:
        """One page of messages of all states; only an empty one is the end. Raises LookFailed."""
        return await self._peeking.peek(from_sequence_number, count_max)

    def _notice(self, taken: Sequence[Delivery]) -> None:
        if not taken:
            return
        left = max(each.locked_until for each in taken) - self._now()
        self._lock_seen = left if self._lock_seen is None else max(self._lock_seen, left)
        self._is_partitioned |= any(each.message.sequence_number >> PARTITION_BITS for each in taken)

    # --- inside -----------------------------------------------------------------------------------------------------

    async def _settled(self, act: Act, letters: Mapping[str, DeadLetter | None]) -> Mapping[str, Answer]:
        holding = self._pump.holding
        loop = asyncio.get_running_loop()
        until = self._clock() + self._config.operation_timeout_seconds
        asked = [
            Disposition(act, held, loop.create_future(), letter)
            for token, letter in letters.items()
            if (held := holding.get(token)) is not None
        ]
        if asked:
            self._pump.put(asked)
            await asyncio.wait([each.answer for each in asked], timeout=self._config.operation_timeout_seconds)
        # A lock that we do not hold is lost, unless something asked for under it may have happened.
        answers = {token: Answer.UNKNOWN if holding.is_doubtful(token) else Answer.CONFLICT for token in letters}
        reachable = True
        for each in asked:
            answer = await self._answer(each, until if reachable else 0.0)
            reachable = reachable and answer is not Answer.UNKNOWN
            answers[each.lock_token] = self._noted(each, answer)
        return answers

    async def _answer(self, asked: Disposition, until: float) -> Answer:
        if not asked.answer.done():
            asked.resolve(Answer.UNKNOWN)
        answer = asked.answer.result()
        if answer is Answer.UNKNOWN:
            self._pump.holding.doubt(asked.lock_token)
        if answer is Answer.UNKNOWN or answer is None:
            # Under one lock the same act happens once: asking again by another way does no harm, and mostly tells.
            return await self._settlement.settle_otherwise(asked, until)
        return answer

    def _noted(self, asked: Disposition, answer: Answer) -> Answer:
        holding = self._pump.holding
        token = asked.lock_token
        match answer:
            case Answer.UNKNOWN:
                holding.doubt(token)
            case Answer.DONE:
                holding.settled(token)
            case Answer.CONFLICT | Answer.NOT_FOUND:
                holding.settled(token)
                return Answer.UNKNOWN if holding.is_doubtful(token) else Answer.CONFLICT
        return answer

    def _takes_turns(self) -> bool:
        return self._pump.is_running and self._clock() - self._pump.turned_at < self._config.watchdog_seconds

    async def _watched(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_EVERY_SECONDS)
            if self._clients.follow():
                self._log.info("queue.reconnecting", why="the connection string is another one now")
                self._pump.try_again()
            if not self._takes_turns():
                self._clients.renew()
                self._pump.restart()

    def _receiver_that_locks(self, client: ServiceBusClient) -> ServiceBusReceiver:
        return client.get_queue_receiver(
            self.name,
            receive_mode=ServiceBusReceiveMode.PEEK_LOCK,
            prefetch_count=0,
            socket_timeout=self._config.socket_timeout_seconds,
        )

    def _receiver_that_removes(self, client: ServiceBusClient) -> ServiceBusReceiver:
        return client.get_queue_receiver(
            self.name,
            receive_mode=ServiceBusReceiveMode.RECEIVE_AND_DELETE,
            prefetch_count=0,
            socket_timeout=self._config.socket_timeout_seconds,
        )
