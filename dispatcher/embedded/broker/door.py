"""One port for both: whoever begins with a method of HTTP speaks HTTP, everybody else AMQP or is told to.

So that one connection string serves the SDK and whoever sends by REST. Decides nothing else, and is out of the way as
soon as a client has spoken; one that says nothing is shown out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

_SPEAK_WITHIN = 30.0  # seconds from connecting to the first bytes
_METHODS = {b"GET ", b"POST", b"PUT ", b"HEAD", b"DELE", b"PATC", b"OPTI", b"CONN", b"TRAC"}
_ENOUGH = 4  # bytes


class Door(asyncio.Protocol):
    """A client that has not spoken yet."""

    def __init__(
        self,
        make_amqp: Callable[[], asyncio.Protocol],
        make_http: Callable[[], asyncio.Protocol],
        on_gone: Callable[[Door], None],
    ) -> None:
        self._make_amqp = make_amqp
        self._make_http = make_http
        self._on_gone = on_gone
        self._heard = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(_SPEAK_WITHIN, self.close)

    def data_received(self, data: bytes) -> None:
        """The first bytes tell."""
        self._heard += data
        transport = self._transport
        if transport is None or len(self._heard) < _ENOUGH:
            return
        self._leave()
        protocol = self._make_http() if self._heard[:_ENOUGH] in _METHODS else self._make_amqp()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(self._heard)

    def connection_lost(self, exc: Exception | None) -> None:
        """It went without a word."""
        self._leave()

    def close(self) -> None:
        """Shows the client out."""
        if self._transport is not None:
            self._transport.abort()

    def _leave(self) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._on_gone(self)
