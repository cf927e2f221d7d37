"""One workload under a list of deciders, and the plain recommendation that follows from it.

Decides who is compared and what is advised. Waits are equal or better where no greater share of items misses its
objective; only then is a lower cost a better offer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from dispatcher.core.policy import Policy
from dispatcher.core.pricing import group_rate
from dispatcher.core.steadiness import Advice, Steadiness
from dispatcher.core.units import NO_MONEY, Money
from dispatcher.core.work import Placement
from dispatcher.simulator import policies
from dispatcher.simulator.economy.production import START, Production
from dispatcher.simulator.economy.workload import Workload
from dispatcher.simulator.economy.world import Decider, Outcome, World
from dispatcher.simulator.policies.shared import loads

PRODUCT = Production.name
DECIDERS: Mapping[str, Callable[[], Decider]] = {
    "all-nodes": policies.AllNodes,
    "all-virtual": policies.AllVirtual,
    "static-split": policies.StaticSplit,
    "spill-on-pending": policies.SpillOnPending,
    "mean-300s": policies.MeanOfLast300s,
    "cluster-autoscaler": policies.ClusterAutoscaler,
    "keda": policies.KedaAndAutoscaler,
    "spot": policies.SpotPool,
    "dispatcher": Production,
}
"""Who can be compared, by the name that the command line knows."""
AS_GOOD_POINTS = 0.1
"""So many percentage points more of missed objectives still count as equal waits: one item in a thousand."""
OBJECTIVE_MET_PERCENT = 1.0
"""An objective counts as met where no greater share of items misses it."""
WORTH_A_CHANGE = 1.05
"""The simpler thing is advised as long as it costs no more than this times the better one."""
STEADY_SHARE = 0.6
"""Work belongs on nodes where nodes would take over so much of what it costs on the virtual node."""
_GUARD_SAMPLE_SECONDS = 60.0


class Advised(StrEnum):
    """What is recommended."""

    VIRTUAL_NODE = "virtual_node"
    NODES = "nodes"
    AUTOSCALER = "autoscaler"
    REFUSED = "refused"


@dataclass(slots=True)
class Comparison:
    """All outcomes of one workload."""

    name: str
    outcomes: list[Outcome] = field(default_factory=list)
    advice: list[Advice] = field(default_factory=list)
    """What the guard says of each task that is steady, if all of it ran on the virtual node."""
    advised: Advised = Advised.VIRTUAL_NODE
    recommendation: str = ""
    budget_percent: dict[str, float] = field(default_factory=dict)
    """The most that the product spent of each budget in one window."""

    def of(self, decider: str) -> Outcome | None:
        """The outcome of that one, if it was compared."""
        return next((each for each in self.outcomes if each.decider == decider), None)


def waits_as_well(outcome: Outcome, other: Outcome) -> bool:
    """Whether no greater share of items missed the objective than under the other."""
    return outcome.missed_percent <= other.missed_percent + AS_GOOD_POINTS


def run_one(name: str, workload: Workload, policy: Policy, seed: int) -> tuple[Outcome, Decider]:
    """The workload under that decider."""
    decider = DECIDERS[name]()
    world = World(workload, policy, seed, decider.node_price_percent, spot=decider.spot)
    return world.run(decider), decider


def compare(
    name: str,
    workload: Workload,
    policy: Policy,
    seed: int,
    deciders: Iterable[str] = DECIDERS,
    told: Callable[[str], None] | None = None,
) -> Comparison:
    """Runs the workload under each and concludes; ``told`` hears who is next."""
    comparison = Comparison(name)
    for each in deciders:
        if told is not None:
            told(each)
        outcome, decider = run_one(each, workload, policy, seed)
        comparison.outcomes.append(outcome)
        if isinstance(decider, Production):
            comparison.budget_percent = _budget_use(decider)
    comparison.advice = guard_advice(workload, policy)
    comparison.advised, comparison.recommendation = _recommend(comparison)
    return comparison


def _budget_use(product: Production) -> dict[str, float]:
    most: dict[str, float] = {}
    for account in product.accounts.values():
        if account.limit != NO_MONEY:
            percent = 100.0 * account.spent.picos / account.limit.picos
            most[account.budget] = max(most.get(account.budget, 0.0), percent)
    return most


def guard_advice(workload: Workload, policy: Policy) -> list[Advice]:
    """What the steady-state guard says at the end, had all of it run on the virtual node."""
    place, node = policy.virtual_node, policy.node_pool.price
    if place is None or not len(workload):
        return []
    seconds = max(workload.seconds, 1.0)
    steadiness = Steadiness(timedelta(seconds=seconds * 1.05))
    of_task = [_concurrency(workload, task) for task in range(len(workload.tasks))]
    at = 0.0
    while at < seconds:
        index = int(at / _GUARD_SAMPLE_SECONDS)
        pods = {name: of_task[task][index] for task, name in enumerate(workload.tasks) if index < len(of_task[task])}
        steadiness.sample(pods, START + timedelta(seconds=at))
        at += _GUARD_SAMPLE_SECONDS
    advice = []
    for name in workload.tasks:
        task = policy.tasks[name]
        rate = group_rate(place.of_group(task.requests), place.rates)
        slots = node.pods(task.requests) if node is not None and Placement.NODE_POOL in task.placements else 0
        said = steadiness.advice(name, policy.guard, rate, node, slots, START + timedelta(seconds=seconds))
        if said is not None and (said.is_steady or said.nodes):
            advice.append(said)
    return advice


def _concurrency(workload: Workload, task: int) -> list[int]:
    """How many pods of the task would run, each minute."""
    counts: list[int] = []
    at = 0.0
    for begin, end, load in loads(workload, [1 if number == task else 10**9 for number in range(len(workload.tasks))]):
        while at < begin:
            counts.append(0)
            at += _GUARD_SAMPLE_SECONDS
        while begin <= at < end:
            counts.append(round(load))
            at += _GUARD_SAMPLE_SECONDS
    return counts


def _recommend(comparison: Comparison) -> tuple[Advised, str]:
    product, keda = comparison.of(PRODUCT), comparison.of(policies.KedaAndAutoscaler.name)
    scaler, virtual = comparison.of(policies.ClusterAutoscaler.name), comparison.of(policies.AllVirtual.name)
    taken = sum((each.on_virtual_node.picos for each in comparison.advice), 0)
    if virtual is not None and virtual.seconds and taken:
        a_day = virtual.virtual_cost.picos * 86_400 / virtual.seconds
        if taken >= STEADY_SHARE * a_day:
            nodes = sum(each.nodes for each in comparison.advice)
            return Advised.NODES, (
                f"Run this on real nodes: {nodes} would take over {100 * taken / a_day:.0f} % of what it costs on the "
                f"virtual node. {' '.join(each.sentence + '.' for each in comparison.advice if each.nodes)}"
            )
    simple = [each for each in (keda, scaler) if each is not None and each.missed_percent <= OBJECTIVE_MET_PERCENT]
    best = min(simple, key=lambda each: each.cost.picos, default=None)
    if best is not None and (product is None or best.cost.picos <= WORTH_A_CHANGE * product.cost.picos):
        return Advised.AUTOSCALER, (
            f"KEDA and the autoscaler suffice: you do not need virtual nodes. {best.decider} costs "
            f"{dollars(best.cost)}, and {best.missed_percent:.1f} % of items miss their objective."
        )
    if product is None:
        return Advised.VIRTUAL_NODE, "The product was not among those compared, so nothing is recommended."
    waits = (
        f"19 of 20 items start within {product.wait(95):.0f} s and {product.missed_percent:.1f} % miss the objective"
    )
    instead = ""
    if keda is not None:
        instead = (
            f"; KEDA and the autoscaler would cost {dollars(keda.cost)} and {keda.missed_percent:.1f} % would miss it"
        )
    return Advised.VIRTUAL_NODE, (
        f"Spill to the virtual node: {product.virtual_items} of {product.items} items, {dollars(product.cost)} in all; "
        f"{waits}{instead}."
    )


def dollars(money: Money) -> str:
    """An amount, to the cent."""
    return f"${money.usd:.2f}"


def broken(comparison: Comparison, bounds: Sequence[tuple[str, float | None, float]]) -> list[str]:
    """Which bounds (what, at most, was) were not kept, in words."""
    return [f"{comparison.name}: {what} was {was:.2f}, expected at most {most:.2f}" for what, most, was in bounds
            if most is not None and was > most]  # fmt: skip
