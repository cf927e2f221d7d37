"""Law 4. Addresses, groups, cores and creates never exceed what was allowed, finished and terminating pods included.

An address is held until its group has stopped, its pod has gone, and the world's own release lag is over. A group
counts against the quotas from its create until it has stopped and its pod has gone.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import datetime, timedelta

from dispatcher.simulator.checkers.law import Law
from dispatcher.simulator.world import World

_WINDOWS = ((timedelta(minutes=5), "creates_per_5min"), (timedelta(hours=1), "creates_per_hour"))
_CLOCKS_APART = timedelta(seconds=10)


class WithinCapacity(Law):
    """Looks whenever time has passed."""

    name = "law 4: capacity"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        profile = world.scenario.policy.virtual_node
        assert profile is not None  # every scenario draws one
        self._profile = profile
        self._creates_seen = 0
        world.after_time.append(self.look)

    def look(self) -> None:
        """All groups that hold anything."""
        meter, now, profile = self.world.meter, self.world.clock.now(), self._profile
        addresses = groups = cpu_millis = 0
        for uid, group in list(meter.holding.items()):
            if group.address_free_at is not None and group.address_free_at <= now:
                del meter.holding[uid]
            elif not group.exempt and not group.beyond_tail:
                addresses += 1
                if group.address_free_at is None or group.address_free_at - meter.release_lag > now:
                    groups += 1
                    cpu_millis += meter.cpu_millis(group)
        for name, used, allowed in (
            ("addresses", addresses, profile.addresses_max),
            ("groups", groups, profile.groups_max),
            ("thousandths of a core", cpu_millis, profile.cores_max * 1000),
        ):
            if used > allowed:
                raise self.broken(f"{used} {name} in use, {allowed} allowed")
        if len(meter.created) != self._creates_seen:
            self._creates_seen = len(meter.created)
            self._creates(meter.created)

    def _creates(self, created: list[datetime]) -> None:
        for window, field in _WINDOWS:
            allowed = getattr(self._profile, field)
            if not created:
                return
            since = created[-1] - window + _CLOCKS_APART
            within = len(created) - bisect_left(created, since)
            if within > allowed:
                raise self.broken(f"{within} creates within {window}, {allowed} allowed")
