"""The queue of the simulated world: locks, deferral, settlement, dead letters.

Behind the WorkQueue port; semantics as the broker's. Also the place where the laws look for what became of each message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial

from dispatcher.ports import Answer, DeadLetter, Delivery, Message, MessageState, Peeked
from dispatcher.simulator.clock import VirtualClock
from dispatcher.simulator.faults import Faults


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
class SimulatedQueue:
    """One queue."""

    name: str
    clock: VirtualClock
    faults: Faults
    lock_duration: timedelta = timedelta(seconds=60)
    messages: dict[int, Held] = field(default_factory=dict)
    fates: dict[int, list[Fate]] = field(default_factory=dict)
    letters: dict[int, DeadLetter] = field(default_factory=dict)
    _next: int = 1
    _tokens: int = 0

    # --- the world's side

    def send(self, message_id: str, body: bytes) -> int:
        """A producer puts a message on the queue; its sequence number."""
        number = self._next
        self._next += 1
        self.messages[number] = Held(Message(number, message_id, body, self.clock.now()))
        return number

    def drop_locks(self) -> None:
        """Every lock ends: the connection is gone, or so it seems."""
        for held in self.messages.values():
            held.token = held.locked_until = None

    def _locked(self, held: Held) -> bool:
        return held.locked_until is not None and held.locked_until > self.clock.now()

    def _by_token(self, token: str) -> tuple[int, Held] | None:
        for number, held in self.messages.items():
            if held.token == token and self._locked(held):
                return number, held
        return None

    def _end(self, number: int, fate: Fate) -> None:
        del self.messages[number]
        self.fates.setdefault(number, []).append(fate)

    # --- the port

    async def receive(self, count_max: int) -> Sequence[Delivery]:
        """Delivers active messages, oldest first, each under a new lock."""
        self.faults.read("receive")
        deliveries = []
        for held in self.messages.values():
            if len(deliveries) >= count_max:
                break
            if held.deferred or self._locked(held):
                continue
            self._tokens += 1
            held.token = f"lock-{self._tokens}"
            held.locked_until = self.clock.now() + self.lock_duration
            held.deliveries += 1
            deliveries.append(Delivery(held.message, held.token, held.locked_until))
        return deliveries

    async def defer(self, lock_tokens: Sequence[str]) -> Mapping[str, Answer]:
        """Each by itself, as the SDK does it."""
        return {
            token: self.faults.act("defer", partial(self._defer, token), lambda: Answer.UNKNOWN)
            for token in lock_tokens
        }

    def _defer(self, token: str) -> Answer:
        found = self._by_token(token)
        if found is None:
            return Answer.CONFLICT
        found[1].deferred, found[1].token, found[1].locked_until = True, None, None
        return Answer.DONE

    async def dead_letter(self, letters: Mapping[str, DeadLetter]) -> Mapping[str, Answer]:
        """Under their locks."""
        return {
            token: self.faults.act("dead-letter", partial(self._bury, token, letter), lambda: Answer.UNKNOWN)
            for token, letter in letters.items()
        }

    def _bury(self, token: str, letter: DeadLetter) -> Answer:
        found = self._by_token(token)
        if found is None:
            return Answer.CONFLICT
        self.letters[found[0]] = letter
        self._end(found[0], Fate.DEAD)
        return Answer.DONE

    async def abandon(self, lock_tokens: Sequence[str]) -> None:
        """Gives messages back."""
        for token in lock_tokens:
            found = self._by_token(token)
            if found is not None:
                found[1].token = found[1].locked_until = None

    async def remove_deferred(self, sequence_numbers: Sequence[int]) -> Answer:
        """One missing number fails the whole request."""
        return self.faults.act("remove", lambda: self._remove(sequence_numbers), lambda: Answer.UNKNOWN)

    def _remove(self, numbers: Sequence[int]) -> Answer:
        held = [self.messages.get(number) for number in numbers]
        if any(message is None or not message.deferred or self._locked(message) for message in held):
            return Answer.NOT_FOUND
        for number in numbers:
            self._end(number, Fate.REMOVED)
        return Answer.DONE

    async def dead_letter_deferred(self, sequence_number: int, letter: DeadLetter) -> Answer:
        """One deferred message."""
        return self.faults.act(
            "dead-letter deferred", lambda: self._bury_deferred(sequence_number, letter), lambda: Answer.UNKNOWN
        )

    def _bury_deferred(self, number: int, letter: DeadLetter) -> Answer:
        held = self.messages.get(number)
        if held is None or not held.deferred or self._locked(held):
            return Answer.NOT_FOUND
        self.letters[number] = letter
        self._end(number, Fate.DEAD)
        return Answer.DONE

    async def look_up(self, sequence_numbers: Sequence[int]) -> Mapping[int, MessageState | None]:
        """Where each is."""
        self.faults.read("look up")
        return {number: self._state(number) for number in sequence_numbers}

    def _state(self, number: int) -> MessageState | None:
        held = self.messages.get(number)
        if held is None:
            return None
        return MessageState.DEFERRED if held.deferred else MessageState.ACTIVE

    async def peek(self, from_sequence_number: int, count_max: int) -> Sequence[Peeked]:
        """In order of number."""
        self.faults.read("peek")
        numbers = sorted(number for number in self.messages if number >= from_sequence_number)[:count_max]
        states = ((self.messages[number], self._state(number)) for number in numbers)
        return [Peeked(held.message, state) for held, state in states if state is not None]
