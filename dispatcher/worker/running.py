"""One run of the command: its output passed on and its end kept, and nothing left behind when it is over.

Decides how a run is ended that takes too long, and what is said of how it went. Knows nothing of reports. What a run
leaves behind is known by a variable that every process of it inherits; where the system shows no environments, only the
program itself is ended.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Callable, NamedTuple

TAIL_BYTES = 1024
RUN_VARIABLE = "BURST_RUN"
KILL_GRACE_SECONDS = 5.0
_LOOK_EVERY_SECONDS = 0.1
_OUTPUT_SECONDS = 2.0
_PROC = Path("/proc")


class Ended(NamedTuple):
    """How a run ended."""

    exit_code: int | None
    cause: str | None
    """None: it did what it should. Otherwise as the protocol names causes."""
    message: str
    tail: str
    started_at: datetime
    finished_at: datetime


class Limits(NamedTuple):
    """When a run has to end, asked again and again, and what is said then. Times are monotonic seconds."""

    over: Callable[[float], str | None]
    """The cause for which it must end now; None: it may go on."""
    interrupted: Callable[[], bool]
    """Whether the pod was told to stop."""


def run(command: Sequence[str], environment: Mapping[str, str], limits: Limits) -> Ended:
    """Runs the command to its end."""
    marker = uuid.uuid4().hex
    started = datetime.now(timezone.utc)
    try:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**environment, RUN_VARIABLE: marker},
        )  # fmt: skip
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return Ended(None, _cause_of(error), f"cannot start {command[0]}: {why}", "", started, _now())
    output = _Output(process.stdout)
    cause = _wait(process, marker, limits)
    interrupted = limits.interrupted()
    _end_all(marker, signal.SIGKILL)
    tail = output.close()
    _reap()
    code = process.returncode
    if cause is None and code == 0:
        return Ended(0, None, "", tail, started, _now())
    if cause is None:
        cause = "cancelled" if interrupted else "application"
    return Ended(code, cause, _in_words(cause, code), tail, started, _now())


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _cause_of(error: Exception) -> str:
    """A program that is not there never will be; a machine out of memory or processes is nobody's fault."""
    short = isinstance(error, OSError) and error.errno in (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
    return "cancelled" if short else "template"


def _in_words(cause: str, code: int) -> str:
    how = f"exit code {code}" if code >= 0 else f"ended by {_signal_name(-code)}"
    if cause == "item_timeout":
        return f"ran longer than the task's item_timeout, and was stopped ({how})"
    return f"stopped together with its pod ({how})" if cause == "cancelled" else how


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _wait(process: subprocess.Popen[bytes], marker: str, limits: Limits) -> str | None:
    """Waits for the program, and ends it when its time is over; the cause, where it was ended."""
    while not _ended_within(process, _LOOK_EVERY_SECONDS):
        cause = limits.over(time.monotonic())
        if cause is not None:
            _stop(process, marker)
            return cause
    return None


def _ended_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _stop(process: subprocess.Popen[bytes], marker: str) -> None:
    if not _end_all(marker, signal.SIGTERM):
        process.terminate()
    if not _ended_within(process, KILL_GRACE_SECONDS):
        process.kill()
        process.wait()


def _end_all(marker: str, number: signal.Signals) -> int:
    """Signals what is left of a run; how many processes that were."""
    told = 0
    for pid in _left_of(marker):
        with contextlib.suppress(OSError):
            os.kill(pid, number)
            told += 1
    return told


def _left_of(marker: str) -> Iterator[int]:
    wanted = f"{RUN_VARIABLE}={marker}".encode()
    try:
        pids = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]
    except OSError:
        return
    for pid in pids:
        try:
            environment = (_PROC / str(pid) / "environ").read_bytes()
        except OSError:
            continue  # gone meanwhile, or somebody else's
        if wanted in environment.split(b"\0"):
            yield pid


def _reap() -> None:
    """As the first process of a container this one inherits whoever is left."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


class _Output:
    """Passes on what a run prints, and keeps the end of it."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        self._pipe = pipe
        self._tail = b""
        self._thread = threading.Thread(target=self._pass_on, name="output", daemon=True)
        self._thread.start()

    def close(self) -> str:
        """The end of it, in whole characters. Waits a moment: a process that hides may still hold the other end."""
        self._thread.join(_OUTPUT_SECONDS)
        return self._tail.decode("utf-8", "replace").lstrip("\N{REPLACEMENT CHARACTER}")

    def _pass_on(self) -> None:
        if self._pipe is None:
            return
        with self._pipe:
            while data := os.read(self._pipe.fileno(), 65536):
                self._tail = (self._tail + data)[-TAIL_BYTES:]
                with contextlib.suppress(OSError):  # nobody reads it; the work goes on
                    sys.stdout.buffer.write(data)
                    sys.stdout.buffer.flush()
