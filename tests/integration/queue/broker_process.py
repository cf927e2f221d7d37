"""Runs the embedded broker as a process that can be killed: `python broker_process.py PORT JOURNAL LOCK_SECONDS`."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

from dispatcher.embedded.broker import Broker, BrokerConfig, QueueConfig


async def main() -> None:
    port, journal, lock_seconds = int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    queues = (QueueConfig("work", lock_duration=timedelta(seconds=lock_seconds), max_delivery_count=50),)
    async with Broker(BrokerConfig(queues=queues, port=port, journal_path=journal)) as broker:
        print("READY", broker.port, broker.connection_string, flush=True)
        await asyncio.Event().wait()


asyncio.run(main())
