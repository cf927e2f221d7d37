"""What a stand-in for ACI is told at its start: limits, times, prices. Every default is Azure's, or is marked as ours.

Decides names, units and defaults. Knows nothing of how any of them is kept. ``rate_scale``, ``release_seconds`` and
``provisioning_timeout_seconds`` may be shortened for tests; metering and run times never are.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

SUBNET_RESERVED = 5
"""Addresses that Azure keeps of every subnet: the first four and the last."""

OUT_OF_THE_WAY: Mapping[str, Any] = {
    "subnet": "10.240.0.0/20",
    "groups_max": 4000,
    "cores_max": 10_000,
    "creates_per_5_minutes": 100_000,
    "creates_per_hour": 100_000,
    "deletes_per_5_minutes": 100_000,
    "deletes_per_hour": 100_000,
}
"""Limits that no test meets unawares: for those that are about something else, or share a region."""


@dataclass(frozen=True, slots=True)
class Options:
    """A region of one subscription, with one delegated subnet."""

    subscription: str = "00000000-0000-0000-0000-000000000001"
    location: str = "eastus"
    writer_token: str = "writer"  # noqa: S105 - proves an identity to a stand-in on loopback
    reader_token: str = "reader"  # noqa: S105 - as above; it may read and do no more

    subnet: str = "10.240.0.0/24"
    release_seconds: float = 60.0
    """How long an address stays taken after its group is gone. Azure publishes no figure: ours."""
    groups_max: int = 100
    """Groups of the subscription in the region, those that have ended included."""
    cores_max: float = 100.0
    capacity_cores: float | None = None
    """What the region has left for us; None: enough."""
    creates_per_5_minutes: int = 100
    creates_per_hour: int = 300
    deletes_per_5_minutes: int = 100
    deletes_per_hour: int = 300
    rate_scale: float = 1.0
    """How much shorter than Azure's the windows of those four are: 10 makes 5 minutes 30 s, and the hour 6 minutes."""
    arm_limits: bool = False
    """Whether Azure's 25 reads and 10 writes and deletes a second hold too. Over a network the connector is far slower
    than that; on loopback it is not."""
    private_registries: tuple[str, ...] = ()
    """Hosts of registries that want credentials with the create; all others let anybody in."""
    body_bytes_max: int = 4 * 1024 * 1024
    """Beyond it 413 is answered. Azure publishes no figure for groups: ours."""

    executes: bool = False
    """Whether containers' commands run as processes; else containers do what their environment tells."""
    prepare_seconds: float = 1.0
    """From the acceptance to the start of the pull: a place is found and joined to the subnet. Ours: on Azure about
    50 s in a virtual network."""
    image_mb: float = 10.0
    """The size of an image that ``images_mb`` does not name."""
    images_mb: Mapping[str, float] = field(default_factory=dict)
    """Sizes by the beginning of the image's name."""
    pull_mb_per_second: float = 17.0
    """From two public measurements: 44 MB in 60 s, 900 MB in 110 s, both from request to running."""
    stop_seconds: float = 1.0
    """From an accepted delete to the end of the containers, which is when metering ends. Ours."""
    delete_seconds: float = 3.0
    """From an accepted delete to the end of the group. Ours."""
    restart_seconds: float = 1.0
    """From the end of a container to its next start. Ours."""
    provisioning_timeout_seconds: float = 1800.0
    capacity_error_seconds: float = 25.0
    """When a group that was accepted turns out to have no capacity, after its acceptance: from a public report."""

    usd_per_vcpu_second: str = "0.000012"
    usd_per_gb_second: str = "0.0000013"

    def __post_init__(self) -> None:
        network = ipaddress.ip_network(self.subnet)
        if network.num_addresses <= SUBNET_RESERVED:
            raise ValueError(f"subnet: {self.subnet} has no address that Azure does not keep: use a /29 or larger")
        for name in ("usd_per_vcpu_second", "usd_per_gb_second"):
            try:
                price = Decimal(getattr(self, name))
            except InvalidOperation:
                raise ValueError(f"{name}: {getattr(self, name)!r} is no decimal number") from None
            if not price.is_finite() or price < 0:
                raise ValueError(f"{name}: {price} is no price")
        if self.delete_seconds < self.stop_seconds:
            raise ValueError("delete_seconds: a group cannot be gone before its containers have stopped (stop_seconds)")
        if not self.rate_scale > 0 or not self.pull_mb_per_second > 0:
            raise ValueError("rate_scale and pull_mb_per_second: each must be above 0")
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and value < 0:
                raise ValueError(f"{each.name}: {value} is negative")

    @property
    def addresses(self) -> int:
        """How many addresses groups can have."""
        return ipaddress.ip_network(self.subnet).num_addresses - SUBNET_RESERVED

    @property
    def five_minutes(self) -> float:
        """The shorter window in seconds, as scaled."""
        return 300.0 / self.rate_scale

    @property
    def hour(self) -> float:
        """The longer window in seconds, as scaled."""
        return 3600.0 / self.rate_scale

    def to_json(self) -> str:
        """All of it, for the command line of another process."""
        return json.dumps({each.name: getattr(self, each.name) for each in dataclasses.fields(self)}, default=dict)


def changed(options: Options, values: Mapping[str, Any]) -> Options:
    """The options with these fields replaced. Raises ValueError where one is not known, or not of its kind."""
    known = {each.name: getattr(options, each.name) for each in dataclasses.fields(options)}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"{name}: no such option; there are {', '.join(known)}")
        if name == "private_registries":
            fits = isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value)
        elif name == "capacity_cores":
            fits = value is None or _number(value)
        elif isinstance(known[name], bool):
            fits = isinstance(value, bool)
        elif isinstance(known[name], (int, float)):
            fits = _number(value)
        else:
            fits = isinstance(value, Mapping if name == "images_mb" else str)
        if not fits:
            raise ValueError(f"{name}: {value!r} is not like {known[name]!r}")
    if "private_registries" in values:
        values = {**values, "private_registries": tuple(values["private_registries"])}
    return dataclasses.replace(options, **values)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
