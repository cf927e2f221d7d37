"""How a receiver hears that its settlement was carried out.

One disposition for each delivery, as soon as it is done: the SDK is slow with ranges. Unless a fault is armed:
then the answer is lost, late, or shared with its neighbours.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from . import performatives as p
from .faults import Fault, Faults


class Writer(Protocol):
    """Sends whole frames."""

    def write(self, data: bytes) -> None:
        """Sends them."""


class Confirmations:
    """Those of one session."""

    __slots__ = ("_channel", "_faults", "_gathered", "_writer")

    def __init__(self, writer: Writer, channel: int, faults: Faults) -> None:
        self._writer = writer
        self._channel = channel
        self._faults = faults
        self._gathered: list[tuple[int, bytes]] = []  # (delivery id, state)

    def loses(self, path: str) -> bool:
        """Whether the settlement of a delivery of that queue never arrived."""
        return self._faults.bites(Fault.LOSE_SETTLEMENT, path) is not None

    def confirm(self, delivery_id: int, state: bytes, path: str) -> None:
        """Tells the receiver what became of its delivery."""
        if self._faults.armed and self._is_hindered(delivery_id, state, path):
            return
        self._writer.write(p.disposition_frame(self._channel, p.ROLE_SENDER, delivery_id, state))

    def _is_hindered(self, delivery_id: int, state: bytes, path: str) -> bool:
        late = self._faults.settlement_answer(path)
        if late is None:
            return True
        loop = asyncio.get_running_loop()
        if late:
            frame = p.disposition_frame(self._channel, p.ROLE_SENDER, delivery_id, state)
            loop.call_later(late, self._writer.write, frame)
            return True
        if shared := self._faults.bites(Fault.COALESCE_DISPOSITIONS, path):
            if not self._gathered:
                loop.call_later(shared.value, self._flush)
            self._gathered.append((delivery_id, state))
            return True
        return False

    def _flush(self) -> None:
        gathered, self._gathered = sorted(self._gathered), []
        begin = 0
        for position, (delivery_id, state) in enumerate(gathered):
            following = gathered[position + 1] if position + 1 < len(gathered) else None
            if following != (delivery_id + 1, state):
                first = gathered[begin][0]
                self._writer.write(p.disposition_frame(self._channel, p.ROLE_SENDER, first, state, delivery_id))
                begin = position + 1
