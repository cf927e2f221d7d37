"""The processes of pods: found again, watched and ended by pid and start time, never by a name.

Decides how an end is brought about and what a process that vanished left behind. Knows nothing of Jobs or placements.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import psutil

from dispatcher.embedded.identity import ProcessIdentity, boot
from dispatcher.embedded.processes.exits import ExitWatch
from dispatcher.embedded.processes.folders import PodFolder
from dispatcher.embedded.processes.launching import POD_UID_VARIABLE


@dataclass(slots=True)
class _Running:
    process: ProcessIdentity
    kill_timer: asyncio.TimerHandle | None = field(default=None)


class Processes:
    """The wrapper processes that run now, by pod uid. ``on_end`` is told the uid of each one that ends."""

    def __init__(self, on_end: Callable[[str], None], kill_grace: timedelta) -> None:
        self._exits = ExitWatch()
        self._on_end = on_end
        self._kill_grace = kill_grace
        self._running: dict[str, _Running] = {}

    def __contains__(self, uid: object) -> bool:
        return uid in self._running

    def __len__(self) -> int:
        return len(self._running)

    def watch(self, uid: str, process: ProcessIdentity) -> None:
        """Takes a pod's process into care, just started or found again."""
        self._running[uid] = _Running(process)
        self._exits.watch(process, lambda: self._ended(uid))

    def end(self, uid: str) -> None:
        """Asks a pod's processes to end, and makes them after the grace. Repeating it changes nothing."""
        running = self._running.get(uid)
        if running is None or running.kill_timer is not None:
            return
        signal_group(running.process, signal.SIGTERM)
        grace = self._kill_grace.total_seconds()
        running.kill_timer = asyncio.get_running_loop().call_later(grace, self.kill, uid)

    def kill(self, uid: str) -> None:
        """Ends a pod's processes at once."""
        running = self._running.get(uid)
        if running is not None:
            signal_group(running.process, signal.SIGKILL)

    def running(self) -> tuple[str, ...]:
        """The pods that have a process."""
        return tuple(self._running)

    def close(self) -> None:
        """Cares for no process any more; they run on."""
        self._exits.close()
        for running in self._running.values():
            if running.kill_timer is not None:
                running.kill_timer.cancel()
        self._running.clear()

    def _ended(self, uid: str) -> None:
        running = self._running.pop(uid, None)
        if running is not None and running.kill_timer is not None:
            running.kill_timer.cancel()
        self._on_end(uid)


def signal_group(process: ProcessIdentity, number: signal.Signals) -> None:
    """Signals the group that a wrapper leads, if that very wrapper still lives."""
    if process.lives():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def find_again(folder: PodFolder, generation: int) -> ProcessIdentity | None:
    """The process that made a pod's claim, if it lives."""
    claim = folder.claim(generation)
    if claim is None or claim.process is None or claim.process.boot not in (boot(), "-"):
        return None
    process = claim.process
    if process.start != "-":
        return process if process.lives() else None
    return _by_command(process.pid, folder)


def _by_command(pid: int, folder: PodFolder) -> ProcessIdentity | None:
    """Where the shell cannot tell when it began, its arguments tell: the pod's folder is in no other process's."""
    try:
        if str(folder.path) in psutil.Process(pid).cmdline():
            return ProcessIdentity.of(pid)
    except psutil.Error:
        return None
    return None


def kill_strays(uid: str) -> int:
    """Ends what is left of a pod whose wrapper was killed from outside: processes that carry the pod's uid. Slow."""
    killed = 0
    for process in psutil.process_iter():
        try:
            if process.environ().get(POD_UID_VARIABLE) == uid and process.pid != os.getpid():
                process.kill()  # psutil checks that pid and start time still belong together
                killed += 1
        except psutil.Error:
            continue  # gone meanwhile, or somebody else's
    return killed
