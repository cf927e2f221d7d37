"""What commands share that act on many messages one by one: how far they are, and how they are interrupted.

Decides that the first Ctrl-C lets the message at hand be finished and the second one ends at once.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dispatcher.cli.shared import say

T = TypeVar("T")


class Interrupted:
    """Whether somebody has pressed Ctrl-C, or sent SIGTERM. Call it to ask."""

    def __init__(self) -> None:
        self._is_set = False

    def __call__(self) -> bool:
        """Whether to stop after the message at hand."""
        return self._is_set

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs the work on an event loop. The second signal cancels it, which raises KeyboardInterrupt."""
        return asyncio.run(self._watched(work))

    async def _watched(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        at_once = False

        def signalled() -> None:
            nonlocal at_once
            if self._is_set:
                at_once = True
                task.cancel()
            else:
                self._is_set = True
                say("stopping after the message at hand; Ctrl-C once more stops at once")

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, signalled)
        try:
            return await task
        except asyncio.CancelledError:
            if at_once:
                raise KeyboardInterrupt from None
            raise
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


@contextmanager
def progress_of(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal where there is much to do, otherwise nothing. Call it once for each that is done."""
    if total <= 1 or not sys.stderr.isatty():
        yield lambda: None
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(what, total=total)
        yield lambda: progress.advance(bar)
