"""Outcomes as messages: one structured CloudEvent each, and back again for whoever waits for them.

Decides how an outcome is written down. The event's id is the message's id too, so that a reply queue that detects
duplicates swallows what is sent twice, and a consumer that keeps ids can do the same.

Specification: CloudEvents 1.0.2, JSON format, structured mode of the AMQP binding, https://github.com/cloudevents/spec
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from azure.servicebus import ServiceBusMessage
from cloudevents.core.bindings import amqp
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from dispatcher.core.outcomes import Outcome, OutcomeKind
from dispatcher.core.units import Money, from_text, to_text
from dispatcher.core.work import Placement

__all__ = ["OUTCOME_SCHEMA", "TYPE_PREFIX", "from_body", "to_body", "to_message"]

TYPE_PREFIX = "burst.item."
SOURCE_PREFIX = "/burst-dispatcher/queues/"
CURRENCY = "USD"
_FORMAT = JSONFormat()


def to_body(outcome: Outcome) -> bytes:
    """The event as JSON."""
    attributes: dict[str, Any] = {
        "specversion": "1.0",
        "id": outcome.event_id,
        "source": SOURCE_PREFIX + outcome.queue,
        "type": TYPE_PREFIX + outcome.kind,
        "time": outcome.ruled_at,
        "datacontenttype": "application/json",
    }
    if outcome.message_id:
        attributes["subject"] = outcome.message_id
    if outcome.traceparent is not None:
        attributes["traceparent"] = outcome.traceparent
    return amqp.to_structured(CloudEvent(attributes, _data(outcome)), _FORMAT).application_data


def to_message(outcome: Outcome) -> ServiceBusMessage:
    """The message for the reply queue. Its correlation id is the item's own message id."""
    return ServiceBusMessage(
        to_body(outcome),
        message_id=outcome.event_id,
        correlation_id=outcome.message_id,
        subject=TYPE_PREFIX + outcome.kind,
        content_type=_FORMAT.get_content_type(),
    )


def from_body(body: bytes, reply_to: str) -> Outcome:
    """The outcome that a message holds. Raises ValueError for anything else, also for one of a later version."""
    try:
        event = _FORMAT.read(_whole, body)
        outcome = _outcome(event.get_data(), event.get_time(), event.get_extension("traceparent"), reply_to)
    except CloudEventValidationError as error:
        raise ValueError(f"not an outcome: {'; '.join(error.errors)} of the event") from error
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"not an outcome: {type(error).__name__} {error}") from error
    if event.get_type() != TYPE_PREFIX + outcome.kind:
        raise ValueError(f"not an outcome: an event of the type {event.get_type()}")
    return outcome


def _whole(attributes: dict[str, Any], data: Any) -> CloudEvent:
    """Refuses what the library would make up where it is missing."""
    missing = [name for name in OUTCOME_SCHEMA["required"] if name not in attributes and name != "data"]
    if missing:
        raise ValueError(f"without {' and '.join(missing)}")
    return CloudEvent(attributes, data)


def _data(outcome: Outcome) -> dict[str, Any]:
    return {
        "id": outcome.message_id,
        "queue": outcome.queue,
        "sequence_number": outcome.sequence_number,
        "outcome": outcome.kind.value,
        "reason": outcome.reason,
        "description": outcome.description,
        "result_ref": outcome.result_ref,
        "task": outcome.task,
        "tenant": outcome.tenant,
        "attempts": outcome.attempts,
        "placement": outcome.placement and outcome.placement.value,
        "cost": None if outcome.cost is None else {"amount": str(outcome.cost), "currency": CURRENCY},
        "queued_at": to_text(outcome.enqueued_at),
        "started_at": outcome.started_at and to_text(outcome.started_at),
        "finished_at": outcome.finished_at and to_text(outcome.finished_at),
    }


def _outcome(data: object, ruled_at: datetime | None, traceparent: object, reply_to: str) -> Outcome:
    if not isinstance(data, Mapping) or ruled_at is None:
        raise TypeError("without data or time")
    cost = data["cost"]
    return Outcome(
        reply_to=reply_to,
        kind=OutcomeKind(data["outcome"]),
        queue=data["queue"],
        sequence_number=data["sequence_number"],
        message_id=data["id"],
        task=data["task"],
        tenant=data["tenant"],
        enqueued_at=from_text(data["queued_at"]),
        ruled_at=ruled_at,
        attempts=data["attempts"],
        placement=data["placement"] and Placement(data["placement"]),
        started_at=data["started_at"] and from_text(data["started_at"]),
        finished_at=data["finished_at"] and from_text(data["finished_at"]),
        cost=None if cost is None else Money.from_usd(cost["amount"]),
        reason=data["reason"],
        description=data["description"],
        result_ref=data["result_ref"],
        traceparent=traceparent if isinstance(traceparent, str) else None,
    )


# --- the contract, for consumers of other languages ------------------------------------------------------------------


def _text(description: str, *, null: bool = False, **more: Any) -> dict[str, Any]:
    return {"type": ["string", "null"] if null else "string", "description": description, **more}


def _time(description: str, *, null: bool = False) -> dict[str, Any]:
    return _text(description, null=null, format="date-time")


_DATA_PROPERTIES: dict[str, Any] = {
    "id": _text("The message id of the item."),
    "queue": _text("The queue that the item came from."),
    "sequence_number": {"type": "integer", "description": "Its number there."},
    "outcome": {"enum": [kind.value for kind in OutcomeKind]},
    "reason": _text("Of a dead letter: short and stable, the DeadLetterReason.", null=True),
    "description": _text("Of a dead letter: for people, with the end of the log.", null=True),
    "result_ref": _text("Where the result lies, if the task says so.", null=True),
    "task": _text("The task; null where the message never became an item.", null=True),
    "tenant": _text("The tenant; null where the message never became an item.", null=True),
    "attempts": {"type": "integer", "minimum": 0, "description": "Jobs that were made for it."},
    "placement": {"enum": [*(place.value for place in Placement), None], "description": "Where it ran last."},
    "cost": {
        "type": ["object", "null"],
        "description": "What its pods cost on the virtual node, by when they were seen; null: they were not seen.",
        "properties": {"amount": _text("An exact decimal.", pattern=r"^\d+(\.\d+)?$"), "currency": {"const": CURRENCY}},
        "required": ["amount", "currency"],
        "additionalProperties": False,
    },
    "queued_at": _time("When the broker took the message."),
    "started_at": _time("When its last run began.", null=True),
    "finished_at": _time("When its last run ended.", null=True),
}

OUTCOME_SCHEMA: Mapping[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "urn:burst-dispatcher:outcome",
    "title": "The outcome of an item",
    "description": "A structured CloudEvent, sent to the reply queue that the item's message named.",
    "type": "object",
    "properties": {
        "specversion": {"const": "1.0"},
        "id": _text("The same for every telling of one end of one item; also the id of the message."),
        "source": _text(f"{SOURCE_PREFIX} and the name of the queue that the item came from."),
        "type": {"enum": [TYPE_PREFIX + kind for kind in OutcomeKind]},
        "subject": _text("The message id of the item; also the correlation id of the message."),
        "time": _time("When it was ruled that the item ends so."),
        "datacontenttype": {"const": "application/json"},
        "traceparent": _text("The trace that the item's message named."),
        "data": {
            "type": "object",
            "properties": _DATA_PROPERTIES,
            "required": sorted(_DATA_PROPERTIES),
        },
    },
    "required": ["specversion", "id", "source", "type", "time", "data"],
}
"""What an outcome looks like. Fields may be added: consumers leave alone what they do not know."""
