"""Where strikes hit: the connections and queues of a running broker."""

from __future__ import annotations

from collections.abc import Mapping, Set

from .connection import Connection
from .entity import Entity
from .errors import AmqpError
from .faults import FaultError


class BrokerStage:
    """Lives on the broker's event loop, and so do its callers."""

    def __init__(self, connections: Set[Connection], entities: Mapping[str, Entity]) -> None:
        self._connections = connections
        self._entities = entities

    def reset_connections(self) -> int:
        """Ends every TCP connection without a word."""
        for connection in list(self._connections):
            connection.reset()
        return len(self._connections)

    def freeze_connections(self) -> int:
        """Leaves every TCP connection open, and neither reads from it nor writes to it any more."""
        return sum(connection.freeze() for connection in self._connections)

    def detach_links(self, queue: str | None, condition: str) -> int:
        """Detaches every link to the queue, or to any."""
        error = AmqpError(condition, "The link was detached on purpose.")
        path = queue.lower() if queue else None
        return sum(connection.detach_links(path, error) for connection in list(self._connections))

    def revoke_locks(self, queue: str, count: int) -> int:
        """Ends the oldest locks of the queue as if they had expired. Raises FaultError for an unknown queue."""
        entity = self._entities.get(queue.lower())
        if entity is None:
            raise FaultError(f"queue: there is no {queue!r}")
        return entity.revoke(count)

    def wake(self) -> None:
        """Something may be possible again."""
        for entity in self._entities.values():
            entity.wake()
