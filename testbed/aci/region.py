"""A region of one subscription: which groups there are, what is granted and what refused, and what it costs.

Decides all that ACI decides: rates, quotas, room, addresses, faults, in the order in which a request meets them. Pure:
every call is given the time, and brings everything up to it first. What is left to do in the world (code to start and
to stop) goes out as :data:`testbed.aci.groups.Act`. Knows nothing of HTTP or of processes.
"""

from __future__ import annotations

import ipaddress
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from testbed.aci import faults, told, wording
from testbed.aci.definitions import CPU_MAX, MEMORY_GB_MAX, Definition
from testbed.aci.faults import Fault, Kind
from testbed.aci.groups import Act, Container, Event, Group, Phase, Start
from testbed.aci.options import Options
from testbed.aci.rates import Bucket, Window

REQUESTS_MAX = 20_000
"""How many of the last requests are remembered."""
REFUSE = tuple(Kind)[: tuple(Kind).index(Kind.INTERNAL) + 1]
"""The faults that refuse a create."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A create or a delete and its answer; ``code`` is empty where it was granted."""

    at: datetime
    verb: str
    name: str
    status: int
    code: str


@dataclass(slots=True)
class Peaks:
    """The most that there ever was at once."""

    groups: int = 0
    cores: Decimal = Decimal(0)
    addresses: int = 0


@dataclass(slots=True)
class Region:
    """All of it. Where ``options.executes``, code is run by someone else, who is told by acts."""

    options: Options
    groups: dict[str, Group] = field(default_factory=dict)
    gone: list[Group] = field(default_factory=list)
    """Groups of the past, for the bill."""
    held: dict[str, datetime] = field(default_factory=dict)
    """Addresses whose group is gone, and when each is free again."""
    faults: list[Fault] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    reads: int = 0
    reads_of: Counter[str] = field(default_factory=Counter)
    """How often each group was asked for by its name, found or not."""
    peaks: Peaks = field(default_factory=Peaks)
    creates: tuple[Window, Window] = field(init=False)
    deletes: tuple[Window, Window] = field(init=False)
    _arm: dict[str, Bucket] = field(init=False)
    _serial: int = 0

    def __post_init__(self) -> None:
        options = self.options
        self.creates = (
            Window(options.creates_per_5_minutes, options.five_minutes), Window(options.creates_per_hour, options.hour),
        )  # fmt: skip
        self.deletes = (
            Window(options.deletes_per_5_minutes, options.five_minutes), Window(options.deletes_per_hour, options.hour),
        )  # fmt: skip
        self._arm = {"read": Bucket(250, 25), "write": Bucket(200, 10), "delete": Bucket(200, 10)}

    def change_options(self, options: Options) -> None:
        """New limits and times, from now on; what was counted stays counted."""
        self.options = options
        for (short, long), per_short, per_long in (
            (self.creates, options.creates_per_5_minutes, options.creates_per_hour),
            (self.deletes, options.deletes_per_5_minutes, options.deletes_per_hour),
        ):
            short.limit, short.seconds = per_short, options.five_minutes
            long.limit, long.seconds = per_long, options.hour

    # --- time ---------------------------------------------------------------------------------------------------------

    def next_change(self) -> datetime | None:
        """When something changes by itself the next time."""
        return min((at for group in self.groups.values() if (at := group.next_change())), default=None)

    def advance(self, now: datetime) -> list[Act]:
        """Everything that was due until now, in its order, each at its own time."""
        acts: list[Act] = []
        while True:
            dues = [
                (at, each.serial, each) for each in self.groups.values() if (at := each.next_change()) and at <= now
            ]
            if not dues:
                break
            at, _, group = min(dues)
            if at == group.gone_at and not group.stops_at:
                self._remove(group, at)
            else:
                acts += group.change()
        self.held = {address: free for address, free in self.held.items() if free > now}
        return acts

    def _remove(self, group: Group, at: datetime) -> None:
        del self.groups[group.name]
        self.gone.append(group)
        if group.address:
            self.held[group.address] = at + timedelta(seconds=self.options.release_seconds)

    def exited(self, now: datetime, group: Group, container: Container, run: int, exit_code: int) -> list[Act]:
        """Code that was started has ended. Of an older run it means nothing."""
        acts = self.advance(now)
        if container.starts == run:
            acts += group.ended(now, container, exit_code)
        return acts

    # --- what is used -------------------------------------------------------------------------------------------------

    def cores(self) -> Decimal:
        """Cores of all groups, those that have ended included."""
        return sum((group.definition.cpu for group in self.groups.values()), Decimal(0))

    def addresses(self) -> int:
        """Addresses that are not free: of groups, and those not given back yet."""
        return sum(1 for group in self.groups.values() if group.address) + len(self.held)

    # --- requests -----------------------------------------------------------------------------------------------------

    def create(self, now: datetime, resource_group: str, definition: Definition) -> tuple[Group, bool, list[Act]]:
        """The group, whether it is new, and what is to be done. Raises Refusal."""
        acts = self.advance(now)
        name = definition.name
        try:
            group, is_new = self._create(now, resource_group, definition)
        except wording.Refusal as refusal:
            self._answered(now, "PUT", name, refusal.status, refusal.code)
            raise
        self._answered(now, "PUT", name, 201 if is_new else 200, "")
        self.peaks.groups = max(self.peaks.groups, len(self.groups))
        self.peaks.cores = max(self.peaks.cores, self.cores())
        self.peaks.addresses = max(self.peaks.addresses, self.addresses())
        return group, is_new, acts

    def _create(self, now: datetime, resource_group: str, definition: Definition) -> tuple[Group, bool]:
        name = definition.name
        self._arm_take(now, "write")
        self._take(now, self.creates, "write")
        fault = faults.due(self.faults, REFUSE, name)
        if fault and fault.kind is not Kind.ACCEPTED_BUT_503:
            raise self._refusal(fault, definition)
        existing = self.groups.get(name)
        if existing and fault:
            raise wording.server_timeout()
        if existing:
            return self._update(existing, definition), False
        behaviours = [told.read(each.environment) for each in definition.containers]
        self._admit(definition)
        address = self._address()
        group = self._accept(now, resource_group, definition, behaviours, address)
        if fault:
            raise wording.server_timeout()
        return group, True

    def _take(self, now: datetime, windows: Iterable[Window], action: str) -> None:
        """A request beyond a rate is refused and not counted; every other one is, whatever becomes of it."""
        for window in windows:
            wait = math.ceil(window.wait(now))
            if wait:
                raise wording.throttled(action, window.limit, window.seconds, wait)
        for window in windows:
            window.take(now)

    def _arm_take(self, now: datetime, action: str) -> None:
        if self.options.arm_limits and (wait := self._arm[action].take(now)):
            raise wording.throttled(action, int(self._arm[action].size), 1, math.ceil(wait))

    def _update(self, existing: Group, definition: Definition) -> Group:
        settled = existing.phase in (Phase.RUNNING, Phase.ENDED)
        if existing.deleted or not settled:
            raise wording.transitioning(existing.name)
        if existing.definition.raw.get("properties") != definition.raw.get("properties"):
            raise wording.invalid_update(existing.name)
        return existing

    def _admit(self, definition: Definition) -> None:
        options = self.options
        for image in definition.images:
            host = image.split("/")[0]
            if host in options.private_registries and host not in definition.registries:
                raise wording.inaccessible_image(image, definition.name)
        if len(self.groups) + 1 > options.groups_max:
            raise wording.quota("ContainerGroups", options.location, options.groups_max, len(self.groups), 1)
        used = self.cores()
        if used + definition.cpu > Decimal(str(options.cores_max)):
            raise wording.quota("StandardCores", options.location, options.cores_max, used, definition.cpu)
        room = options.capacity_cores
        too_big = definition.cpu > CPU_MAX or definition.memory_gb > MEMORY_GB_MAX
        if too_big or (room is not None and used + definition.cpu > Decimal(str(room))):
            raise wording.no_capacity(options.location, definition.cpu, definition.memory_gb)

    def _address(self) -> str:
        taken = {group.address for group in self.groups.values()} | set(self.held)
        network = ipaddress.ip_network(self.options.subnet)
        for offset in range(4, network.num_addresses - 1):
            if (address := str(network[offset])) not in taken:
                return address
        raise wording.subnet_full(self._subnet(), self.options.subnet)

    def _subnet(self) -> str:
        return (
            f"/subscriptions/{self.options.subscription}/resourceGroups/network/providers/Microsoft.Network/"
            "virtualNetworks/vnet/subnets/virtual-node"
        )

    def _refusal(self, fault: Fault, definition: Definition) -> wording.Refusal:
        options, name, image = self.options, definition.name, definition.images[0]
        match fault.kind:
            case Kind.QUOTA_GROUPS:
                return wording.quota("ContainerGroups", options.location, options.groups_max, options.groups_max, 1)
            case Kind.QUOTA_CORES:
                full = options.cores_max
                return wording.quota("StandardCores", options.location, full, full, definition.cpu)
            case Kind.QUOTA_OF_NONE:
                return wording.quota_of_none(options.location)
            case Kind.NO_CAPACITY:
                return wording.no_capacity(options.location, definition.cpu, definition.memory_gb)
            case Kind.SUBNET_FULL:
                return wording.subnet_full(self._subnet(), options.subnet)
            case Kind.INACCESSIBLE_IMAGE:
                return wording.inaccessible_image(image, name)
            case Kind.REGISTRY_ERROR:
                return wording.registry_error(image)
            case Kind.LINK_NOT_READY:
                return wording.link_not_ready(self._subnet())
            case Kind.TRANSITIONING:
                return wording.transitioning(name)
            case Kind.FORBIDDEN:
                return wording.forbidden(f"{wording.TYPE}/write", f"/subscriptions/{options.subscription}/{name}")
            case Kind.MAY_NOT_JOIN:
                return wording.may_not_join(self._subnet())
            case Kind.TOO_LARGE:
                return wording.too_large(options.body_bytes_max)
            case Kind.THROTTLED:
                limit, wait = options.creates_per_5_minutes, max(1, math.ceil(fault.seconds))
                return wording.throttled("write", limit, options.five_minutes, wait)
            case Kind.SERVER_TIMEOUT:
                return wording.server_timeout()
            case _:
                return wording.internal()

    def _accept(
        self, now: datetime, resource_group: str, definition: Definition, behaviours: list[told.Told], address: str
    ) -> Group:
        options, name = self.options, definition.name
        self._serial += 1
        containers = [Container(each, does) for each, does in zip(definition.containers, behaviours, strict=True)]
        pull = sum(self._megabytes(image, containers) for image in definition.images) / options.pull_mb_per_second
        group = Group(
            definition,
            resource_group,
            self._serial,
            address,
            now,
            timedelta(seconds=pull),
            timedelta(seconds=options.restart_seconds),
            options.executes,
            containers,
        )
        group.changes_at = now + timedelta(seconds=options.prepare_seconds)
        timeout = now + timedelta(seconds=options.provisioning_timeout_seconds)
        group.gives_up_at = timeout
        text = f"The container group '{name}' could not be provisioned in time."
        group.gives_up_because = Event(timeout, "ProvisioningTimeout", text)
        self._befall(now, group)
        self.groups[name] = group
        return group

    def _megabytes(self, image: str, containers: list[Container]) -> float:
        sizes = [each.told.image_mb for each in containers if each.definition.image == image]
        known = [size for size in sizes if size is not None]
        if known:
            return max(known)
        named = [size for start, size in self.options.images_mb.items() if image.startswith(start)]
        return named[0] if named else self.options.image_mb

    def _befall(self, now: datetime, group: Group) -> None:
        """The faults that come later than the acceptance, each at most once."""

        def due(kind: Kind) -> Fault | None:
            return faults.due(self.faults, [kind], group.name)

        if due(Kind.CAPACITY_LOST):
            at = now + timedelta(seconds=self.options.capacity_error_seconds)
            group.changes_at, group.gives_up_at = None, at
            cpu, memory = group.definition.cpu, group.definition.memory_gb
            text = wording.no_capacity_text(self.options.location, cpu, memory)
            group.gives_up_because = Event(at, "InsufficientCapacity.", text)
        if fault := due(Kind.NEVER_PREPARED):
            group.changes_at = None
            if fault.seconds and group.gives_up_at:
                group.starts_late_at = group.gives_up_at + timedelta(seconds=fault.seconds)
        if (fault := due(Kind.VNET_TROUBLE)) and group.changes_at:
            group.repairing = True
            group.changes_at += timedelta(seconds=fault.seconds)
            group.note(now, "PrepareNetwork", "The virtual network is being prepared.")
            group.note(now, "ErrorJoinVirtualNetwork", f"Joining the subnet {self._subnet()} failed and is retried.")
        if due(Kind.IMAGE_NEVER_PULLED):
            group.pull_fails = True
        if fault := due(Kind.SLOW_START):
            group.pull += timedelta(seconds=fault.seconds)
        if due(Kind.RESTARTED_AFTER_FAILURE):
            group.restarts_failed = True
        if fault := due(Kind.MAINTENANCE):
            group.maintenance_after, group.maintenance_code = timedelta(seconds=fault.seconds), fault.code
        if fault := due(Kind.VANISHES):
            group.vanishes_after = timedelta(seconds=fault.seconds)

    def delete(self, now: datetime, name: str) -> tuple[Group | None, list[Act]]:
        """The group that goes now, None where there is none. Raises Refusal."""
        acts = self.advance(now)
        group = self.groups.get(name)
        try:
            self._arm_take(now, "delete")
            # A delete of what is not there, or is going already, starts nothing; Azure does not say whether it counts.
            starts = group is not None and (group.survives or not group.deleted)
            if starts:
                self._take(now, self.deletes, "delete")
                if faults.due(self.faults, [Kind.DELETE_INTERNAL], name):
                    raise wording.internal()
        except wording.Refusal as refusal:
            self._answered(now, "DELETE", name, refusal.status, refusal.code)
            raise
        self._answered(now, "DELETE", name, 200 if group else 204, "")
        if group is None or not starts:
            return group, acts
        if faults.due(self.faults, [Kind.SURVIVES_DELETE], name):
            group.deleted, group.survives = now, True
            return group, acts
        stop, gone = timedelta(seconds=self.options.stop_seconds), timedelta(seconds=self.options.delete_seconds)
        return group, acts + group.delete(now, stop, gone)

    def get(self, now: datetime, name: str, resource_group: str) -> tuple[Group, list[Act]]:
        """The group. Raises Refusal."""
        acts = self.advance(now)
        self.read(now)
        self.reads_of[name] += 1
        if fault := faults.due(self.faults, [Kind.READ_INTERNAL, Kind.READ_THROTTLED], name):
            if fault.kind is Kind.READ_THROTTLED:
                raise wording.throttled("read", 250, 1, max(1, math.ceil(fault.seconds)))
            raise wording.internal()
        group = self.groups.get(name)
        if group is None:
            raise wording.not_found(name, resource_group)
        return group, acts

    def read(self, now: datetime) -> None:
        """Counts a request that reads. Raises Refusal beyond the rate."""
        self.reads += 1
        self._arm_take(now, "read")

    def _answered(self, now: datetime, verb: str, name: str, status: int, code: str) -> None:
        self.asked.append(Asked(now, verb, name, status, code))
        del self.asked[:-REQUESTS_MAX]
        if code:
            self.refused[code] += 1

    # --- what it tells ------------------------------------------------------------------------------------------------

    def usages(self) -> list[tuple[str, str, int, int]]:
        """Name, name for people, what is used, the limit: as Azure's List Usage has them, whole numbers."""
        return [
            ("ContainerGroups", "Container Groups", len(self.groups), self.options.groups_max),
            ("StandardCores", "Standard Cores", math.ceil(self.cores()), math.floor(self.options.cores_max)),
        ]

    def bill(self, now: datetime) -> dict[str, Any]:
        """What every group that ever was has cost until now."""
        prices = Decimal(self.options.usd_per_vcpu_second), Decimal(self.options.usd_per_gb_second)
        lines = []
        total = Decimal(0)
        for group in sorted([*self.gone, *self.groups.values()], key=lambda each: each.serial):
            cost = group.cost(now, *prices)
            total += cost
            definition = group.definition
            lines.append(
                {
                    "group": group.name,
                    "serial": group.serial,
                    "pod": definition.tags.get("PodName"),
                    "namespace": definition.tags.get("Namespace"),
                    "uid": definition.tags.get("UID"),
                    "cpu": str(definition.cpu),
                    "memory_gb": str(definition.memory_gb),
                    "spans": [[span.start.isoformat(), span.stop and span.stop.isoformat()] for span in group.spans],
                    "seconds": group.seconds(now),
                    "usd": f"{cost:f}",
                    "metered": group.is_metered,
                    "survived_delete": group.survives,
                }
            )
        return {
            "as_of": now.isoformat(),
            "usd_per_vcpu_second": self.options.usd_per_vcpu_second,
            "usd_per_gb_second": self.options.usd_per_gb_second,
            "usd": f"{total:f}",
            "groups": lines,
        }

    def statistics(self, now: datetime) -> dict[str, Any]:
        """What is used, the most that ever was, and what was asked and refused."""
        granted = Counter(each.verb for each in self.asked if not each.code)
        return {
            "as_of": now.isoformat(),
            "now": {
                "groups": len(self.groups),
                "cores": str(self.cores()),
                "addresses": self.addresses(),
                "addresses_held": len(self.held),
                "metered": sum(1 for group in self.groups.values() if group.is_metered),
                "creates": [window.used(now) for window in self.creates],
                "deletes": [window.used(now) for window in self.deletes],
            },
            "peak": {
                "groups": self.peaks.groups,
                "cores": str(self.peaks.cores),
                "addresses": self.peaks.addresses,
                "creates": [window.peak for window in self.creates],
                "deletes": [window.peak for window in self.deletes],
            },
            "limit": {
                "groups": self.options.groups_max,
                "cores": str(self.options.cores_max),
                "addresses": self.options.addresses,
                "creates": [window.limit for window in self.creates],
                "deletes": [window.limit for window in self.deletes],
                "window_seconds": [self.options.five_minutes, self.options.hour],
            },
            "granted": dict(granted),
            "refused": dict(self.refused),
            "reads": self.reads,
        }


__all__ = ["Act", "Asked", "Region", "Start"]
