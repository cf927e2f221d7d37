"""The ends of links: messages coming in, messages going out, replies going out.

A link knows its session (which frames its deliveries) and what stands behind it: a sink that takes messages,
an entity that gives them, or nothing but replies. Credit is kept here. What comes in is never refused for
lack of credit, because the SDK grants itself credit whenever it runs out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from . import performatives as p
from .entity import Done, Entity
from .errors import DECODE_ERROR, RESOURCE_LIMIT_EXCEEDED, AmqpError, CodecError
from .messages import BATCH_FORMAT, Request, read_request, split, split_batch, token_to_tag
from .model import Consumer, Message

_CREDIT = 1000  # messages a client may send ahead; given again when half of it is used


class Carrier(Protocol):
    """What links ask of their session."""

    def send_frame(self, body: bytes) -> None:
        """Sends a performative on the session's channel."""

    def send_flow(self, handle: int, delivery_count: int, credit: int, drain: bool) -> None:
        """Sends a flow for a link."""

    def send_delivery(self, handle: int, tag: bytes, payload: bytes, settled: bool) -> int:
        """Sends a message, in as many frames as it takes, and answers its delivery id."""

    def settle_incoming(self, delivery_id: int, state: bytes) -> None:
        """Tells the sender what became of its delivery."""

    def remember(self, delivery_id: int, link: OutgoingLink, token: bytes) -> None:
        """A delivery that the receiver will settle."""

    def hold(self, size: int) -> None:
        """So many bytes wait for the journal; a negative number says they do no longer."""

    def close_link(self, handle: int, error: AmqpError | None) -> None:
        """Detaches the link."""


class Sink(Protocol):
    """Takes messages that come in."""

    size_max: int  # bytes of one message; what is larger is not even kept

    def accept(self, payload: bytes, message_format: int, done: Done) -> None:
        """Takes one delivery; `done` is called, at once or later, when it is safe or refused."""

    def too_large(self, size: int) -> AmqpError:
        """The refusal of a message of that many bytes."""


class IncomingLink:
    """The client sends. Puts the frames of a delivery together and settles it when its sink is done."""

    def __init__(self, carrier: Carrier, name: str, handle: int, sink: Sink) -> None:
        self.name = name
        self.handle = handle
        self.used_at = 0.0  # by the clock of the loop; kept by the session
        self.sink = sink
        self._carrier = carrier
        self._credit = 0
        self._delivery_count = 0
        self._first: list[Any] | None = None
        self._pieces: list[bytes] = []
        self._size = 0

    def start(self, delivery_count: int) -> None:
        """The link is attached: the client may send."""
        self._delivery_count = delivery_count
        self._give_credit()

    def _give_credit(self) -> None:
        self._credit = _CREDIT
        self._carrier.send_flow(self.handle, self._delivery_count, self._credit, False)

    def transfer(self, fields: list[Any], payload: bytes) -> None:
        """One transfer frame: a whole delivery or a part of one."""
        _handle, delivery_id, _tag, message_format, settled, more = fields[:6]
        if self._first is None and not more and not fields[9]:
            self._finish(delivery_id, message_format, settled, payload, len(payload))
            return
        if fields[9]:  # aborted
            self._reset()
            self._count()
            return
        if self._first is None:
            self._first = fields
        self._size += len(payload)
        if self._size <= self.sink.size_max:
            self._pieces.append(payload)
        if not more:
            _handle, delivery_id, _tag, message_format, first_settled = self._first[:5]
            whole, size = b"".join(self._pieces), self._size
            self._reset()
            self._finish(delivery_id, message_format, settled or first_settled, whole, size)

    def _reset(self) -> None:
        self._first = None
        self._pieces = []
        self._size = 0

    def _count(self) -> None:
        self._delivery_count = (self._delivery_count + 1) & 0xFFFFFFFF
        self._credit -= 1
        if self._credit <= _CREDIT // 2:
            self._give_credit()

    def _finish(self, delivery_id: int, message_format: int | None, settled: bool, payload: bytes, size: int) -> None:
        self._count()
        if delivery_id is None:
            raise CodecError("a transfer without a delivery id")
        if size > self.sink.size_max:
            self._done(None if settled else delivery_id, 0, self.sink.too_large(size))
            return
        self._carrier.hold(size)
        self.sink.accept(payload, message_format or 0, partial(self._done, None if settled else delivery_id, size))

    def _done(self, delivery_id: int | None, size: int, error: AmqpError | None) -> None:
        if size:
            self._carrier.hold(-size)
        if delivery_id is not None:
            state = p.ACCEPTED_STATE if error is None else p.rejected_state(error)
            self._carrier.settle_incoming(delivery_id, state)

    def close(self) -> None:
        """Half a delivery is forgotten; whole ones are still settled."""
        self._reset()


class EntitySink:
    """Sends what comes in to a queue, one message at a time or a batch in one transfer."""

    def __init__(self, entity: Entity) -> None:
        self.entity = entity
        self.size_max = entity.config.max_message_size

    def accept(self, payload: bytes, message_format: int, done: Done) -> None:
        """A batch is accepted as a whole or not at all."""
        try:
            contents = split_batch(payload) if message_format == BATCH_FORMAT else [split(payload)]
        except CodecError as error:
            done(AmqpError(DECODE_ERROR, str(error)))
            return
        self.entity.send(contents, done)

    def too_large(self, size: int) -> AmqpError:
        """As the entity says it."""
        return self.entity.admission.too_large(size)


class RequestSink:
    """Reads requests and gives them to a handler, which replies in its own time.

    A request is accepted when it has been answered, and not before. The order matters to the blocking SDK: its
    threads share one connection, and one that reads while nothing comes holds up the others for 0.2 s. With the
    answer first a frame is left over that sets it free; the other way round 300 locks are not renewed in time.
    """

    size_max = 4 * 1024 * 1024

    def __init__(self, handle: Callable[[Request, Callable[[], None]], None]) -> None:
        self._handle = handle

    def accept(self, payload: bytes, message_format: int, done: Done) -> None:
        """How it went is in the reply; that the request could be read is all that `done` says."""
        try:
            request = read_request(payload)
        except CodecError as error:
            done(AmqpError(DECODE_ERROR, str(error)))
            return
        self._handle(request, partial(done, None))

    def too_large(self, size: int) -> AmqpError:
        """Requests are small; a huge one is a mistake."""
        return AmqpError(RESOURCE_LIMIT_EXCEEDED, f"A request of {size} bytes; at most {self.size_max} are read.")


class ReplyLink:
    """Replies of a request/response node go out here. They are few, so they ask for no credit."""

    def __init__(self, carrier: Carrier, name: str, handle: int, address: str) -> None:
        self.name = name
        self.handle = handle
        self.address = address
        self.used_at = 0.0
        self._carrier = carrier
        self._sent = 0

    def send(self, payload: bytes) -> None:
        """Sends a reply, already settled."""
        self._sent += 1
        self._carrier.send_delivery(self.handle, self._sent.to_bytes(4, "big"), payload, True)

    def flow(self, delivery_count: int, credit: int, drain: bool) -> None:
        """Credit for replies is taken note of by nobody."""

    def close(self) -> None:
        """Nothing is kept."""


class OutgoingLink:
    """The client receives: a consumer of an entity."""

    def __init__(self, carrier: Carrier, name: str, handle: int, entity: Entity, settled: bool) -> None:
        self.name = name
        self.handle = handle
        self.entity = entity
        self.consumer = Consumer(settled)
        self.used_at = 0.0
        self._carrier = carrier
        self._delivery_count = 0
        self._closed = False
        entity.subscribe(self.consumer, self)

    def flow(self, delivery_count: int, credit: int, drain: bool) -> None:
        """Credit is absolute: so many more than the receiver had counted when it said so."""
        in_flight = (self._delivery_count - delivery_count) & 0xFFFFFFFF
        self.entity.grant(self.consumer, max(0, credit - in_flight))
        if drain:
            self._drain()

    def _drain(self) -> None:
        while self.consumer.credit and self.entity.hand_out():
            pass
        self._delivery_count = (self._delivery_count + self.consumer.credit) & 0xFFFFFFFF
        self.entity.queue.consumers.withdraw(self.consumer)
        self._carrier.send_flow(self.handle, self._delivery_count, 0, True)

    def deliver(self, message: Message) -> None:
        """Sends a message; one that is locked is remembered until the receiver settles it."""
        if self._closed:
            return
        self._delivery_count = (self._delivery_count + 1) & 0xFFFFFFFF
        token = message.token
        payload = message.encoded(token)
        if token is None:
            tag = message.sequence.to_bytes(16, "big")
            self._carrier.send_delivery(self.handle, tag, payload, True)
        else:
            delivery_id = self._carrier.send_delivery(self.handle, token_to_tag(token), payload, False)
            self._carrier.remember(delivery_id, self, token)

    def fail(self, error: AmqpError) -> None:
        """What a receive-and-delete consumer was to get could not be removed, so it gets nothing."""
        if not self._closed:
            self._carrier.close_link(self.handle, error)

    def close(self) -> None:
        """No more deliveries; locks outlive their link."""
        self._closed = True
        self.entity.unsubscribe(self.consumer)
