"""Leaks: container groups that are there, and mostly bill, without a pod.

Decides from when on a group counts as leaked, and what a ledger remembers of one. What its pod's reservation covers is
the tail after the pod has gone; from then on nothing is set aside for it. Knows nothing of how groups are looked at or
of accounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dispatcher.core.budgets import CLOCK_ERROR
from dispatcher.core.units import NO_MONEY, Money, from_text, to_text


@dataclass(frozen=True, slots=True)
class Leak:
    """A group without a pod. It is charged as it bills on, and nothing spills meanwhile."""

    group: str
    """Its name in Azure."""
    job: str
    tenant: str
    """Whose money it is; empty where nobody knows any more: then only what counts everything is charged."""
    task: str
    rate: Money
    cpu_millis: int
    since: datetime
    """When it was found."""
    charged_until: datetime
    spent: Money = NO_MONEY
    """What it was charged since nothing covers it."""
    stopped: bool = False
    """It bills no more. Its address and its share of the quotas stay taken until it is gone."""
    held_until: datetime | None = None
    """It is gone, and its address is free again then; None: it is there."""

    @property
    def bills(self) -> bool:
        """Whether it costs money now, as far as known."""
        return not self.stopped and self.held_until is None

    def holds_address(self, now: datetime) -> bool:
        """Whether its address cannot be counted on."""
        return self.held_until is None or self.held_until > now

    def to_json(self) -> dict[str, Any]:
        """Plain data for the ledger document."""
        return {
            "group": self.group,
            "job": self.job,
            "tenant": self.tenant,
            "task": self.task,
            "rate": self.rate.picos,
            "cpu": self.cpu_millis,
            "since": to_text(self.since),
            "chargedUntil": to_text(self.charged_until),
            "spent": self.spent.picos,
            "stopped": self.stopped,
            "heldUntil": self.held_until and to_text(self.held_until),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Leak:
        """Reads what :meth:`to_json` wrote."""
        return cls(
            group=data["group"],
            job=data["job"],
            tenant=data["tenant"],
            task=data["task"],
            rate=Money(data["rate"]),
            cpu_millis=data["cpu"],
            since=from_text(data["since"]),
            charged_until=from_text(data["chargedUntil"]),
            spent=Money(data["spent"]),
            stopped=data["stopped"],
            held_until=data["heldUntil"] and from_text(data["heldUntil"]),
        )


def is_leaked(without_pod_since: datetime, tail: timedelta, now: datetime) -> bool:
    """Whether a group has outlived its pod by more than what was set aside for that."""
    return now > without_pod_since + tail + CLOCK_ERROR


def covered_until(start: datetime, gone_at: datetime, deadline: timedelta, tail: timedelta) -> datetime:
    """Until when what its pod reserved covers a group that began to bill at ``start``."""
    return max(start, min(gone_at + tail, start + deadline + tail))
