"""That only one dispatcher runs this cluster: a file lock that the system drops with the process.

Decides who may care for the processes. Knows nothing of leases: two leaders may argue, two carers may not even meet.
"""

from __future__ import annotations

import fcntl
from io import TextIOWrapper
from pathlib import Path

from dispatcher.errors import DispatcherError


class OnlyOne:
    """A lock on one file. Children do not inherit it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIOWrapper | None = None

    def take(self) -> None:
        """Takes the lock. Raises DispatcherError if somebody has it."""
        file = self._path.open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise DispatcherError(f"{self._path}: another dispatcher runs the pods of this folder") from error
        self._file = file

    def give_up(self) -> None:
        """Gives it up, if it was taken."""
        if self._file is not None:
            self._file.close()
            self._file = None
