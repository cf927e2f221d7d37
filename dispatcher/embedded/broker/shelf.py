"""Where the messages of a queue lie: in order, by what they wait for, and how many of each there are.

A message that is not locked waits in one of three ways: to be handed out, to be asked for by number, or for its
time. What may happen to it is decided by `queue`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from .browsing import SequenceIndex
from .model import Message, State


class Shelf:
    """The messages of one queue."""

    __slots__ = ("_available", "_due", "_index", "_lives", "active", "deferred", "messages", "scheduled", "size")

    def __init__(self) -> None:
        self.messages: dict[int, Message] = {}
        self.active = 0  # this and the next two: how many wait in that way
        self.deferred = 0
        self.scheduled = 0
        self.size = 0  # bytes held and under way; only kept by those who have a limit
        self._index = SequenceIndex()
        self._available: list[int] = []  # heap; an entry whose message is no longer available is skipped
        self._due: list[tuple[int, int]] = []  # heap of (due, sequence)
        self._lives: list[tuple[int, int]] = []  # heap of (end, sequence), stale ones too

    def add(self, message: Message) -> None:
        """The message is there; where it waits has to be said with `place`."""
        self.messages[message.sequence] = message
        self._index.add(message.sequence)

    def remove(self, message: Message) -> None:
        """The message is gone, or is about to get another number."""
        del self.messages[message.sequence]
        self._index.discard(message.sequence)

    def place(self, message: Message, end_ms: int | None) -> None:
        """The message waits from now on; if it is active its life ends then."""
        message.end_ms = end_ms
        if message.state is State.ACTIVE:
            heapq.heappush(self._available, message.sequence)
            self.active += 1
            if end_ms is not None:
                heapq.heappush(self._lives, (end_ms, message.sequence))
        elif message.state is State.DEFERRED:
            self.deferred += 1
        else:
            heapq.heappush(self._due, (message.due_ms, message.sequence))
            self.scheduled += 1

    def unplace(self, message: Message) -> None:
        """The message does not wait any more."""
        if message.state is State.ACTIVE:
            self.active -= 1
        elif message.state is State.DEFERRED:
            self.deferred -= 1
        else:
            self.scheduled -= 1

    def take_oldest(self, now_ms: int) -> Message | None:
        """The oldest message that waits to be handed out and whose life is not over."""
        while self._available:
            message = self.messages.get(heapq.heappop(self._available))
            if message is None or message.busy or message.token is not None or message.state is not State.ACTIVE:
                continue
            if message.end_ms is None or message.end_ms > now_ms:
                self.active -= 1
                return message
        return None

    def take_ended(self, now_ms: int) -> Iterator[Message]:
        """Those that wait to be handed out and whose life is over."""
        while self._lives and self._lives[0][0] <= now_ms:
            message = self.messages.get(heapq.heappop(self._lives)[1])
            if message is None or message.busy or message.token is not None or message.state is not State.ACTIVE:
                continue
            self.active -= 1
            yield message

    def take_due(self, now_ms: int) -> Iterator[Message]:
        """Those whose time has come."""
        while self._due and self._due[0][0] <= now_ms:
            message = self.messages.get(heapq.heappop(self._due)[1])
            if message is not None and message.state is State.SCHEDULED and not message.busy:
                self.scheduled -= 1
                yield message

    def next_ms(self) -> list[int]:
        """When `take_ended` and `take_due` will have something."""
        return [heap[0][0] for heap in (self._lives, self._due) if heap]

    def peek(self, from_sequence: int, count_max: int, size_max: int) -> list[Message]:
        """Messages in any state from a sequence number on, in its order; at least one if there is one."""
        found: list[Message] = []
        size = 0
        for sequence in self._index.from_sequence(from_sequence):
            message = self.messages.get(sequence)
            if message is None:
                continue
            size += message.content.size
            if len(found) >= count_max or (found and size > size_max):
                break
            found.append(message)
        return found
