"""How this process reaches its queues: by the connection string or the identity that the settings name.

Decides which way in is used, and that all queues share one of each: one file that is watched, one identity that keeps
its tokens. Knows nothing of what comes from the queues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from azure.servicebus import TransportType

from dispatcher.errors import BadConfiguration
from dispatcher.queue.access import ConnectionStringFile, Identity, Tell
from dispatcher.queue.config import ServiceBusConfig
from dispatcher.settings import Settings
from dispatcher.settings.broker_checks import expired_signature

__all__ = ["BrokerAccess"]

_MARGIN_MAX = timedelta(seconds=10)


class BrokerAccess:
    """The way to the broker. ``close`` it when the queues have stopped.

    ``config_folder`` is what relative paths begin at; ``tell`` hears of rotations, as the Events port's ``emit`` does;
    ``connection_string`` replaces what the settings say, for a broker of one's own. Raises BadConfiguration if nothing
    says how to get in, or if the file that should say it holds nothing usable.
    """

    def __init__(
        self,
        settings: Settings,
        config_folder: Path,
        tell: Tell | None = None,
        connection_string: Callable[[], str] | None = None,
    ) -> None:
        bus = settings.service_bus
        self._settings = settings
        self._folder = config_folder
        self._file: ConnectionStringFile | None = None
        self._identity: Identity | None = None
        self._connection_string = connection_string
        self._is_own = connection_string is not None
        if self._is_own:
            return
        if bus.connection_string_file is not None:
            path = config_folder / bus.connection_string_file
            self._file = ConnectionStringFile(path, tell) if tell is not None else ConnectionStringFile(path)
            self._connection_string = self._file
        elif bus.connection_string is not None:
            text = bus.connection_string.get_secret_value()
            self._connection_string = lambda: text
        elif bus.namespace is not None:
            self._identity = Identity(bus.identity, bus.client_id)
        else:
            raise BadConfiguration(
                [
                    "service_bus: nothing says how to reach the broker; set connection_string_file, or namespace with "
                    "identity (or use --local)"
                ]
            )

    def queue(self, name: str) -> ServiceBusConfig:
        """One queue, as an adapter reaches it. A short lock leaves a short margin: else every delivery went back."""
        bus, identity = self._settings.service_bus, self._identity
        pace = bus.operations_per_second
        return ServiceBusConfig(
            queue=name,
            connection_string=self._connection_string,
            namespace=bus.namespace if identity is not None else None,
            credential=(lambda: identity) if identity is not None else None,
            client_options={} if self._is_own else self._options(),
            lock_margin=min(_MARGIN_MAX, bus.lock_duration / 4),
            operations_per_second=None if pace is None else max(1, pace // self._queues_count),
        )

    @property
    def _queues_count(self) -> int:
        return len(self._settings.queues) + (self._settings.reports.queue is not None)

    def faults(self) -> Iterator[str]:
        """What is wrong with the way in, one line each; it may still work."""
        if self._file is not None and self._file.fault is not None:
            yield (
                f"service_bus.connection_string_file: {self._file.fault}; the connection string read before is used on"
            )
        if self._connection_string is not None and not self._is_own:
            expired = expired_signature(self._connection_string(), datetime.now(UTC))
            if expired is not None:
                yield f"service_bus.connection_string: {expired}"

    async def close(self) -> None:
        """Lets go of the identity's connections."""
        if self._identity is not None:
            await self._identity.close()

    def _options(self) -> dict[str, Any]:
        bus = self._settings.service_bus
        options: dict[str, Any] = {}
        if bus.custom_endpoint is not None:
            # With an endpoint of its own the SDK would take WebSockets, unless it is told otherwise.
            options |= {"custom_endpoint_address": bus.custom_endpoint, "transport_type": TransportType.Amqp}
        if bus.ca_file is not None:
            options["connection_verify"] = str(self._folder / bus.ca_file)
        return options
