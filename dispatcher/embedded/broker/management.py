"""The $management node of an entity: the operations that are not a matter of links.

Each operation reads its request, asks the entity and makes a reply: a status as HTTP would have it, a
sentence, for a failure the condition the client turns into an exception, and a map.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from . import codec
from .config import Right
from .entity import Entity, Settlement, Verdict
from .errors import (
    ARGUMENT_ERROR,
    DECODE_ERROR,
    ENTITY_DISABLED,
    MESSAGE_LOCK_LOST,
    MESSAGE_NOT_FOUND,
    NOT_IMPLEMENTED,
    RESOURCE_LIMIT_EXCEEDED,
    SERVER_BUSY,
    UNAUTHORIZED_ACCESS,
    AmqpError,
    CodecError,
)
from .messages import Request, reply, split
from .model import Message
from .types import Array, Int, Long, Raw, Symbol, Timestamp

Send = Callable[[bytes], None]

_VENDOR = "com.microsoft:"
_VERDICTS = {
    "completed": Verdict.COMPLETE,
    "abandoned": Verdict.ABANDON,
    "defered": Verdict.DEFER,  # spelled so on the wire
    "suspended": Verdict.DEAD_LETTER,
}
_STATUS = {
    ARGUMENT_ERROR: 400,
    DECODE_ERROR: 400,
    ENTITY_DISABLED: 400,
    MESSAGE_LOCK_LOST: 410,
    MESSAGE_NOT_FOUND: 404,
    NOT_IMPLEMENTED: 501,
    RESOURCE_LIMIT_EXCEEDED: 403,
    SERVER_BUSY: 503,
    UNAUTHORIZED_ACCESS: 401,
}
_OPERATIONS_OF_SENDERS = ("schedule-message", "cancel-scheduled-message")


class _Call(NamedTuple):
    """One request under way."""

    entity: Entity
    request: Request
    send: Send

    def argument(self, name: str, kind: type) -> Any:
        """A field of the request's map. Raises AmqpError if it is missing or of another type."""
        body = self.request.body
        value = body.get(name) if isinstance(body, dict) else None
        if not isinstance(value, kind):
            raise AmqpError(ARGUMENT_ERROR, f"{name} must be given as {kind.__name__}.")
        return value

    def items(self, name: str, kind: type) -> list[Any]:
        """A field that is a list or an array of one type, and not empty."""
        values: list[Any] = self.argument(name, list)
        if not values or not all(isinstance(value, kind) for value in values):
            raise AmqpError(ARGUMENT_ERROR, f"{name} must hold values of type {kind.__name__}.")
        return values

    def answer(self, body: dict[str, Any] | Raw | None = None, status: int = 200, text: str = "OK") -> None:
        """Sends the reply."""
        properties = {"statusCode": Int(status), "statusDescription": text}
        self.send(reply(self.request.message_id, properties, body))

    def refuse(self, error: AmqpError) -> None:
        """Sends the reply of an operation that changed nothing."""
        refuse(self.send, self.request, error)

    def finish(self, error: AmqpError | None) -> None:
        """The reply of an operation that has nothing to tell but how it went."""
        if error is None:
            self.answer({})
        else:
            self.refuse(error)


def refuse(send: Send, request: Request, error: AmqpError) -> None:
    """Sends the reply of a request that changed nothing."""
    properties = {
        "statusCode": Int(_STATUS.get(error.condition, 500)),
        "statusDescription": error.description,
        "errorCondition": Symbol(error.condition),
    }
    send(reply(request.message_id, properties, {}))


def right_for(request: Request) -> Right:
    """What a client needs the right to for this request."""
    return Right.SEND if _operation(request) in _OPERATIONS_OF_SENDERS else Right.LISTEN


def settles(request: Request) -> bool:
    """Whether the request ends locks or removes messages: what the faults of settlements act on."""
    operation = _operation(request)
    if operation == "receive-by-sequence-number" and isinstance(request.body, dict):
        return bool(request.body.get("receiver-settle-mode") == 0)
    return operation == "update-disposition"


def weight_of(request: Request) -> int:
    """How many operations a throttle takes it for: one for each message that it names, and one at least."""
    body = request.body if isinstance(request.body, dict) else {}
    named = (body.get(name) for name in ("sequence-numbers", "lock-tokens"))
    return max(1, *(len(value) if isinstance(value, list) else 0 for value in named))


def _operation(request: Request) -> str:
    operation = request.properties.get("operation")
    name = operation.decode("utf-8", "replace") if isinstance(operation, bytes) else str(operation)
    return name.removeprefix(_VENDOR)


def handle(entity: Entity, send: Send, request: Request) -> None:
    """Carries out one request; `send` gets the encoded reply, at once or when the journal has spoken."""
    call = _Call(entity, request, send)
    name = _operation(request)
    carry_out = _OPERATIONS.get(name)
    if carry_out is None:
        call.refuse(AmqpError(NOT_IMPLEMENTED, f"The operation {name} is not supported."))
        return
    try:
        carry_out(call)
    except AmqpError as error:
        call.refuse(error)
    except CodecError as error:
        call.refuse(AmqpError(DECODE_ERROR, str(error)))


def _renew_lock(call: _Call) -> None:
    tokens = [token.bytes for token in call.items("lock-tokens", uuid.UUID)]
    until_ms = call.entity.renew(tokens)
    if until_ms is None:
        raise AmqpError(MESSAGE_LOCK_LOST, "At least one of the locks is lost.")
    call.answer({"expirations": Array(Timestamp, (until_ms,) * len(tokens))})


def _peek(call: _Call) -> None:
    first, count = call.argument("from-sequence-number", int), call.argument("message-count", int)
    messages = call.entity.peek(first, count) if count > 0 else []
    if not messages:
        call.answer({}, 204, "No messages")
        return
    call.answer(_message_list([_field("message", message.encoded(None)) for message in messages]))


def _receive_by_sequence_number(call: _Call) -> None:
    sequences = call.items("sequence-numbers", int)
    settled = call.argument("receiver-settle-mode", int) == 0
    call.entity.take_deferred(sequences, settled, partial(_taken, call))


def _taken(call: _Call, result: AmqpError | list[Message]) -> None:
    if isinstance(result, AmqpError):
        call.refuse(result)
        return
    items = []
    for message in result:
        fields = _field("message", message.encoded(message.token))
        if message.token is not None:
            fields += (_LOCK_TOKEN, b"\x98" + message.token)
        items.append(fields)
    call.answer(_message_list(items))


def _schedule(call: _Call) -> None:
    contents = []
    for item in call.items("messages", dict):
        encoded = item.get("message")
        if not isinstance(encoded, bytes):
            raise AmqpError(ARGUMENT_ERROR, "message must be given as bytes.")
        contents.append(split(encoded))
    call.entity.schedule(contents, partial(_scheduled, call))


def _scheduled(call: _Call, result: AmqpError | list[int]) -> None:
    if isinstance(result, AmqpError):
        call.refuse(result)
    else:
        call.answer({"sequence-numbers": Array(Long, tuple(result))})


def _cancel_scheduled(call: _Call) -> None:
    call.entity.cancel_scheduled(call.items("sequence-numbers", int), call.finish)


def _update_disposition(call: _Call) -> None:
    verdict = _VERDICTS.get(call.argument("disposition-status", str))
    if verdict is None:
        raise AmqpError(ARGUMENT_ERROR, f"disposition-status must be one of {', '.join(_VERDICTS)}.")
    body = call.request.body
    settlement = Settlement(verdict, body.get("deadletter-reason"), body.get("deadletter-description"))
    tokens = [token.bytes for token in call.items("lock-tokens", uuid.UUID)]
    call.entity.settle_all(tokens, settlement, call.finish)


_OPERATIONS: dict[str, Callable[[_Call], None]] = {
    "renew-lock": _renew_lock,
    "peek-message": _peek,
    "receive-by-sequence-number": _receive_by_sequence_number,
    "schedule-message": _schedule,
    "cancel-scheduled-message": _cancel_scheduled,
    "update-disposition": _update_disposition,
}

_MESSAGES = codec.encode("messages")
_LOCK_TOKEN = codec.encode("lock-token")


def _field(name: str, value: bytes) -> list[bytes]:
    return [codec.encode(name), codec.encode_binary(value)]


def _message_list(items: list[list[bytes]]) -> Raw:
    return Raw(codec.encode_map([_MESSAGES, codec.encode_list([codec.encode_map(fields) for fields in items])]))
