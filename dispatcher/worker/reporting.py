"""That every report arrives: sent in the background as soon as it is told, repeated, kept until it is accepted.

Decides the order and the pauses. Reports stay in memory alone: whoever loses the pod loses them, and their items are
done again. Knows nothing of items.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Callable, NamedTuple

from .service_bus import Access, Answer, read_access, send

PAUSE_MIN = 0.5
PAUSE_MAX = 15.0
WAIT_MAX = 60.0
"""Seconds: the first pause, the longest one, and the longest that the service may ask for."""


class Report(NamedTuple):
    """What is sent."""

    message_id: str
    body: bytes
    spare: bytes
    """The same with nothing in it that is only for people, should the whole be too large."""


def say(text: str) -> None:
    """Tells whoever reads the pod's log."""
    print(f"burst-worker: {text}", file=sys.stderr, flush=True)


Send = Callable[[Access, bytes, dict[str, Any], float], Answer]


class Reporter:
    """Sends reports one after another on a thread of its own, from `start` until `drain`."""

    def __init__(self, connection_file: Path, send_one: Send = send) -> None:
        self._file = connection_file
        self._access = read_access(connection_file)
        self._send = send_one
        self._pending: deque[Report] = deque()
        self._changed = threading.Condition()
        self._refused: str | None = None
        self._ends_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="reports", daemon=True)

    def start(self) -> None:
        """Begins to send."""
        self._thread.start()

    def tell(self, report: Report) -> None:
        """Takes a report over."""
        with self._changed:
            self._pending.append(report)
            self._changed.notify_all()

    @property
    def refused(self) -> str | None:
        """Why the queue takes no reports until somebody changes something; None: as far as known it does."""
        return self._refused

    def unsent(self) -> int:
        """How many reports are not accepted yet."""
        with self._changed:
            return len(self._pending)

    def drain(self, seconds: float) -> int:
        """Goes on sending for at most so long; how many reports were not accepted. The last thing that is asked."""
        until = time.monotonic() + seconds
        with self._changed:
            while self._pending and time.monotonic() < until:
                self._changed.wait(min(0.2, until - time.monotonic()))
            self._ends_at = time.monotonic()
            self._changed.notify_all()
            return len(self._pending)

    def _run(self) -> None:
        failures = 0
        while True:
            with self._changed:
                while not self._pending and self._ends_at is None:
                    self._changed.wait()
                if self._ends_at is not None:
                    return
                report = self._pending[0]
            answer = self._try(report)
            with self._changed:
                if answer.accepted:
                    self._pending.popleft()
                    self._changed.notify_all()
            failures = 0 if answer.accepted else failures + 1
            self._note(answer, failures)
            if failures:
                self._pause(answer, failures)

    def _try(self, report: Report) -> Answer:
        answer = self._once(report, report.body)
        if answer.too_large and report.spare != report.body:
            return self._once(report, report.spare)
        return answer

    def _once(self, report: Report, body: bytes) -> Answer:
        return self._send(self._access, body, {"MessageId": report.message_id, "Label": "burst.report"}, time.time())

    def _note(self, answer: Answer, failures: int) -> None:
        refused = answer.text if answer.final else None
        if failures and (failures == 1 or failures % 10 == 0 or refused != self._refused):
            say(f"a report was not taken, and is sent again: {answer.text}")
        self._refused = refused
        if failures:
            self._look_again()

    def _look_again(self) -> None:
        """The key may have been changed; a file that is half written changes nothing."""
        try:
            self._access = read_access(self._file)
        except ValueError as error:
            say(str(error))

    def _pause(self, answer: Answer, failures: int) -> None:
        pause = min(PAUSE_MIN * 2 ** min(failures - 1, 10), PAUSE_MAX) * random.uniform(0.7, 1.0)  # noqa: S311 - jitter
        if answer.wait_seconds is not None:
            pause = max(pause, min(answer.wait_seconds, WAIT_MAX))
        until = time.monotonic() + pause
        with self._changed:
            while self._ends_at is None and time.monotonic() < until:
                self._changed.wait(until - time.monotonic())
