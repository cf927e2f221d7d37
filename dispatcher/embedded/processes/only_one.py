"""That only one dispatcher runs this cluster: a file lock that the system drops with the process.

Decides who may care for the processes. Knows nothing of leases: two leaders may argue, two carers may not even meet.
"""

from __future__ import annotations

import asyncio
import fcntl
from io import TextIOWrapper
from pathlib import Path

from dispatcher.errors import DispatcherError

_TRIES = 60
_PAUSE_S = 0.05


class OnlyOne:
    """A lock on one file. Children do not inherit it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIOWrapper | None = None

    async def take(self) -> None:
        """Takes the lock. Raises DispatcherError if somebody has it and keeps it.

        A dispatcher that is killed while it starts a process leaves the lock, for a moment, to that child, which lets
        go of it when it becomes the wrapper; so this asks more than once.
        """
        file = self._path.open("a")
        for _ in range(_TRIES):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(_PAUSE_S)
                continue
            self._file = file
            return
        file.close()
        raise DispatcherError(f"{self._path}: another dispatcher runs the pods of this folder")

    def give_up(self) -> None:
        """Gives it up, if it was taken."""
        if self._file is not None:
            self._file.close()
            self._file = None
