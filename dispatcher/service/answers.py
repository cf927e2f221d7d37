"""What the service answers to questions about itself: explanations, and later plans and reports.

Turns a query into a question to the reconciler, and its answer, or the reason why there is none, into JSON.
"""

from __future__ import annotations

from collections.abc import Mapping

from dispatcher.core.history import History
from dispatcher.explaining import Subject
from dispatcher.reconciler import Reconciler
from dispatcher.web import Answered

STANDBY = "this replica does not lead: ask the one that does (`dispatcher status` says which leads)"
STANDBY_STATUS = 503


class Answers:
    """Questions to a running service."""

    def __init__(self, reconciler: Reconciler, history: History) -> None:
        self._reconciler = reconciler
        self._history = history

    def explain(self, query: Mapping[str, str]) -> Answered:
        """``name``, and ``kind`` where it is said: item, batch or tenant."""
        name, kind = query.get("name", "").strip(), query.get("kind")
        if not name:
            return wrong("name: is missing; ask for example ?name=order-17")
        if kind is not None and kind not in set(Subject):
            return wrong(f"kind: {kind!r} is not one of {', '.join(Subject)}")
        found = self._reconciler.explain(name, Subject(kind) if kind else None, self._history)
        if found is None:
            return Answered({"error": STANDBY}, STANDBY_STATUS)
        return Answered(found.to_json(), 200 if found.found else 404)


def wrong(sentence: str) -> Answered:
    """A question that cannot be answered as it was put."""
    return Answered({"error": sentence}, 400)
