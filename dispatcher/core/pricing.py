"""Rates, and what one container group costs a second.

Decides how a pod's requests become a price. Knows nothing of budgets or of how long anything runs.

ACI bills what a pod requests, as the v1 connector truncates it: CPU to 0.01, memory to 0.1 decimal GB, never less than
one step of either. What a pod requests is what its manifest says, and that is rounded up to the same steps; where a
profile rounds to finer ones, less is billed than is reckoned here, never more.
Default rates are the Linux figures of the product's brief (per second: $0.000012 a vCPU, $0.0000013 a GB); the East US
list price of autumn 2026 is 5 to 7 percent lower.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from dispatcher.core.units import Money, Resources, whole_seconds

_CPU_STEP_MILLIS = 10
_MEMORY_STEP_BYTES = 10**8


@dataclass(frozen=True, slots=True)
class Rates:
    """Prices of a place, in money per second."""

    per_cpu_second: Money = Money.from_usd("0.000012")
    per_gb_second: Money = Money.from_usd("0.0000013")


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
