"""The composition: configuration in, a listening broker out.

Queues, journal, entities and the listener are made here and nowhere else, and taken down in the opposite
order. Nothing is decided here about messages.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self

import structlog
from aiohttp import web

from .addresses import parse
from .cbs import Authorizations
from .config import AccessPolicy, BrokerConfig, QueueConfig, TlsFiles
from .connection import Connection
from .door import Door
from .duplicates import DuplicateWindow
from .entity import Entity
from .errors import BrokerError
from .faults import Faults
from .journal import Journal, MemoryJournal, SqliteJournal
from .model import QueueCounts
from .nodes import Nodes
from .queue import Queue
from .rest import RestSends
from .stage import BrokerStage

log = structlog.get_logger(__name__)

_STOP_WITHIN = 5.0  # seconds for clients to take leave
_JOURNAL_WITHIN = 30.0  # seconds for the disk to take what was submitted


@dataclass(frozen=True, slots=True)
class BrokerHealth:
    """Whether the broker accepts what clients send; `problem` is one line, or None."""

    serving: bool
    problem: str | None = None


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


def _random_token() -> bytes:
    return os.urandom(16)


class Broker:
    """An embedded broker: `start`, use `connection_string` with the azure-servicebus SDK, `stop`.

    Usable as an async context manager. Lives on the event loop it is started on.
    """

    def __init__(self, config: BrokerConfig) -> None:
        self.config = config
        self._entities: dict[str, Entity] = {}
        self._connections: set[Connection] = set()
        self._doors: set[Door] = set()
        self._http: web.Server | None = None
        self._servers: list[asyncio.Server] = []
        self._journal: Journal | None = None
        self._journal_problem: str | None = None
        self._all_gone = asyncio.Event()
        self._port = config.port
        self._tls_port = config.tls_port
        self.tokens_shown: Counter[str] = Counter()  # by clients since the start: accepted, refused
        self.faults = Faults(BrokerStage(self._connections, self._entities), time.monotonic)
        keys = config.shared_access_keys.items()
        policies = [*(AccessPolicy(name, key) for name, key in keys), *config.access_policies]
        self._policies = {policy.name: policy for policy in policies}

    async def start(self) -> None:
        """Reads the journal and begins to listen.

        Raises BrokerError: the journal is in use or unreadable, the port is taken, the certificate is no good.
        """
        if self._journal is not None:
            raise BrokerError("the broker is running already")
        context = _tls_context(self.config.tls) if self.config.tls else None
        queues = {queue.name.lower(): _make_queue(queue) for queue in self.config.queues}
        self._journal = await self._open_journal({name: queue for name, (queue, _dead) in queues.items()})
        try:
            self._make_entities(queues, self._journal)
            rest = RestSends(self._entities, self._policies, self.config.token_issuer, self.faults, _wall_clock_ms)
            self._http = web.Server(rest.handle, access_log=None)
            if self.config.tls_port is None:
                self._port = await self._listen(self.config.port, context)
            else:
                self._port = await self._listen(self.config.port, None)
                self._tls_port = await self._listen(self.config.tls_port, context)
        except BaseException:
            await self.stop()
            raise
        log.info("broker.started", host=self.config.host, port=self._port, queues=len(queues))

    async def _listen(self, port: int, context: ssl.SSLContext | None) -> int:
        """Opens one more door; its port. Raises BrokerError."""
        try:
            server = await asyncio.get_running_loop().create_server(
                self._open_door, self.config.host, port, backlog=1024, ssl=context
            )
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else error
            raise BrokerError(f"cannot listen on {self.config.host}:{port}: {why}") from error
        self._servers.append(server)
        bound: int = server.sockets[0].getsockname()[1]
        return bound

    async def _open_journal(self, queues: dict[str, Queue]) -> Journal:
        path = self.config.journal_path
        if path is None:
            return MemoryJournal()
        journal = await SqliteJournal.open(
            path, queues, fsync=self.config.journal_fsync, pages_max=self.config.journal_pages_max
        )
        journal.on_failure = self._note_journal
        return journal

    def _make_entities(self, queues: dict[str, tuple[Queue, Queue]], journal: Journal) -> None:
        for config in self.config.queues:
            name = config.name.lower()
            queue, dead_queue = queues[name]
            path = f"{name}/$deadletterqueue"
            dead = Entity(config, path, dead_queue, journal, _wall_clock_ms, self.faults)
            self._entities[path] = dead
            self._entities[name] = Entity(config, name, queue, journal, _wall_clock_ms, self.faults, dead)
        for entity in self._entities.values():
            entity.start()

    async def stop(self) -> None:
        """Takes leave of the clients, writes what was accepted, lets go of port and journal."""
        while self._servers:
            self._servers.pop().close()
        for door in list(self._doors):
            door.close()
        for connection in list(self._connections):
            connection.stop()
        if self._http is not None:
            self._http.pre_shutdown()
            await self._http.shutdown(_STOP_WITHIN)
            self._http = None
        await self._wait_for_connections()
        for entity in self._entities.values():
            entity.stop()
        if self._journal is not None:
            journal, self._journal = self._journal, None
            await self._close_journal(journal)
        self._entities.clear()
        log.info("broker.stopped", port=self._port)

    async def _close_journal(self, journal: Journal) -> None:
        try:
            async with asyncio.timeout(_JOURNAL_WITHIN):
                await journal.close()
        except TimeoutError as error:
            # Nothing that was acknowledged is in danger: only what is acknowledged was written.
            raise BrokerError(f"journal {journal.path}: the disk did not answer while stopping") from error

    async def _wait_for_connections(self) -> None:
        if self._connections:
            self._all_gone.clear()
            try:
                async with asyncio.timeout(_STOP_WITHIN):
                    await self._all_gone.wait()
            except TimeoutError:
                for connection in list(self._connections):
                    connection.abort()
                await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _open_door(self) -> Door:
        if self._http is None:
            raise BrokerError("the broker is not running")
        door = Door(self._connect, self._http, self._doors.discard)
        self._doors.add(door)
        return door

    def _connect(self) -> Connection:
        connection = Connection(
            make_nodes=self._make_nodes,
            now_ms=_wall_clock_ms,
            on_lost=self._lost,
            frame_size_max=self.config.max_frame_size,
            idle_timeout_s=self.config.idle_timeout.total_seconds(),
            link_idle_s=self.config.link_idle_timeout.total_seconds(),
            unused_s=self.config.unused_timeout.total_seconds(),
            locks_survive=self.config.locks_survive_connection_loss,
        )
        self._connections.add(connection)
        return connection

    def _make_nodes(self) -> Nodes:
        return Nodes(self._entities, self._authorizations(), self.faults)

    def _authorizations(self) -> Authorizations:
        issuer = self.config.token_issuer
        return Authorizations(self._policies, _wall_clock_ms, self._exists, issuer, self.tokens_shown)

    def _exists(self, path: str) -> bool:
        return not self.config.unknown_queue_refuses_token or parse(path).path in self._entities

    def _lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._all_gone.set()

    def _note_journal(self, error: BaseException | None) -> None:
        problem = None if error is None else f"journal {self.config.journal_path}: {error}"
        if problem != self._journal_problem:
            self._journal_problem = problem
            log.warning("journal.health_changed", problem=problem)

    # --- looking at it ---------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port the broker listens on."""
        return self._port

    @property
    def tls_port(self) -> int | None:
        """The port for TLS, where there is one beside that for plain TCP."""
        return self._tls_port

    @property
    def connection_string(self) -> str:
        """What the SDK connects with, key included: do not log it.

        With TLS it also has to be told `custom_endpoint_address=broker.endpoint`, `transport_type=Amqp` and which
        certificate to trust: by itself it would go to port 5671, whatever the connection string says.
        """
        name, key = next(iter(self.config.shared_access_keys.items()))
        plain = "" if self.config.tls and self.config.tls_port is None else "UseDevelopmentEmulator=true;"
        return f"Endpoint={self.endpoint};SharedAccessKeyName={name};SharedAccessKey={key};{plain}"

    @property
    def endpoint(self) -> str:
        """Host and port as a URI."""
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        return f"sb://{host}:{self._port}"

    @property
    def health(self) -> BrokerHealth:
        """Serving, unless it is not running or the last commit failed."""
        if not self._servers:
            return BrokerHealth(False, "the broker is not running")
        return BrokerHealth(self._journal_problem is None, self._journal_problem)

    def counts(self, queue: str) -> QueueCounts:
        """How many messages of the queue are where. Raises BrokerError for an unknown queue."""
        entity = self._entities.get(queue.lower())
        if entity is None:
            raise BrokerError(f"unknown queue {queue!r}")
        return entity.queue.counts()


def _tls_context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(files.certificate, files.key)
    except (OSError, ssl.SSLError) as error:
        raise BrokerError(f"tls: {files.certificate} with {files.key}: {error}") from error
    return context


def _milliseconds(duration: timedelta) -> int:
    return max(1, int(duration.total_seconds() * 1000))


def _make_queue(config: QueueConfig) -> tuple[Queue, Queue]:
    """The queue and its dead-letter queue."""
    lock_duration_ms = _milliseconds(config.lock_duration)
    window = config.duplicate_detection_window
    dead = Queue(
        lock_duration_ms=lock_duration_ms,
        max_delivery_count=config.max_delivery_count,
        new_token=_random_token,
        size_max=config.max_size,
    )
    queue = Queue(
        lock_duration_ms=lock_duration_ms,
        max_delivery_count=config.max_delivery_count,
        new_token=_random_token,
        dead_letters=dead,
        ttl_ms=_milliseconds(config.time_to_live) if config.time_to_live else None,
        bury_expired=config.dead_letter_expired,
        size_max=config.max_size,
        duplicates=DuplicateWindow(_milliseconds(window)) if window else None,
    )
    return queue, dead
