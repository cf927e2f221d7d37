"""Time for which other programs kept the processor is left out: rates on a busy machine compare with each other.

The kernel tells for how long a thread was ready to run and had no core. Of the broker's such time only as much counts
as the dispatcher spent waiting, since only then it can have been what was waited for. Where the kernel does not tell,
all time counts; on a quiet machine it is the same.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple


class _Spent(NamedTuple):
    running: float
    ready: float
    """Seconds in which it would have run, had there been a core."""


class FairClock:
    """Of this process's main thread, and the broker's."""

    def __init__(self, broker_pid: int) -> None:
        self._paths = (Path("/proc/self/schedstat"), Path(f"/proc/{broker_pid}/schedstat"))
        self._at = time.monotonic()
        self._ours, self._theirs = (_spent(path) for path in self._paths)
        self._fair = 0.0

    def read(self) -> tuple[float, float]:
        """The monotonic time, and the fair one; the differences of the latter are at most those of the former."""
        at = time.monotonic()
        ours, theirs = (_spent(path) for path in self._paths)
        passed = at - self._at
        kept = min(ours.ready - self._ours.ready, passed)
        waited = max(0.0, passed - kept - (ours.running - self._ours.running))
        kept += min(theirs.ready - self._theirs.ready, waited)
        self._fair += max(0.0, passed - kept)
        self._at, self._ours, self._theirs = at, ours, theirs
        return at, self._fair


def _spent(path: Path) -> _Spent:
    try:
        running, ready, _ = path.read_text().split()
    except OSError:
        return _Spent(0.0, 0.0)
    return _Spent(int(running) / 1e9, int(ready) / 1e9)
