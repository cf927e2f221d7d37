"""A report queue for each test, and what a pod is given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web
from kit_run import PodFolder, ReportQueue


@pytest.fixture
async def queue() -> AsyncIterator[ReportQueue]:
    served = ReportQueue()
    runner = web.ServerRunner(web.Server(served.handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served.port = runner.addresses[0][1]
    yield served
    await runner.cleanup()


@pytest.fixture
def a_pod(tmp_path: Path, queue: ReportQueue) -> Callable[..., PodFolder]:
    def make(items: int = 3, *, index: int = 0, pods: int = 1) -> PodFolder:
        return PodFolder.make(tmp_path / "pod", items, queue.connection_string(), index=index, pods=pods)

    return make
