"""How many frames the peer of a session still takes, and the frames that wait until it takes more."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

_MASK = 0xFFFFFFFF
WINDOW = 0x7FFFFFFF  # frames; what comes in is bounded by bytes, in the connection, not by frames


class OutgoingWindow:
    """The transfers that go out on one session, in order."""

    __slots__ = ("_room", "_send", "_waiting", "next_id")

    def __init__(self, send: Callable[[bytes], None], room: int) -> None:
        self.next_id = 0  # of the next transfer
        self._send = send
        self._room = room
        self._waiting: deque[tuple[int, bytes]] = deque()  # (handle, performative and payload)

    def send(self, handle: int, body: bytes) -> None:
        """Sends a transfer of a link, now or when there is room."""
        if self._room <= 0 or self._waiting:
            self._waiting.append((handle, body))
            return
        self._room -= 1
        self.next_id = (self.next_id + 1) & _MASK
        self._send(body)

    def update(self, next_incoming_id: int, window: int) -> None:
        """The peer says what it expects next and how many frames it takes from there."""
        room = (next_incoming_id + window - self.next_id) & _MASK
        self._room = 0 if room > WINDOW else room  # it has not yet seen what is under way: no room
        while self._waiting and self._room > 0:
            self._room -= 1
            self.next_id = (self.next_id + 1) & _MASK
            self._send(self._waiting.popleft()[1])

    def forget(self, handle: int) -> None:
        """The link is gone, and what it still had to send with it."""
        if self._waiting:
            self._waiting = deque(entry for entry in self._waiting if entry[0] != handle)

    def clear(self) -> None:
        """Nothing more is to be sent."""
        self._waiting.clear()
