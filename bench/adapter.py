"""How much of the SDK's speed the adapter keeps: receive + defer, and removal by number, side by side.

    python bench/adapter.py [messages] [rounds]

Both sides talk to an embedded broker in a process of its own, with the same messages of 1 KiB, turn about.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import sys
import time
from multiprocessing.connection import Connection

import structlog
from azure.servicebus import ServiceBusReceiveMode
from azure.servicebus.aio import ServiceBusClient

from dispatcher.embedded.broker import Broker, BrokerConfig, QueueConfig
from dispatcher.queue import Producer, ServiceBusConfig, ServiceBusQueue

Rates = tuple[float, float]


def serve(pipe: Connection) -> None:
    """Runs the broker until the process is ended."""

    async def run() -> None:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
        async with Broker(BrokerConfig(queues=(QueueConfig("work"),))) as broker:
            pipe.send(broker.connection_string)
            await asyncio.Event().wait()

    asyncio.run(run())


async def fill(connection_string: str, count: int) -> None:
    """Puts messages of 1 KiB on the queue."""
    body = b'{"task":"report","params":{"text":"' + b"x" * 980 + b'"}}'
    async with Producer(ServiceBusConfig(queue="work", connection_string=lambda: connection_string)) as producer:
        await producer.send([(f"m-{n}", body) for n in range(count)])


async def by_adapter(connection_string: str, count: int) -> Rates:
    """Receives and defers, then removes, through ServiceBusQueue."""
    bell = asyncio.Event()
    queue = ServiceBusQueue(
        ServiceBusConfig(queue="work", connection_string=lambda: connection_string), on_news=bell.set
    )
    await queue.start()
    while queue.health().last_receive_age_seconds is None:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.01)
    numbers: list[int] = []
    before = time.perf_counter()
    while len(numbers) < count:
        bell.clear()
        got = await queue.receive(count - len(numbers))
        if not got:
            await bell.wait()
            continue
        await queue.defer([each.lock_token for each in got])
        numbers += [each.message.sequence_number for each in got]
    received = count / (time.perf_counter() - before)
    await queue.remove_deferred(numbers[:1])  # opens the connection
    before = time.perf_counter()
    for start in range(1, count, 100):
        await queue.remove_deferred(numbers[start : start + 100])
    removed = count / (time.perf_counter() - before)
    await queue.stop()
    return received, removed


async def by_sdk(connection_string: str, count: int) -> Rates:
    """The same with the SDK alone, in the fastest way known."""
    async with ServiceBusClient.from_connection_string(connection_string) as client:
        receiver = client.get_queue_receiver("work", socket_timeout=0.02)
        remover = client.get_queue_receiver(
            "work", receive_mode=ServiceBusReceiveMode.RECEIVE_AND_DELETE, socket_timeout=0.02
        )
        async with receiver, remover:
            numbers: list[int] = []
            before = time.perf_counter()
            while len(numbers) < count:
                got = await receiver.receive_messages(max_message_count=200, max_wait_time=0.06)
                await asyncio.gather(*(receiver.defer_message(each) for each in got))
                numbers += [each.sequence_number for each in got if each.sequence_number is not None]
            received = count / (time.perf_counter() - before)
            before = time.perf_counter()
            for start in range(0, count, 100):
                await remover.receive_deferred_messages(numbers[start : start + 100])
            removed = count / (time.perf_counter() - before)
    return received, removed


async def compare(connection_string: str, count: int, rounds: int) -> None:
    """Prints the median of all rounds."""
    rates: dict[str, list[Rates]] = {"adapter": [], "plain SDK": []}
    for _ in range(rounds):
        for name, run in (("adapter", by_adapter), ("plain SDK", by_sdk)):
            await fill(connection_string, count)
            rates[name].append(await run(connection_string, count))
    print(f"{count} messages of 1 KiB, median of {rounds} rounds")
    for name, measured in rates.items():
        received = statistics.median(each[0] for each in measured)
        removed = statistics.median(each[1] for each in measured)
        print(f"  {name:10} receive + defer {received:7.0f}/s   remove by 100 {removed:7.0f}/s")


def main() -> None:
    """Runs the comparison."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    ours, theirs = multiprocessing.Pipe()
    broker = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    broker.start()
    try:
        asyncio.run(compare(ours.recv(), count, rounds))
    finally:
        broker.terminate()
        broker.join()


if __name__ == "__main__":
    main()
