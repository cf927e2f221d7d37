"""One connection: the handshake, the frames of its sessions, its clock and its limits.

    SASL header, mechanisms, init, outcome ─▶ AMQP header, open ─▶ sessions ─▶ close

The client need not wait for any answer: everything may arrive in one piece. What is written goes out once
per turn of the loop. A connection that is slow to read gets no more messages, one that sends faster than the
journal writes is not read from, one that says nothing for too long is closed, and so is a link
that nobody uses.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import structlog

from . import performatives as p
from .errors import (
    CONNECTION_FORCED,
    DECODE_ERROR,
    FRAMING_ERROR,
    NOT_ALLOWED,
    AmqpError,
    CodecError,
)
from .faults import Fault
from .frames import AMQP_HEADER, AMQP_TYPE, EMPTY_FRAME, SASL_HEADER, SASL_TYPE, FrameReader, frame
from .nodes import Nodes
from .session import HANDLE_MAX, Session
from .window import WINDOW

log = structlog.get_logger(__name__)

_HELD_MAX = 8 * 1024 * 1024  # bytes that may wait for the journal before reading stops
_CHANNEL_MAX = 255
_OPEN_WITHIN = 30.0  # seconds from connecting to an open frame
_CONTAINER = "burst-dispatcher-broker"


class Connection(asyncio.Protocol):
    """The broker's end of one TCP connection."""

    def __init__(
        self,
        *,
        make_nodes: Callable[[], Nodes],
        now_ms: Callable[[], int],
        on_lost: Callable[[Connection], None],
        frame_size_max: int,
        idle_timeout_s: float,
        link_idle_s: float,
        unused_s: float,
        locks_survive: bool,
    ) -> None:
        self.frame_size_max = 512  # bytes the peer takes; said in its open frame
        self._nodes = make_nodes()
        self._nodes.on_token = self._watch_tokens
        self._now_ms = now_ms
        self._on_lost = on_lost
        self._frame_size_own = frame_size_max
        self._idle_timeout_s = idle_timeout_s
        self._link_idle_s = link_idle_s
        self._unused_s = unused_s
        self._used_at = 0.0  # when a link was last known to be there
        self._locks_survive = locks_survive
        self._faults = self._nodes.faults
        self._frozen = False
        self._late: deque[tuple[float, bytes]] = deque()  # (when, what) that a fault holds back
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(frame_size_max)
        self._transport: asyncio.Transport | None = None
        self._sessions: dict[int, Session] = {}
        self._out: list[bytes] = []
        self._held = 0
        self._opened = False
        self._closing = False
        self.heard_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._links_timer: asyncio.TimerHandle | None = None
        self._unused_timer: asyncio.TimerHandle | None = None
        self._token_timer: asyncio.TimerHandle | None = None
        self._keep_alive_s = 0.0

    # --- asyncio.Protocol ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._timer = self._loop.call_later(_OPEN_WITHIN, self._check_opened)
        log.debug("connection.accepted", peer=transport.get_extra_info("peername"))

    def data_received(self, data: bytes) -> None:
        """Frames, in whatever pieces."""
        if self._frozen:
            return
        self.heard_at = self._loop.time()
        try:
            for kind, channel, body in self._reader.feed(data):
                if self._closing:
                    return
                if kind == AMQP_TYPE:
                    if body:
                        self._on_frame(channel, body)
                elif kind == SASL_TYPE:
                    self._on_sasl(body)
                else:
                    self._on_header(body)
        except CodecError as error:
            self.close(AmqpError(DECODE_ERROR, str(error)))
        except AmqpError as error:
            self.close(error)
        except (TypeError, ValueError, AttributeError, IndexError, KeyError) as error:
            # A field of a type nobody sends: the frame is wrong, or this room is. The place is logged, not the
            # whole traceback, because its locals could show a token.
            where = traceback.extract_tb(error.__traceback__)[-1]
            log.error("frame.failed", error=repr(error), file=where.filename, line=where.lineno)  # noqa: TRY400
            self.close(AmqpError(DECODE_ERROR, f"a frame could not be understood: {error}"))

    def pause_writing(self) -> None:
        """The client reads too slowly: its receivers get nothing more for now."""
        for session in self._sessions.values():
            session.pause(True)

    def resume_writing(self) -> None:
        """The client has caught up."""
        for session in self._sessions.values():
            session.pause(False)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, announced or not."""
        self._closing = True
        for timer in (self._timer, self._links_timer, self._unused_timer, self._token_timer):
            if timer is not None:
                timer.cancel()
        release = not self._locks_survive or self._faults.bites(Fault.DROP_LOCKS_WITH_CONNECTION) is not None
        for session in self._sessions.values():
            session.close(release_locks=release)
        self._sessions.clear()
        self._out.clear()
        self._transport = None
        self._on_lost(self)
        log.debug("connection.lost", error=str(exc) if exc else None)

    # --- frames coming in ------------------------------------------------------------------------------

    def _on_header(self, header: bytes) -> None:
        if header == SASL_HEADER:
            self.write(SASL_HEADER + frame(0, p.encode_sasl_mechanisms(), SASL_TYPE))
        elif header == AMQP_HEADER:
            self.write(AMQP_HEADER)
        else:
            # The standard's answer to a protocol that is not spoken here: the one that is, then goodbye.
            self.write(SASL_HEADER)
            self._hang_up()

    def _on_sasl(self, body: bytes) -> None:
        code, fields, _ = p.decode_performative(body)
        if code != p.SASL_INIT:
            raise AmqpError(FRAMING_ERROR, "expected the init of a SASL exchange")
        accepted = fields[0] == "ANONYMOUS"
        self.write(frame(0, p.encode_sasl_outcome(0 if accepted else 1), SASL_TYPE))
        if accepted:
            self._reader.expect_header()
        else:
            self._hang_up()

    def _on_frame(self, channel: int, body: bytes) -> None:
        code, fields, payload_at = p.decode_performative(body)
        if code == p.OPEN:
            self._on_open(fields)
            return
        if not self._opened:
            raise AmqpError(FRAMING_ERROR, "expected an open frame")
        if code == p.CLOSE:
            self._on_close()
            return
        if code == p.BEGIN:
            self._on_begin(channel, fields)
            return
        session = self._sessions.get(channel)
        if session is None:
            return  # the SDK still detaches its links after it has ended their session
        if code == p.TRANSFER:
            session.on_transfer(fields, body[payload_at:])
        elif code == p.DISPOSITION:
            session.on_disposition(fields)
        elif code == p.FLOW:
            session.on_flow(fields)
        elif code == p.ATTACH:
            session.on_attach(fields, p.raw_fields(body))
        elif code == p.DETACH:
            session.on_detach(fields)
        elif code == p.END:
            del self._sessions[channel]
            session.close(release_locks=False)
            self.write_frame(channel, p.encode_end(None))

    def _on_open(self, fields: list[Any]) -> None:
        if self._opened:
            raise AmqpError(NOT_ALLOWED, "the connection is open already")
        self._opened = True
        self.frame_size_max = max(512, min(int(fields[2] or 0xFFFFFFFF), 16 * 1024 * 1024))
        idle_ms = int(self._idle_timeout_s * 1000)
        self.write_frame(0, p.encode_open(_CONTAINER, self._frame_size_own, _CHANNEL_MAX, idle_ms))
        self._keep_alive_s = int(fields[4]) / 2000 if fields[4] else 0.0
        self._watch_idle()
        self._links_timer = self._loop.call_later(self._link_idle_s, self._watch_links)
        self._used_at = self._loop.time()
        self._watch_use()
        log.debug("connection.opened", container=str(fields[0]))

    def _on_begin(self, channel: int, fields: list[Any]) -> None:
        if channel in self._sessions or channel > _CHANNEL_MAX:
            raise AmqpError(NOT_ALLOWED, f"channel {channel} is in use or too high")
        self._sessions[channel] = Session(self, channel, fields, self._nodes)
        self.write_frame(channel, p.encode_begin(channel, WINDOW, HANDLE_MAX))

    def _on_close(self) -> None:
        if not self._closing:
            self.write_frame(0, p.encode_close(None))
        self._hang_up()

    # --- frames going out ------------------------------------------------------------------------------

    def write_frame(self, channel: int, body: bytes) -> None:
        """Sends a frame, together with whatever else is sent in this turn of the loop."""
        self.write(frame(channel, body))

    def write(self, data: bytes) -> None:
        """Sends bytes, together with whatever else is sent in this turn of the loop."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        if self._out and self._transport is not None:
            data = b"".join(self._out)
            self._out.clear()
            if self._frozen:
                return
            if self._faults.armed or self._late:
                self._write_late(data)
            else:
                self._transport.write(data)

    def _write_late(self, data: bytes) -> None:
        """Adds to the way of every frame, and keeps them in order."""
        lag = self._faults.bites(Fault.ADD_ROUND_TRIP)
        self._late.append((self._loop.time() + (lag.value if lag else 0.0), data))
        self._loop.call_at(self._late[-1][0], self._write_due)

    def _write_due(self) -> None:
        while self._late and (self._closing or self._late[0][0] <= self._loop.time()):
            _due, data = self._late.popleft()
            if self._transport is not None and not self._frozen:
                self._transport.write(data)

    def hold(self, size: int) -> None:
        """So many bytes more (or, negative, fewer) wait for the journal."""
        before, self._held = self._held, self._held + size
        if self._transport is None or self._transport.is_closing():
            return
        if before <= _HELD_MAX < self._held:
            self._transport.pause_reading()
        elif not self._frozen and self._held <= _HELD_MAX < before:
            self._transport.resume_reading()

    # --- ending ----------------------------------------------------------------------------------------

    def close(self, error: AmqpError) -> None:
        """Closes the connection and tells the client why."""
        if self._closing:
            return
        self._closing = True
        log.info("connection.closed", condition=error.condition, reason=error.description)
        if self._opened:
            self.write_frame(0, p.encode_close(error))
        self._hang_up()

    def stop(self) -> None:
        """The broker stops."""
        self.close(AmqpError(CONNECTION_FORCED, "The broker is stopping."))

    def abort(self) -> None:
        """Lets go of a client that does not react."""
        if self._transport is not None:
            self._transport.abort()

    def reset(self) -> None:
        """Ends the TCP connection without a word."""
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def freeze(self) -> bool:
        """Leaves the TCP connection open and neither reads nor writes any more, as if the other half were gone.

        Answers whether that is new.
        """
        if self._frozen:
            return False
        self._frozen = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        return True

    def detach_links(self, path: str | None, error: AmqpError) -> int:
        """Detaches the links to that entity, or to any; answers how many."""
        return sum(session.detach_links(path, error) for session in self._sessions.values())

    def _hang_up(self) -> None:
        self._closing = True
        self._flush()
        self._write_due()
        if self._transport is not None:
            self._transport.close()

    def _check_opened(self) -> None:
        if not self._opened:
            self.close(AmqpError(CONNECTION_FORCED, f"No open frame within {_OPEN_WITHIN:.0f} s."))

    def _watch_idle(self) -> None:
        """Sends a sign of life when the client wants one, and closes when it gives none itself."""
        if self._timer is not None:
            self._timer.cancel()
        silent_for = self._loop.time() - self.heard_at
        if silent_for > 2 * self._idle_timeout_s:
            self.close(AmqpError(CONNECTION_FORCED, f"Nothing was received for {silent_for:.0f} s."))
            return
        if self._keep_alive_s and self._closing is False:
            self.write(EMPTY_FRAME)
        interval = self._keep_alive_s or self._idle_timeout_s
        self._timer = self._loop.call_later(interval, self._watch_idle)

    def _watch_links(self) -> None:
        """Detaches what nobody has used for too long, and looks again when the next one is due."""
        now = self._loop.time()
        earliest = now
        for session in self._sessions.values():
            earliest = min(earliest, session.detach_idle(now - self._link_idle_s, self._link_idle_s, now))
        self._links_timer = self._loop.call_later(earliest + self._link_idle_s - now, self._watch_links)

    def _watch_use(self) -> None:
        """Closes the connection when it has had no links for too long. Looks ten times in that time."""
        now = self._loop.time()
        if any(session.serves for session in self._sessions.values()):
            self._used_at = now
        elif now - self._used_at >= self._unused_s:
            allowed = round(self._unused_s * 1000)
            reason = f"The connection was inactive for more than the allowed {allowed} milliseconds and is closed."
            self.close(AmqpError(CONNECTION_FORCED, reason))
            return
        self._unused_timer = self._loop.call_later(self._unused_s / 10, self._watch_use)

    def _watch_tokens(self) -> None:
        """Closes links when the token they were opened with ends."""
        if self._token_timer is not None:
            self._token_timer.cancel()
            self._token_timer = None
        expiry_ms = self._nodes.next_expiry_ms()
        if expiry_ms is not None and not self._closing:
            delay = max(0.0, (expiry_ms - self._now_ms()) / 1000)
            self._token_timer = self._loop.call_later(delay, self._end_expired)

    def _end_expired(self) -> None:
        for session in self._sessions.values():
            session.close_unauthorized()
        self._watch_tokens()
