"""What the SDK raises, in the words of the ports. Once, here, and nowhere else.

Decides what an error proves. An error that is not known to prove anything means that the outcome is unknown.
"""

from __future__ import annotations

import re

from azure.servicebus.exceptions import (
    MessageAlreadySettled,
    MessageLockLostError,
    MessageNotFoundError,
    MessageSizeExceededError,
    MessagingEntityDisabledError,
    MessagingEntityNotFoundError,
    ServiceBusAuthenticationError,
    ServiceBusAuthorizationError,
    ServiceBusError,
    ServiceBusQuotaExceededError,
    ServiceBusServerBusyError,
)

from dispatcher.ports import Answer

__all__ = ["answer_to", "breaks_link", "is_busy", "refusal", "told"]

_ANSWERS: tuple[tuple[type[Exception], Answer], ...] = (
    (MessageLockLostError, Answer.CONFLICT),
    (MessageNotFoundError, Answer.NOT_FOUND),
    (MessageAlreadySettled, Answer.CONFLICT),
    (MessageSizeExceededError, Answer.REFUSED),
    (ServiceBusQuotaExceededError, Answer.REFUSED),
    (MessagingEntityNotFoundError, Answer.REFUSED),
    (MessagingEntityDisabledError, Answer.REFUSED),
    (ServiceBusAuthenticationError, Answer.REFUSED),
    (ServiceBusAuthorizationError, Answer.REFUSED),
)
_REFUSED_CONDITIONS = (
    "amqp:not-allowed",
    "amqp:not-implemented",
    "com.microsoft:argument-error",
    "com.microsoft:argument-out-of-range",
)
_LINK_STAYS_GOOD = (
    MessageLockLostError,
    MessageNotFoundError,
    MessageAlreadySettled,
    MessageSizeExceededError,
    ServiceBusServerBusyError,
    ServiceBusQuotaExceededError,
)
_REFUSALS: tuple[tuple[type[Exception], str], ...] = (
    (
        MessagingEntityNotFoundError,
        "there is no such queue in this namespace; check its name, and create it if need be",
    ),
    (MessagingEntityDisabledError, "the queue is disabled for receiving; enable it"),
    (ServiceBusAuthenticationError, "the key or token was not accepted; check the connection string or identity"),
    (ServiceBusAuthorizationError, "the key or identity may not use this queue; it needs the right to listen"),
)
_SECRETS = re.compile(
    r"(SharedAccessKey|SharedAccessSignature|sig|token|password)(\s*[=:]\s*)[^;&\s\"']+", re.IGNORECASE
)
_TEXT_MAX = 300


def answer_to(error: BaseException) -> Answer:
    """What an error proves of the act that raised it."""
    for kind, answer in _ANSWERS:
        if isinstance(error, kind):
            return answer
    return Answer.REFUSED if _condition(error) in _REFUSED_CONDITIONS else Answer.UNKNOWN


def is_busy(error: BaseException) -> bool:
    """The broker did nothing and asks to come back later."""
    return isinstance(error, ServiceBusServerBusyError)


def breaks_link(error: BaseException) -> bool:
    """Whether the SDK object that raised this must not be used again."""
    return not isinstance(error, _LINK_STAYS_GOOD)


def refusal(error: BaseException) -> str | None:
    """Why the broker will not have us, for people; None if the error is of another kind."""
    if _status(error) == 404:  # the service answers so to a token for a queue that is not there
        return f"{_REFUSALS[0][1]} ({told(error)})"
    for kind, remedy in _REFUSALS:
        if isinstance(error, kind):
            return f"{remedy} ({told(error)})"
    if isinstance(error, ServiceBusError) and "Status code: 401" in str(error):
        return f"the key or token was not accepted; check the connection string or identity ({told(error)})"
    return None


def told(error: BaseException) -> str:
    """The error on one line of bounded length, without secrets."""
    text = _SECRETS.sub(r"\1\2...", f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    return " ".join(text.split())[:_TEXT_MAX]


def _status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "inner_exception", None), "status_code", None)
    return status if isinstance(status, int) else None


def _condition(error: BaseException) -> str | None:
    condition = getattr(error, "_condition", None)
    return condition.decode("utf-8", "replace") if isinstance(condition, bytes) else condition
