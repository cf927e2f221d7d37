"""The broker alone: a Service Bus for local development, from its settings to its end.

Decides which setting goes where, how a connection string is written for each key, and the order of starting and
stopping. Knows nothing of the dispatcher: no Job is ever started from here.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from dispatcher.embedded.broker import (
    AccessPolicy,
    Broker,
    BrokerConfig,
    BrokerError,
    QueueConfig,
    Right,
    TlsFiles,
)
from dispatcher.embedded.broker.control import FaultControl
from dispatcher.errors import DispatcherError
from dispatcher.service.data_dir import DataDir, write_private
from dispatcher.service.signals import until_signalled
from dispatcher.service.wiring import BROKER_KEY_NAME
from dispatcher.settings.broker import BrokerKeySettings, BrokerSettings, KeyRight

PLAIN_PORT = 5672
TLS_PORT = 5671
"""Where AMQP is expected, with and without TLS; a connection string needs no port then."""
HOST = "localhost"
"""What certificates for development are made for; the broker listens on 127.0.0.1."""
_JOURNAL_PAGE_BYTES = 4096
_RIGHTS = {KeyRight.SEND: Right.SEND, KeyRight.LISTEN: Right.LISTEN, KeyRight.MANAGE: Right.MANAGE}


@dataclass(frozen=True)
class Doors:
    """Where it listens, on loopback; 0 is any free port."""

    port: int = PLAIN_PORT
    tls: TlsFiles | None = None
    tls_port: int = TLS_PORT
    """Only where there is a certificate."""
    faults_port: int | None = None
    """None: the HTTP API for faults is not served."""


@dataclass(frozen=True)
class Serving:
    """How to reach it, once it runs."""

    port: int
    tls_port: int | None
    faults_url: str | None
    connection_strings: tuple[str, ...]
    """One a key, the first with all rights; then the same for TLS. Secrets."""

    def __repr__(self) -> str:
        return f"Serving(port={self.port}, tls_port={self.tls_port}, faults_url={self.faults_url!r})"


async def serve_broker(
    settings: BrokerSettings,
    keys: Mapping[str, SecretStr],
    doors: Doors,
    folder: Path | None,
    started: Callable[[Serving], None],
    connection_string_file: Path | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT. ``folder`` keeps the messages; None: they go with the process.

    Raises DispatcherError, in a line, for what keeps it from starting.
    """
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        stack.enter_context(until_signalled(stop))
        if connection_string_file is not None:
            _remove(connection_string_file)  # of one that ended without a word: whoever waits for it waits for us
        data_dir = stack.enter_context(DataDir(folder)) if folder is not None else None
        made = data_dir.broker_key() if data_dir is not None else secrets.token_hex(24)
        broker = Broker(broker_alone(settings, keys, doors, data_dir.broker_journal if data_dir else None, made))
        faults = FaultControl(broker, doors.faults_port or 0)
        try:
            await stack.enter_async_context(broker)
            if doors.faults_port is not None:
                await stack.enter_async_context(faults)
        except BrokerError as error:
            raise DispatcherError(str(error)) from error
        serving = Serving(
            broker.port,
            broker.tls_port,
            faults.url if doors.faults_port is not None else None,
            connection_strings(broker),
        )
        if connection_string_file is not None:
            _write(connection_string_file, serving.connection_strings[0])
            stack.callback(_remove, connection_string_file)
        started(serving)
        await stop.wait()


def broker_alone(
    settings: BrokerSettings, keys: Mapping[str, SecretStr], doors: Doors, journal: Path | None, made_key: str
) -> BrokerConfig:
    """The broker's configuration; ``made_key`` opens everything where the settings name no keys."""
    limits = settings.limits
    full = {key.name: keys[key.name].get_secret_value() for key in settings.keys if key.opens_everything}
    return BrokerConfig(
        queues=tuple(
            QueueConfig(
                queue.name,
                lock_duration=queue.lock_duration,
                max_delivery_count=queue.max_delivery_count,
                max_message_size=queue.max_message_size,
                max_size=queue.max_size,
                time_to_live=queue.default_ttl,
                dead_letter_expired=queue.dead_lettering_on_expiration,
                duplicate_detection_window=queue.duplicate_detection_window,
                enabled=queue.enabled,
            )
            for queue in settings.queues
        ),
        port=doors.port,
        shared_access_keys=full or {BROKER_KEY_NAME: made_key},
        access_policies=tuple(_policy(key, keys) for key in settings.keys if not key.opens_everything),
        tls=doors.tls,
        tls_port=doors.tls_port if doors.tls is not None else None,
        journal_path=journal,
        journal_pages_max=limits.journal_size_max // _JOURNAL_PAGE_BYTES if limits.journal_size_max else None,
        max_frame_size=limits.max_frame_size,
        idle_timeout=limits.idle_timeout,
        link_idle_timeout=limits.link_idle_timeout,
        unused_timeout=limits.unused_timeout,
    )


def _policy(key: BrokerKeySettings, keys: Mapping[str, SecretStr]) -> AccessPolicy:
    rights = frozenset(_RIGHTS[right] for right in key.rights)
    return AccessPolicy(key.name, keys[key.name].get_secret_value(), rights, key.queue)


def connection_strings(broker: Broker) -> tuple[str, ...]:
    """What clients connect with, a key each; a key for one queue names it."""
    config = broker.config
    opened: list[tuple[str, str, str | None]] = [(name, key, None) for name, key in config.shared_access_keys.items()]
    opened += [(policy.name, policy.key, policy.queue) for policy in config.access_policies]
    plain = _endpoint(broker.port, PLAIN_PORT)
    strings = [_string(plain, *each) + "UseDevelopmentEmulator=true;" for each in opened]
    if broker.tls_port is not None:
        strings += [_string(_endpoint(broker.tls_port, TLS_PORT), *each) for each in opened]
    return tuple(strings)


def _endpoint(port: int, usual: int) -> str:
    return f"sb://{HOST}" if port == usual else f"sb://{HOST}:{port}"


def _string(endpoint: str, name: str, key: str, queue: str | None) -> str:
    path = f"EntityPath={queue};" if queue is not None else ""
    return f"Endpoint={endpoint};SharedAccessKeyName={name};SharedAccessKey={key};{path}"


def _write(path: Path, text: str) -> None:
    try:
        write_private(path, text)
    except OSError as error:
        raise DispatcherError(f"--connection-string-file: {path} cannot be written ({error.strerror})") from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise DispatcherError(f"--connection-string-file: {path} cannot be replaced ({error.strerror})") from error
