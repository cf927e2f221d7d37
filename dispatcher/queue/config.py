"""How to reach one queue, for how long to wait for it, and what its health looks like.

Decides the defaults, each with its reason. Refuses to know where settings come from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from azure.core.credentials_async import AsyncTokenCredential

from dispatcher.errors import BadConfiguration

__all__ = ["Health", "ServiceBusConfig"]


@dataclass(frozen=True, slots=True)
class ServiceBusConfig:
    """One queue of one namespace. Either ``connection_string`` or ``namespace`` with ``credential``.

    Raises BadConfiguration for values that cannot work. Secrets are called for whenever a client is made anew, so that
    a rotated key is picked up without a restart, and stay out of ``repr``.
    """

    queue: str
    connection_string: Callable[[], str] | None = field(default=None, repr=False)
    namespace: str | None = None
    """The fully qualified host name, for example ``orders.servicebus.windows.net``."""
    credential: Callable[[], AsyncTokenCredential] | None = field(default=None, repr=False)
    client_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Passed on to the SDK's client: ``custom_endpoint_address``, ``connection_verify``, ``transport_type`` ..."""

    socket_timeout_seconds: float = 0.02
    """How long one read may hold the connection. The SDK reads and writes under one lock, so a settlement waits for up
    to two of these behind an idle read; its own default of 0.2 s would make that 0.4 s."""
    receive_wait_seconds: float = 0.06
    """How long one receive may wait while messages are held: the longest that a disposition waits for its turn."""
    idle_wait_seconds: float = 0.5
    """How long a receive may wait when nothing is held and nothing came: then nobody can be kept waiting."""
    receive_batch_max: int = 200
    dispositions_max: int = 200
    """How many dispositions are sent before the next receive."""
    lock_margin: timedelta = timedelta(seconds=10)
    """A delivery with less of its lock left is given back instead of handed over."""
    pause_after_seconds: float = 0.5
    """How long the receiver may stay ready to take messages that there is no room for."""
    check_seconds: float = 5.0
    """After so long without a word from the broker it is asked for a sign of life."""

    operation_timeout_seconds: float = 10.0
    """How long one act or look at the broker may take, opening a connection and retries included."""
    look_timeout_seconds: float = 30.0
    """How long one ``look_up`` of any number of messages may take."""
    close_timeout_seconds: float = 3.0
    peek_page_max: int = 250
    backoff_min_seconds: float = 0.1
    backoff_max_seconds: float = 5.0
    refused_backoff_max_seconds: float = 30.0
    """How slowly a wrong key or a missing queue is tried again."""
    watchdog_seconds: float = 60.0
    """After so long without a sign of life from the broker client and receiver are made anew, and the adapter is not
    alive until one comes."""
    link_idle_max_seconds: float = 240.0
    """A connection idle for longer is replaced before use: the broker cuts idle ones off after 5 to 10 minutes."""
    link_uses_max: int = 5_000
    """Requests on one management link before it is replaced: the SDK grants credit for 10,000 answers, once."""
    operations_per_second: int | None = None
    """Paces messages received, dispositions and requests, for tiers that throttle; None: not paced."""

    def __post_init__(self) -> None:
        mistakes = []
        if not self.queue:
            mistakes.append("queue: is empty; name the queue to receive from")
        if (self.connection_string is None) == (self.namespace is None):
            mistakes.append("connection_string, namespace: give exactly one of them")
        if (self.namespace is None) != (self.credential is None):
            mistakes.append("credential: belongs to namespace; give both or neither")
        counts = ("receive_batch_max", "dispositions_max", "peek_page_max", "link_uses_max")
        mistakes += [f"{name}: must be at least 1" for name in counts if getattr(self, name) < 1]
        if self.operations_per_second is not None and self.operations_per_second < 1:
            mistakes.append("operations_per_second: must be at least 1; leave it out for no pace")
        if mistakes:
            raise BadConfiguration(mistakes)


@dataclass(frozen=True, slots=True)
class Health:
    """How one queue's adapter is doing; ``alive`` is for liveness, ``refused`` for readiness and for people."""

    alive: bool
    """The pump takes turns, and the broker was heard of within the watchdog's time or fails us plainly. False is what
    restarting the process could mend: something hangs, here or on the way."""
    last_receive_age_seconds: float | None
    """Since the broker last let the receiver in, gave it something or answered it; None: never yet."""
    refused: str | None
    """Why the broker will not have us (wrong key, no such queue); None: it does, or nobody knows."""
    last_error: str | None
    """The last failure since a receive returned; None: none."""
    buffered: int
    """Deliveries that nobody has called for yet."""
    held: int
    """Messages under our locks, buffered or handed over."""
    receive_batch: int
    """How many messages one receive asks for at most; lower after the broker said that it is busy."""
    receivers_rebuilt: int
    clients_rebuilt: int
    lock_seen: timedelta | None = None
    """The most of a lock that was left of any delivery that was handed over: about a whole lock; None: nothing came."""
    is_partitioned: bool = False
    """Whether a number came that only a partitioned queue gives."""

    @property
    def stuck(self) -> tuple[str, ...]:
        """What hangs, in a line: for a liveness probe."""
        return () if self.alive else (f"nothing is received any more ({self.last_error or 'no reason is known'})",)

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong, one line each: for people, and for readiness."""
        return (*self.stuck, *((f"the broker refuses us ({self.refused})",) if self.refused else ()))
