"""Rates, what one container group costs a second, and what a node costs beside it.

Decides how a pod's requests become a price, here and there, and from which use on a node is the cheaper place. Knows
nothing of budgets or of how long anything runs; which prices there are is data (settings/price_book).

ACI bills what a pod requests, as the v1 connector truncates it: CPU to 0.01, memory to 0.1 decimal GB, never less than
one step of either. What a pod requests is what its manifest says, and that is rounded up to the same steps; where a
profile rounds to finer ones, less is billed than is reckoned here, never more.
Default rates are the Linux figures of the product's brief (per second: $0.000012 a vCPU, $0.0000013 a GB); the East US
list price of autumn 2026 is 5 to 7 percent lower.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from dispatcher.core.units import NO_MONEY, Money, Resources, whole_seconds

_CPU_STEP_MILLIS = 10
_MEMORY_STEP_BYTES = 10**8
SECONDS_AN_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Rates:
    """Prices of a place, in money per second."""

    per_cpu_second: Money = Money.from_usd("0.000012")
    per_gb_second: Money = Money.from_usd("0.0000013")


@dataclass(frozen=True, slots=True)
class NodePrice:
    """A node of one size: what an hour of it costs, busy or idle, and what pods may request of it."""

    size: str
    per_hour: Money
    allocatable: Resources

    def pods(self, requests: Resources) -> int:
        """How many pods of that size fit on one such node when it is packed full; none: a pod is too large for it."""
        by_cpu = self.allocatable.cpu_millis // max(1, requests.cpu_millis)
        by_memory = self.allocatable.memory_bytes // max(1, requests.memory_bytes)
        return min(by_cpu, by_memory)

    def pod_hour(self, requests: Resources) -> Money | None:
        """A pod's part of an hour of a node that is packed full; None: it does not fit. Rounded up."""
        pods = self.pods(requests)
        return Money(-(-self.per_hour.picos // pods)) if pods else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """An hour of one pod, here and there."""

    virtual_node: Money
    """As a container group, for an hour of running."""
    node: Money | None
    """As its part of a node that is packed full; None: no price, or it does not fit."""

    @property
    def break_even(self) -> Decimal | None:
        """The share of time above which a node that runs all the time is the cheaper place.

        More than 1: never, a group is cheaper even if it runs without a pause. None: nothing to compare with.
        """
        if self.node is None or self.virtual_node == NO_MONEY:
            return None
        return Decimal(self.node.picos) / Decimal(self.virtual_node.picos)


def compared(requests: Resources, on_virtual_node: Resources, rates: Rates, node: NodePrice | None) -> Comparison:
    """What an hour of a pod costs. ``on_virtual_node`` is what its group requests there: the place may add to it."""
    group = group_rate(on_virtual_node, rates) * SECONDS_AN_HOUR
    return Comparison(group, node.pod_hour(requests) if node is not None else None)


def billed(requests: Resources) -> Resources:
    """The request as it is billed: as the manifest has it, in the connector's steps, at least one of each."""
    cpu_steps = max(1, -(-requests.cpu_millis // _CPU_STEP_MILLIS))
    memory_steps = max(1, -(-requests.memory_bytes // _MEMORY_STEP_BYTES))
    return Resources(cpu_steps * _CPU_STEP_MILLIS, memory_steps * _MEMORY_STEP_BYTES)


def group_rate(requests: Resources, rates: Rates) -> Money:
    """The price of one group for one second, rounded up to the smallest unit of money."""
    paid = billed(requests)
    cpu = -(-rates.per_cpu_second.picos * paid.cpu_millis // 1000)
    memory = -(-rates.per_gb_second.picos * paid.memory_bytes // 10**9)
    return Money(cpu + memory)


def cost_of(rate: Money, span: timedelta) -> Money:
    """What a group of that rate costs over a span; every begun second is billed."""
    return rate * whole_seconds(span)
