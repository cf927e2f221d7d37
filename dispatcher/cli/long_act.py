"""What commands share that act on many messages one by one: how far they are, how they are interrupted, how they end.

Decides that the first Ctrl-C lets the message at hand be finished and the second one ends at once.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dispatcher.cli.shared import Exit, say
from dispatcher.core.words import counted
from dispatcher.errors import DispatcherError, LookFailed, OutcomeUnknown
from dispatcher.running import NotReachable

if TYPE_CHECKING:  # behind this is the SDK, which takes a while to import
    from dispatcher.queue.moving import Became

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
def progress_of(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal where there is much to do, otherwise nothing. Call it with how many were done."""
    if total <= 1 or not sys.stderr.isatty():
        yield lambda _: None
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(what, total=total)
        yield lambda count: progress.advance(bar, count)


def carried_out(work: Coroutine[Any, Any, None], interrupted: Interrupted) -> DispatcherError | None:
    """Runs the work; the failure that ended it, if one did. What was done until then stays done."""
    try:
        interrupted.run(work)
    except KeyboardInterrupt:
        return None
    except DispatcherError as error:
        return error
    return None


def tell_end(
    did: str,
    what: str,
    words: Mapping[str, str],
    became: Sequence[Became],
    total: int,
    fault: DispatcherError | None,
    interrupted: Interrupted,
) -> None:
    """Says what came of it all, and ends the command with the exit code that tells the same."""
    counts = Counter(each.value for each in became)
    text = f"{did} {counts.pop(did, 0)} of {counted(total, what)}"
    text += "".join(f"; {count} {words.get(word, word)}" for word, count in sorted(counts.items()))
    left = total - len(became)
    if fault is None or became:
        say(text + (f"; {left} not tried" if left else ""))
    if isinstance(fault, LookFailed | OutcomeUnknown):
        raise NotReachable(f"{fault}; what was not {did} is still there: run the same command again") from fault
    if fault is not None:
        raise fault
    if interrupted() and left:
        raise typer.Exit(Exit.INTERRUPTED)
    if not all(each.is_well for each in became):
        raise typer.Exit(Exit.FAILED)
