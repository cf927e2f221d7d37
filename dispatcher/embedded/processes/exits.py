"""When a process ends: one callback per process, whether it is our child or was found again.

Decides how the end is noticed: through a pidfd where the system has them, else by looking every 50 ms. Knows nothing
of pods. A child of ours is reaped here, since nobody waits for it otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

from dispatcher.embedded.identity import ProcessIdentity

_LOOK_EVERY_S = 0.05


class ExitWatch:
    """Watches processes on the running event loop until each has ended or ``close`` is called."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pidfds: dict[int, Callable[[], None]] = {}
        self._polled: dict[ProcessIdentity, Callable[[], None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, process: ProcessIdentity, on_end: Callable[[], None]) -> None:
        """Calls ``on_end`` once, soon after the process has ended; also if it has ended already."""
        try:
            pidfd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            self._loop.call_soon(self._ended, process, on_end)
            return
        except (OSError, AttributeError):  # no pidfds here, or no more of them
            self._polled[process] = on_end
            self._look_later()
            return
        if not process.lives():  # asked after opening: the pidfd is of this very process, or of one that came later
            os.close(pidfd)
            self._loop.call_soon(self._ended, process, on_end)
            return
        self._pidfds[pidfd] = on_end
        self._loop.add_reader(pidfd, self._readable, pidfd, process)

    def close(self) -> None:
        """Watches nothing any more; the processes run on."""
        for pidfd in self._pidfds:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)
        self._pidfds.clear()
        self._polled.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _readable(self, pidfd: int, process: ProcessIdentity) -> None:
        on_end = self._pidfds.pop(pidfd)
        self._loop.remove_reader(pidfd)
        os.close(pidfd)
        self._ended(process, on_end)

    def _ended(self, process: ProcessIdentity, on_end: Callable[[], None]) -> None:
        with contextlib.suppress(ChildProcessError):  # found again, so somebody else's child
            os.waitpid(process.pid, os.WNOHANG)
        on_end()

    def _look_later(self) -> None:
        if self._timer is None and self._polled:
            self._timer = self._loop.call_later(_LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        self._timer = None
        for process in [process for process in self._polled if not process.lives()]:
            self._ended(process, self._polled.pop(process))
        self._look_later()
