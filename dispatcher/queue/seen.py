"""What was seen of a queue, held against what it should be. Pure.

Decides what a look without the right to manage proves, and what it leaves open. Refuses to know how it was made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from dispatcher.core.words import counted
from dispatcher.ports import DeadLetter, Message

__all__ = ["PARTITION_BITS", "Expected", "Finding", "Level", "Seen", "findings", "notes_of_running"]

PARTITION_BITS = 48
"""A partitioned queue writes the partition's number into the bits from here on of every sequence number."""
_LOCK_TOLERANCE = timedelta(seconds=2)
"""The broker's clock and ours may differ, and the message travelled."""
_EXPIRED = "TTLExpiredException"
_TOO_OFTEN = "MaxDeliveryCountExceeded"


class Level(StrEnum):
    """What a finding is."""

    MISTAKE = "mistake"
    WARNING = "warning"
    FINE = "fine"
    UNSEEN = "unseen"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about a queue, in a sentence; where it is wrong, the remedy comes after a semicolon."""

    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class Expected:
    """What the configuration says of the queue."""

    lock_duration: timedelta
    max_delivery_count: int
    time_to_live: timedelta | None
    sends: bool = False
    """Whether the dispatcher has to send to it."""
    receives: bool = True
    """Whether it has to receive from it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look showed. None: not looked at, or nothing to see it by."""

    listen_refused: str | None = None
    """Why receiving was refused; None: it was not."""
    send_refused: str | None = None
    """Why sending was refused; None: it was not."""
    lock: timedelta | None = None
    """How long a lock lasts, by one that was given."""
    messages: Sequence[Message] = ()
    """Some of those in the queue."""
    dead: Sequence[tuple[Message, DeadLetter]] = ()
    """Some of those in its dead-letter queue."""


def findings(seen: Seen, expected: Expected) -> Iterator[Finding]:
    """Everything that the look says, mistakes first in each part."""
    if expected.receives:
        if seen.listen_refused is not None:
            yield Finding(Level.MISTAKE, seen.listen_refused)
        else:
            yield Finding(Level.FINE, "we may listen")
    if expected.sends:
        if seen.send_refused is not None:
            yield Finding(Level.MISTAKE, seen.send_refused)
        else:
            yield Finding(Level.FINE, "we may send")
    elif seen.listen_refused is None:
        may = "we may send" if seen.send_refused is None else "we may not send"
        yield Finding(Level.FINE, f"{may}, which only enqueue, dead-letters replay and release need")
    if expected.receives and seen.listen_refused is None:
        yield from _lock(seen, expected)
        yield from _partitions(seen)
        yield from _deliveries(seen, expected)
        yield from _times_to_live(seen, expected)
        yield Finding(Level.FINE, "sessions are off")
        yield Finding(Level.UNSEEN, "duplicate detection: it only shows by sending twice")


def notes_of_running(lock: timedelta | None, partitioned: bool, expected_lock: timedelta) -> list[str]:
    """What a running service has noticed by the messages that it received; one line each."""
    notes = []
    if lock is not None and lock < expected_lock - _LOCK_TOLERANCE:
        notes.append(_short_lock(lock, expected_lock))
    if partitioned:
        notes.append(_PARTITIONED)
    return notes


_PARTITIONED = (
    "the queue is partitioned, so that deferred messages of several partitions cannot be asked for together; "
    "create it without partitions"
)


def _short_lock(lock: timedelta, expected: timedelta) -> str:
    return (
        f"a lock lasts {_seconds(lock)} and service_bus.lock_duration says {_seconds(expected)}; "
        "set both to the same, 60 s or more"
    )


def _lock(seen: Seen, expected: Expected) -> Iterator[Finding]:
    if seen.lock is None:
        yield Finding(Level.UNSEEN, "lock duration: there was no message to lock")
    elif seen.lock < expected.lock_duration - _LOCK_TOLERANCE:
        yield Finding(Level.MISTAKE, _short_lock(seen.lock, expected.lock_duration))
    else:
        yield Finding(Level.FINE, f"a lock lasts {_seconds(seen.lock)}")


def _partitions(seen: Seen) -> Iterator[Finding]:
    numbers = [each.sequence_number for each in (*seen.messages, *(message for message, _ in seen.dead))]
    if any(number >> PARTITION_BITS for number in numbers):
        yield Finding(Level.MISTAKE, _PARTITIONED)
    elif numbers:
        yield Finding(Level.FINE, f"not partitioned, by the numbers of {counted(len(numbers), 'message')}")
    else:
        yield Finding(Level.UNSEEN, "partitions: there was no message to see them by")


def _deliveries(seen: Seen, expected: Expected) -> Iterator[Finding]:
    given_up = [message.delivery_count for message, letter in seen.dead if letter.reason == _TOO_OFTEN]
    if given_up and min(given_up) < expected.max_delivery_count:
        yield Finding(
            Level.MISTAKE,
            f"the broker gave a message up after {min(given_up)} deliveries; set the queue's max delivery count to "
            f"{expected.max_delivery_count} or more",
        )
        return
    most = max((message.delivery_count for message in seen.messages), default=0)
    so_far = f" (more than {most}, by a message that is still there)" if most else ""
    yield Finding(Level.UNSEEN, f"max delivery count{so_far}: it only shows when a message is given up")


def _times_to_live(seen: Seen, expected: Expected) -> Iterator[Finding]:
    lives = [each.expires_at - each.enqueued_at for each in seen.messages if each.expires_at is not None]
    if lives and expected.time_to_live is None:
        yield Finding(
            Level.WARNING,
            f"a message lives for {_seconds(min(lives))} only, which its sender or the queue says; what is held for "
            "longer is dead-lettered",
        )
    elif lives and expected.time_to_live is not None and min(lives) < expected.time_to_live - _LOCK_TOLERANCE:
        yield Finding(
            Level.WARNING,
            f"a message lives for {_seconds(min(lives))} and service_bus.time_to_live says "
            f"{_seconds(expected.time_to_live)}; its sender or the queue says otherwise",
        )
    if any(letter.reason == _EXPIRED for _, letter in seen.dead):
        yield Finding(Level.FINE, "what outlives its time is dead-lettered, as one message was")
    else:
        yield Finding(Level.UNSEEN, "dead-lettering on expiration: no message has outlived its time")


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.0f} s"
