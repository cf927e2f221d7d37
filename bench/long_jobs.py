"""Twenty thousand items held for longer than the lock on their messages: what that costs.

    python bench/long_jobs.py [--items 20000] [--lock 30] [--locks-held 4]

All items are received and launched; then no Job ends for so many lock durations. A deferred message has no lock, so
nothing has to be renewed and nothing can be lost: the broker's own counts show what was asked of it meanwhile, and that
no message was under lock. Memory and CPU are those of the dispatcher's process, sampled over the hold. Then the Jobs
end, and the broker's counts tell whether each item was settled once.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import sys
import time
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import version

import psutil
import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.faults.arrivals import Arrivals
from tests.faults.broker_process import a_broker
from tests.faults.burst import a_dispatcher, queue_config
from tests.faults.trial import verdict_of

PATIENCE_SECONDS = 300.0
MIB = 2**20


@dataclass
class Hold:
    """What was seen while everything was held."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    operations: int = 0
    """What clients had the broker do: the sweeps, mostly."""
    locked_max: int = 0
    rss: list[int] = field(default_factory=list)
    lines: tuple[str, ...] = ()


async def measure(items: int, lock_seconds: float, locks_held: float, progress: Progress) -> Hold:
    """Fills the queue, waits until all is launched, holds, lets go, judges."""
    seen = Hold()
    async with a_broker(lock_seconds) as broker:
        config = queue_config(broker.connection_string, lock_margin=timedelta(seconds=lock_seconds / 4))
        arrivals = Arrivals(config, 0, lambda: 0)
        await arrivals.fill(items)
        async with a_dispatcher(config, lock_seconds, lookahead=items + 1000, holding=True) as burst:
            bar = progress.add_task("launching", total=items)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (await broker.counts()).deferred < items:
                    progress.update(bar, completed=(await broker.counts()).deferred)
                    await asyncio.sleep(0.5)
            progress.update(bar, completed=items)
            me, before, cpu, began = psutil.Process(), await broker.counts(), time.process_time(), time.monotonic()
            held = lock_seconds * locks_held
            bar = progress.add_task("holding (s)", total=int(held))
            while (seconds := time.monotonic() - began) < held:
                await asyncio.sleep(1.0)
                seen.rss.append(me.memory_info().rss)
                seen.locked_max = max(seen.locked_max, (await broker.counts()).locked)
                progress.update(bar, completed=int(seconds))
            seen.seconds, seen.cpu_seconds = seconds, time.process_time() - cpu
            seen.operations = (await broker.counts()).operations - before.operations
            bar = progress.add_task("settling", total=items)
            burst.cluster.let_go()
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (settled := len(burst.told.done) + len(burst.told.dead)) < items:
                    progress.update(bar, completed=settled)
                    await asyncio.sleep(0.2)
            seen.lines = (await verdict_of(broker, burst, arrivals)).lines
    return seen


def main() -> None:
    """Measures and prints; 1 if an item was lost, settled twice, or held under a lock."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--lock", type=float, default=30.0, help="the queue's lock duration in seconds")
    parser.add_argument("--locks-held", type=float, default=4.0, help="for how many lock durations all is held")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        seen = asyncio.run(measure(asked.items, asked.lock, asked.locks_held, progress))
    print(
        f"azure-servicebus {version('azure-servicebus')}, Python {platform.python_version()}, "
        f"{psutil.cpu_count()} cores, broker in a process of its own; lock duration {asked.lock:g} s"
    )
    third = max(len(seen.rss) // 3, 1)
    table = Table("what", "figure")
    table.add_row("items held, each settled once afterwards", f"{asked.items}")
    table.add_row("held for", f"{seen.seconds:.0f} s, {seen.seconds / asked.lock:.1f} lock durations")
    table.add_row("messages under lock meanwhile, at most", f"{seen.locked_max}")
    table.add_row("operations at the broker meanwhile", f"{seen.operations} ({seen.operations / seen.seconds:.1f}/s)")
    table.add_row("CPU of the dispatcher meanwhile", f"{100 * seen.cpu_seconds / seen.seconds:.1f} % of a core")
    table.add_row("memory, first third of the hold, at most", f"{max(seen.rss[:third]) / MIB:.0f} MiB")
    table.add_row("memory, last third of the hold, at most", f"{max(seen.rss[-third:]) / MIB:.0f} MiB")
    Console().print(table)
    for line in seen.lines:
        print(f"WRONG: {line}")
    sys.exit(1 if seen.lines or seen.locked_max else 0)


if __name__ == "__main__":
    main()
