"""The order of it all: item after item, each reported when it has ended, and when to stop.

Decides when a run may go on, when no further item is begun, and what the exit code says. The pod's deadline is kept
from inside, since not everywhere anybody else keeps it.

Exit code 0: whatever ended was told (or the deadline has come). 1: an outcome could not be told. 2: nothing was begun.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from .pod import BadItem, BadPod, Item, Pod, read_pod
from .reporting import Report, Reporter, say
from .running import KILL_GRACE_SECONDS, Ended, Limits, run

EXIT_TOLD, EXIT_UNTOLD, EXIT_NOT_BEGUN = 0, 1, 2
_STOP_EARLY_SECONDS = KILL_GRACE_SECONDS + 5.0
"""Before the deadline: so long takes the end of a run, and its report."""
_RESULT_BYTES_MAX = 1024


class Settings(NamedTuple):
    """What the command line may change."""

    grace_seconds: float = 25.0
    """From SIGTERM until all must be told: a little less than the pod's terminationGracePeriodSeconds."""
    report_seconds: float = 120.0
    """How long reports that are not accepted are sent again when no item is left."""


class Stop:
    """When this pod has to stop, by a monotonic clock."""

    def __init__(self, stop_at: datetime | None, grace_seconds: float) -> None:
        left = None if stop_at is None else (stop_at - datetime.now(timezone.utc)).total_seconds()
        self._deadline = None if left is None else time.monotonic() + left
        self._grace = grace_seconds
        self._told_at: float | None = None

    def tell(self, *_signal: Any) -> None:
        """The pod is to end: SIGTERM."""
        if self._told_at is None:
            self._told_at = time.monotonic()

    @property
    def told(self) -> bool:
        """Whether SIGTERM came."""
        return self._told_at is not None

    def begins_nothing(self) -> bool:
        """Whether no further item may be begun."""
        return self.told or self.run_is_over(time.monotonic())

    def run_is_over(self, now: float) -> bool:
        """Whether a run must end now. After SIGTERM it has most of the grace to come to its own end."""
        if self._told_at is not None and now >= self._told_at + self._grace * 0.6:
            return True
        return self._deadline is not None and now >= self._deadline - _STOP_EARLY_SECONDS

    def at_deadline(self) -> bool:
        """Whether the pod's time is over."""
        return self._deadline is not None and time.monotonic() >= self._deadline - 1.0

    def left_for_reports(self, usual: float) -> float:
        """For how many seconds reports may still be sent."""
        now = time.monotonic()
        ends = [now + usual]
        if self._told_at is not None:
            ends.append(self._told_at + self._grace)
        if self._deadline is not None:
            ends.append(self._deadline - 1.0)
        return max(0.0, min(ends) - now)


def work(command: Sequence[str], environment: Mapping[str, str], settings: Settings) -> int:
    """Does all items of the pod; the exit code. With one item a pod it becomes the command, and never returns."""
    try:
        pod = read_pod(environment)
        if pod.pods is None:
            _become(command)
        reporter = Reporter(pod.connection_file)
    except (BadPod, ValueError) as error:
        say(str(error))
        return EXIT_NOT_BEGUN
    stop = Stop(pod.stop_at, settings.grace_seconds)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop.tell)
    reporter.start()
    whole = _Shift(command, environment, pod, reporter, stop, settings).all()
    unsent = reporter.drain(stop.left_for_reports(settings.report_seconds))
    if unsent:
        say(f"{unsent} outcomes could not be told; their items are done again")
    return EXIT_TOLD if (whole and not unsent) or stop.at_deadline() else EXIT_UNTOLD


def _become(command: Sequence[str]) -> None:
    try:
        os.execvp(command[0], list(command))  # noqa: S606 - the command is the operator's
    except OSError as error:
        raise BadPod(f"cannot start {command[0]}: {error.strerror}") from error


class _Shift:
    """The items of one pod, one after another."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        pod: Pod,
        reporter: Reporter,
        stop: Stop,
        settings: Settings,
    ) -> None:
        self._command = command
        own = ("BURST_PODS", "BURST_REPORTS_DIR")  # a program below is a worker of one item, and reports nothing
        self._environment = {name: value for name, value in environment.items() if name not in own}
        self._pod = pod
        self._reporter = reporter
        self._stop = stop
        self._patience = settings.report_seconds

    def all(self) -> bool:
        """Whether nothing stood in the way of telling how items ended. Stopping early does not."""
        readable = True
        for position in self._pod.positions():
            if self._stop.begins_nothing():
                say(f"stops before position {position}: what is left is done in the next attempt")
                break
            if not self._may_report():
                say(f"stops before position {position}, since reports are refused: {self._reporter.refused}")
                return False
            try:
                item = self._pod.item(position)
            except BadItem as error:
                say(str(error))
                readable = False
                continue
            self._do(item)
        return readable

    def _may_report(self) -> bool:
        """Whether reports are taken, as far as known. Work that nobody can be told of is not begun."""
        until = time.monotonic() + self._patience
        while self._reporter.refused is not None and not self._stop.begins_nothing():
            if time.monotonic() >= until:
                return False
            time.sleep(0.1)
        return True

    def _do(self, item: Item) -> None:
        until = time.monotonic() + self._pod.item_timeout.total_seconds()

        def over(now: float) -> str | None:
            if self._stop.run_is_over(now):
                return "cancelled"
            return "item_timeout" if now >= until else None

        with _result_folder() as folder:
            environment = {**self._environment, **item.environment()}
            if folder is not None:
                environment["BURST_RESULT_FILE"] = str(folder / "result")
            ended = run(self._command, environment, Limits(over, lambda: self._stop.told))
            result = _result_in(folder)
        self._reporter.tell(report_of(self._pod, item, ended, result))
        seconds = (ended.finished_at - ended.started_at).total_seconds()
        outcome = "done" if ended.cause is None else f"failed ({ended.cause}: {ended.message})"
        say(f"position {item.position}, item {item.facts['sequence_number']}: {outcome} after {seconds:.1f} s")


@contextlib.contextmanager
def _result_folder() -> Any:
    """A folder in which the command may leave where its result lies; None where nothing can be written."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="burst-"))
    except OSError:
        yield None
        return
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _result_in(folder: Path | None) -> str | None:
    if folder is None:
        return None
    try:
        with (folder / "result").open("rb") as file:
            text = file.read(_RESULT_BYTES_MAX).decode("utf-8", "replace").strip()
    except OSError:
        return None
    return text.splitlines()[0] if text else None


def report_of(pod: Pod, item: Item, ended: Ended, result: str | None) -> Report:
    """What is told of one item's end."""
    outcome = "done" if ended.cause is None else "failed"
    fence: dict[str, Any] = {
        "format": 1,
        "batch": pod.batch,
        "attempt": pod.attempt,
        "pod": pod.uid,
        "position": item.position,
        "queue": item.facts["queue"],
        "sequence_number": item.facts["sequence_number"],
        "digest": item.facts["digest"],
        "outcome": outcome,
    }
    if ended.cause is not None:
        fence["cause"] = ended.cause
    people = {
        "exit_code": ended.exit_code,
        "message": ended.message[:500],
        "log_tail": ended.tail if ended.cause is not None else "",
        "result_ref": result,
        "started_at": ended.started_at.isoformat(),
        "finished_at": ended.finished_at.isoformat(),
    }
    told = {name: value for name, value in people.items() if value not in (None, "")}
    name = f"{pod.batch}-{pod.attempt}-{pod.uid}-{item.position}-{outcome}"
    return Report(name, json.dumps({**fence, **told}).encode(), json.dumps(fence).encode())
