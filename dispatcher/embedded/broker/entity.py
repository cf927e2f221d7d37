"""One queue, its journal and its consumers, put together.

The queue decides, the journal makes it durable, and only then is the decision carried out, answered and seen
by others: that order is kept here and nowhere else. Here too the time of the queue comes from a real clock:
one timer per queue ends locks and begins what was scheduled. Frames, links and tokens are not known here.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import NamedTuple, Protocol

import structlog

from .admission import Admission
from .config import QueueConfig
from .countdown import Countdown
from .errors import (
    DECODE_ERROR,
    INTERNAL_ERROR,
    MESSAGE_LOCK_LOST,
    MESSAGE_NOT_FOUND,
    RESOURCE_LIMIT_EXCEEDED,
    AmqpError,
    CodecError,
)
from .faults import Fault, Faults
from .journal import Journal
from .messages import Content
from .model import Change, Consumer, Kind, Message
from .queue import Queue

log = structlog.get_logger(__name__)

_ASSIGN_MAX = 256  # messages handed out before other connections get their turn
_PEEK_MAX = 250
_PEEK_SIZE_MAX = 4 * 1024 * 1024  # bytes in one answer

Done = Callable[[AmqpError | None], None]


class Verdict(Enum):
    """What a consumer says about a message it holds."""

    COMPLETE = "complete"
    ABANDON = "abandon"
    DEFER = "defer"
    DEAD_LETTER = "dead-letter"
    RELEASE = "release"


class Settlement(NamedTuple):
    """A verdict, with the reason if it is dead-lettering."""

    verdict: Verdict
    reason: str | None = None
    description: str | None = None


class Receiver(Protocol):
    """Where a consumer's messages go."""

    def deliver(self, message: Message) -> None:
        """Takes a message, locked or, for a settled consumer, already gone from the queue."""

    def fail(self, error: AmqpError) -> None:
        """Nothing more can be delivered."""


class Entity:
    """A queue or dead-letter queue as clients meet it. Not thread-safe: lives on one event loop."""

    def __init__(
        self,
        config: QueueConfig,
        path: str,
        queue: Queue,
        journal: Journal,
        now_ms: Callable[[], int],
        faults: Faults,
        dead_letters: Entity | None = None,
    ) -> None:
        self.config = config
        self.path = path
        self.queue = queue
        self.dead_letters = dead_letters
        self.admission = Admission(config, path, queue, faults)
        self._journal = journal
        self._now_ms = now_ms
        self._faults = faults
        self._held_back = False  # the throttle lets nothing out for now
        self._loop = asyncio.get_running_loop()
        self._receivers: dict[Consumer, Receiver] = {}
        self._pump_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0
        self._stopped = False

    def start(self) -> None:
        """Begins to watch the time."""
        exhausted = self.queue.begin_bury_exhausted()
        for change in exhausted:
            self._submit([change], _ignore)
        self._arm()

    def stop(self) -> None:
        """Leaves no timer behind."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- sending ---------------------------------------------------------------------------------------

    def send(self, contents: Sequence[Content], done: Done) -> None:
        """Accepts all the messages or none."""
        if self.admission.is_open():
            now_ms = self._now_ms()
            self._submit([self.queue.begin_put(content, now_ms) for content in contents], done)
            return
        refusal = self.admission.refuse(contents)
        if refusal is not None:
            done(refusal)
        else:
            self._enter(contents, lambda error, _sequences: done(error))

    def schedule(self, contents: Sequence[Content], done: Callable[[AmqpError | list[int]], None]) -> None:
        """As `send`, and answers the sequence numbers."""
        refusal = self.admission.refuse_sizes(contents) or self.admission.refuse(contents)
        if refusal is not None:
            done(refusal)
        else:
            self._enter(contents, lambda error, sequences: done(error or sequences))

    def _enter(self, contents: Sequence[Content], done: Callable[[AmqpError | None, list[int]], None]) -> None:
        now_ms = self._now_ms()
        window = self.queue.duplicates
        if window is not None:
            self._journal.forget(self.queue, window.forget(now_ms))
        try:
            entry = self.admission.begin(contents, now_ms)
        except AmqpError as error:
            done(error, [])
            return
        if window is None:
            self._submit(entry.changes, lambda error: done(error, entry.sequences))
            return
        # A duplicate is accepted when the first is, and shares its fate while that is being written.
        all_told = Countdown(lambda error: done(error, entry.sequences))
        for message_id in entry.awaited:
            if window.join(message_id, lambda error: all_told.tell(None if error is None else self._refusal(error))):
                all_told.expect()
        if entry.changes:
            all_told.expect()
            self._submit(entry.changes, all_told.tell)
        all_told.begin()

    def refuse_request(self, weight: int) -> AmqpError | None:
        """Whether and why a management request of so many operations is not even looked at."""
        return self.admission.refuse_operations(weight)

    def cancel_scheduled(self, sequences: Sequence[int], done: Done) -> None:
        """Cancels all of the scheduled messages or, if one is not scheduled, none."""
        changes = self.queue.begin_cancel_schedule(sequences)
        if changes is None:
            done(AmqpError(MESSAGE_NOT_FOUND, "At least one of the messages is not scheduled."))
        else:
            self._submit(changes, done)

    # --- receiving -------------------------------------------------------------------------------------

    def subscribe(self, consumer: Consumer, receiver: Receiver) -> None:
        """From now on the consumer may be granted messages."""
        self._receivers[consumer] = receiver

    def unsubscribe(self, consumer: Consumer) -> None:
        """The consumer is gone; locks it holds stay until they expire or are settled by token."""
        self.queue.consumers.withdraw(consumer)
        self._receivers.pop(consumer, None)

    def grant(self, consumer: Consumer, credit: int) -> None:
        """The consumer wants so many messages from now on."""
        self.queue.consumers.grant(consumer, credit)
        self.wake()

    def pause(self, consumer: Consumer) -> None:
        """The consumer's connection is full."""
        self.queue.consumers.pause(consumer)

    def resume(self, consumer: Consumer) -> None:
        """The consumer's connection has room again."""
        self.queue.consumers.resume(consumer)
        self.wake()

    def wake(self) -> None:
        """Hands out messages soon, once for all that happens in this turn of the loop."""
        if not self._pump_scheduled:
            self._pump_scheduled = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_scheduled = False
        if self.hand_out() == _ASSIGN_MAX:
            self.wake()

    def hand_out(self) -> int:
        """Hands out what there is, up to a bound, and says how many messages that was."""
        count_max = self._allowance() if self._faults.armed else _ASSIGN_MAX
        assigned = self.queue.assign(self._now_ms(), count_max)
        for consumer, message in assigned:
            receiver = self._receivers[consumer]
            if consumer.settled:
                self._submit([self.queue.begin_drop(message)], partial(_deliver_settled, receiver, message))
            else:
                self._journal.delivered(self.queue, message)
                receiver.deliver(message)
                if self._faults.armed:
                    self._deliver_again(message)
        if assigned:
            self._arm()
            if self._faults.is_armed(Fault.DUPLICATE_DELIVERY, self.path):
                self.wake()  # for what credit is left
        return len(assigned)

    def _allowance(self) -> int:
        """How many messages may be handed out now; if none may, it is tried again when one may."""
        if self._faults.is_armed(Fault.DISABLE_QUEUE, self.path):
            return 0
        wanted = min(_ASSIGN_MAX, self.queue.wanted())
        if self._faults.is_armed(Fault.DUPLICATE_DELIVERY, self.path):
            wanted = -(-wanted // 2)  # the other half of the credit is for the same messages again
        allowed = self._faults.credits(wanted, self.path)
        if allowed < wanted and not self._held_back:
            self._held_back = True
            self._loop.call_later(self._faults.until_credit() + 0.001, self._let_go)
        return allowed

    def _let_go(self) -> None:
        self._held_back = False
        if not self._stopped:
            self.wake()

    def _deliver_again(self, message: Message) -> None:
        """The same message under the same lock, to whoever has credit next."""
        consumer = self.queue.consumers.first()
        if consumer is None or consumer.settled or not self._faults.bites(Fault.DUPLICATE_DELIVERY, self.path):
            return
        self.queue.consumers.serve_first()
        self._receivers[consumer].deliver(message)

    def revoke(self, count: int) -> int:
        """Ends the oldest locks as if they had expired; answers how many."""
        held = self.queue.oldest_locked(count)
        for message in held:
            self._submit([self.queue.begin_return(message, by_client=False)], _ignore)
        return len(held)

    def take_deferred(
        self, sequences: Sequence[int], settled: bool, done: Callable[[AmqpError | list[Message]], None]
    ) -> None:
        """Deferred messages by number, all of them or none; settled ones are gone from the queue."""
        now_ms = self._now_ms()
        for change in self.queue.expire_touched(sequences, now_ms):
            self._submit([change], _ignore)
        messages = self.queue.take_deferred(sequences, now_ms, settled)
        if messages is None:
            done(AmqpError(MESSAGE_NOT_FOUND, "At least one of the messages is not there, not deferred or locked."))
        elif settled:
            changes = [self.queue.begin_drop(message) for message in messages]
            self._submit(changes, lambda error: done(error or messages))
        else:
            for message in messages:
                self._journal.delivered(self.queue, message)
            self._arm()
            done(messages)

    def peek(self, from_sequence: int, count: int) -> list[Message]:
        """Looks without taking; may answer fewer than there are, but at least one if there is one."""
        return self.queue.shelf.peek(from_sequence, min(count, _PEEK_MAX), _PEEK_SIZE_MAX)

    # --- locks -----------------------------------------------------------------------------------------

    def renew(self, tokens: Sequence[bytes]) -> int | None:
        """Until when the locks hold now, in ms since 1970, or None if one of them is lost."""
        return self.queue.renew(tokens, self._now_ms())

    def settle(self, token: bytes, settlement: Settlement, done: Done) -> None:
        """Ends a lock in one of five ways."""
        message = self.queue.locked(token, self._now_ms())
        if message is None:
            done(
                AmqpError(
                    MESSAGE_LOCK_LOST,
                    "The lock supplied is invalid. Either the lock expired, or the message has already been "
                    "removed from the queue.",
                )
            )
            return
        if settlement.verdict is Verdict.RELEASE:
            self.release(message)
            done(None)
            return
        try:
            change = self._begin(message, settlement)
        except CodecError as error:
            done(AmqpError(DECODE_ERROR, f"The message cannot be dead-lettered: {error}"))
            return
        self._submit([change], done)

    def settle_all(self, tokens: Sequence[bytes], settlement: Settlement, done: Done) -> None:
        """Ends many locks in one way: all of them or, if one is lost, none."""
        now_ms = self._now_ms()
        messages = [self.queue.locked(token, now_ms) for token in tokens]
        held = [message for message in messages if message is not None]
        if len(held) != len(tokens) or len(set(tokens)) != len(tokens):
            done(AmqpError(MESSAGE_LOCK_LOST, "At least one of the locks is lost."))
            return
        changes: list[Change] = []
        try:
            for message in held:  # one by one: those already begun are taken back if a later one fails
                changes.append(self._begin(message, settlement))  # noqa: PERF401
        except CodecError as error:
            for change in changes:
                self.queue.cancel(change, now_ms)
            done(AmqpError(DECODE_ERROR, f"A message cannot be dead-lettered: {error}"))
            return
        self._submit(changes, done)

    def _begin(self, message: Message, settlement: Settlement) -> Change:
        match settlement.verdict:
            case Verdict.COMPLETE:
                return self.queue.begin_drop(message)
            case Verdict.DEFER:
                return self.queue.begin_defer(message)
            case Verdict.DEAD_LETTER:
                return self.queue.begin_bury(message, settlement.reason, settlement.description)
            case _:
                return self.queue.begin_return(message)

    def release(self, message: Message) -> None:
        """Ends the lock as if the message had never been delivered."""
        self.queue.release(message)
        self._journal.released(self.queue, message)
        self.wake()

    # --- making it durable -----------------------------------------------------------------------------

    def _submit(self, changes: Sequence[Change], done: Done) -> None:
        self._journal.submit(changes, partial(self._written, changes, done))

    def _written(self, changes: Sequence[Change], done: Done, error: BaseException | None) -> None:
        if error is not None:
            now_ms = self._now_ms()
            for change in changes:
                change.queue.cancel(change, now_ms)
                self._end_id(change, error)
            self._arm()
            self.wake()
            done(self._refusal(error))
            return
        buried = False
        for change in changes:
            change.queue.commit(change)
            buried = buried or change.kind is Kind.BURY
            if change.message_id is not None:
                self._end_id(change, None)
        done(None)
        if buried and self.dead_letters is not None:
            self.dead_letters.wake()
        if changes[0].kind is not Kind.DROP:
            self.wake()
        self._arm()

    def _end_id(self, change: Change, error: BaseException | None) -> None:
        if change.message_id is not None and self.queue.duplicates is not None:
            self.queue.duplicates.end(change.message_id, change.message.enqueued_ms, error)

    def _refusal(self, error: BaseException) -> AmqpError:
        full = isinstance(error, OSError) or (
            isinstance(error, sqlite3.Error)
            and getattr(error, "sqlite_errorname", "").startswith(("SQLITE_FULL", "SQLITE_IOERR"))
        )
        condition = RESOURCE_LIMIT_EXCEEDED if full else INTERNAL_ERROR
        return AmqpError(
            condition, f"The journal {self._journal.path} could not be written ({error}); nothing changed."
        )

    # --- time ------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        deadline_ms = self.queue.next_deadline_ms()
        if deadline_ms is None or self._stopped or (self._timer is not None and self._timer_ms <= deadline_ms):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ms = deadline_ms
        delay = max(0.001, (deadline_ms - self._now_ms()) / 1000)
        self._timer = self._loop.call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        for change in self.queue.expire(self._now_ms()):
            log.debug("lock.expired", queue=self.path, sequence=change.message.sequence, kind=change.kind.name)
            self._submit([change], _ignore)
        self._arm()


def _ignore(error: AmqpError | None) -> None:
    """The queue tries again by itself, and the journal has told Broker.health."""


def _deliver_settled(receiver: Receiver, message: Message, error: AmqpError | None) -> None:
    if error is None:
        receiver.deliver(message)
    else:
        receiver.fail(error)
