"""Whose turn it is: the consumers that want messages, in the order they asked.

A consumer is in the line while it has credit and is not paused. What it gets is decided by `queue`.
"""

from __future__ import annotations

from collections import deque

from .model import Consumer


class ConsumerLine:
    """The consumers of one queue."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[Consumer] = deque()

    def grant(self, consumer: Consumer, credit: int) -> None:
        """The consumer wants so many messages from now on; it queues up behind those who asked before."""
        if credit <= 0:
            self.withdraw(consumer)
            return
        consumer.credit = credit
        if not consumer.waiting and not consumer.paused:
            consumer.waiting = True
            self._waiting.append(consumer)

    def withdraw(self, consumer: Consumer) -> None:
        """The consumer wants nothing any more."""
        consumer.credit = 0
        self._leave(consumer)

    def pause(self, consumer: Consumer) -> None:
        """Nothing for this consumer until it is resumed; its credit is kept."""
        consumer.paused = True
        self._leave(consumer)

    def resume(self, consumer: Consumer) -> None:
        """The consumer can take messages again, behind those who wait already."""
        consumer.paused = False
        self.grant(consumer, consumer.credit)

    def first(self) -> Consumer | None:
        """Whose turn it is."""
        return self._waiting[0] if self._waiting else None

    def credit(self) -> int:
        """How many messages are wanted by all of them together."""
        return sum(consumer.credit for consumer in self._waiting)

    def serve_first(self) -> None:
        """The first one gets a message; it keeps its turn while it has credit."""
        consumer = self._waiting[0]
        consumer.credit -= 1
        if consumer.credit <= 0:
            consumer.waiting = False
            self._waiting.popleft()

    def _leave(self, consumer: Consumer) -> None:
        if consumer.waiting:
            consumer.waiting = False
            self._waiting.remove(consumer)
