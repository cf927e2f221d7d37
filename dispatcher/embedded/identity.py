"""Who a process is: its pid together with the moment at which it began, since pids come back.

Decides when two sightings are the same process. Knows nothing of pods or leaders. On Linux a beginning is written as
the boot's id and the kernel's start tick, which no change of the clock touches; elsewhere as psutil's creation time.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_START_TICKS = 19  # field 22 of /proc/<pid>/stat, counted from the state, which follows the name in brackets


def boot() -> str:
    """What tells this boot of the machine from every other one."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return str(int(psutil.boot_time()))


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process of this machine, for good: no other one ever has the same pid, start and boot."""

    pid: int
    start: str
    boot: str

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """The process that has this pid now; None if there is none, or if it has ended and only waits to be reaped."""
        start = _start_of(pid)
        return None if start is None else cls(pid, start, boot())

    @classmethod
    def mine(cls) -> ProcessIdentity:
        """The process that asks."""
        own = cls.of(os.getpid())
        if own is None:
            raise RuntimeError("this process cannot see itself: is /proc mounted?")
        return own

    def lives(self) -> bool:
        """Whether it runs still."""
        return ProcessIdentity.of(self.pid) == self


def _start_of(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except ProcessLookupError:
        return None
    except OSError:
        return None if _BOOT_ID.exists() else _start_by_psutil(pid)
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[_START_TICKS]


def _start_by_psutil(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return repr(process.create_time())
    except psutil.Error:
        return None
