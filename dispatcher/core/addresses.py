"""The address book of the virtual node: addresses, groups, cores and creates, and what of each is left.

Decides how many more container groups may be asked for. Counts every group that may come, is there (finished and
terminating ones and those without a pod too), or has gone for less than the release hold; nobody else protects these:
the scheduler believes that the virtual node takes 5000 pods, and Azure shows every address of a delegated subnet as
free.
"""

from __future__ import annotations

from datetime import datetime

from dispatcher.core.ledger import FIVE_MINUTES, ONE_HOUR, Ledger, Tokens
from dispatcher.core.policy import VirtualNodePolicy
from dispatcher.core.pricing import billed
from dispatcher.core.units import Resources
from dispatcher.core.verdicts import HoldReason


class AddressBook:
    """What the virtual node still has room for, used up as a plan goes on."""

    def __init__(self, ledger: Ledger, policy: VirtualNodePolicy, now: datetime) -> None:
        paid = [entry for entry in ledger.entries.values() if entry.paid]
        leaked = [leak for leak in ledger.leaks.values() if leak.holds_address(now)]
        there = [leak for leak in leaked if leak.held_until is None]
        groups = sum(entry.groups for entry in paid) + len(there)
        may_come = sum(entry.may_come for entry in paid)
        self.in_use = sum(entry.addresses(now) for entry in paid) + len(leaked)
        self._addresses = policy.addresses_max - self.in_use
        self._groups = policy.groups_max - groups
        cpu_millis = sum(entry.groups * entry.cpu_millis for entry in paid) + sum(leak.cpu_millis for leak in there)
        self._cpu_millis = policy.cores_max * 1000 - cpu_millis
        self._creates, self._create_window = min(
            (policy.creates_per_5min - ledger.creates.count(now, FIVE_MINUTES) - may_come, FIVE_MINUTES),
            (policy.creates_per_hour - ledger.creates.count(now, ONE_HOUR) - may_come, ONE_HOUR),
        )
        self._paid, self._leaked, self._used, self._now = paid, leaked, ledger.creates, now
        self._policy = policy

    def fit(self, requests: Resources) -> tuple[int, HoldReason]:
        """How many more groups of that size, and what stops there being more."""
        cpu_millis = group_cpu_millis(self._policy.of_group(requests))
        limits = (
            (self._addresses, HoldReason.SUBNET_ADDRESSES),
            (self._groups, HoldReason.ACI_GROUP_QUOTA),
            (self._cpu_millis // cpu_millis, HoldReason.ACI_CORE_QUOTA),
            (self._creates, HoldReason.ACI_CREATE_RATE),
        )
        count, reason = min(limits, key=lambda limit: limit[0])
        return max(0, count), reason

    def frees_at(self, reason: HoldReason) -> datetime | None:
        """When there will be more of what is scarce, where time alone brings it; None: a group must end first."""
        if reason is HoldReason.SUBNET_ADDRESSES:
            ends = [until for entry in self._paid for until, _count in entry.holds]
            ends += [leak.held_until for leak in self._leaked if leak.held_until is not None]
        elif reason is HoldReason.ACI_CREATE_RATE:
            ends = [at + self._create_window for at, _count in self._used.used]
        else:
            ends = []
        return min((end for end in ends if end > self._now), default=None)

    def take(self, requests: Resources, count: int) -> None:
        """Uses up room for so many groups."""
        self._addresses -= count
        self._groups -= count
        self._cpu_millis -= group_cpu_millis(self._policy.of_group(requests)) * count
        self._creates -= count


def group_cpu_millis(requests: Resources) -> int:
    """What one group of that size counts against the core quota."""
    return billed(requests).cpu_millis


def deletes_left(used: Tokens, policy: VirtualNodePolicy, now: datetime) -> int:
    """How many groups may be deleted now: deletes have limits of their own, equal to those on creates."""
    left = min(
        policy.deletes_per_5min - used.count(now, FIVE_MINUTES),
        policy.deletes_per_hour - used.count(now, ONE_HOUR),
    )
    return max(0, left)
