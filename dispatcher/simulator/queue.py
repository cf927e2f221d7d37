"""The queue of the simulated world: locks, deferral, settlement, dead letters.

Semantics as the broker's. Also the place where the laws look for what became of each message.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from random import Random

from dispatcher.errors import LookFailed
from dispatcher.ports import Answer, DeadLetter, Delivery, Message, MessageState, Peeked
from dispatcher.simulator.clock import HostClock, WorldClock
from dispatcher.simulator.faults import NO_FAULTS, Fault, FaultPlan
from dispatcher.simulator.wire import BROKER_LATE_MAX, Surroundings, Wire

NUMBERS_MAX = 100
"""As the WorkQueue port has it."""


class Fate(StrEnum):
    """Where a message ended."""

    REMOVED = "removed"
    DEAD = "dead"


@dataclass(slots=True)
class Held:
    """A message that the broker has."""

    message: Message
    deferred: bool = False
    token: str | None = None
    locked_until: datetime | None = None
    deliveries: int = 0


@dataclass(slots=True)
class Broker:
    """One queue, as the broker has it."""

    name: str
    clock: WorldClock
    world: Surroundings
    random: Random
    lock_duration: timedelta
    faults: FaultPlan = NO_FAULTS
    messages: dict[int, Held] = field(default_factory=dict)
    fates: dict[int, list[Fate]] = field(default_factory=dict)
    letters: dict[int, DeadLetter] = field(default_factory=dict)
    ended: list[tuple[int, Fate]] = field(default_factory=list)
    """Every end in order, for the laws to look at."""
    ended_at: dict[int, datetime] = field(default_factory=dict)
    """When each message ended."""
    on_removed: list[Callable[[Message], None]] = field(default_factory=list)
    """Told of each message that is removed, at that very moment."""
    sent: int = 0
    _active: dict[int, Held] = field(default_factory=dict)
    _by_token: dict[str, int] = field(default_factory=dict)
    _tokens: int = 0

    def send(self, message_id: str, body: bytes, time_to_live: timedelta | None = None) -> int:
        """A producer puts a message on the queue; its sequence number. This broker expires nothing by itself."""
        self.sent += 1
        now = self.clock.now()
        expires_at = now + time_to_live if time_to_live is not None else None
        self.messages[self.sent] = held = Held(Message(self.sent, message_id, body, now, expires_at))
        self._active[self.sent] = held
        return self.sent

    def lose_locks(self, share: float) -> int:
        """Locks end before their time, as when a connection breaks; how many did."""
        lost = [number for number in self._by_token.values() if self.random.random() < share]
        for number in lost:
            self._unlock(self.messages[number])
        return len(lost)

    def throttles(self) -> bool:
        """Whether the broker refuses this request for being too busy."""
        rate = self.faults.rate(Fault.THROTTLED)
        if rate and self.random.random() < rate:
            self.world.struck(Fault.THROTTLED)
            return True
        return False

    def _unlock(self, held: Held) -> None:
        if held.token is not None:
            self._by_token.pop(held.token, None)
        held.token = held.locked_until = None

    def _locked(self, held: Held) -> bool:
        return held.locked_until is not None and held.locked_until > self.clock.now()

    def _under(self, token: str) -> int | None:
        number = self._by_token.get(token)
        return number if number is not None and self._locked(self.messages[number]) else None

    def _end(self, number: int, fate: Fate) -> None:
        held = self.messages.pop(number)
        self._active.pop(number, None)
        self._unlock(held)
        self.fates.setdefault(number, []).append(fate)
        self.ended.append((number, fate))
        self.ended_at[number] = self.clock.now()
        if fate is Fate.REMOVED:
            for told in self.on_removed:
                told(held.message)

    def deliver(self, count_max: int) -> list[tuple[int, Held]]:
        """Locks and hands over active messages, oldest first."""
        found: list[tuple[int, Held]] = []
        for number, held in self._active.items():
            if len(found) >= count_max:
                break
            if self._locked(held):
                continue
            self._unlock(held)
            self._tokens += 1
            held.token = f"lock-{self._tokens}"
            held.locked_until = self.clock.now() + self.lock_duration
            held.message = replace(held.message, delivery_count=held.deliveries)
            held.deliveries += 1
            self._by_token[held.token] = number
            found.append((number, held))
        return found

    def defer(self, token: str) -> Answer:
        """One locked message."""
        number = self._under(token)
        if number is None:
            return Answer.CONFLICT
        held = self._active.pop(number)
        held.deferred = True
        self._unlock(held)
        return Answer.DONE

    def bury(self, token: str, letter: DeadLetter) -> Answer:
        """One locked message goes to the dead-letter queue."""
        number = self._under(token)
        if number is None:
            return Answer.CONFLICT
        self.letters[number] = letter
        self._end(number, Fate.DEAD)
        return Answer.DONE

    def complete(self, token: str) -> Answer:
        """One locked message is removed for good."""
        number = self._under(token)
        if number is None:
            return Answer.CONFLICT
        self._end(number, Fate.REMOVED)
        return Answer.DONE

    def abandon(self, token: str) -> None:
        """One locked message is given back."""
        number = self._under(token)
        if number is not None:
            self._unlock(self.messages[number])

    def remove(self, numbers: Sequence[int]) -> Answer:
        """One missing number fails the whole request."""
        held = [self.messages.get(number) for number in numbers]
        if any(message is None or not message.deferred for message in held):
            return Answer.NOT_FOUND
        for number in numbers:
            self._end(number, Fate.REMOVED)
        return Answer.DONE

    def bury_deferred(self, number: int, letter: DeadLetter) -> Answer:
        """One deferred message goes to the dead-letter queue."""
        held = self.messages.get(number)
        if held is None or not held.deferred:
            return Answer.NOT_FOUND
        self.letters[number] = letter
        self._end(number, Fate.DEAD)
        return Answer.DONE

    def state(self, number: int) -> MessageState | None:
        """Where a message is."""
        held = self.messages.get(number)
        if held is None:
            return None
        return MessageState.DEFERRED if held.deferred else MessageState.ACTIVE


@dataclass(slots=True)
class QueuePort:
    """The WorkQueue port of one process."""

    broker: Broker
    wire: Wire
    clock: HostClock

    @property
    def name(self) -> str:
        """The queue's name."""
        return self.broker.name

    async def receive(self, count_max: int) -> Sequence[Delivery]:
        """Delivers active messages, oldest first, each under a new lock. A throttled receive brings nothing."""
        if count_max == 0:
            return []  # nothing is fetched ahead here
        await self.wire.read("receive")
        if self.broker.throttles():
            return []
        return [
            Delivery(held.message, held.token or "", self.clock.now() + self.broker.lock_duration)
            for _, held in self.broker.deliver(count_max)
        ]

    async def defer(self, lock_tokens: Sequence[str]) -> Mapping[str, Answer]:
        """Each by itself, as the SDK does it."""
        return await self._each("defer", self.broker.defer, lock_tokens)

    async def _each(
        self, verb: str, perform: Callable[[str], Answer], lock_tokens: Sequence[str]
    ) -> Mapping[str, Answer]:
        answers = {}
        for token in lock_tokens:
            if self.broker.throttles():
                answers[token] = Answer.UNKNOWN
                continue
            answers[token] = await self.wire.act(
                f"{verb} {token}", partial(perform, token), _unknown, late_max=BROKER_LATE_MAX
            )
        return answers

    async def dead_letter(self, letters: Mapping[str, DeadLetter]) -> Mapping[str, Answer]:
        """Under their locks."""
        return {
            token: await self.wire.act(
                f"dead-letter {token}", partial(self.broker.bury, token, letter), _unknown, late_max=BROKER_LATE_MAX
            )
            for token, letter in letters.items()
        }

    async def abandon(self, lock_tokens: Sequence[str]) -> None:
        """Gives messages back."""
        for token in lock_tokens:
            self.broker.abandon(token)

    async def remove_deferred(self, sequence_numbers: Sequence[int]) -> Answer:
        """One missing number fails the whole request. Raises ValueError for more numbers than one request may have."""
        numbers = tuple(sequence_numbers)
        if len(numbers) > NUMBERS_MAX:
            raise ValueError(f"{len(numbers)} sequence numbers; at most {NUMBERS_MAX} go into one request")
        if not numbers:
            return Answer.DONE
        if self.broker.throttles():
            return Answer.REFUSED
        return await self.wire.act(
            f"remove {numbers}", partial(self.broker.remove, numbers), _unknown, late_max=BROKER_LATE_MAX
        )

    async def dead_letter_deferred(self, sequence_number: int, letter: DeadLetter) -> Answer:
        """One deferred message."""
        if self.broker.throttles():
            return Answer.REFUSED
        return await self.wire.act(
            f"dead-letter deferred {sequence_number} ({letter.reason})",
            partial(self.broker.bury_deferred, sequence_number, letter),
            _unknown,
            late_max=BROKER_LATE_MAX,
        )

    async def look_up(self, sequence_numbers: Sequence[int]) -> Mapping[int, MessageState | None]:
        """Where each is."""
        await self.wire.read("look up")
        if self.broker.throttles():
            raise LookFailed("throttled")
        return {number: self.broker.state(number) for number in sequence_numbers}

    async def peek(self, from_sequence_number: int, count_max: int) -> Sequence[Peeked]:
        """In order of number, which is the order they were sent in. Small pages, so that a sweep takes several."""
        await self.wire.read("peek")
        if self.broker.throttles():
            raise LookFailed("throttled")
        page: list[Peeked] = []
        for number, held in self.broker.messages.items():
            if len(page) >= min(count_max, _PAGE):
                break
            if number >= from_sequence_number:
                page.append(Peeked(held.message, MessageState.DEFERRED if held.deferred else MessageState.ACTIVE))
        return page


class ReportsPort(QueuePort):
    """The Reports port of one process: a queue like the other, where what was delivered is completed."""

    async def complete(self, lock_tokens: Sequence[str]) -> Mapping[str, Answer]:
        """Each by itself."""
        return await self._each("complete", self.broker.complete, lock_tokens)

    async def oldest(self, besides: Collection[int]) -> datetime | None:
        """The first that the queue still has."""
        position = 1
        while page := await self.peek(position, _PAGE):
            others = [each.message for each in page if each.message.sequence_number not in besides]
            if others:
                return others[0].enqueued_at
            position = page[-1].message.sequence_number + 1
        return None


_PAGE = 20


def _unknown() -> Answer:
    return Answer.UNKNOWN
