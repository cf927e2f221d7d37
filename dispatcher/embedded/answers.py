"""From the store's errors to answers: what an act says when its write failed.

Decides that a write that did not happen is REFUSED and one that nobody knows of is UNKNOWN. Knows nothing of the act.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from dispatcher.embedded.objects import StoreWriteFailed
from dispatcher.errors import OutcomeUnknown
from dispatcher.ports import Answer

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Failed:
    """A ``with`` block whose failed write ends it quietly and leaves its answer here."""

    answer: Answer | None = None
    text: str = ""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, StoreWriteFailed | OutcomeUnknown):
            return False
        self.answer = Answer.UNKNOWN if isinstance(error, OutcomeUnknown) else Answer.REFUSED
        self.text = str(error)
        log.error("store.write_failed", answer=self.answer.value, error=self.text)
        return True
