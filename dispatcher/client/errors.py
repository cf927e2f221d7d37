"""What can go wrong for a program that sends work. Each error says what is known to have happened, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dispatcher.core.outcomes import Outcome
from dispatcher.errors import DispatcherError

__all__ = ["ClientError", "InvalidWork", "NotInTime", "RepliesRefused", "SendFailed"]


class ClientError(DispatcherError):
    """The base of all errors of the client."""


class InvalidWork(ClientError):
    """The dispatcher would refuse this. Nothing was sent.

    ``reason`` is short and stable, as in a dead letter; ``position`` is which of several items it is, from 0.
    """

    def __init__(self, reason: str, description: str, position: int = 0) -> None:
        super().__init__(f"{description} ({reason})")
        self.reason = reason
        self.description = description
        self.position = position


class SendFailed(ClientError):
    """The broker did not confirm all that was to be sent.

    ``sent`` were confirmed. ``unsent`` were not: if ``refused``, they are not on the queue, otherwise they may be. Send
    them again with the same message ids: a queue with duplicate detection keeps one of each.
    """

    def __init__(self, why: str, sent: Sequence[str], unsent: Sequence[str], *, refused: bool) -> None:
        what = "were refused" if refused else "may have been sent or not"
        super().__init__(f"{len(unsent)} of {len(sent) + len(unsent)} messages {what}: {why}")
        self.why = why
        self.sent = tuple(sent)
        self.unsent = tuple(unsent)
        self.refused = refused


class NotInTime(ClientError, TimeoutError):
    """Not all outcomes have come within the time; ``outcomes`` have, those of ``missing`` may still."""

    def __init__(self, outcomes: Mapping[str, Outcome], missing: Sequence[str]) -> None:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        super().__init__(f"{len(missing)} of {len(outcomes) + len(missing)} outcomes have not come yet: {shown}")
        self.outcomes = dict(outcomes)
        self.missing = tuple(missing)


class RepliesRefused(ClientError):
    """The broker does not let us receive from the reply queue; the text says why, and what to do."""
