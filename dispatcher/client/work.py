"""One item of work, as a program asks for it, and the message that it becomes."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from azure.servicebus import ServiceBusMessage

from dispatcher.client.errors import InvalidWork
from dispatcher.queue.cloud_events import MESSAGE_ID_LENGTH_MAX
from dispatcher.queue.messages import to_body

__all__ = ["Outgoing", "Work"]


@dataclass(frozen=True, slots=True)
class Work:
    """One item: the task that it names, and the task's parameters."""

    task: str
    params: Mapping[str, Any] = field(default_factory=dict)
    tenant: str | None = None
    """Whose work it is; None: the queue's only tenant, or its default."""
    priority: int | None = None
    """Higher goes first; None: ordinary work."""
    message_id: str | None = None
    """Finds copies and keys results; None: a new one. At most 128 characters."""
    reply: bool | None = None
    """Whether the outcome is wanted; None: if the client has a reply queue."""
    at: datetime | None = None
    """When the broker shall put it on the queue, with a time zone; None: now."""
    traceparent: str | None = None
    """The span that sends it, as W3C Trace Context writes it; carried through to the pod and to the outcome."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message that is ready to be sent."""

    message_id: str
    body: bytes
    at: datetime | None = None
    traceparent: str | None = None
    asks: bool = False
    """Whether its outcome will be told."""

    @classmethod
    def of(cls, work: Work, reply_to: str | None, position: int = 0) -> Outgoing:
        """The message of that work. Raises InvalidWork for what no message can hold."""
        asks = reply_to is not None if work.reply is None else work.reply
        if asks and reply_to is None:
            raise InvalidWork("no_reply_queue", "reply needs a client with reply_to; give it one", position)
        message_id = str(uuid.uuid4()) if work.message_id is None else work.message_id
        if not 1 <= len(message_id) <= MESSAGE_ID_LENGTH_MAX:
            raise InvalidWork(
                "bad_message", f"message_id must have 1 to {MESSAGE_ID_LENGTH_MAX} characters, not {len(message_id)}",
                position,
            )  # fmt: skip
        if work.at is not None and work.at.tzinfo is None:
            raise InvalidWork("bad_message", "at has no time zone; write datetime.now(UTC) + ...", position)
        try:
            body = to_body(work.task, work.params, work.tenant, work.priority, reply_to if asks else None)
        except (TypeError, ValueError) as error:
            raise InvalidWork("bad_json", f"it cannot be written as JSON: {error}", position) from error
        return cls(message_id, body, work.at, work.traceparent, asks)

    def message(self) -> ServiceBusMessage:
        """As the SDK sends it. Made anew for each sending: the SDK keeps marks in it."""
        return ServiceBusMessage(
            self.body,
            message_id=self.message_id,
            content_type="application/json",
            scheduled_enqueue_time_utc=self.at,
            application_properties=None if self.traceparent is None else {"traceparent": self.traceparent},
        )
