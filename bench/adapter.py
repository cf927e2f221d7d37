"""How much of the SDK's speed the adapter keeps, side by side in one run.

    python bench/adapter.py [--messages 5000] [--rounds 3]

Both sides talk to an embedded broker in a process of its own, with the same messages of 1 KiB, turn about:
  receive to settle    adapter: receive, defer (the lock is over), remove by sequence number, as every item goes
                       plain SDK: a loop of receive_messages and gather(complete_message), which holds its locks
  completion           adapter: deferred messages removed by number, 100 a request
                       one by one: receive_deferred_messages([number]), complete_message
The plain loop does less: it can only complete what it still has under lock, so the work must be over by then. Both use
a short socket time-out, without which a settlement waits for the read before it.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import platform
import statistics
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from multiprocessing.connection import Connection

import structlog
from azure.servicebus import ServiceBusReceiveMode
from azure.servicebus.aio import ServiceBusClient
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from dispatcher.embedded.broker import Broker, BrokerConfig, QueueConfig
from dispatcher.ports import Answer
from dispatcher.queue import Producer, ServiceBusConfig, ServiceBusQueue

READ_SECONDS = 0.02
AT_ONCE = 200
Run = Callable[[str, int], Awaitable[float]]


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


async def started(connection_string: str, bell: asyncio.Event) -> ServiceBusQueue:
    """The adapter with all its connections open."""
    queue = ServiceBusQueue(
        ServiceBusConfig(queue="work", connection_string=lambda: connection_string), on_news=bell.set
    )
    await queue.start()
    while queue.health().last_receive_age_seconds is None:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.01)
    await queue.remove_deferred([2**40])  # not there: only opens the connection
    return queue


async def deferred(queue: ServiceBusQueue, bell: asyncio.Event, count: int, to: asyncio.Queue[int]) -> None:
    """Receives and defers so many."""
    left = count
    while left:
        bell.clear()
        got = await queue.receive(left)
        if not got:
            await bell.wait()
            continue
        answers = await queue.defer([each.lock_token for each in got])
        for each in got:
            if answers[each.lock_token] is not Answer.DONE:
                raise RuntimeError(f"a deferral was answered with {answers[each.lock_token]}")
            to.put_nowait(each.message.sequence_number)
        left -= len(got)


async def removed(queue: ServiceBusQueue, count: int, numbers: asyncio.Queue[int]) -> None:
    """Removes so many by number, a hundred a request."""
    left = count
    while left:
        chunk = [await numbers.get() for _ in range(min(left, 100))]
        if await queue.remove_deferred(chunk) is not Answer.DONE:
            raise RuntimeError("a removal failed")
        left -= len(chunk)


async def adapter_settles(connection_string: str, count: int) -> float:
    """Receive, defer, remove, as they overlap in the dispatcher; messages a second."""
    await fill(connection_string, count)
    bell, numbers = asyncio.Event(), asyncio.Queue[int]()
    queue = await started(connection_string, bell)
    before = time.perf_counter()
    await asyncio.gather(deferred(queue, bell, count, numbers), removed(queue, count, numbers))
    rate = count / (time.perf_counter() - before)
    await queue.stop()
    return rate


async def sdk_settles(connection_string: str, count: int) -> float:
    """Receive and complete under lock; messages a second."""
    await fill(connection_string, count)
    async with (
        ServiceBusClient.from_connection_string(connection_string) as client,
        client.get_queue_receiver("work", socket_timeout=READ_SECONDS) as receiver,
    ):
        left, before = count, time.perf_counter()
        while left:
            got = await receiver.receive_messages(max_message_count=AT_ONCE, max_wait_time=0.06)
            await asyncio.gather(*(receiver.complete_message(each) for each in got))
            left -= len(got)
        return count / (time.perf_counter() - before)


async def adapter_completes(connection_string: str, count: int) -> float:
    """Removal of deferred messages, a hundred a request; messages a second."""
    await fill(connection_string, count)
    bell, numbers = asyncio.Event(), asyncio.Queue[int]()
    queue = await started(connection_string, bell)
    await deferred(queue, bell, count, numbers)
    before = time.perf_counter()
    await removed(queue, count, numbers)
    rate = count / (time.perf_counter() - before)
    await queue.stop()
    return rate


async def sdk_completes(connection_string: str, count: int) -> float:
    """Deferred messages fetched and completed one by one; messages a second."""
    await fill(connection_string, count)
    bell, numbers = asyncio.Event(), asyncio.Queue[int]()
    queue = await started(connection_string, bell)
    await deferred(queue, bell, count, numbers)
    await queue.stop()
    async with (
        ServiceBusClient.from_connection_string(connection_string) as client,
        client.get_queue_receiver(
            "work", receive_mode=ServiceBusReceiveMode.PEEK_LOCK, socket_timeout=READ_SECONDS
        ) as receiver,
    ):
        before = time.perf_counter()
        while not numbers.empty():
            (message,) = await receiver.receive_deferred_messages([numbers.get_nowait()])
            await receiver.complete_message(message)
        return count / (time.perf_counter() - before)


async def compare(connection_string: str, count: int, rounds: int) -> dict[str, list[float]]:
    """All runs of all rounds, turn about."""
    runs: dict[str, tuple[Run, int]] = {
        "adapter settles": (adapter_settles, count),
        "SDK settles": (sdk_settles, count),
        "adapter completes": (adapter_completes, count),
        "SDK completes": (sdk_completes, max(count // 5, 100)),
    }
    rates: dict[str, list[float]] = {name: [] for name in runs}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("measuring", total=rounds * len(runs))
        for _ in range(rounds):
            for name, (run, messages) in runs.items():
                rates[name].append(await run(connection_string, messages))
                progress.advance(bar)
    return rates


def table(rates: dict[str, list[float]]) -> Table:
    """Medians and their ratios."""
    middle = {name: statistics.median(each) for name, each in rates.items()}
    shown = Table("what", "adapter /s", "plain SDK /s", "ratio", "aim")
    for what, mine, theirs, aim in (
        ("receive to settle", "adapter settles", "SDK settles", "0.9"),
        ("completion by number against one by one", "adapter completes", "SDK completes", "5"),
    ):
        ratio = middle[mine] / middle[theirs]
        shown.add_row(what, f"{middle[mine]:.0f}", f"{middle[theirs]:.0f}", f"{ratio:.2f}", aim)
    return shown


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    ours, theirs = multiprocessing.Pipe()
    broker = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    broker.start()
    try:
        rates = asyncio.run(compare(ours.recv(), asked.messages, asked.rounds))
    finally:
        broker.terminate()
        broker.join()
    print(
        f"{asked.messages} messages of 1 KiB, median of {asked.rounds} rounds, turn about; azure-servicebus "
        f"{version('azure-servicebus')}, Python {platform.python_version()}, broker in a process of its own"
    )
    Console().print(table(rates))


if __name__ == "__main__":
    main()
