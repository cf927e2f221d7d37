"""One session: its links, the deliveries that are not settled yet, and the window of its peer.

Frames come in already decoded and go out through the connection. A link that is detached takes its
deliveries with it: a later disposition for one of them is ignored, while the lock itself lives on and can be
settled by its token. Which node an address stands for is decided by `nodes`.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

import structlog

from . import performatives as p
from .config import Right
from .confirming import Confirmations
from .entity import Settlement, Verdict
from .errors import (
    INVALID_FIELD,
    LINK_DETACH_FORCED,
    NOT_ALLOWED,
    NOT_IMPLEMENTED,
    UNATTACHED_HANDLE,
    UNAUTHORIZED_ACCESS,
    AmqpError,
)
from .links import IncomingLink, OutgoingLink, ReplyLink, Sink
from .nodes import EntityNode, Nodes, RequestNode
from .outcomes import read_outcome
from .types import Described, Symbol, ULong
from .window import WINDOW, OutgoingWindow

log = structlog.get_logger(__name__)

HANDLE_MAX = 255
_MASK = 0xFFFFFFFF
_EMPTY_TARGET = b"\x00\x53\x29\x45"

_Link = IncomingLink | OutgoingLink | ReplyLink


class Wire(Protocol):
    """What a session asks of its connection."""

    frame_size_max: int  # bytes of one frame the peer takes
    heard_at: float  # by the clock of the loop, when something last came in

    def write_frame(self, channel: int, body: bytes) -> None:
        """Sends a frame."""

    def write(self, data: bytes) -> None:
        """Sends whole frames."""

    def hold(self, size: int) -> None:
        """So many bytes wait for the journal; a negative number says they do no longer."""


class Session:
    """The broker's end of one session."""

    def __init__(self, wire: Wire, channel: int, begin: list[Any], nodes: Nodes) -> None:
        self.channel = channel
        self._wire = wire
        self._now = asyncio.get_running_loop().time
        self._nodes = nodes
        self._faults = nodes.faults
        self._confirmations = Confirmations(wire, channel, nodes.faults)
        self._links: dict[int, _Link] = {}
        self._needs: dict[int, tuple[str, Right | None]] = {}  # what each link needs a token for
        self._leaving: set[int] = set()  # detached from this side; what the peer sent before it knew is passed over
        self._unsettled: dict[int, tuple[OutgoingLink, bytes]] = {}
        self._next_incoming_id = int(begin[1] or 0)
        self._next_delivery_id = 0
        self._window = OutgoingWindow(partial(wire.write_frame, channel), int(begin[2] or 0))

    # --- frames coming in ------------------------------------------------------------------------------

    def on_attach(self, fields: list[Any], raw: list[bytes]) -> None:
        """A link begins, or is refused with an attach that has neither source nor target and a detach."""
        name, handle, role = fields[:3]
        if not isinstance(handle, int) or not isinstance(name, str) or handle in self._links:
            raise AmqpError(INVALID_FIELD, "an attach needs a name and a handle that is free")
        self._leaving.discard(handle)
        receiving = role is p.ROLE_RECEIVER
        try:
            right = Right.LISTEN if receiving else Right.SEND
            node = self._nodes.resolve(_address(fields[5 if receiving else 6]), right)
            if receiving:
                self._attach_receiver(name, handle, fields, raw, node)
            else:
                self._attach_sender(name, handle, fields, raw, node)
            self._links[handle].used_at = self._wire.heard_at
            self._needs[handle] = (node.path, right if isinstance(node, EntityNode) else None)
        except AmqpError as error:
            log.info("link.refused", name=name, condition=error.condition, reason=error.description)
            self._send_attach(name, handle, not receiving, raw, b"\x40", b"\x40")
            self.send_frame(p.encode_detach(handle, error))

    def _attach_receiver(
        self, name: str, handle: int, fields: list[Any], raw: list[bytes], node: EntityNode | RequestNode
    ) -> None:
        target = raw[6] if len(raw) > 6 and raw[6] != b"\x40" else _EMPTY_TARGET
        if isinstance(node, RequestNode):
            self._links[handle] = ReplyLink(self, name, handle, node.address)
        else:
            _refuse_session_filter(fields[5])
            if node.entity.config.requires_session:
                raise AmqpError(NOT_ALLOWED, _NO_SESSION)
            settled = fields[3] == 1
            self._links[handle] = OutgoingLink(self, name, handle, node.entity, settled)
        self._send_attach(name, handle, p.ROLE_SENDER, raw, raw[5], target)
        log.debug("link.attached", name=name, node=node.address, role="receiver")

    def _attach_sender(
        self, name: str, handle: int, fields: list[Any], raw: list[bytes], node: EntityNode | RequestNode
    ) -> None:
        sink: Sink = node.sink_for_requests(self.reply_to) if isinstance(node, RequestNode) else node.sink()
        link = IncomingLink(self, name, handle, sink)
        self._links[handle] = link
        self._send_attach(name, handle, p.ROLE_RECEIVER, raw, raw[5], raw[6], sink.size_max)
        link.start(int(fields[9] or 0))
        log.debug("link.attached", name=name, node=node.address, role="sender")

    def _send_attach(
        self, name: str, handle: int, role: bool, raw: list[bytes], source: bytes, target: bytes, size_max: int = 0
    ) -> None:
        modes = [*raw[3:5], b"\x40", b"\x40"]
        properties = {Symbol("com.microsoft:max-message-batch-size"): ULong(size_max)} if size_max else None
        self.send_frame(
            p.encode_attach(
                name=name,
                handle=handle,
                role=role,
                settle_modes=(modes[0], modes[1]),
                source=source,
                target=target,
                max_message_size=size_max,
                properties=properties,
            )
        )

    def on_flow(self, fields: list[Any]) -> None:
        """Room in the peer's window, and credit for one of its receivers."""
        self._window.update(fields[0] or 0, fields[1] or 0)
        handle = fields[4]
        if handle is None:
            if fields[9]:
                self._send_session_flow()
            return
        if handle in self._leaving:
            return
        link = self._link(handle)
        link.used_at = self._wire.heard_at
        if not isinstance(link, IncomingLink):
            link.flow(int(fields[5] or 0), int(fields[6] or 0), bool(fields[8]))

    def on_transfer(self, fields: list[Any], payload: bytes) -> None:
        """A message, or a part of one, comes in."""
        self._next_incoming_id = (self._next_incoming_id + 1) & _MASK
        handle = fields[0]
        link = self._links.get(handle)
        if link is None:
            if handle in self._leaving:
                return
            link = self._link(handle)
        if not isinstance(link, IncomingLink):
            raise AmqpError(INVALID_FIELD, "a transfer on a link that only receives")
        link.used_at = self._wire.heard_at
        link.transfer(fields, payload)

    def on_disposition(self, fields: list[Any]) -> None:
        """Deliveries are settled by the receiver."""
        role, first, last, settled, state = fields[:5]
        if role is not p.ROLE_RECEIVER or not isinstance(first, int):
            return
        last = first if last is None else last
        delivery_ids = [first]
        if first != last:
            delivery_ids = [number for number in self._unsettled if first <= number <= last]
        for delivery_id in delivery_ids:
            self._settle(delivery_id, state, bool(settled))

    def _settle(self, delivery_id: int, state: Any, settled: bool) -> None:
        entry = self._unsettled.get(delivery_id)
        if entry is None:
            return
        link, token = entry
        path = link.entity.path
        if self._faults.armed and self._confirmations.loses(path):
            return
        settlement, echo = read_outcome(state)
        if settlement is None:
            return
        del self._unsettled[delivery_id]
        link.used_at = self._wire.heard_at

        def done(error: AmqpError | None) -> None:
            if not settled:
                self._confirmations.confirm(delivery_id, echo if error is None else p.rejected_state(error), path)

        link.entity.settle(token, settlement, done)

    def on_detach(self, fields: list[Any]) -> None:
        """The link ends; its deliveries are forgotten, its locks are not."""
        handle = fields[0]
        self._leaving.discard(handle)
        link = self._links.pop(handle, None)
        if link is None:  # the answer to a detach of ours
            return
        self._forget(link)
        self.send_frame(p.encode_detach(handle, None))
        log.debug("link.detached", name=link.name)

    def _forget(self, link: _Link) -> None:
        link.close()
        self._window.forget(link.handle)
        if isinstance(link, OutgoingLink):
            self._unsettled = {key: entry for key, entry in self._unsettled.items() if entry[0] is not link}

    def close(self, *, release_locks: bool) -> None:
        """All links end, with the session or with its connection."""
        unsettled = list(self._unsettled.values())
        self._unsettled.clear()
        for link in self._links.values():
            link.close()
        self._links.clear()
        self._window.clear()
        if release_locks:
            for link, token in unsettled:
                link.entity.settle(token, Settlement(Verdict.RELEASE), lambda error: None)

    def close_unauthorized(self) -> None:
        """Detaches the links whose token has expired and was not renewed."""
        for handle in [number for number in self._links if not self._nodes.allows(*self._needs[number])]:
            path, _right = self._needs[handle]
            log.info("link.expired", name=self._links[handle].name, node=path)
            self.close_link(handle, AmqpError(UNAUTHORIZED_ACCESS, f"The token for {path} has expired."))

    def detach_idle(self, before: float, idle_s: float, now: float) -> float:
        """Detaches the links to entities that were last used before that; answers when the idlest other one was."""
        earliest = now
        for handle, link in list(self._links.items()):
            _path, right = self._needs[handle]
            if right is None:  # requests come when they come
                continue
            if link.used_at <= before:
                log.info("link.idle", name=link.name)
                self.close_link(handle, _idle(link.name, idle_s))
            else:
                earliest = min(earliest, link.used_at)
        return earliest

    @property
    def serves(self) -> bool:
        """Whether there is a link to anything but the node for tokens."""
        return any(self._needs[handle][0] for handle in self._links)

    def detach_links(self, path: str | None, error: AmqpError) -> int:
        """Detaches the links to that entity, or to any; answers how many."""
        needs = self._needs
        handles = [h for h in self._links if needs[h][1] is not None and path in (None, needs[h][0])]
        for handle in handles:
            self.close_link(handle, error)
        return len(handles)

    def pause(self, paused: bool) -> None:
        """The connection is full, or has room again: what receives waits, or goes on."""
        for link in self._links.values():
            if isinstance(link, OutgoingLink):
                (link.entity.pause if paused else link.entity.resume)(link.consumer)

    def _link(self, handle: Any) -> _Link:
        link = self._links.get(handle)
        if link is None:
            raise AmqpError(UNATTACHED_HANDLE, f"handle {handle} is not attached")
        return link

    # --- frames going out: what links ask for ----------------------------------------------------------

    def send_frame(self, body: bytes) -> None:
        """Sends a performative on this channel."""
        self._wire.write_frame(self.channel, body)

    def send_flow(self, handle: int, delivery_count: int, credit: int, drain: bool) -> None:
        """Sends a flow for a link."""
        self.send_frame(
            p.encode_flow(
                next_incoming_id=self._next_incoming_id,
                next_outgoing_id=self._window.next_id,
                window=WINDOW,
                handle=handle,
                delivery_count=delivery_count,
                credit=credit,
                drain=drain,
            )
        )

    def _send_session_flow(self) -> None:
        self.send_frame(
            p.encode_session_flow(
                next_incoming_id=self._next_incoming_id, next_outgoing_id=self._window.next_id, window=WINDOW
            )
        )

    def send_delivery(self, handle: int, tag: bytes, payload: bytes, settled: bool) -> int:
        """Sends a message, in as many frames as it takes, and answers its delivery id."""
        delivery_id = self._next_delivery_id
        self._next_delivery_id = (delivery_id + 1) & _MASK
        last = p.encode_transfer(handle, delivery_id, tag, settled=settled, more=False)
        room = self._wire.frame_size_max - len(last) - 8
        if len(payload) > room:
            part = p.encode_transfer(handle, delivery_id, tag, settled=settled, more=True)
            begin = 0
            while len(payload) - begin > room:
                self._window.send(handle, part + payload[begin : begin + room])
                begin += room
            payload = payload[begin:]
        self._window.send(handle, last + payload)
        return delivery_id

    def settle_incoming(self, delivery_id: int, state: bytes) -> None:
        """Tells the sender what became of its delivery."""
        self._wire.write(p.disposition_frame(self.channel, p.ROLE_RECEIVER, delivery_id, state))

    def remember(self, delivery_id: int, link: OutgoingLink, token: bytes) -> None:
        """A delivery that the receiver will settle."""
        self._unsettled[delivery_id] = (link, token)
        link.used_at = self._now()

    def hold(self, size: int) -> None:
        """Passes on how much waits for the journal."""
        self._wire.hold(size)

    def close_link(self, handle: int, error: AmqpError | None) -> None:
        """Detaches a link from this side."""
        link = self._links.pop(handle, None)
        if link is not None:
            self._forget(link)
            self._leaving.add(handle)
            self.send_frame(p.encode_detach(handle, error))

    def reply_to(self, address: str, payload: bytes) -> None:
        """Sends a reply on the link that receives from that node, if the client has attached one."""
        for link in self._links.values():
            if isinstance(link, ReplyLink) and link.address == address:
                link.send(payload)
                return
        log.warning("reply.dropped", node=address, reason="no receiving link")


def _idle(name: str, idle_s: float) -> AmqpError:
    return AmqpError(
        LINK_DETACH_FORCED,
        f"The link '{name}' is force detached. Details: IdleTimerExpired: Idle timeout: {timedelta(seconds=idle_s)}.",
    )


def _address(terminus: Any) -> str:
    """The address in a source or target. Raises AmqpError if there is none."""
    value = terminus.value if isinstance(terminus, Described) else None
    address = value[0] if isinstance(value, list) and value else None
    if isinstance(address, bytes):
        address = address.decode("utf-8", "replace")
    if not isinstance(address, str):
        raise AmqpError(INVALID_FIELD, "a link needs the address of a node")
    return address


_NO_SESSION = "It is not possible for an entity that requires sessions to create a non-sessionful message receiver."


def _refuse_session_filter(source: Described) -> None:
    filters = source.value[7] if len(source.value) > 7 else None
    if filters and "com.microsoft:session-filter" in filters:
        raise AmqpError(NOT_IMPLEMENTED, "Message sessions are not supported by this broker.")
