"""Between the dispatcher and the API server: numbers the writes, and kills the writer at one of them.

Decides what counts as a write: everything that changes an object, but for the renewals of the Lease, which come by the
clock and not in the order of the protocol. A kill after a write comes when the server has done it and before the
answer is passed on; a kill before it, when the request is there and the server has not heard of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_OBJECT = re.compile(r"/namespaces/[^/]+/(?P<kind>[a-z]+)(/(?P<name>[^/]+))?$")
_WORDS = {
    ("POST", "leases"): "take the Lease",
    ("POST", "ledger"): "create the ledger",
    ("PUT", "ledger"): "replace the ledger",
    ("POST", "records"): "create a record",
    ("PATCH", "records"): "annotate or free a record",
    ("DELETE", "records"): "mark a record",
    ("POST", "jobs"): "create a Job",
    ("PATCH", "jobs"): "free a Job",
    ("DELETE", "jobs"): "mark a Job",
    ("DELETE", "pods"): "delete a pod",
}


class Moment(StrEnum):
    """When the kill comes."""

    AFTER = "after"
    BEFORE = "before"


def words_for(method: str, path: str) -> str | None:
    """What the request writes, in words; None if it is no write that counts."""
    found = _OBJECT.search(path)
    if method not in _WRITES or found is None:
        return None
    kind = found["kind"]
    if kind == "configmaps":
        # The one POST that is no record's makes the ledger; it is told by who comes first, see Gate.
        kind = "ledger" if (found["name"] or "").endswith("-ledger") else "records"
    if (method, kind) == ("PUT", "leases"):
        return None
    return _WORDS.get((method, kind), f"{method} {kind}")


@dataclass
class Gate:
    """Lets everything pass until write number ``kill_at`` (from 1), and nothing of that process after it."""

    kill: Callable[[], None] = lambda: None
    """Ends the writer, at once and without a word to it."""
    kill_at: int | None = None
    moment: Moment = Moment.AFTER
    writes: list[str] = field(default_factory=list)
    """What was written, in words, in the order of arrival."""
    struck: str | None = None
    """The write at which it killed."""
    _numbers: dict[int, int] = field(default_factory=dict)
    _shut: bool = False

    def may_pass(self, request: int, method: str, path: str) -> bool:
        """Whether the server hears of it."""
        if self._shut:
            return False
        words = words_for(method, path)
        if words is None:
            return True
        if words == "create a record" and not any("ledger" in each for each in self.writes):
            words = "create the ledger"
        self.writes.append(words)
        number = self._numbers[request] = len(self.writes)
        if number == self.kill_at and self.moment is Moment.BEFORE:
            self._strike(words)
            return False
        return True

    def may_answer(self, request: int) -> bool:
        """Whether the writer hears what came of it."""
        number = self._numbers.pop(request, None)
        if self._shut:
            return False
        if number is not None and number == self.kill_at and self.moment is Moment.AFTER:
            self._strike(self.writes[number - 1])
            return False
        return True

    def open(self) -> None:
        """The next process may pass, and is not killed."""
        self._shut, self.kill_at = False, None
        self._numbers.clear()

    def _strike(self, words: str) -> None:
        self._shut, self.struck = True, words
        self.kill()
