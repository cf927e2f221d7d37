"""The virtual node: what it refuses, and the meter that is the referee of the bill. Pure.

Decides whether a container group may be created or deleted now, and remembers each group's own times. It announces
endless room and refuses afterwards, like the real one: addresses, quota and rates are other people's limits, and the
refusal arrives as a failed pod. Knows nothing of processes, prices or Jobs; time is handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from dispatcher.core.failures import FailureCause
from dispatcher.core.observations import GroupSeen
from dispatcher.core.units import Resources
from dispatcher.embedded.processes.config import VirtualNodeConfig

_FIVE_MINUTES = timedelta(minutes=5)
_HOUR = timedelta(hours=1)
_CREATE_URL = (
    "https://management.azure.com/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/embedded"
    "/providers/Microsoft.ContainerInstance/containerGroups/"
)


@dataclass(frozen=True, slots=True)
class Group:
    """One container group: an address and a share of the quota until it is gone, money from pull to stop."""

    pod_uid: str
    name: str
    cpu_millis: int
    created_at: datetime
    billed_from: datetime
    """When its image pull begins, if it lives so long."""
    stopped_at: datetime | None = None
    gone_at: datetime | None = None

    def seen(self, now: datetime) -> GroupSeen:
        """As the account reports it now."""
        last = now if self.stopped_at is None else self.stopped_at
        return GroupSeen(
            self.pod_uid,
            self.name,
            self.billed_from if self.billed_from <= last else None,
            self.stopped_at,
            read_at=now,
            gone=self.gone_at is not None,
            requests=Resources(self.cpu_millis, 0),
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """A create that Azure Resource Manager did not accept."""

    cause: FailureCause
    message: str


@dataclass(frozen=True, slots=True)
class Counters:
    """What tests and the demo's summary look at."""

    creates: int = 0
    refused: int = 0
    addresses_peak: int = 0


@dataclass(frozen=True, slots=True)
class Meter:
    """All that the virtual node remembers. Each change is a new value."""

    groups: Mapping[str, Group] = field(default_factory=dict)
    creates: tuple[datetime, ...] = ()
    """When creates were asked for in the last hour, refused ones too: they spend the rate as well."""
    deletes: tuple[datetime, ...] = ()
    counters: Counters = Counters()

    def addresses_taken(self, config: VirtualNodeConfig, now: datetime) -> int:
        """Addresses in use, or not given back yet."""
        lag = config.address_release_lag
        return sum(1 for group in self.groups.values() if group.gone_at is None or now < group.gone_at + lag)

    def create(
        self, config: VirtualNodeConfig, uid: str, name: str, requests: Resources, now: datetime
    ) -> tuple[Meter, Group | Refusal]:
        """Asks for a group. A refusal has spent a create too."""
        refusal = self._refusal(config, name, requests, now)
        asked = replace(
            self,
            creates=(*_within(self.creates, _HOUR, now), now),
            counters=replace(self.counters, creates=self.counters.creates + 1),
        )
        if refusal is not None:
            return replace(asked, counters=replace(asked.counters, refused=asked.counters.refused + 1)), refusal
        billed_from = now + min(config.pull_begins_after, config.start_delay)
        group = Group(uid, name, requests.cpu_millis, now, billed_from)
        held = replace(asked, groups={**asked.groups, uid: group})
        peak = max(held.counters.addresses_peak, held.addresses_taken(config, now))
        return replace(held, counters=replace(held.counters, addresses_peak=peak)), group

    def delete_possible_at(self, config: VirtualNodeConfig, now: datetime) -> datetime:
        """From when on a delete is accepted: ``now``, or when an old one leaves its window."""
        return max(
            _free_at(self.deletes, config.deletes_per_5_min, _FIVE_MINUTES, now),
            _free_at(self.deletes, config.deletes_per_hour, _HOUR, now),
        )

    def deleting(self, now: datetime) -> Meter:
        """One delete was asked for."""
        return replace(self, deletes=(*_within(self.deletes, _HOUR, now), now))

    def stopped(self, uid: str, at: datetime) -> Meter:
        """All containers of a group have ended, so it bills no more; address and quota stay taken."""
        group = self.groups.get(uid)
        if group is None or group.stopped_at is not None:
            return self
        return replace(self, groups={**self.groups, uid: replace(group, stopped_at=max(at, group.created_at))})

    def gone(self, uid: str, at: datetime) -> Meter:
        """A group is no more: it has stopped, and its quota is free."""
        stopped = self.stopped(uid, at)
        group = stopped.groups.get(uid)
        if group is None or group.gone_at is not None:
            return stopped
        return replace(stopped, groups={**stopped.groups, uid: replace(group, gone_at=at)})

    def forgetting(self, config: VirtualNodeConfig, now: datetime) -> Meter:
        """Without the groups that went so long ago that nobody may ask for them any more."""
        kept_for = max(config.meter_kept, config.address_release_lag)
        old = [
            uid for uid, group in self.groups.items() if group.gone_at is not None and now >= group.gone_at + kept_for
        ]
        if not old:
            return self
        return replace(self, groups={uid: group for uid, group in self.groups.items() if uid not in set(old)})

    def _refusal(self, config: VirtualNodeConfig, name: str, requests: Resources, now: datetime) -> Refusal | None:
        free_at = max(
            _free_at(self.creates, config.creates_per_5_min, _FIVE_MINUTES, now),
            _free_at(self.creates, config.creates_per_hour, _HOUR, now),
        )
        if free_at > now:
            return _throttled(name, free_at - now)
        alive = [group for group in self.groups.values() if group.gone_at is None]
        if len(alive) + 1 > config.groups_max:
            return _quota(config, name, "ContainerGroups", config.groups_max, len(alive), 1)
        used = sum(group.cpu_millis for group in alive)
        if used + requests.cpu_millis > config.cpu_millis_max:
            numbers = (config.cpu_millis_max / 1000, used / 1000, requests.cpu_millis / 1000)
            return _quota(config, name, "StandardCores", *numbers)
        if self.addresses_taken(config, now) + 1 > config.addresses:
            return _subnet_full(config, name)
        return None


def _within(instants: tuple[datetime, ...], span: timedelta, now: datetime) -> tuple[datetime, ...]:
    return tuple(instant for instant in instants if instant > now - span)


def _free_at(instants: tuple[datetime, ...], limit: int, span: timedelta, now: datetime) -> datetime:
    """When one more fits into the sliding window."""
    recent = _within(instants, span, now)
    if len(recent) < limit:
        return now
    return recent[len(recent) - limit] + span if limit > 0 else now + span


def _refused(name: str, status: int, code: str, text: str) -> str:
    return f'api call to {_CREATE_URL}{name}: got HTTP response status code {status} error code "{code}": {text}'


def _throttled(name: str, wait: timedelta) -> Refusal:
    seconds = -(-wait // timedelta(seconds=1))
    text = f"The limit for container group creates has been reached. Please retry after {seconds} seconds."
    return Refusal(FailureCause.THROTTLED, _refused(name, 429, "TooManyRequests", text))


def _quota(config: VirtualNodeConfig, name: str, quota: str, limit: float, usage: float, requested: float) -> Refusal:
    text = (
        f"Resource type 'Microsoft.ContainerInstance/containerGroups' container group quota '{quota}' exceeded in "
        f"region '{config.location}'. Limit: '{limit:g}', Usage: '{usage:g}' Requested: '{requested:g}'."
    )
    return Refusal(FailureCause.ACI_QUOTA, _refused(name, 409, "ContainerGroupQuotaReached", text))


def _subnet_full(config: VirtualNodeConfig, name: str) -> Refusal:
    text = (
        f"Subnet virtual-node-aci with address prefix 10.241.0.0/{config.subnet_prefix} does not have enough capacity "
        "for 1 IP addresses."
    )
    return Refusal(FailureCause.SUBNET_FULL, _refused(name, 400, "SubnetIsFull", text))
