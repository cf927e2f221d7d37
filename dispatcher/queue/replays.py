"""What a message that is sent anew carries of what it was.

Decides the names of these application properties, the new message id, and how much of a long history is kept. Refuses
to know why something is sent anew, and never fails on what another program wrote under these names.

    original_message_id    the id that the sender gave; the item keeps it through every replay
    original_enqueued_at   when the sender sent it, RFC 3339, UTC
    replay_count           how often it was replayed from the dead-letter queue
    replay_reason          why it was dead-lettered the last time
    replay_history         JSON, the newest last: [{"reason", "dead_letter", "message_id", "replayed_at"}, ...]
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dispatcher.core.units import to_text
from dispatcher.errors import BadMessage
from dispatcher.ports import Message
from dispatcher.queue.cloud_events import event_in

__all__ = [
    "DEAD_LETTER_PROPERTIES",
    "HISTORY_CHARS_MAX",
    "Replay",
    "carried_id",
    "copy_id",
    "history",
    "original_enqueued_at",
    "original_id",
    "released_properties",
    "replay_count",
    "replayed_properties",
]

ORIGINAL_ID = "original_message_id"
ORIGINAL_ENQUEUED_AT = "original_enqueued_at"
REPLAY_COUNT = "replay_count"
REPLAY_REASON = "replay_reason"
REPLAY_HISTORY = "replay_history"

DEAD_LETTER_PROPERTIES = frozenset({"DeadLetterReason", "DeadLetterErrorDescription"})
"""The broker's own; a copy that is alive does not carry them."""
HISTORY_CHARS_MAX = 2_000
"""How long the text of a history may be: with the rest far below what an AMQP header of 64 KiB takes."""
_HISTORY_MAX = 10
_ID_MAX = 128
"""Service Bus allows no longer message id."""
_REASON_MAX = 128
_COUNT_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Replay:
    """One replay of the past. Texts are empty where nothing, or nothing readable, is known."""

    reason: str
    """Why it had been dead-lettered."""
    dead_letter: int | None
    """The sequence number of that dead letter."""
    message_id: str
    """The message id of that dead letter."""
    replayed_at: str

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "reason": self.reason,
            "dead_letter": self.dead_letter,
            "message_id": self.message_id,
            "replayed_at": self.replayed_at,
        }


def carried_id(message: Message) -> str | None:
    """The id that the item had when its sender sent it, if this is a message that was sent anew."""
    carried = message.properties.get(ORIGINAL_ID)
    return carried if isinstance(carried, str) and 0 < len(carried) <= _ID_MAX else None


def original_id(message: Message) -> str:
    """The id of the item that the message asks for: what its sender called it, however often it was sent anew."""
    return carried_id(message) or message.message_id or _event_id(message) or f"sequence-{message.sequence_number}"


def original_enqueued_at(message: Message) -> str:
    """When its sender sent it, as text."""
    carried = message.properties.get(ORIGINAL_ENQUEUED_AT)
    return carried if isinstance(carried, str) and 0 < len(carried) <= _ID_MAX else to_text(message.enqueued_at)


def replay_count(properties: Mapping[str, Any]) -> int:
    """How often a message was replayed."""
    count = properties.get(REPLAY_COUNT)
    is_count = isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= _COUNT_MAX
    return count if is_count else 0  # type: ignore[return-value]


def history(properties: Mapping[str, Any]) -> tuple[Replay, ...]:
    """The replays that are still written down, the newest last."""
    text = properties.get(REPLAY_HISTORY)
    if not isinstance(text, str):
        return ()
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    return tuple(_replay(each) for each in entries if isinstance(each, dict)) if isinstance(entries, list) else ()


def copy_id(kind: str, queue: str, message: Message) -> str:
    """The message id of a copy. The same message gives the same id, so that the broker swallows a second copy."""
    facts = json.dumps([queue.lower(), message.sequence_number, message.message_id, to_text(message.enqueued_at)])
    return f"{kind}-{hashlib.sha256(facts.encode()).hexdigest()[:32]}"


def replayed_properties(message: Message, reason: str, now: datetime) -> dict[str, str | int]:
    """What the copy of a dead letter carries beside the properties that it had."""
    done = history(message.properties)
    this = Replay(reason[:_REASON_MAX], message.sequence_number, message.message_id[:_ID_MAX], to_text(now))
    return {
        **released_properties(message),
        REPLAY_COUNT: min(replay_count(message.properties) + 1, _COUNT_MAX),
        REPLAY_REASON: reason[:_REASON_MAX],
        REPLAY_HISTORY: _bounded([*done, this]),
    }


def released_properties(message: Message) -> dict[str, str | int]:
    """What the copy of a message that was only deferred carries beside the properties that it had."""
    return {ORIGINAL_ID: original_id(message), ORIGINAL_ENQUEUED_AT: original_enqueued_at(message)}


def _event_id(message: Message) -> str | None:
    try:
        event = event_in(message)
    except BadMessage:
        return None
    return event.id if event is not None and 0 < len(event.id) <= _ID_MAX else None


def _replay(entry: Mapping[str, Any]) -> Replay:
    number = entry.get("dead_letter")
    return Replay(
        reason=_text(entry.get("reason"), _REASON_MAX),
        dead_letter=number if isinstance(number, int) and not isinstance(number, bool) else None,
        message_id=_text(entry.get("message_id"), _ID_MAX),
        replayed_at=_text(entry.get("replayed_at"), _ID_MAX),
    )


def _text(value: object, length_max: int) -> str:
    return value[:length_max] if isinstance(value, str) else ""


def _bounded(replays: Sequence[Replay]) -> str:
    """The newest entries, as many as there is room for."""
    kept = list(replays[-_HISTORY_MAX:])
    while True:
        text = json.dumps([each.to_json() for each in kept], separators=(",", ":"), ensure_ascii=False)
        text = text.encode("utf-8", "replace").decode()  # half a surrogate pair could not be sent
        if len(text) <= HISTORY_CHARS_MAX or len(kept) == 1:
            return text
        del kept[0]
