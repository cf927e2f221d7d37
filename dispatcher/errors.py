"""The only errors that cross rooms. Each edge translates what its SDK raises into one of these, once, at the door."""

from __future__ import annotations

__all__ = ["BadConfiguration", "BadMessage", "Deposed", "DispatcherError", "LookFailed", "OutcomeUnknown"]


class DispatcherError(Exception):
    """Something went wrong that a person may have to read about."""


class BadConfiguration(DispatcherError):
    """The configuration cannot be used. Carries every mistake at once, one line each: field path, fault, remedy."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class BadMessage(DispatcherError):
    """A message that can never become work, whoever reads it again.

    ``reason`` is short and stable, the text is for people. ``reply_to`` is where its sender wants to hear of it,
    if that much could be read and is allowed.
    """

    def __init__(self, reason: str, description: str, reply_to: str | None = None) -> None:
        super().__init__(description)
        self.reason = reason
        self.description = description
        self.reply_to = reply_to


class LookFailed(DispatcherError):
    """A read did not answer, or not whole. Nothing may be concluded from it; the cycle ends and looks again."""


class OutcomeUnknown(DispatcherError):
    """A write got no answer: it may have happened, may still happen, or may never happen."""


class Deposed(DispatcherError):
    """Another leader has written since we last read. Act no more on what is in memory."""
