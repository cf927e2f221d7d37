"""A hundred thousand items through broker, adapter and reconciler, on a cluster that is never slow.

    python bench/volume.py [--items 100000]

The broker runs in a process of its own and holds all items before the dispatcher starts. One item of fifty fails and
belongs into the dead-letter queue. The cluster is a stand-in whose Jobs end at once, so that what is measured is ours:
receive, batch, record, launch, defer, rule, settle, close. The verdict is the broker's counts and its dead-letter queue
against what was sent, not what the dispatcher says. The memory is that of the dispatcher's process, referee included.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version

import psutil
import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.faults.arrivals import Arrivals
from tests.faults.broker_process import Steering, a_broker
from tests.faults.burst import a_dispatcher, queue_config
from tests.faults.trial import verdict_of

LOCK_SECONDS = 60.0
QUIET_SECONDS_MAX = 60.0
MIB = 2**20


@dataclass
class Measured:
    """What came of it."""

    items: int
    seconds: float
    cpu_seconds: float
    rss_before: int
    rss_peak: int
    broker_rss: int
    lines: tuple[str, ...]


async def measure(items: int, progress: Progress) -> Measured:
    """Fills the queue, lets the dispatcher work until all is settled, and judges."""
    async with a_broker(LOCK_SECONDS) as broker:
        config = queue_config(broker.connection_string)
        arrivals = Arrivals(config, 0, lambda: 0)
        bar = progress.add_task("sending", total=items)
        for sent in range(0, items, 5000):
            await arrivals.fill(min(sent + 5000, items))
            progress.update(bar, completed=len(arrivals.sent))
        me, started, cpu = psutil.Process(), time.perf_counter(), time.process_time()
        before = peak = me.memory_info().rss
        bar = progress.add_task("settling", total=items)
        async with a_dispatcher(config, LOCK_SECONDS) as burst:
            moved_at, settled = time.perf_counter(), 0
            while settled < items and time.perf_counter() - moved_at < QUIET_SECONDS_MAX:
                await asyncio.sleep(0.2)
                peak = max(peak, me.memory_info().rss)
                now = len(burst.told.done) + len(burst.told.dead)
                if now != settled:
                    moved_at, settled = time.perf_counter(), now
                progress.update(bar, completed=settled)
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
            verdict = await verdict_of(broker, burst, arrivals)
        return Measured(items, seconds, cpu, before, peak, _rss(broker), verdict.lines)


def _rss(broker: Steering) -> int:
    return int(psutil.Process(broker.pid).memory_info().rss)


def main() -> None:
    """Measures and prints; 1 if an item was lost or settled twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        measured = asyncio.run(measure(asked.items, progress))
    print(
        f"azure-servicebus {version('azure-servicebus')}, Python {platform.python_version()}, "
        f"{psutil.cpu_count()} cores, broker in a process of its own, its queue in memory"
    )
    table = Table("what", "figure")
    table.add_row("items, each settled once", f"{measured.items}")
    table.add_row("rate, receive to settle", f"{measured.items / measured.seconds:.0f} items/s")
    table.add_row("CPU of the dispatcher", f"{measured.cpu_seconds / measured.items * 1e3:.2f} ms an item")
    table.add_row("memory before", f"{measured.rss_before / MIB:.0f} MiB")
    table.add_row("memory at most", f"{measured.rss_peak / MIB:.0f} MiB")
    table.add_row("memory of the broker at the end", f"{measured.broker_rss / MIB:.0f} MiB")
    Console().print(table)
    for line in measured.lines:
        print(f"WRONG: {line}")
    sys.exit(1 if measured.lines else 0)


if __name__ == "__main__":
    main()
