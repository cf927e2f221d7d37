"""Whether the broker can be reached as configured, and whether the queues are what the dispatcher needs them to be.

Decides on what the settings say of them; what a queue really is, only the broker knows. Each line says what would go
wrong. The figures and their reasons are in docs/queue-setup.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from dispatcher.connection_string import read_connection_string
from dispatcher.core.budgets import WhenExhausted
from dispatcher.core.windows import WindowKind
from dispatcher.settings.checks import Context, Pieces
from dispatcher.settings.mistakes import Location, Mistake, path_text
from dispatcher.settings.values import duration_text

__all__ = ["broker_mistakes_of", "broker_warnings_of"]

LOCK_DURATION_MIN = timedelta(seconds=60)
"""Room to receive, record, launch and defer within one lock, through a slow cluster and a lost connection."""
DELIVERIES_MIN = 100
"""Every crash may cost each message under a lock one delivery; a crash loop restarts up to 12 times an hour."""
DUPLICATE_WINDOW_MIN = timedelta(days=1)
"""A producer that sends again after an outage of a day must not make a second item."""
_LONGEST_WINDOW = {
    WindowKind.HOUR: timedelta(hours=1),
    WindowKind.DAY: timedelta(days=1),
    WindowKind.WEEK: timedelta(days=7),
    WindowKind.MONTH: timedelta(days=31),
}


def broker_mistakes_of(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    """Everything that keeps the service from reaching its queues, or would lose items."""
    if not context.local:
        yield from _ways_in(pieces, context)
        yield from _the_string_itself(pieces, context)
        yield from _certificates(pieces, context)
    if not pieces.service_bus.dead_letter_expired:
        fault = "a message that outlives its time would vanish without a trace"
        yield _at(context, "dead_letter_expired", fault, "turn dead-lettering on expiration on, on every queue")


def broker_warnings_of(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    """Everything about the queues that a person should change, though the service starts."""
    bus = pieces.service_bus
    if not context.local and bus.connection_string is None and bus.namespace is None:
        remedy = "set connection_string_file, or namespace with identity"
        yield _at(context, "namespace", "nothing says how to reach the broker, so that only --local runs", remedy)
    if context.local:
        return  # it makes its queues itself, as they are described
    if bus.lock_duration < LOCK_DURATION_MIN:
        fault = f"{duration_text(bus.lock_duration)} is short: locks may end before a slow cluster has taken the work"
        yield _at(context, "lock_duration", fault, f"set the queues to {duration_text(LOCK_DURATION_MIN)} or more")
    if bus.max_delivery_count < DELIVERIES_MIN:
        fault = f"after {bus.max_delivery_count} deliveries a crash loop would have dead-lettered items without a fault"
        yield _at(context, "max_delivery_count", fault, f"set the queues to {DELIVERIES_MIN} or more")
    window = bus.duplicate_detection_window
    if window < DUPLICATE_WINDOW_MIN:
        fault = (
            f"{duration_text(window)} is short"
            if window
            else "without it a message that is sent twice is worked on twice"
        )
        yield _at(
            context,
            "duplicate_detection_window",
            fault,
            f"create the queues with {duration_text(DUPLICATE_WINDOW_MIN)} or more",
        )
    yield from _times_to_live(pieces, context)


def expired_signature(text: str, now: datetime) -> str | None:
    """What to say of a connection string whose ready-made signature is over; None: nothing."""
    until = read_connection_string(text).signature_until
    if until is None or until > now:
        return None
    return f"its signature ended at {until:%Y-%m-%d %H:%M} UTC; make a new one, or use a key, which does not end"


def _at(context: Context, key: str, fault: str, remedy: str) -> Mistake:
    location: Location = ("service_bus", key)
    return Mistake(path_text(location), fault, remedy, context.place_of(location))


def _ways_in(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    bus = pieces.service_bus
    if bus.namespace is not None and bus.connection_string is not None:
        yield _at(context, "namespace", "a connection string is given too", "keep one of them; the identity is safer")
    if bus.client_id is not None and (bus.namespace is None or bus.identity == "cli"):
        why = "belongs to namespace, which is not set" if bus.namespace is None else "is of no use with identity: cli"
        yield _at(context, "client_id", why, "take it out")


def _the_string_itself(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    bus = pieces.service_bus
    if bus.connection_string is None:
        return
    key = "connection_string" if bus.connection_string_file is None else "connection_string_file"
    try:
        read = read_connection_string(bus.connection_string.get_secret_value())
    except ValueError as error:
        fault, _, remedy = str(error).partition("; ")
        yield _at(context, key, fault, remedy)
        return
    others = [queue.name for _, queue in pieces.queues if read.queue is not None and queue.name != read.queue]
    if others:
        fault = f"it opens only the queue {read.queue!r} (EntityPath), and there is {others[0]!r} to receive from"
        yield _at(context, key, fault, "use one of the namespace, or one for each dispatcher")


def _certificates(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    ca_file = pieces.service_bus.ca_file
    if ca_file is not None and not _is_readable(context.folder / ca_file):
        yield _at(
            context, "ca_file", f"{context.folder / ca_file} cannot be read", "mount it there, or correct the path"
        )


def _is_readable(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False


def _times_to_live(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    live = pieces.service_bus.time_to_live
    holds = [
        (_LONGEST_WINDOW[budget.window], budget.name)
        for _, budget in pieces.budgets
        if budget.when_exhausted is WhenExhausted.HOLD
    ]
    if live is None or not holds:
        return
    longest, name = max(holds)
    if live <= longest:
        fault = f"{duration_text(live)} is no longer than budget {name!r} may hold work ({duration_text(longest)})"
        yield _at(context, "time_to_live", fault, "let messages live longer, or hold them for less")
