"""The address book of the virtual node: addresses, groups, cores and creates, and what of each is left.

Decides how many more container groups may be asked for. Counts every group that may come, is there (finished and
terminating ones and those without a pod too), or has gone for less than the release hold; nobody else protects these:
the scheduler believes that the virtual node takes 5000 pods, and Azure shows every address of a delegated subnet as
free.

A group is deleted after its pod is gone, and counts against the quotas of groups and cores until then; how long that
takes is within the tail, and within the release hold, which is for the address of such a group too.
"""

from __future__ import annotations

from datetime import datetime

from dispatcher.core.ledger import Entry, Ledger, Tokens
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
        groups = [(entry, groups_counted(entry, policy, now)) for entry in paid]
        to_come = sum(entry.creates_to_come for entry in paid)
        self.in_use = sum(entry.addresses(now) for entry in paid) + len(leaked)
        self._addresses = policy.addresses_max - self.in_use
        self._groups = policy.groups_max - sum(count for _, count in groups) - len(there)
        cpu_millis = sum(count * entry.cpu_millis for entry, count in groups) + sum(leak.cpu_millis for leak in there)
        self._cpu_millis = policy.cores_max * 1000 - cpu_millis
        short, long = policy.rate_windows
        self._creates, self._create_window = min(
            (policy.creates_per_5min - ledger.creates.count(now, short) - to_come, short),
            (policy.creates_per_hour - ledger.creates.count(now, long) - to_come, long),
        )
        self._paid, self._leaked, self._used, self._now = paid, leaked, ledger.creates, now
        self._policy = policy

    @property
    def creates_left(self) -> int:
        """How many more groups may be asked for within the window that is nearest to its limit."""
        return max(0, self._creates)

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


def groups_counted(entry: Entry, policy: VirtualNodePolicy, now: datetime) -> int:
    """Groups of an attempt that count against the quotas: those that may come or whose pod is there, and those whose
    pod has gone but which may not be deleted yet."""
    gone = now + policy.release_hold - policy.group_outlives_pod
    return entry.groups + sum(count for until, count in entry.holds if until > gone)


def deletes_left(used: Tokens, policy: VirtualNodePolicy, now: datetime) -> int:
    """How many groups may be deleted now: deletes have limits of their own, equal to those on creates."""
    short, long = policy.rate_windows
    left = min(policy.deletes_per_5min - used.count(now, short), policy.deletes_per_hour - used.count(now, long))
    return max(0, left)
