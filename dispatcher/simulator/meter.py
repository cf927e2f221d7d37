"""The meter: what each container group has really billed so far, by the second, in every budget window it touches.

This is the referee of the ledger. Its times are the world's own; it knows nothing of what the dispatcher has seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dispatcher.core.budgets import AccountId, Budget, Spender, touched
from dispatcher.core.pricing import Rates, billed, cost_of, group_rate
from dispatcher.core.units import NO_MONEY, Money, Resources
from dispatcher.core.windows import Window

MICRO = timedelta(microseconds=1)
BEYOND_TAIL = timedelta(seconds=100)
ENDLESS = timedelta(days=2)


@dataclass(slots=True)
class Group:
    """One container group: one pod of the virtual node."""

    pod_uid: str
    job: str
    spender: Spender
    requests: Resources
    made_at: datetime
    starts_at: datetime | None
    """The first billed second, maybe still to come; None: it never bills."""
    bills_until_max: datetime
    """When its Job's deadline passes."""
    beyond_tail: bool = False
    stopped_at: datetime | None = None
    """The last billed second, once it is known; it may lie ahead."""
    covered_until: datetime | None = None
    """Where an assumption is broken: what it bills from then on, no reservation covers."""
    pod_gone_at: datetime | None = None
    address_free_at: datetime | None = None
    ended_with_pod: bool = False
    """It stopped at the instant at which its pod ended by itself."""
    shown_leaking_at: datetime | None = None
    """When ACI last showed somebody that it bills beyond what any reservation covers."""
    exempt: bool = False
    """Its Job existed when a person deleted the ledger: no ledger can cover it."""
    metered_until: datetime | None = None


@dataclass(slots=True)
class Meter:
    """All groups and their bill."""

    rates: Rates
    budgets: Sequence[Budget]
    tail: timedelta
    release_lag: timedelta
    """How long ACI keeps an address after its group has gone."""
    lost_at: datetime | None = None
    """When a person deleted the ledger: what existed then is nobody's to cover."""
    groups: dict[str, Group] = field(default_factory=dict)
    created: list[datetime] = field(default_factory=list)
    """Every create of a group, refused ones too."""
    cost: Counter[AccountId] = field(default_factory=Counter)
    """What has been billed so far, by account, in money x microseconds."""
    running: dict[str, Group] = field(default_factory=dict)
    """Groups that may bill still."""
    holding: dict[str, Group] = field(default_factory=dict)
    """Groups that hold an address."""
    _windows: dict[str, list[tuple[Window, AccountId, int]]] = field(default_factory=dict)

    def ledger_lost(self, now: datetime) -> None:
        """A person has deleted the ledger: the dispatcher cannot know what went before."""
        self.lost_at = now
        self.created.clear()
        self.cost.clear()
        for group in self.groups.values():
            group.exempt = True

    def pod_made(self, group: Group) -> None:
        """A group is asked for."""
        self.groups[group.pod_uid] = self.running[group.pod_uid] = self.holding[group.pod_uid] = group
        if not group.exempt:
            self.created.append(group.made_at)

    def pod_ended(self, uid: str, at: datetime, leaks: timedelta) -> None:
        """Its pod has ended; the group stops now or a little later."""
        group = self.groups.get(uid)
        if group is not None and group.stopped_at is None:
            group.ended_with_pod = not leaks and not group.beyond_tail
            self._stop(group, at, leaks)

    def _stop(self, group: Group, at: datetime, leaks: timedelta) -> None:
        if group.beyond_tail:
            group.stopped_at, group.covered_until = at + self.tail + BEYOND_TAIL, at + min(leaks, self.tail)
        else:
            # However it came to pass: within the tail, and never later than the tail after the Job's own deadline.
            latest = max(at, min(at + self.tail, group.bills_until_max + self.tail))
            group.stopped_at = min(at + leaks, latest)

    def pod_gone(self, uid: str, at: datetime, leaks: timedelta) -> None:
        """Its pod is no more; what was running is stopped, or leaks."""
        group = self.groups.get(uid)
        if group is None:
            return
        group.pod_gone_at = at
        if group.stopped_at is None:
            self._stop(group, at, leaks)
        assert group.stopped_at is not None  # just set
        group.address_free_at = max(group.stopped_at, at) + self.release_lag

    def rate(self, group: Group) -> Money:
        """The price of a second of it."""
        return group_rate(group.requests, self.rates)

    def _accounts(self, group: Group, start: datetime) -> list[tuple[Window, AccountId, int]]:
        found = self._windows.get(group.pod_uid)
        if found is None:
            rate = self.rate(group).picos
            found = [
                (window, account_id, rate)
                for _, window, account_id in touched(
                    tuple(self.budgets), group.spender, start, start + ENDLESS if group.beyond_tail else start + _LONG
                )
            ]
            self._windows[group.pod_uid] = found
        return found

    def read(self, now: datetime) -> None:
        """Brings the bill up to now."""
        for uid, group in list(self.running.items()):
            start, stop = group.starts_at, group.stopped_at
            if start is None or (stop is not None and stop <= start):
                if stop is not None:
                    del self.running[uid]
                continue
            until = now if stop is None else min(now, stop)
            begun = group.metered_until or start
            if until > begun:
                counted = until
                if group.covered_until is not None:
                    counted = min(until, group.covered_until)  # beyond that only the rule about overruns holds
                if not group.exempt and counted > begun:
                    for window, account_id, rate in self._accounts(group, start):
                        overlap = window.overlap(begun, counted)
                        if overlap > _NOTHING:
                            self.cost[account_id] += rate * (overlap // MICRO)
                group.metered_until = until
            if stop is not None and now >= stop:
                del self.running[uid]

    def bill(self, group: Group) -> Money:
        """What a group has cost in all, once it has stopped: every begun second."""
        if group.starts_at is None or group.stopped_at is None or group.stopped_at <= group.starts_at:
            return NO_MONEY
        return cost_of(self.rate(group), group.stopped_at - group.starts_at)

    def cpu_millis(self, group: Group) -> int:
        """What it counts against the core quota."""
        return billed(group.requests).cpu_millis


_NOTHING = timedelta(0)
_LONG = timedelta(hours=1)
