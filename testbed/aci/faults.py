"""What can be made to go wrong: the faults, which groups they hit, and how often.

Decides whether a fault is due for a group. Pure. Knows nothing of what follows from it (:mod:`testbed.aci.region`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """The faults. The first group refuses a create at once; the second befalls groups that were accepted."""

    QUOTA_GROUPS = "quota_groups"
    """ContainerGroupQuotaReached for groups, whatever is there."""
    QUOTA_CORES = "quota_cores"
    """ContainerGroupQuotaReached for cores, whatever is there."""
    QUOTA_OF_NONE = "quota_of_none"
    """ServiceUnavailable with a quota of 0: names that Azure takes for fraud."""
    NO_CAPACITY = "no_capacity"
    """ServiceUnavailable: the region is out of room."""
    SUBNET_FULL = "subnet_full"
    """SubnetIsFull, whatever is there."""
    INACCESSIBLE_IMAGE = "inaccessible_image"
    """InaccessibleImage."""
    REGISTRY_ERROR = "registry_error"
    """RegistryErrorResponse."""
    LINK_NOT_READY = "link_not_ready"
    """ServiceAssociationLinkNotReady."""
    TRANSITIONING = "transitioning"
    """ContainerGroupTransitioning."""
    SERVER_TIMEOUT = "server_timeout"
    """ServerTimeout (503), and nothing was created."""
    ACCEPTED_BUT_503 = "accepted_but_503"
    """ServerTimeout (503), though the group was created and runs."""
    FORBIDDEN = "forbidden"
    """AuthorizationFailed (403)."""
    MAY_NOT_JOIN = "may_not_join"
    """LinkedAuthorizationFailed (403): no right to the subnet."""
    TOO_LARGE = "too_large"
    """RequestEntityTooLarge (413)."""
    THROTTLED = "throttled"
    """ResourceRequestsThrottled (429); ``seconds`` is Retry-After."""
    INTERNAL = "internal"
    """InternalServerError (500)."""

    CAPACITY_LOST = "capacity_lost"
    """Accepted, then no capacity: provisioning fails with the event ``InsufficientCapacity.``."""
    NEVER_PREPARED = "never_prepared"
    """It finds no place; provisioning fails at the time-out. With ``seconds`` it starts so long after that all the
    same."""
    VNET_TROUBLE = "vnet_trouble"
    """It is Repairing, with events of the virtual network, for ``seconds``."""
    IMAGE_NEVER_PULLED = "image_never_pulled"
    """The pull fails again and again; provisioning fails at the time-out. Billed from its start."""
    SLOW_START = "slow_start"
    """The pull takes ``seconds`` longer."""
    RESTARTED_AFTER_FAILURE = "restarted_after_failure"
    """A container that ended with other than 0 is started again, whatever the restart policy."""
    MAINTENANCE = "maintenance"
    """``seconds`` after its start the platform stops its containers with ``code`` (7147 or 7148) and starts them
    again."""
    VANISHES = "vanishes"
    """``seconds`` after its start the group is deleted behind the connector's back."""

    SURVIVES_DELETE = "survives_delete"
    """Its delete is accepted, and it runs on and is billed. A later delete ends it."""
    DELETE_INTERNAL = "delete_internal"
    """Its delete is answered with InternalServerError."""
    READ_INTERNAL = "read_internal"
    """Reading it is answered with InternalServerError."""
    READ_THROTTLED = "read_throttled"
    """Reading it is answered with 429; ``seconds`` is Retry-After."""


@dataclass(slots=True)
class Fault:
    """One that was asked for. It hits groups whose name the pattern finds, after the first ``after`` of them, and
    ``times`` times (None: for ever)."""

    kind: Kind
    match: re.Pattern[str] = field(default_factory=lambda: re.compile(""))
    times: int | None = None
    after: int = 0
    seconds: float = 0.0
    code: int = 7147
    fired: int = 0

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "kind": self.kind.value,
            "match": self.match.pattern,
            "times": self.times,
            "after": self.after,
            "seconds": self.seconds,
            "code": self.code,
            "fired": self.fired,
        }


def read(told: Any) -> Fault:
    """A fault from JSON. Raises ValueError with the field and the remedy."""
    if not isinstance(told, Mapping):
        raise ValueError("a fault is an object with a kind")  # noqa: TRY004 - bad input, told as such
    unknown = set(told) - {"kind", "match", "times", "after", "seconds", "code"}
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))}: a fault has kind, match, times, after, seconds and code")
    try:
        kind = Kind(told.get("kind", ""))
    except ValueError:
        raise ValueError(f"kind: {told.get('kind')!r} is none of {', '.join(Kind)}") from None
    try:
        match = re.compile(told.get("match", ""))
    except (re.error, TypeError) as error:
        raise ValueError(f"match: no regular expression: {error}") from None
    times, after = told.get("times"), told.get("after", 0)
    seconds, code = told.get("seconds", 0), told.get("code", 7147)
    if times is not None and (not isinstance(times, int) or times < 1):
        raise ValueError("times: a whole number of at least 1, or nothing for ever")
    if not isinstance(after, int) or after < 0:
        raise ValueError("after: a whole number of at least 0")
    if not isinstance(seconds, (int, float)) or not 0 <= seconds <= 10**6:
        raise ValueError("seconds: a number from 0 to 10^6")
    if code not in (7147, 7148):
        raise ValueError("code: 7147 or 7148")
    return Fault(kind, match, times, after, float(seconds), code)


def due(faults: Iterable[Fault], kinds: Iterable[Kind], name: str) -> Fault | None:
    """The first of these kinds that hits this group now; it counts as fired."""
    wanted = set(kinds)
    for fault in faults:
        if fault.kind not in wanted or fault.times == 0 or not fault.match.search(name):
            continue
        if fault.after:
            fault.after -= 1
            continue
        if fault.times is not None:
            fault.times -= 1
        fault.fired += 1
        return fault
    return None
