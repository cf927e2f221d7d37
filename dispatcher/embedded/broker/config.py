"""The settings of the broker, checked once at the door.

A configuration that cannot work is refused here with a sentence that names the field, so no other file of
this room has to ask again.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from pathlib import Path

from .errors import BrokerError

_LOCK_DURATION_MAX = timedelta(minutes=5)  # this and the next: what Service Bus allows
_DUPLICATE_WINDOW_MAX = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """One queue; its dead-letter queue comes with it."""

    name: str
    lock_duration: timedelta = timedelta(seconds=60)
    max_delivery_count: int = 10
    max_message_size: int = 256 * 1024  # bytes, headers and annotations included
    max_size: int | None = None  # bytes of all its messages, dead letters included; None: no limit of its own
    time_to_live: timedelta | None = None  # None: as long as the message says, for ever if it says nothing
    dead_letter_expired: bool = False  # False: what outlives its time is dropped
    duplicate_detection_window: timedelta | None = None  # None: a message id may come as often as it likes
    enabled: bool = True  # False: there, with what is in it, but nobody may use it
    requires_session: bool = False  # True: refuses receivers without a session, and there are no others here

    def __post_init__(self) -> None:
        if not self.name or self.name.startswith("/") or "$" in self.name:
            raise BrokerError(f"queue name {self.name!r}: must not be empty, begin with '/' or contain '$'")
        if not timedelta(0) < self.lock_duration <= _LOCK_DURATION_MAX:
            raise BrokerError(f"queue {self.name}: lock_duration must be more than 0 and at most 5 minutes")
        if self.max_delivery_count < 1:
            raise BrokerError(f"queue {self.name}: max_delivery_count must be at least 1")
        if self.time_to_live is not None and self.time_to_live <= timedelta(0):
            raise BrokerError(f"queue {self.name}: time_to_live must be more than 0, or None")
        if self.max_size is not None and self.max_size < 1024:
            raise BrokerError(f"queue {self.name}: max_size must be at least 1024 bytes, or None")
        window = self.duplicate_detection_window
        if window is not None and not timedelta(0) < window <= _DUPLICATE_WINDOW_MAX:
            raise BrokerError(f"queue {self.name}: duplicate_detection_window must be more than 0 and at most 7 days")
        if self.max_message_size < 1024:
            raise BrokerError(f"queue {self.name}: max_message_size must be at least 1024 bytes")


class Right(Enum):
    """What a key allows its holder; the values are the words Service Bus uses."""

    SEND = "Send"
    LISTEN = "Listen"
    MANAGE = "Manage"  # everything


ALL_RIGHTS = frozenset(Right)


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """A key with some of the rights, for every queue or for one."""

    name: str
    key: str = field(repr=False)
    rights: frozenset[Right] = ALL_RIGHTS
    queue: str | None = None

    def __post_init__(self) -> None:
        if not self.name or not self.key or not self.rights:
            raise BrokerError(f"access policy {self.name!r}: name, key and rights must not be empty")

    def allows(self, right: Right) -> bool:
        """Whether the holder of the key has this right."""
        return right in self.rights or Right.MANAGE in self.rights


@dataclass(frozen=True, slots=True)
class IdentityPolicy:
    """What an identity may do, at every queue or at one: its role, as Azure has it."""

    object_id: str  # the claim `oid` of its tokens
    rights: frozenset[Right] = ALL_RIGHTS
    queue: str | None = None

    def __post_init__(self) -> None:
        if not self.object_id or not self.rights:
            raise BrokerError(f"identity {self.object_id!r}: object_id and rights must not be empty")

    def allows(self, right: Right) -> bool:
        """Whether the identity has this right."""
        return right in self.rights or Right.MANAGE in self.rights


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    """Whose tokens are accepted besides keys, in the place of Microsoft Entra, and what its identities may do."""

    issuer: str  # the claim `iss`
    public_key: str  # PEM; RSA or P-256
    identities: tuple[IdentityPolicy, ...]
    audience: str = "https://servicebus.azure.net"  # the claim `aud`


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate for the name clients connect to (with what it is signed by) and its key, both PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """Where the broker listens, who may use it, its queues and where it keeps them.

    The keys stay out of `repr`, so that a logged configuration gives nothing away.
    """

    queues: tuple[QueueConfig, ...]
    host: str = "127.0.0.1"
    port: int = 0  # 0: any free port; Broker.connection_string tells which
    shared_access_keys: Mapping[str, str] = field(
        default_factory=lambda: {"RootManageSharedAccessKey": "loopback-only"}, repr=False
    )  # names and keys that may do everything
    access_policies: tuple[AccessPolicy, ...] = ()  # keys with fewer rights than those above
    token_issuer: TokenIssuer | None = None  # None: keys only
    tls: TlsFiles | None = None  # None: plain TCP, which the SDK calls "emulator"
    tls_port: int | None = None  # TLS there (0: any free port), plain TCP on `port`; None: TLS on `port`
    journal_path: Path | None = None  # None: memory only, gone with the process
    journal_fsync: bool = True  # False survives kill -9 but not a power cut, and commits sooner
    journal_pages_max: int | None = None  # upper bound on the size of the journal, in SQLite pages of 4 KiB
    locks_survive_connection_loss: bool = True
    unknown_queue_refuses_token: bool = False  # True, as the real service: 404 for the token; False: for the link
    max_frame_size: int = 1024 * 1024  # bytes
    idle_timeout: timedelta = timedelta(seconds=120)  # under 60 s the SDK's own keep-alive is too slow
    link_idle_timeout: timedelta = timedelta(minutes=10)  # an entity's link that is not used so long is detached
    unused_timeout: timedelta = timedelta(minutes=5)  # a connection without links (but $cbs) for so long is closed

    def __post_init__(self) -> None:
        if not _is_loopback(self.host):
            raise BrokerError(f"host {self.host!r}: the embedded broker only listens on loopback")
        if not 0 <= self.port <= 65_535:
            raise BrokerError(f"port {self.port}: must be between 0 and 65535")
        if self.tls_port is not None and (self.tls is None or not 0 <= self.tls_port <= 65_535):
            raise BrokerError(f"tls_port {self.tls_port}: must be between 0 and 65535, and needs tls")
        if not self.queues:
            raise BrokerError("queues: at least one queue is needed")
        names = [queue.name.lower() for queue in self.queues]
        if len(set(names)) != len(names):
            raise BrokerError("queues: two queues have the same name (names ignore case)")
        if not self.shared_access_keys or not all(self.shared_access_keys.values()):
            raise BrokerError("shared_access_keys: at least one name with a key that is not empty is needed")
        policies = [*self.shared_access_keys, *(policy.name for policy in self.access_policies)]
        if len(set(policies)) != len(policies):
            raise BrokerError("access_policies: two keys have the same name")
        unknown = [p.name for p in self.access_policies if p.queue is not None and p.queue.lower() not in names]
        if unknown:
            raise BrokerError(f"access policy {unknown[0]}: its queue is not one of queues")
        identities = self.token_issuer.identities if self.token_issuer else ()
        lost = [each.object_id for each in identities if each.queue is not None and each.queue.lower() not in names]
        if lost:
            raise BrokerError(f"identity {lost[0]}: its queue is not one of queues")
        if self.link_idle_timeout <= timedelta(0):
            raise BrokerError("link_idle_timeout: must be more than 0")
        if self.unused_timeout <= timedelta(0):
            raise BrokerError("unused_timeout: must be more than 0")
        if self.max_frame_size < 512:
            raise BrokerError("max_frame_size: AMQP asks for at least 512 bytes")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
