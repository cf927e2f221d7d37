"""What stands behind an address: an entity, its management node, or the node for tokens.

Whether a client may go there is decided here too, from the tokens its connection has shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from . import management
from .addresses import CBS, Address, parse, path_of
from .cbs import Authorizations, answer_of
from .config import Right
from .entity import Entity
from .errors import ENTITY_DISABLED, NOT_ALLOWED, NOT_FOUND, UNAUTHORIZED_ACCESS, AmqpError
from .faults import Fault, Faults
from .links import EntitySink, RequestSink
from .messages import Request, reply

ReplyTo = Callable[[str, bytes], None]


class EntityNode:
    """A queue or a dead-letter queue."""

    def __init__(self, address: str, entity: Entity, writable: bool) -> None:
        self.address = address
        self.path = address
        self.entity = entity
        self._writable = writable

    def sink(self) -> EntitySink:
        """Where messages go. Raises AmqpError for a dead-letter queue, to which nobody sends."""
        if not self._writable:
            raise AmqpError(NOT_ALLOWED, f"Messages cannot be sent to the dead-letter queue {self.address}.")
        return EntitySink(self.entity)


class RequestNode:
    """A node that answers requests."""

    def __init__(self, address: str, path: str, handle: Callable[[Request, Callable[[bytes], None]], None]) -> None:
        self.address = address
        self.path = path  # of the entity whose token opens it; empty if it is open to all
        self._handle = handle

    def sink_for_requests(self, reply_to: ReplyTo) -> RequestSink:
        """Where requests go; replies come out on the link of the same session that has this address."""

        def handle(request: Request, answered: Callable[[], None]) -> None:
            def send(payload: bytes) -> None:
                reply_to(self.address, payload)
                answered()

            self._handle(request, send)

        return RequestSink(handle)


class Nodes:
    """The nodes as one connection may see them."""

    def __init__(self, entities: Mapping[str, Entity], authorizations: Authorizations, faults: Faults) -> None:
        self.faults = faults
        self.on_token: Callable[[], None] = lambda: None
        self._entities = entities
        self._authorizations = authorizations

    def allows(self, path: str, right: Right | None) -> bool:
        """Whether a valid token covers the path with that right (or any); the empty path is open to all."""
        return not path or self._authorizations.allows(path, right)

    def next_expiry_ms(self) -> int | None:
        """When links may have to be closed because their token ends, in ms since 1970."""
        return self._authorizations.next_expiry_ms()

    def resolve(self, text: str, right: Right) -> EntityNode | RequestNode:
        """The node of an address. Raises AmqpError: unknown, or no valid token for what is to be done there.

        What is asked of a management node is checked request by request.
        """
        address = parse(text)
        if address.queue == CBS:
            return RequestNode(CBS, "", self._put_token)
        if not self._authorizations.allows(address.path):
            raise AmqpError(
                UNAUTHORIZED_ACCESS, f"Unauthorized access: no valid token was presented for {address.path}."
            )
        if not address.management and not self._authorizations.allows(address.path, right):
            raise missing_right(right, address.path)
        entity = self._entities.get(address.path)
        if entity is None:
            raise AmqpError(NOT_FOUND, f"The messaging entity '{address.path}' could not be found.")
        if not entity.config.enabled:
            raise AmqpError(ENTITY_DISABLED, f"The messaging entity '{entity.path}' is disabled.")
        if address.management:
            return RequestNode(_management_path(address), address.path, partial(self._manage, entity))
        if self.faults.armed and self.faults.bites(Fault.DISABLE_QUEUE, entity.path):
            raise AmqpError(ENTITY_DISABLED, f"The messaging entity '{entity.path}' is disabled.")
        return EntityNode(address.path, entity, writable=not address.dead_letters)

    def _put_token(self, request: Request, send: Callable[[bytes], None]) -> None:
        name = request.properties.get("name")
        if self.faults.armed and self.faults.bites(Fault.DENY_TOKENS, path_of(name) if isinstance(name, str) else None):
            answer = answer_of(401, "the broker was told to deny this")
        else:
            answer = self._authorizations.handle(request)
        send(reply(request.message_id, answer, None))
        self.on_token()

    def _manage(self, entity: Entity, request: Request, send: Callable[[bytes], None]) -> None:
        right = management.right_for(request)
        if not self._authorizations.allows(entity.path, right):
            management.refuse(send, request, missing_right(right, entity.path))
            return
        if not self.faults.armed:
            management.handle(entity, send, request)
            return
        refused = entity.refuse_request(management.weight_of(request))
        if refused is not None:
            management.refuse(send, request, refused)
            return
        if management.settles(request):
            if self.faults.bites(Fault.LOSE_SETTLEMENT, entity.path):
                return
            send = partial(self._send_settled, entity.path, send)
        management.handle(entity, send, request)

    def _send_settled(self, path: str, send: Callable[[bytes], None], payload: bytes) -> None:
        """The answer to a settlement, unless a fault has other plans with it."""
        late = self.faults.settlement_answer(path)
        if late == 0:
            send(payload)
        elif late is not None:
            asyncio.get_running_loop().call_later(late, send, payload)


def missing_right(right: Right, path: str) -> AmqpError:
    """The refusal of something the client's key has no right to."""
    return AmqpError(
        UNAUTHORIZED_ACCESS, f"Unauthorized access. '{right.value}' claim(s) are required to perform this on {path}."
    )


def _management_path(address: Address) -> str:
    return f"{address.path}/$management"
