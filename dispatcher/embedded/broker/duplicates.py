"""Which message ids a queue has accepted within its window.

An id counts from the moment its message is durable. While the message is still being written, whoever sends
the same id again waits for it: if it is refused, so is the copy, because nobody has the original then. Nothing
here writes or waits; time is an argument.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

Outcome = Callable[[BaseException | None], None]


class Known(NamedTuple):
    """An id within the window and the sequence number its message was given."""

    sequence: int
    until_ms: int


class _Pending:
    """An id whose message is being written, and who waits to hear how that went."""

    __slots__ = ("sequence", "waiting")

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.waiting: list[Outcome] = []


class DuplicateWindow:
    """The ids of one queue. Each is forgotten once its window is over."""

    def __init__(self, window_ms: int) -> None:
        self.window_ms = window_ms
        self._known: dict[bytes, Known] = {}
        self._order: deque[tuple[int, bytes]] = deque()  # (until, id), the next to be forgotten first
        self._pending: dict[bytes, _Pending] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, message_id: bytes, now_ms: int) -> int | None:
        """The sequence number of the message that came first, or None if this one does."""
        pending = self._pending.get(message_id)
        if pending is not None:
            return pending.sequence
        known = self._known.get(message_id)
        return known.sequence if known is not None and known.until_ms > now_ms else None

    def join(self, message_id: bytes, outcome: Outcome) -> bool:
        """If the first message of this id is still being written, its outcome will be told; else answers False."""
        pending = self._pending.get(message_id)
        if pending is None:
            return False
        pending.waiting.append(outcome)
        return True

    def begin(self, message_id: bytes, sequence: int) -> None:
        """The first message of this id is being written."""
        self._pending[message_id] = _Pending(sequence)

    def end(self, message_id: bytes, accepted_ms: int, error: BaseException | None) -> None:
        """The message is durable, or was refused: those who waited hear of it."""
        pending = self._pending.pop(message_id)
        if error is None:
            self.restore(message_id, pending.sequence, accepted_ms)
        for outcome in pending.waiting:
            outcome(error)

    def restore(self, message_id: bytes, sequence: int, accepted_ms: int) -> None:
        """The id was accepted then."""
        until_ms = accepted_ms + self.window_ms
        self._known[message_id] = Known(sequence, until_ms)
        self._order.append((until_ms, message_id))

    def forget(self, now_ms: int) -> list[bytes]:
        """Drops the ids whose window is over and answers them."""
        gone: list[bytes] = []
        while self._order and self._order[0][0] <= now_ms:
            until_ms, message_id = self._order.popleft()
            known = self._known.get(message_id)
            if known is not None and known.until_ms == until_ms:
                del self._known[message_id]
                gone.append(message_id)
        return gone
