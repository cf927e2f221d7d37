"""A client that speaks AMQP frame by frame, for what the SDK would never send."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from azure.servicebus._pyamqp.utils import generate_sas_token

from dispatcher.embedded.broker import Broker, codec, messages
from dispatcher.embedded.broker import performatives as p
from dispatcher.embedded.broker.frames import AMQP_HEADER, SASL_HEADER, SASL_TYPE, FrameReader, frame
from dispatcher.embedded.broker.types import Described, Symbol, UByte, UInt, ULong

Frame = tuple[int, list[Any], bytes]


class Wire:
    """Sends performatives and reads the answers one by one."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.uri = f"sb://127.0.0.1:{broker.port}/jobs"
        self._frames = FrameReader(2**24)
        self._ready: list[Frame] = []

    async def __aenter__(self) -> Wire:
        self._in, self._out = await asyncio.open_connection("127.0.0.1", self.broker.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._out.close()

    def write(self, data: bytes) -> None:
        self._out.write(data)

    def perform(self, code: int, *fields: Any, payload: bytes = b"", kind: int = 0, channel: int = 0) -> None:
        body = codec.encode_described(code, codec.encode_list([codec.encode(field) for field in fields]))
        self._out.write(frame(channel, body + payload, kind))

    def open(self, max_frame_size: int = 65536, window: int = 2048, idle_ms: int | None = None) -> None:
        """All of the handshake in one piece."""
        self.write(SASL_HEADER)
        self.perform(p.SASL_INIT, Symbol("ANONYMOUS"), kind=SASL_TYPE)
        self.write(AMQP_HEADER)
        self.perform(p.OPEN, "wire", None, UInt(max_frame_size), None, None if idle_ms is None else UInt(idle_ms))
        self.perform(p.BEGIN, None, UInt(0), UInt(window), UInt(window))

    def authorize(self, expires_in: int = 3600) -> None:
        """Shows a token; the reply is one of the frames to come."""
        name, key = next(iter(self.broker.config.shared_access_keys.items()))
        self.attach("cbs-out", 0, False, "$cbs")
        self.attach("cbs-in", 1, True, "$cbs")
        token = generate_sas_token(self.uri, name, key, int(time.time()) + expires_in)
        self.transfer(0, 0, messages.reply(None, {"operation": "put-token", "name": self.uri}, token))

    def attach(self, name: str, handle: int, receiver: bool, address: str) -> None:
        source, target = Described(ULong(0x28), [address]), Described(ULong(0x29), [address])
        count = None if receiver else UInt(0)
        modes = (UByte(0), UByte(1))
        self.perform(p.ATTACH, name, UInt(handle), receiver, *modes, source, target, None, None, count)

    def transfer(
        self, handle: int, delivery_id: int, payload: bytes, *, more: bool = False, aborted: bool | None = None
    ) -> None:
        tag = delivery_id.to_bytes(4, "big")
        numbers = (UInt(handle), UInt(delivery_id), tag, UInt(0), False, more)
        self.perform(p.TRANSFER, *numbers, None, None, None, aborted, payload=payload)

    def flow(self, handle: int | None, credit: int, *, seen: int = 0, drain: bool = False, window: int = 2048) -> None:
        """Credit for a receiver that has got nothing yet; `seen` is how many frames the session has got."""
        link = (None, None, None) if handle is None else (UInt(handle), UInt(0), UInt(credit))
        self.perform(p.FLOW, UInt(seen), UInt(window), UInt(1), UInt(2048), *link, None, drain)

    def settle(self, first: int, last: int | None = None, state: int = p.ACCEPTED) -> None:
        end = None if last is None else UInt(last)
        self.perform(p.DISPOSITION, True, UInt(first), end, False, Described(ULong(state), []))

    async def read(self, code: int, within: float = 3) -> Frame:
        """The next frame with this performative; others are passed over."""
        while True:
            found = await self.next(within)
            if found[0] == code:
                return found

    async def next(self, within: float = 3) -> Frame:
        """The next frame of any kind; an empty one has the code 0."""
        async with asyncio.timeout(within):
            while not self._ready:
                data = await self._in.read(65536)
                if not data:
                    raise EOFError
                for kind, _channel, body in self._frames.feed(data):
                    self._take(kind, body)
        return self._ready.pop(0)

    def _take(self, kind: int, body: bytes) -> None:
        if kind == -1:
            return
        if not body:
            self._ready.append((0, [], b""))
            return
        code, fields, end = p.decode_performative(body)
        if code == p.SASL_OUTCOME:
            self._frames.expect_header()
        self._ready.append((code, fields, body[end:]))

    async def at_end(self, within: float = 3) -> bool:
        """Whether the broker hangs up."""
        try:
            while True:
                await self.next(within)
        except EOFError:
            return True
        except TimeoutError:
            return False


async def ready(wire: Wire, window: int = 2048, max_frame_size: int = 65536) -> None:
    """Opened, authorized, with a sender (handle 2) and a receiver (handle 3) on `jobs`."""
    wire.open(window=window, max_frame_size=max_frame_size)
    wire.authorize()
    await wire.read(p.TRANSFER)
    wire.attach("sender", 2, False, wire.uri)
    wire.attach("receiver", 3, True, wire.uri)
    for _ in range(2):
        await wire.read(p.ATTACH)


def data(body: bytes) -> bytes:
    return codec.encode_described(0x75, codec.encode(body))


__all__ = ["Wire", "data", "ready"]
