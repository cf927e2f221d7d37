"""A broker in a process of its own, so that it can be killed: `python broker_child.py JOURNAL [FSIZE_MAX]`.

Prints its connection string and serves until it is killed or its standard input closes.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import sys
from datetime import timedelta
from pathlib import Path

import structlog

from dispatcher.embedded.broker import Broker, BrokerConfig, QueueConfig


async def serve(journal: Path) -> None:
    queues = (QueueConfig("jobs", lock_duration=timedelta(seconds=30)),)
    async with Broker(BrokerConfig(queues=queues, journal_path=journal)) as broker:
        sys.stdout.write(broker.connection_string + "\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    if len(sys.argv) > 2:
        size = int(sys.argv[2])
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    asyncio.run(serve(Path(sys.argv[1])))
