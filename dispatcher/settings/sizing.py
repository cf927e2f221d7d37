"""Whether the virtual node is large enough for the bursts that are configured, and what a day of it can cost.

Decides what is told of both; none of it keeps the service from starting, since what does not fit is held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from dispatcher.core.budgets import Scope
from dispatcher.core.pricing import cost_of, group_rate
from dispatcher.core.units import NO_MONEY, Money
from dispatcher.core.windows import WindowKind
from dispatcher.core.work import Placement
from dispatcher.settings.checks import Context, Pieces
from dispatcher.settings.mistakes import Mistake, path_text
from dispatcher.settings.models import Settings, VirtualNodeSettings
from dispatcher.settings.tasks import TaskSettings
from dispatcher.settings.values import duration_text

DAY = timedelta(days=1)
_WINDOWS_A_DAY = {WindowKind.HOUR: 24, WindowKind.DAY: 1, WindowKind.WEEK: 1, WindowKind.MONTH: 1}
"""How many windows can be spent in one day: all of a month's money may go on one."""


def size_warnings_of(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    """Bursts that the subnet or the quotas cannot hold at once."""
    node = pieces.virtual_node
    if node is None or not pieces.spills:
        return
    subnets = ", ".join(map(str, node.subnet))
    for position, task in pieces.tasks:
        if Placement.VIRTUAL_NODE not in task.placements:
            continue
        wanted, location = task.parallelism_max, ("tasks", position, "parallelism_max")
        if wanted + node.address_headroom > node.addresses:
            prefix = _prefix_for(wanted + node.address_headroom)
            fault = (
                f"{subnets} gives {node.addresses} addresses; {task.name} may need {wanted} and "
                f"{node.address_headroom} of headroom at once, and an address comes back "
                f"{duration_text(node.release_hold)} after its pod: the rest of such a burst is held"
            )
            remedy = f"delegate a /{prefix} or larger, or lower parallelism_max"
            yield Mistake(path_text(location), fault, remedy, context.place_of(location))
        elif groups_at_once(task, node) < wanted:
            fault = (
                f"{wanted} pods of {task.name} at once are more than Azure's quotas give: {node.groups_max} groups, "
                f"{node.cores_max} cores: the rest of such a burst is held"
            )
            remedy = "have the quota raised and say so in virtual_node, or lower parallelism_max"
            yield Mistake(path_text(location), fault, remedy, context.place_of(location))


def groups_at_once(task: TaskSettings, node: VirtualNodeSettings) -> int:
    """How many groups of a task the subnet and the quotas allow at once."""
    cpu = max(10, node.policy_of_place().of_group(task.resources.resources()).cpu_millis)
    usable = max(0, node.addresses - node.address_headroom)
    return min(task.parallelism_max, usable, node.groups_max, node.cores_max * 1000 // cpu)


def _prefix_for(addresses: int) -> int:
    """The smallest subnet that gives so many: Azure keeps five of each."""
    return next(bits for bits in range(29, -1, -1) if 2 ** (32 - bits) - 5 >= addresses)


@dataclass(frozen=True, slots=True)
class WorstDay:
    """What the virtual node can cost in a day, if it is never idle, and what the budgets let it cost."""

    tasks: tuple[tuple[str, Money], ...]
    """Each task alone, with as many pods as may run at once."""
    total: Money
    """All together, within the quotas."""
    allowed: Money | None
    """The least that a budget for everything lets be spent in one day; None: there is none."""
    budget: str = ""

    @property
    def sentence(self) -> str:
        """For people."""
        each = ", ".join(f"{name} {_dollars(usd)}" for name, usd in self.tasks)
        bound = (
            f"the budget {self.budget} lets {_dollars(self.allowed)} be spent in one"
            if self.allowed is not None
            else "no budget bounds it"
        )
        return f"the virtual node, never idle, would cost {_dollars(self.total)} a day ({each}); {bound}"

    def to_json(self) -> dict[str, Any]:
        """Plain data; amounts are dollars."""
        return {
            "tasks": {name: str(usd) for name, usd in self.tasks},
            "total_usd": str(self.total),
            "allowed_usd": None if self.allowed is None else str(self.allowed),
            "budget": self.budget or None,
        }


def worst_day(settings: Settings) -> WorstDay | None:
    """The worst day of a configuration; None where nothing spills."""
    node = settings.virtual_node
    if node is None or not node.enabled:
        return None
    place, rates = node.policy_of_place(), settings.prices.rates()
    found: list[tuple[str, Money]] = []
    most, left = NO_MONEY, max(0, min(node.addresses - node.address_headroom, node.groups_max))
    dearest: list[tuple[Money, int]] = []
    for task in settings.tasks:
        if Placement.VIRTUAL_NODE in task.placements:
            a_day = cost_of(group_rate(place.of_group(task.resources.resources()), rates), DAY)
            count = groups_at_once(task, node)
            found.append((task.name, a_day * count))
            dearest.append((a_day, count))
    for a_day, count in sorted(dearest, key=lambda each: each[0].picos, reverse=True):
        taken = min(count, left)
        most, left = most + a_day * taken, left - taken
    bounds = [
        (Money.from_usd(budget.limit_usd) * _WINDOWS_A_DAY[budget.window], budget.name)
        for budget in settings.budgets
        if budget.scope is Scope.ALL and budget.business_hours is None
    ]
    allowed, name = min(bounds, default=(None, ""))
    return WorstDay(tuple(found), most, allowed, name)


def _dollars(usd: Money | None) -> str:
    cents = (usd or NO_MONEY).usd.quantize(Decimal("0.01"), rounding=ROUND_HALF_UP)
    return f"${cents}"
