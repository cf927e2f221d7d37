"""The one owner of the reply queue's receiver, and who waits for what.

Decides who gets an outcome: those that wait for its message id; else the one who reads the stream of all; else it is
kept, so that a program may send first and wait later. What is handed to the stream is completed only when its reader
asks for the next, so that a reader that dies hears of it again; everything else is completed as it comes. The same
outcome told again is completed and dropped. Receives only while somebody waits or reads.

A reply queue belongs to one client at a time: what it receives is gone for others.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass

import structlog
from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver

from dispatcher.client.errors import ClientError, RepliesRefused
from dispatcher.core.outcomes import Outcome
from dispatcher.queue.config import ServiceBusConfig
from dispatcher.queue.convert import to_message
from dispatcher.queue.links import Clients, Link
from dispatcher.queue.outcome_events import from_body
from dispatcher.queue.sdk import release
from dispatcher.queue.translate import refusal, told

__all__ = ["Inbox"]

KEPT_MAX = 10_000
"""So many outcomes that nobody has asked for are remembered; the oldest are forgotten first."""
STREAM_MAX = 100
"""So many are received ahead of the stream's reader: they are under lock until then."""
QUIET_MAX_SECONDS = 60.0
"""After so long without any outcome the connection is made anew."""
_BATCH_MAX = 200
_DESCRIPTION_MAX = 4096
_WAIT_SECONDS = 0.25
"""How long one receive waits: completions have their turn after it."""
_log = structlog.get_logger("dispatcher.client")

Waiting = asyncio.Queue[Outcome | ClientError]


@dataclass(slots=True)
class _Locked:
    outcome: Outcome
    received: ServiceBusReceivedMessage


class Inbox:
    """Receives outcomes for everybody. ``close`` it."""

    def __init__(self, config: ServiceBusConfig) -> None:
        self._config = config
        self._clients = Clients(config)
        self._link = Link("outcomes", self._clients, config, time.monotonic, self._receiver, wears=False)
        self._waiting: dict[str, list[Waiting]] = {}
        self._kept: OrderedDict[str, Outcome] = OrderedDict()
        self._told: OrderedDict[str, None] = OrderedDict()
        self._stream: Waiting | None = None
        self._held: OrderedDict[str, _Locked] = OrderedDict()
        self._read: list[ServiceBusReceivedMessage] = []
        """To be completed."""
        self._unread: list[ServiceBusReceivedMessage] = []
        """To be given back."""
        self._heard_at = 0.0
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self.forgotten = 0
        """Outcomes that nobody asked for in time."""

    def sent(self, message_ids: Iterable[str]) -> None:
        """These are sent now: what was told of an earlier message of the same id is no answer to them."""
        for message_id in message_ids:
            self._kept.pop(message_id, None)

    async def each(self, message_ids: Iterable[str]) -> AsyncGenerator[Outcome, None]:
        """The outcomes of these, in the order in which they come; ends when all have. Raises RepliesRefused."""
        wanted = dict.fromkeys(message_ids)
        known = {message_id: self._kept[message_id] for message_id in wanted if message_id in self._kept}
        mine: Waiting = asyncio.Queue()
        left = [message_id for message_id in wanted if message_id not in known]
        for message_id in left:
            self._waiting.setdefault(message_id, []).append(mine)
        try:
            for outcome in known.values():
                yield outcome
            for _ in left:
                self._start()
                found = await mine.get()
                if isinstance(found, ClientError):
                    raise found
                yield found
        finally:
            for message_id in left:
                self._leave(message_id, mine)

    async def stream(self) -> AsyncGenerator[Outcome, None]:
        """All outcomes that nobody waits for by id, until the reader leaves. Raises RepliesRefused."""
        if self._stream is not None:
            raise ClientError("somebody reads the outcomes already; there can be one reader")
        mine = self._stream = asyncio.Queue()
        try:
            while self._kept:
                yield self._kept.popitem(last=False)[1]
            while True:
                self._start()
                found = await mine.get()
                if isinstance(found, ClientError):
                    raise found
                yield found
                self._done_with(found)
        finally:
            if self._stream is mine:
                self._stream = None
            self._unread += [locked.received for locked in self._held.values()]
            self._held.clear()
            self._news.set()

    async def close(self) -> None:
        """Receives no more; whoever waits is told."""
        self._closing = True
        self._news.set()
        if self._task is not None:
            await self._task
        self._fail(ClientError("the client is closed"))
        await self._link.close()
        await self._clients.close()

    # --- receiving --------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._closing:
            raise ClientError("the client is closed")
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="receiving outcomes")

    @property
    def _is_wanted(self) -> bool:
        return not self._closing and (bool(self._waiting) or self._stream is not None)

    async def _run(self) -> None:
        while self._has_work:  # also for those who came while the receiver was being closed
            try:
                await self._receive()
            finally:
                await self._link.close()

    @property
    def _has_work(self) -> bool:
        return self._is_wanted or bool(self._read or self._unread)

    async def _receive(self) -> None:
        """Until nobody waits any more, or the broker will not have us."""
        self._heard_at = time.monotonic()
        failures = 0
        while self._has_work:
            try:
                await self._turn()
                failures = 0
            except Exception as error:  # noqa: BLE001 - translated here, once
                self._read.clear()  # their locks went with the receiver: they come again, and are known then
                self._unread.clear()
                why = refusal(error)
                if why is not None:
                    self._fail(RepliesRefused(f"{self._config.queue}: {why}"))
                    return
                failures += 1
                _log.warning("outcomes.not_received", queue=self._config.queue, error=told(error))
                await self._pause(failures)

    async def _turn(self) -> None:
        seconds = self._config.operation_timeout_seconds
        read, self._read = self._read, []
        if read:
            await self._link.run(lambda receiver: _complete(receiver, read), seconds)
        unread, self._unread = self._unread, []
        if unread:
            await self._link.run(lambda receiver: release(receiver, unread), seconds)
        if time.monotonic() - self._heard_at > QUIET_MAX_SECONDS:
            self._link.discard()  # nothing tells a quiet queue from a connection that died unnoticed
            self._heard_at = time.monotonic()
        room = STREAM_MAX - len(self._held)
        if not self._is_wanted:
            return
        if self._waiting or room > 0:
            count = _BATCH_MAX if self._stream is None else max(1, min(room, _BATCH_MAX))
            received = await self._link.run(
                lambda receiver: receiver.receive_messages(max_message_count=count, max_wait_time=_WAIT_SECONDS),
                seconds,
            )
            if received:
                self._heard_at = time.monotonic()
            for each in received:
                await self._take(each)
        else:
            await self._until_read()

    async def _until_read(self) -> None:
        self._news.clear()
        if not self._read and self._is_wanted:
            try:
                async with asyncio.timeout(_WAIT_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                return

    async def _pause(self, failures: int) -> None:
        self._news.clear()
        longest = min(self._config.backoff_min_seconds * 2 ** min(failures, 10), self._config.backoff_max_seconds)
        try:
            async with asyncio.timeout(random.uniform(0.0, longest)):  # noqa: S311 - so that clients do not come together
                await self._news.wait()
        except TimeoutError:
            return

    async def _take(self, received: ServiceBusReceivedMessage) -> None:
        try:
            outcome = from_body(to_message(received).body, self._config.queue)
        except ValueError as fault:
            text = str(fault)[:_DESCRIPTION_MAX]
            _log.warning("outcome.unreadable", queue=self._config.queue, message_id=received.message_id)
            await self._link.run(
                lambda receiver: receiver.dead_letter_message(
                    received, reason="not_an_outcome", error_description=text
                ),
                self._config.operation_timeout_seconds,
            )
            return
        event_id = outcome.event_id
        if event_id in self._held:
            self._held[event_id].received = received  # delivered again: this lock is the one that counts
            return
        if event_id in self._told:
            self._read.append(received)
            return
        waiting = self._waiting.pop(outcome.message_id, None)
        if waiting is None and self._stream is not None:
            self._held[event_id] = _Locked(outcome, received)
            self._stream.put_nowait(outcome)
            return
        self._remember(event_id)
        self._read.append(received)
        for queue in waiting or ():
            queue.put_nowait(outcome)
        self._kept[outcome.message_id] = outcome
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
            self.forgotten += 1

    def _done_with(self, outcome: Outcome) -> None:
        """The reader of the stream has asked for the next."""
        locked = self._held.pop(outcome.event_id, None)
        if locked is not None:
            self._remember(outcome.event_id)
            self._read.append(locked.received)
            self._news.set()

    def _remember(self, event_id: str) -> None:
        self._told[event_id] = None
        if len(self._told) > KEPT_MAX:
            self._told.popitem(last=False)

    def _leave(self, message_id: str, mine: Waiting) -> None:
        others = [each for each in self._waiting.get(message_id, ()) if each is not mine]
        if others:
            self._waiting[message_id] = others
        else:
            self._waiting.pop(message_id, None)

    def _fail(self, error: ClientError) -> None:
        for waiting in {id(each): each for all_of in self._waiting.values() for each in all_of}.values():
            waiting.put_nowait(error)
        self._waiting.clear()
        if self._stream is not None:
            self._stream.put_nowait(error)
            self._stream = None

    def _receiver(self, client: ServiceBusClient) -> ServiceBusReceiver:
        return client.get_queue_receiver(
            self._config.queue, prefetch_count=0, socket_timeout=self._config.socket_timeout_seconds
        )


async def _complete(receiver: ServiceBusReceiver, received: Sequence[ServiceBusReceivedMessage]) -> None:
    """All at once: on one receiver that is safe, and twice as fast as one by one."""
    answers = await asyncio.gather(*(receiver.complete_message(each) for each in received), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            _log.debug("outcome.not_completed", error=told(answer))  # it comes again, and is known then
