"""The messages that are under our locks, and who has asked for them.

Decides what is handed over, what is given back because too little of its lock is left, and how many more there is room
for. No I/O, time is an argument.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from azure.servicebus import ServiceBusReceivedMessage

from dispatcher.ports import Delivery

__all__ = ["Held", "Holding"]

_REMEMBERED_MAX = 10_000


@dataclass(slots=True)
class Held:
    """A message under lock, as the SDK wants it back for settling."""

    received: ServiceBusReceivedMessage
    delivery: Delivery
    generation: int
    """Which receiver it came through; only that one can settle it directly."""


class Holding:
    """What is held by lock token, and what of it waits in the buffer."""

    def __init__(self, lock_margin: timedelta) -> None:
        self._lock_margin = lock_margin
        self._held: dict[str, Held] = {}
        self._tokens: dict[int, str] = {}
        self._buffer: deque[str] = deque()
        self._allowed = 0
        self._doubts: dict[str, None] = {}
        self._past: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._held)

    @property
    def buffered(self) -> int:
        """How many deliveries nobody has called for yet."""
        return len(self._buffer)

    @property
    def room(self) -> int:
        """How many more may be fetched."""
        return max(self._allowed - len(self._buffer), 0)

    def add(self, arrivals: Iterable[Held]) -> None:
        """Takes in what was delivered. A message delivered again has a new lock, and its earlier one is lost.

        What comes twice under one lock counts once, also when the lock is past: nothing can be done under it.
        """
        for held in arrivals:
            token = held.delivery.lock_token
            if token in self._held or token in self._past:
                continue
            earlier = self._tokens.get(held.delivery.message.sequence_number)
            if earlier is not None:
                self.settled(earlier)
            self._tokens[held.delivery.message.sequence_number] = token
            self._held[token] = held
            self._buffer.append(token)

    def take(self, count_max: int, now: datetime) -> list[Delivery]:
        """Hands over at most so many of the buffer; what is left of the count may be fetched."""
        taken: list[Delivery] = []
        kept: deque[str] = deque()
        while self._buffer and len(taken) < count_max:
            token = self._buffer.popleft()
            held = self._held.get(token)
            if held is None:
                continue
            if self._is_short(held, now):
                kept.append(token)
            else:
                taken.append(held.delivery)
        self._buffer.extendleft(reversed(kept))
        self._allowed = count_max - len(taken)
        return taken

    def get(self, lock_token: str) -> Held | None:
        """The message under that lock, if it is ours."""
        return self._held.get(lock_token)

    def settled(self, lock_token: str) -> None:
        """The lock is ours no more, and rightly so."""
        held = self._held.pop(lock_token, None)
        if held is not None:
            _remember(self._past, lock_token)
        if held is not None and self._tokens.get(held.delivery.message.sequence_number) == lock_token:
            del self._tokens[held.delivery.message.sequence_number]

    def doubt(self, lock_token: str) -> None:
        """What was asked for under this lock may have happened."""
        _remember(self._doubts, lock_token)

    def is_doubtful(self, lock_token: str) -> bool:
        """Whether something asked for under this lock may have happened."""
        return lock_token in self._doubts

    def short(self, now: datetime) -> list[str]:
        """Takes out of the buffer what has too little of its lock left; the tokens that can still be given back."""
        short = [token for token in self._buffer if token in self._held and self._is_short(self._held[token], now)]
        if not short:
            return []
        gone = set(short)
        self._buffer = deque(token for token in self._buffer if token not in gone)
        back = [token for token in short if self._held[token].delivery.locked_until > now]
        for token in gone.difference(back):
            self.settled(token)
        return back

    def forget_expired(self, now: datetime) -> None:
        """Drops what the broker has unlocked by itself."""
        expired = [token for token, held in self._held.items() if held.delivery.locked_until <= now]
        for token in expired:
            self.settled(token)
        if expired and self._buffer:
            self._buffer = deque(token for token in self._buffer if token in self._held)

    def empty_buffer(self) -> list[str]:
        """Takes everything out of the buffer, to be given back."""
        tokens = [token for token in self._buffer if token in self._held]
        self._buffer.clear()
        self._allowed = 0
        return tokens

    def _is_short(self, held: Held, now: datetime) -> bool:
        return held.delivery.locked_until - now < self._lock_margin


def _remember(tokens: dict[str, None], lock_token: str) -> None:
    """Keeps the token, and lets the oldest go when there are too many."""
    tokens[lock_token] = None
    if len(tokens) > _REMEMBERED_MAX:
        del tokens[next(iter(tokens))]
