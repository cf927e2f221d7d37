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
    OperationTimeoutError,
    ServiceBusAuthenticationError,
    ServiceBusAuthorizationError,
    ServiceBusConnectionError,
    ServiceBusQuotaExceededError,
    ServiceBusServerBusyError,
)

from dispatcher.ports import Answer
from dispatcher.queue.access import NoToken

__all__ = ["answer_to", "breaks_link", "is_busy", "is_silence", "refusal", "told"]

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
    (MessagingEntityDisabledError, "the queue is disabled; enable it"),
    (
        ServiceBusAuthenticationError,
        "the key or token was not accepted; check the connection string or identity, and this machine's clock",
    ),
    (
        ServiceBusAuthorizationError,
        "the key or identity may not do this here; it needs the right to listen (to send, where something is sent)",
    ),
)
_NOT_ACCEPTED = _REFUSALS[2][1]
_UNTRUSTED = "the broker's certificate is not trusted; name what signed it in service_bus.ca_file, or look who answers"
_WITH_SESSIONS = "the queue requires sessions, which items here do not have; create it without"
_SECRETS = re.compile(
    r"(SharedAccessKey|SharedAccessSignature|(?<![a-z])(?:sig|token|password))(\s*[=:]\s*)[^;&\s\"']+", re.IGNORECASE
)
_TOKEN_ENDED = re.compile(r"CBS Authentication Expired|\btoken\b.*\bexpired\b", re.IGNORECASE)
"""What the SDK or the broker says where nobody asked for a new token in time, for example on a link out of use."""
_TEXT_MAX = 300


def answer_to(error: BaseException) -> Answer:
    """What an error proves of the act that raised it."""
    if _ended_meanwhile(error):
        return Answer.UNKNOWN
    for kind, answer in _ANSWERS:
        if isinstance(error, kind):
            return answer
    return Answer.REFUSED if _condition(error) in _REFUSED_CONDITIONS else Answer.UNKNOWN


def is_busy(error: BaseException) -> bool:
    """The broker did nothing and asks to come back later."""
    return isinstance(error, ServiceBusServerBusyError)


def is_silence(error: BaseException) -> bool:
    """Nobody answered in time; any other failure tells at least how things are."""
    reasons = (error, error.__cause__, getattr(error, "inner_exception", None))
    return any(isinstance(reason, (TimeoutError, OperationTimeoutError)) for reason in reasons)


def breaks_link(error: BaseException) -> bool:
    """Whether the SDK object that raised this must not be used again."""
    return not isinstance(error, _LINK_STAYS_GOOD)


def refusal(error: BaseException) -> str | None:
    """Why the broker will not have us, for people; None if the error is of another kind."""
    inner = getattr(error, "inner_exception", None)
    if isinstance(error, NoToken) or isinstance(inner, NoToken):
        return _bounded(str(inner or error))
    if _ended_meanwhile(error):
        return None  # a new link shows a new token; if that is refused too, it is told as that
    if _status(error) == 404:  # the service answers so to a token for a queue that is not there
        return f"{_REFUSALS[0][1]} ({told(error)})"
    if _status(error) == 401:  # which of its errors the SDK makes of it depends on the way it connects
        return f"{_NOT_ACCEPTED} ({_bounded(_description(inner) or told(error))})"
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return f"{_UNTRUSTED} ({told(error)})"
    if _condition(error) == "amqp:not-allowed" and "session" in str(error):
        return f"{_WITH_SESSIONS} ({told(error)})"
    for kind, remedy in _REFUSALS:
        if isinstance(error, kind):
            return f"{remedy} ({told(error)})"
    return None


def told(error: BaseException) -> str:
    """The error on one line of bounded length, without secrets."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return _bounded(text)


def _bounded(text: str) -> str:
    return " ".join(_SECRETS.sub(r"\1\2...", text).split())[:_TEXT_MAX]


def _ended_meanwhile(error: BaseException) -> bool:
    """Whether a token that was good ended on an open link: nothing was wrong with it, and nothing is proved."""
    if _status(error) is not None:  # the answer to a token that was shown just now
        return False
    if isinstance(error, (ServiceBusAuthenticationError, ServiceBusAuthorizationError, ServiceBusConnectionError)):
        return _TOKEN_ENDED.search(str(error)) is not None
    return False


def _status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "inner_exception", None), "status_code", None)
    return status if isinstance(status, int) else None


def _description(inner: object) -> str:
    text = getattr(inner, "status_description", None) or ""
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def _condition(error: BaseException) -> str | None:
    condition = getattr(error, "_condition", None)
    return condition.decode("utf-8", "replace") if isinstance(condition, bytes) else condition
