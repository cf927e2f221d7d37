"""How fast the embedded broker is, measured through the SDK and through a raw pipelined client side by side.

    python bench/broker.py [--messages 20000] [--journal none|normal|full]

Client and broker share this process's machine: the broker runs in a child process, so each has a core if
there are two. Prints the conditions first, then one line per figure.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hmac
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlencode

import psutil
from azure.servicebus import ServiceBusMessage, ServiceBusReceiveMode
from azure.servicebus.aio import ServiceBusClient

from dispatcher.embedded.broker import Broker, BrokerConfig, QueueConfig, codec, messages
from dispatcher.embedded.broker import performatives as p
from dispatcher.embedded.broker.frames import AMQP_HEADER, SASL_HEADER, SASL_TYPE, FrameReader, frame
from dispatcher.embedded.broker.types import Described, Symbol, UByte, UInt, ULong, UShort

QUEUE = "bench"
BODY = b"x" * 1024
NULL = b"\x40"


class RawClient:
    """Just enough AMQP to keep the broker busy: everything is pipelined, nothing is waited for."""

    def __init__(self, port: int, key_name: str, key: str) -> None:
        self._port, self._key_name, self._key = port, key_name, key
        self.dispositions = 0
        self.deliveries: list[int] = []
        self.on_delivery: Callable[[int], None] | None = None
        self._reader_task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    async def open(self) -> None:
        """Opens everything in one go: connection, session, token, links."""
        self._in, self._out = await asyncio.open_connection("127.0.0.1", self._port, limit=2**22)
        uri = f"sb://127.0.0.1:{self._port}/{QUEUE}"
        self._out.write(SASL_HEADER)
        init = codec.encode_list([codec.encode(Symbol("ANONYMOUS"))])
        self._out.write(frame(0, codec.encode_described(p.SASL_INIT, init), SASL_TYPE))
        self._out.write(AMQP_HEADER)
        self._perform(p.OPEN, ["bench", None, UInt(1024 * 1024), UShort(10)])
        self._perform(p.BEGIN, [None, UInt(0), UInt(2**31 - 1), UInt(2**31 - 1)])
        self._attach("cbs-out", 0, False, "$cbs")
        self._attach("cbs-in", 1, True, "$cbs")
        expiry = int(time.time()) + 3600
        signed = f"{quote_plus(uri)}\n{expiry}".encode()
        signature = base64.b64encode(hmac.new(self._key.encode(), signed, sha256).digest()).decode()
        fields = {"sr": uri, "sig": signature, "se": expiry, "skn": self._key_name}
        token = "SharedAccessSignature " + urlencode(fields)
        self.transfer(0, 0, messages.reply(None, {"operation": "put-token", "name": uri}, token))
        self._reader_task = asyncio.create_task(self._read())
        await asyncio.sleep(0.1)
        self._attach("sender", 2, False, QUEUE)
        self._attach("receiver", 3, True, QUEUE)
        await self._out.drain()
        self.dispositions = 0

    def _perform(self, code: int, fields: list[Any]) -> None:
        self._out.write(frame(0, codec.encode_described(code, codec.encode_list([codec.encode(f) for f in fields]))))

    def _attach(self, name: str, handle: int, receiver: bool, address: str) -> None:
        source, target = Described(UByte(0x28), [address]), Described(UByte(0x29), [address])
        source, target = Described(ULong(0x28), [address]), Described(ULong(0x29), [address])
        count = None if receiver else UInt(0)
        self._perform(p.ATTACH, [name, UInt(handle), receiver, UByte(0), UByte(1), source, target, None, None, count])

    def transfer(self, handle: int, delivery_id: int, payload: bytes, message_format: int = 0) -> None:
        """Sends a message in one frame."""
        tag = delivery_id.to_bytes(4, "big")
        head = p.encode_transfer(handle, delivery_id, tag, settled=False, more=False, message_format=message_format)
        self._out.write(frame(0, head + payload))

    def credit(self, credit: int) -> None:
        """So many messages are wanted."""
        self._perform(p.FLOW, [UInt(0), UInt(2**31 - 1), UInt(0), UInt(2**31 - 1), UInt(3), UInt(0), UInt(credit)])

    def accept(self, delivery_id: int) -> None:
        """Completes a message and asks for the confirmation."""
        head = b"\x00\x53\x15\xc0\x0d\x05\x41\x70" + delivery_id.to_bytes(4, "big") + b"\x40\x42" + p.ACCEPTED_STATE
        self._out.write(frame(0, head))

    async def _read(self) -> None:
        reader = FrameReader(2**24)
        while data := await self._in.read(2**18):
            for kind, _channel, body in reader.feed(data):
                if kind == SASL_TYPE and body[2] == p.SASL_OUTCOME:
                    reader.expect_header()
                elif kind == 0 and body and body[2] == p.DISPOSITION:
                    self.dispositions += 1
                elif kind == 0 and body and body[2] == p.TRANSFER and self.on_delivery:
                    self.on_delivery(int.from_bytes(body[9:13], "big"))
            self._changed.set()

    async def until(self, done: Callable[[], bool]) -> None:
        """Waits until the frames that came in make it true; at most 20 s."""
        async with asyncio.timeout(20):
            while not done():
                self._changed.clear()
                await self._changed.wait()

    async def drain(self) -> None:
        """Waits while the socket is full."""
        await self._out.drain()

    async def close(self) -> None:
        """Hangs up."""
        self._out.close()
        if self._reader_task:
            self._reader_task.cancel()


async def raw_send_receive(port: int, name: str, key: str, count: int, broker: psutil.Process) -> None:
    """What the broker can do when the client costs next to nothing; its own CPU is the steadier figure."""
    before = sum(broker.cpu_times()[:2])
    client = RawClient(port, name, key)
    await client.open()
    payload = codec.encode_described(0x75, codec.encode(BODY))
    started = time.perf_counter()
    for number in range(count):
        client.transfer(2, number, payload)
        if number % 200 == 0:
            await client.drain()
    await client.until(lambda: client.dispositions >= count)
    report("raw send, pipelined", count, started)
    client.dispositions = 0
    client.on_delivery = client.accept
    started = time.perf_counter()
    client.credit(count)
    await client.until(lambda: client.dispositions >= count)
    report("raw receive + accept, pipelined", count, started)
    spent = sum(broker.cpu_times()[:2]) - before
    sys.stdout.write(f"{'CPU of the broker for each of these messages':50} {spent / count * 1e6:10,.1f} us\n")
    await client.close()


async def sdk_figures(connection_string: str, count: int) -> None:
    """The same through the SDK, which is the bottleneck."""
    async with ServiceBusClient.from_connection_string(connection_string) as client:
        async with client.get_queue_sender(QUEUE) as sender:
            started = time.perf_counter()
            for _ in range(count // 10):
                await sender.send_messages(ServiceBusMessage(BODY))
            report("SDK send one by one", count // 10, started)
            started = time.perf_counter()
            for _ in range(count // 200):
                await sender.send_messages([ServiceBusMessage(BODY) for _ in range(200)])
            report("SDK send, batches of 200", count // 200 * 200, started)
        await sdk_settle(client, "complete, gather(100)", 100, count // 2, "complete_message")
        numbers = await sdk_settle(client, "defer, gather(1000)", 1000, count // 2, "defer_message")
        await sdk_deferred(client, numbers)


async def sdk_settle(client: ServiceBusClient, title: str, size: int, count: int, verb: str) -> list[int]:
    """Receives and settles; answers the sequence numbers."""
    numbers: list[int] = []
    async with client.get_queue_receiver(QUEUE) as receiver:
        started = time.perf_counter()
        while len(numbers) < count:
            received = await receiver.receive_messages(size, max_wait_time=1)
            if not received:
                break
            numbers += [message.sequence_number or 0 for message in received]
            await asyncio.gather(*(getattr(receiver, verb)(message) for message in received))
        report(f"SDK receive + {title}", len(numbers), started)
    return numbers


async def sdk_deferred(client: ServiceBusClient, numbers: list[int]) -> None:
    """Takes deferred messages by number."""
    mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
    async with client.get_queue_receiver(QUEUE, receive_mode=mode) as receiver:
        await receiver.peek_messages(1)
        started = time.perf_counter()
        for begin in range(0, len(numbers), 100):
            await receiver.receive_deferred_messages(numbers[begin : begin + 100])
        report("SDK receive deferred and delete, 100 a request", len(numbers), started)


def report(title: str, count: int, started: float) -> None:
    """One line per figure."""
    elapsed = time.perf_counter() - started
    sys.stdout.write(f"{title:50} {count / elapsed:10,.0f} /s   ({count} in {elapsed:.2f} s)\n")
    sys.stdout.flush()


def serve(journal: str, ready: int) -> None:
    """The broker, in the child process."""

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = None if journal == "none" else Path(folder) / "broker.db"
            config = BrokerConfig(queues=(QueueConfig(QUEUE),), journal_path=path, journal_fsync=journal == "full")
            async with Broker(config) as broker:
                os.write(ready, f"{broker.port}\n".encode())
                await asyncio.sleep(600)

    import logging

    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    asyncio.run(run())


def main() -> None:
    """Prints the conditions, then the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--journal", choices=("none", "normal", "full"), default="none")
    options = parser.parse_args()
    sys.stdout.write(
        f"python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}, "
        f"bodies of {len(BODY)} bytes, journal: {options.journal}\n"
    )
    sys.stdout.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        serve(options.journal, writing)
        os._exit(0)
    try:
        port = int(os.read(reading, 32))
        name, key = next(iter(BrokerConfig(queues=(QueueConfig(QUEUE),)).shared_access_keys.items()))
        asyncio.run(raw_send_receive(port, name, key, options.messages, psutil.Process(child)))
        asyncio.run(
            sdk_figures(
                f"Endpoint=sb://127.0.0.1:{port};SharedAccessKeyName={name};SharedAccessKey={key};"
                "UseDevelopmentEmulator=true;",
                options.messages,
            )
        )
    finally:
        os.kill(child, 15)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
