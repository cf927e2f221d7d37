"""What may enter a queue: messages that are not too large, that there is room for, that were not there before.

Says no in the words of Service Bus, and begins the changes for what may come in. The faults that turn messages
away bite here. Writing the changes is the business of `entity`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .config import QueueConfig
from .duplicates import DuplicateWindow
from .errors import (
    DECODE_ERROR,
    ENTITY_DISABLED,
    MESSAGE_SIZE_EXCEEDED,
    RESOURCE_LIMIT_EXCEEDED,
    SERVER_BUSY,
    AmqpError,
    CodecError,
)
from .faults import Fault, Faults
from .messages import Content, message_id_of
from .model import Change
from .queue import Queue


class Entry(NamedTuple):
    """What becomes of messages that were sent together."""

    changes: list[Change]  # for those that are new
    sequences: list[int]  # of all of them; a duplicate has the number of the first
    awaited: list[bytes]  # ids whose first message was sent by somebody else and is still being written


class Admission:
    """The door of one queue."""

    def __init__(self, config: QueueConfig, path: str, queue: Queue, faults: Faults) -> None:
        self._size_max = config.max_message_size
        self._path = path
        self._queue = queue
        self._faults = faults

    def is_open(self) -> bool:
        """Whether there is nothing to ask before a message comes in: the usual case, and the fast one."""
        return not self._faults.armed and self._queue.size_max is None and self._queue.duplicates is None

    def refuse(self, contents: Sequence[Content]) -> AmqpError | None:
        """Whether and why none of the messages may come in. That they are not too large has been seen to."""
        if self._faults.armed:
            error = self.refuse_operations(len(contents))
            if error is not None:
                return error
            if self._faults.bites(Fault.FILL_QUOTA, self._path):
                return self._full()
        return None if self._queue.has_room(contents) else self._full()

    def refuse_operations(self, count: int) -> AmqpError | None:
        """Whether and why so many operations, of any kind, may not be done now."""
        if self._faults.bites(Fault.DISABLE_QUEUE, self._path):
            return AmqpError(ENTITY_DISABLED, f"The messaging entity '{self._path}' is disabled.")
        if not self._faults.all_credits(count, self._path):
            return AmqpError(SERVER_BUSY, "The request was terminated because the entity is being throttled.")
        return None

    def refuse_sizes(self, contents: Sequence[Content]) -> AmqpError | None:
        """Whether and why one of the messages is too large."""
        size = max((content.size for content in contents), default=0)
        return self.too_large(size) if size > self._size_max else None

    def too_large(self, size: int) -> AmqpError:
        """The refusal of a message of that many bytes."""
        return AmqpError(
            MESSAGE_SIZE_EXCEEDED,
            f"The message of {size} bytes is larger than the {self._size_max} bytes that {self._path} allows.",
        )

    def _full(self) -> AmqpError:
        limit = "" if self._queue.size_max is None else f" of {self._queue.size_max} bytes"
        return AmqpError(
            RESOURCE_LIMIT_EXCEEDED, f"The maximum entity size{limit} has been reached or exceeded for {self._path}."
        )

    def begin(self, contents: Sequence[Content], now_ms: int) -> Entry:
        """Begins the changes. Raises AmqpError if a message id cannot be read; nothing has begun then."""
        if self._queue.duplicates is not None:
            return self._begin_new(contents, self._queue.duplicates, now_ms)
        changes = [self._queue.begin_put(content, now_ms) for content in contents]
        return Entry(changes, [change.sequence for change in changes], [])

    def _begin_new(self, contents: Sequence[Content], window: DuplicateWindow, now_ms: int) -> Entry:
        try:
            message_ids = [message_id_of(content) for content in contents]
        except CodecError as error:
            raise AmqpError(DECODE_ERROR, f"A message id cannot be read: {error}") from error
        entry = Entry([], [], [])
        own: set[bytes] = set()
        for content, message_id in zip(contents, message_ids, strict=True):
            first = None if message_id is None else window.find(message_id, now_ms)
            if first is None:
                change = self._queue.begin_put(content, now_ms, message_id)
                entry.changes.append(change)
                first = change.sequence
                if message_id is not None:
                    window.begin(message_id, first)
                    own.add(message_id)
            elif message_id is not None and message_id not in own:
                entry.awaited.append(message_id)
            entry.sequences.append(first)
        return entry
