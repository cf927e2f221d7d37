"""Sending by HTTP, as the REST interface of Service Bus has it: POST /QUEUE/messages, with a token in the request.

Decides who may send and which status an answer has: 201 once the message is as safe as one sent by AMQP, 400 for what
is no message, 401 without a token that may send here, 403 where there is no room or the message is too large, 410
without such a queue, 500 where it could not be written. The table in the reference ("Send Message", response codes) has
no status for throttling; it is 429 here, with Retry-After. Whether a queue exists is told only to those who may send to
it. Receiving by HTTP is not offered.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from urllib.parse import unquote
from xml.sax.saxutils import escape

from aiohttp import web

from .cbs import check_token
from .config import AccessPolicy, Right, TokenIssuer
from .entity import Entity
from .errors import (
    DECODE_ERROR,
    ENTITY_DISABLED,
    MESSAGE_SIZE_EXCEEDED,
    RESOURCE_LIMIT_EXCEEDED,
    SERVER_BUSY,
    AmqpError,
)
from .faults import Fault, Faults
from .http_messages import BATCH_TYPE, BadMessageError, read_batch, read_message
from .jwt_tokens import check_jwt
from .messages import Content
from .tokens import TokenRefusedError

_WRITE_SECONDS = 30.0
_BODY_SECONDS = 30.0
_MESSAGES = "/messages"
_STATUS = {
    DECODE_ERROR: HTTPStatus.BAD_REQUEST,
    ENTITY_DISABLED: HTTPStatus.FORBIDDEN,
    MESSAGE_SIZE_EXCEEDED: HTTPStatus.FORBIDDEN,
    RESOURCE_LIMIT_EXCEEDED: HTTPStatus.FORBIDDEN,
    SERVER_BUSY: HTTPStatus.TOO_MANY_REQUESTS,
}


class _Refused(Exception):
    """An answer that is no 201."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class RestSends:
    """Answers the requests of all connections that speak HTTP."""

    def __init__(
        self,
        entities: Mapping[str, Entity],
        policies: Mapping[str, AccessPolicy],
        issuer: TokenIssuer | None,
        faults: Faults,
        now_ms: Callable[[], int],
    ) -> None:
        self._entities = entities
        self._policies = policies
        self._issuer = issuer
        self._faults = faults
        self._now_ms = now_ms

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request."""
        try:
            entity = self._entity_for(request)
            contents = _contents(await self._body(request, entity), request)
            await self._put(entity, contents)
        except _Refused as refusal:
            return _error(refusal.status, str(refusal))
        except AmqpError as error:
            return _error(_STATUS.get(error.condition, HTTPStatus.INTERNAL_SERVER_ERROR), error.description)
        return web.Response(status=HTTPStatus.CREATED, headers={"Content-Type": "application/xml; charset=utf-8"})

    def _entity_for(self, request: web.BaseRequest) -> Entity:
        path = unquote(request.path).rstrip("/")
        if not path.lower().endswith(_MESSAGES):
            raise _Refused(HTTPStatus.NOT_FOUND, "Only POST /QUEUE/messages is offered here.")
        if request.method != "POST":
            raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, "Messages are sent by POST; they are received by AMQP.")
        queue = path[: -len(_MESSAGES)].strip("/").lower()
        self._check(request, queue)
        entity = self._entities.get(queue)
        if entity is None or entity.dead_letters is None:
            raise _Refused(HTTPStatus.GONE, f"The messaging entity '{queue}' could not be found.")
        if not entity.config.enabled:
            raise AmqpError(ENTITY_DISABLED, f"The messaging entity '{queue}' is disabled.")
        return entity

    def _check(self, request: web.BaseRequest, queue: str) -> None:
        """Whether whoever asks may send there."""
        token = request.headers.get("Authorization", "")
        if self._faults.armed and self._faults.bites(Fault.DENY_TOKENS, queue):
            raise _Refused(HTTPStatus.UNAUTHORIZED, "InvalidSignature: the broker was told to deny this.")
        if not token:
            raise _Refused(HTTPStatus.UNAUTHORIZED, "MissingToken: there is no Authorization header.")
        name = f"{request.scheme}://{request.host}/{queue}"
        try:
            if token.startswith("Bearer "):
                grant = check_jwt(token.removeprefix("Bearer ").strip(), name, self._issuer, self._now_ms())
            else:
                grant = check_token(token, name, self._policies, self._now_ms())
        except TokenRefusedError as error:
            raise _Refused(HTTPStatus.UNAUTHORIZED, f"{error}") from None
        if not grant.policy.allows(Right.SEND):
            raise _Refused(
                HTTPStatus.UNAUTHORIZED, "Unauthorized access. 'Send' claim(s) are required to perform this operation."
            )

    async def _body(self, request: web.BaseRequest, entity: Entity) -> bytes:
        """The body, of which no more is kept than the queue would take."""
        limit = entity.config.max_message_size
        if (request.content_length or 0) > limit:
            raise entity.admission.too_large(request.content_length or 0)
        pieces, size = [], 0
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                async for piece in request.content.iter_any():
                    size += len(piece)
                    if size > limit:
                        raise entity.admission.too_large(size)
                    pieces.append(piece)
        except TimeoutError:
            raise _Refused(HTTPStatus.REQUEST_TIMEOUT, "The body did not arrive in time.") from None
        return b"".join(pieces)

    async def _put(self, entity: Entity, contents: Sequence[Content]) -> None:
        """Returns when the messages are safe. Raises AmqpError, _Refused."""
        too_large = entity.admission.refuse_sizes(contents)
        if too_large is not None:
            raise too_large
        written: asyncio.Future[AmqpError | None] = asyncio.get_running_loop().create_future()

        def done(error: AmqpError | None) -> None:
            if not written.done():
                written.set_result(error)

        entity.send(contents, done)
        try:
            async with asyncio.timeout(_WRITE_SECONDS):
                error = await written
        except TimeoutError:
            raise _Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "The message could not be written in time.") from None
        if error is not None:
            raise error


def _contents(body: bytes, request: web.BaseRequest) -> list[Content]:
    content_type = request.headers.get("Content-Type")
    try:
        if content_type is not None and content_type.partition(";")[0].strip().lower() == BATCH_TYPE:
            return read_batch(body, iter(lambda: uuid.uuid4().hex, ""))
        return [read_message(body, content_type, request.headers.items(), uuid.uuid4().hex)]
    except BadMessageError as error:
        raise _Refused(HTTPStatus.BAD_REQUEST, f"{error}.") from None


def _error(status: HTTPStatus, detail: str) -> web.Response:
    headers = {"Retry-After": "1"} if status is HTTPStatus.TOO_MANY_REQUESTS else None
    text = f"<Error><Code>{status.value}</Code><Detail>{escape(detail)}</Detail></Error>"
    return web.Response(status=status, text=text, content_type="application/xml", headers=headers)
