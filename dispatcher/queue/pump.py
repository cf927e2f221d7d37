"""The receiver: deliveries in, dispositions out. One task owns it.

Decides whose turn it is: dispositions first, all at once, then a receive of as many as there is room for. While
messages are held a receive waits so briefly that it keeps no disposition waiting; while nothing is held and nothing
comes it asks for one message only and waits longer, so that an idle receiver draws no messages that others could have.
When there is no room, credit that is still out is taken back, else messages would be locked to a receiver that is not
looking. Whatever fails, the receiver is made anew after a pause that grows and is jittered; the pump never ends by
itself.

A receive that comes back empty proves nothing: over a connection whose other half is gone the SDK does the same. So
only messages, outcomes and answers count as a word from the broker, and after some seconds without one it is asked.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any

import structlog
from azure.servicebus import ServiceBusReceivedMessage, ServiceBusReceiveMode
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver

from dispatcher.ports import Answer, Delivery
from dispatcher.queue.config import ServiceBusConfig
from dispatcher.queue.convert import to_message
from dispatcher.queue.dispositions import Act, Disposition, ask
from dispatcher.queue.holding import Held, Holding
from dispatcher.queue.links import Clients, Link, MonotonicClock, Pace, patiently
from dispatcher.queue.sdk import defer_together, give_back_credit, settle_on_own_link_only
from dispatcher.queue.translate import answer_to, breaks_link, is_busy, is_silence, refusal, told

__all__ = ["Pump"]

_LOOK_AGAIN_SECONDS = 1.0
_TIDY_EVERY_SECONDS = 0.5
_BATCH_STEP = 10


class Pump:
    """Owns the receiver of one queue, from ``start`` to ``stop``."""

    def __init__(
        self,
        config: ServiceBusConfig,
        clients: Clients,
        pace: Pace,
        bell: Callable[[], None],
        clock: MonotonicClock,
        now: Callable[[], datetime],
    ) -> None:
        self.holding = Holding(config.lock_margin)
        self.batch = config.receive_batch_max
        self.heard_at: float | None = None
        self.refused: str | None = None
        self.last_error: str | None = None
        self._config = config
        self._clients = clients
        self._pace = pace
        self._bell = bell
        self._clock = clock
        self._now = now
        self._log = structlog.get_logger("dispatcher.queue").bind(queue=config.queue)
        self._link = Link("pump", clients, config, clock, self._receiver, wears=False)
        self._waiting: deque[Disposition] = deque()
        self._wake = asyncio.Event()
        self._stopping = False
        self._is_hurried = False
        self._epoch = 0
        paced = (config.operations_per_second or config.dispositions_max) * config.operation_timeout_seconds / 2
        self._at_once = max(min(config.dispositions_max, int(paced)), 1)
        self._task: asyncio.Task[None] | None = None
        self._started_at = self._refuted_at = self.turned_at = clock()
        self._credit = 0
        self._is_unwanted = False
        self._is_quiet = True
        self._has_news = False
        self._paused_since: float | None = None
        self._failures = 0
        self._checks = 0
        self._tidied_at = self._renewed_at = clock()

    # --- what others call -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to receive, once somebody makes room."""
        self._started_at = self.turned_at = self._clock()
        self._checks = 0
        self._epoch += 1
        self._task = asyncio.create_task(self._run(self._epoch), name=f"pump of {self._config.queue}")

    async def stop(self) -> None:
        """Settles what waits and gives back what nobody called for, within bounds. ``close`` comes after."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=self._config.close_timeout_seconds)
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=1.0)
            self._task = None
        self._abort()

    async def close(self) -> None:
        """Closes the receiver, within bounds."""
        await self._link.close()

    def restart(self) -> None:
        """Leaves a pump that hangs behind and begins anew. What it was asked and has not answered is unknown."""
        self._log.error("pump.restarted", last_error=self.last_error)
        if self._task is not None:
            self._task.cancel()
        self._abort()
        left_behind = self._link
        left_behind.discard()
        self._link = Link("pump", self._clients, self._config, self._clock, self._receiver, wears=False)
        self._link.generation = left_behind.generation + 1  # what came before belongs to another receiver
        self._link.rebuilt = left_behind.rebuilt
        self._credit = 0
        self.start()

    def try_again(self) -> None:
        """Ends the pause before the next receiver: what it was refused for may be mended."""
        self._is_hurried = True
        self._wake.set()

    @property
    def rebuilt(self) -> int:
        """How often the receiver was made anew."""
        return self._link.rebuilt

    @property
    def is_running(self) -> bool:
        """Whether the task is there."""
        return self._task is not None and not self._task.done()

    @property
    def quiet_seconds(self) -> float:
        """For how long the broker has said nothing to this receiver."""
        return self._clock() - (self.heard_at if self.heard_at is not None else self._started_at)

    @property
    def silent_seconds(self) -> float:
        """For how long there has been neither a word from the broker nor a failure that is plain.

        A refusal or a closed port tells how things are; a call that ends by its time-out tells nothing.
        """
        return min(self.quiet_seconds, self._clock() - self._refuted_at)

    def take(self, count_max: int) -> list[Delivery]:
        """Hands over from the buffer, at once, and lets as many be fetched as the count leaves room for.

        Whoever asks for none has no use for what is in the buffer either: others may have it.
        """
        self._is_unwanted = count_max == 0
        taken = self.holding.take(count_max, self._now())
        if self.holding.room or self.holding.buffered or self._is_unwanted:
            self._wake.set()
        return taken

    def put(self, dispositions: Sequence[Disposition]) -> None:
        """Queues dispositions; each is answered when its turn has come."""
        if not dispositions:
            return
        self._waiting.extend(dispositions)
        if not self.is_running:
            self._abort()
        self._wake.set()

    # --- the task ---------------------------------------------------------------------------------------------------

    async def _run(self, epoch: int) -> None:
        while epoch == self._epoch and not self._stopping:
            self.turned_at = self._clock()
            try:
                await self._turn()
            except Exception as error:  # noqa: BLE001 - whatever it was, the answer is a new receiver
                await self._failed(error)
        if self._stopping:
            await self._finish()

    async def _turn(self) -> None:
        generation = self._link.generation
        receiver = await self._link.opened(self._config.operation_timeout_seconds)
        if self._link.generation != generation:
            self.heard_at = self._clock()  # it was let in, which does not prove yet that it can receive
            self._checks = 0
        await self._let_go(receiver)
        while self._waiting:
            await self._settle(receiver)
            await self._let_go(receiver)
        self._tidy()
        room = min(self.holding.room, self.batch)
        if room > 0:
            await self._receive(receiver, room)
        elif not self._waiting:
            await self._pause(receiver)

    async def _let_go(self, receiver: ServiceBusReceiver) -> None:
        """Nobody asks for messages any more. Credit goes first: what is given back would come here again at once."""
        if not self._is_unwanted:
            return
        if self._credit > 0:
            await self._link.called(give_back_credit(receiver), self._config.operation_timeout_seconds)
            self._credit = 0
        self._is_unwanted = False
        self._give_back(self.holding.empty_buffer())

    def _tidy(self) -> None:
        if self._clock() - self._tidied_at < _TIDY_EVERY_SECONDS:
            return
        self._tidied_at = self._clock()
        now = self._now()
        self._give_back(self.holding.short(now))
        self.holding.forget_expired(now)

    async def _receive(self, receiver: ServiceBusReceiver, room: int) -> None:
        self._paused_since = None
        probing = self._is_quiet and len(self.holding) == 0
        count, wait = (1, self._config.idle_wait_seconds) if probing else (room, self._config.receive_wait_seconds)
        received = await self._link.called(
            receiver.receive_messages(max_message_count=count, max_wait_time=wait),
            wait + self._config.operation_timeout_seconds,
        )
        self._credit = count - len(received)
        self._is_quiet = not received
        if not received:
            await self._check(receiver)
        else:
            self._heard()
            self.holding.add([self._held(each) for each in received])
            self._has_news = True
            if not probing:
                self.batch = min(self.batch + _BATCH_STEP, self._config.receive_batch_max)
            for _ in received:
                async with self._pace.turn():
                    pass
        self._ring()

    async def _pause(self, receiver: ServiceBusReceiver) -> None:
        self._ring()
        config, now = self._config, self._clock()
        self._paused_since = self._paused_since if self._paused_since is not None else now
        await self._check(receiver)
        wait = _LOOK_AGAIN_SECONDS
        if self._credit > 0:
            wait = self._paused_since + config.pause_after_seconds - now
            if wait <= 0:
                await self._link.called(give_back_credit(receiver), config.operation_timeout_seconds)
                self._credit = 0
                wait = _LOOK_AGAIN_SECONDS
        await self._woken(wait)

    async def _check(self, receiver: ServiceBusReceiver) -> None:
        """Asks the broker for a sign of life, if there has been none for a while or something has just failed."""
        in_doubt = self.heard_at is not None and self.heard_at < self._clients.doubted_at
        if not self._failures and not in_doubt and self.quiet_seconds <= self._config.check_seconds:
            return
        if self._checks >= self._config.link_uses_max and not len(self.holding):
            self._link.discard()  # its management link is about to run out of credit, and no lock hangs on it
            return
        self._checks += 1
        await self._link.called(receiver.peek_messages(1, sequence_number=1), self._config.operation_timeout_seconds)
        self._heard()

    async def _settle(self, receiver: ServiceBusReceiver) -> None:
        count = min(self._at_once, len(self._waiting))
        chunk = [self._waiting.popleft() for _ in range(count)]
        try:
            broken = await self._link.called(self._asked(receiver, chunk), self._config.operation_timeout_seconds)
        finally:
            for each in chunk:
                each.resolve(Answer.UNKNOWN)  # those that have no answer yet
        if broken is not None:
            raise broken

    async def _asked(self, receiver: ServiceBusReceiver, chunk: Sequence[Disposition]) -> Exception | None:
        """Asks for them all, the deferrals together; the first failure after which the receiver must go."""
        deferrals = [each for each in chunk if each.act is Act.DEFER and self._is_to_be_asked(each)]
        put_off: list[Disposition] = []
        if deferrals:
            for _ in deferrals:
                async with self._pace.turn():
                    pass
            errors: list[Exception] = []

            def tell(position: int, error: Exception | None) -> None:
                if error is not None and is_busy(error):
                    put_off.append(deferrals[position])
                    return
                deferrals[position].resolve(Answer.DONE if error is None else answer_to(error))
                if error is None or not breaks_link(error):
                    self._heard()
                else:
                    errors.append(error)

            await defer_together(receiver, [each.held.received for each in deferrals], tell)
            if errors:
                return errors[0]
        others = [each for each in chunk if each.act is not Act.DEFER and self._is_to_be_asked(each)]
        return await _gathered([self._one(receiver, each) for each in (*put_off, *others)])

    def _is_to_be_asked(self, asked: Disposition) -> bool:
        if asked.answer.done():
            return False  # nobody waits for it any more, and nothing has been tried
        if asked.held.generation != self._link.generation:
            asked.resolve(None)  # this receiver would mistake the delivery for one of its own
            return False
        return True

    async def _one(self, receiver: ServiceBusReceiver, asked: Disposition) -> Exception | None:
        async def call() -> None:
            async with self._pace.turn():
                await ask(receiver, asked.act, asked.held.received, asked.letter)

        try:
            await patiently(call, self._config.operation_timeout_seconds / 2)
        except Exception as error:  # noqa: BLE001 - translated here, once
            asked.resolve(answer_to(error))
            if breaks_link(error):
                return error
            if not is_busy(error):
                self._heard()
            return None
        asked.resolve(Answer.DONE)
        self._heard()
        return None

    async def _failed(self, error: Exception) -> None:
        self._link.discard()
        self._credit = 0
        self._failures += 1
        self.last_error = told(error)
        is_plain = not is_silence(error)
        refused = refusal(error)
        if is_busy(error):
            self.batch = max(self.batch // 2, 1)
            self._log.warning("queue.throttled", receive_batch=self.batch)
        elif refused is None:
            self._log.warning("receiver.failed", error=self.last_error, failures=self._failures)
        elif refused != self.refused:
            self._log.error("queue.refused", why=refused)
        self.refused = refused
        quiet = min(self.quiet_seconds, self._clock() - self._renewed_at)
        if refused is not None or quiet > self._config.watchdog_seconds:
            self._renewed_at = self._clock()
            self._clients.renew()
        self._ring()
        longest = self._config.refused_backoff_max_seconds if refused is not None else self._config.backoff_max_seconds
        pause = min(self._config.backoff_min_seconds * 2.0 ** min(self._failures - 1, 20), longest)
        await self._rested(pause * random.uniform(0.5, 1.0), is_plain=is_plain)  # noqa: S311 - jitter is no secret

    async def _rested(self, seconds: float, *, is_plain: bool) -> None:
        """Waits before a new receiver is made; what is asked meanwhile is for another way."""
        until = self._clock() + seconds
        while True:
            while self._waiting:
                self._waiting.popleft().resolve(None)
            self.turned_at = self._clock()
            if is_plain:
                self._refuted_at = self.turned_at
            left = until - self.turned_at
            if left <= 0 or self._stopping or self._is_hurried:
                self._is_hurried = False
                return
            await self._woken(min(left, _LOOK_AGAIN_SECONDS))

    async def _finish(self) -> None:
        self._give_back(self.holding.empty_buffer())
        try:
            while self._waiting:
                await self._settle(await self._link.opened(self._config.close_timeout_seconds))
        except Exception as error:  # noqa: BLE001 - locks that cannot be given back end by themselves
            self._log.warning("locks.left", error=told(error))

    async def _woken(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _ring(self) -> None:
        if self._has_news:
            self._has_news = False
            self._bell()

    def _heard(self) -> None:
        if self.last_error is not None:
            self._log.info("queue.recovered", failures=self._failures, quiet_seconds=round(self.quiet_seconds, 1))
        self.heard_at = self._clock()
        self.refused = None
        self.last_error = None
        self._failures = 0

    def _abort(self) -> None:
        while self._waiting:
            self._waiting.popleft().resolve(Answer.UNKNOWN)

    def _give_back(self, lock_tokens: Sequence[str]) -> None:
        self.put([self._back(held) for token in lock_tokens if (held := self.holding.get(token)) is not None])

    def _back(self, held: Held) -> Disposition:
        answer: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        token = held.delivery.lock_token
        answer.add_done_callback(lambda _: self.holding.settled(token))
        return Disposition(Act.ABANDON, held, answer)

    def _held(self, received: ServiceBusReceivedMessage) -> Held:
        locked_until = received.locked_until_utc
        delivery = Delivery(
            message=to_message(received),
            lock_token=str(received.lock_token),
            locked_until=locked_until if locked_until is not None else self._now() + self._config.lock_margin * 2,
        )
        return Held(received=received, delivery=delivery, generation=self._link.generation)

    def _receiver(self, client: ServiceBusClient) -> ServiceBusReceiver:
        return settle_on_own_link_only(
            client.get_queue_receiver(
                self._config.queue,
                receive_mode=ServiceBusReceiveMode.PEEK_LOCK,
                prefetch_count=0,
                socket_timeout=self._config.socket_timeout_seconds,
            )
        )


async def _gathered(calls: Sequence[Coroutine[Any, Any, Exception | None]]) -> Exception | None:
    """All calls at once; the first failure after which the receiver must go."""
    return next((each for each in await asyncio.gather(*calls) if each is not None), None)
