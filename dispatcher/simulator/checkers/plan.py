"""Law 5. A plan never uses more than its snapshot had, and once it is applied, planning again launches nothing.

Looked at now and then, on the snapshot that the leader would plan from at that moment; the checker adds the launches up
itself.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime
from itertools import islice

from dispatcher.core.batching import Lane
from dispatcher.core.budgets import WorstCase
from dispatcher.core.ledger import Draft, Entry, NoRoom
from dispatcher.core.plan import Launch, Plan, Snapshot, plan_cycle
from dispatcher.core.policy import Policy
from dispatcher.core.pricing import billed, group_rate
from dispatcher.core.work import Placement, WorkItem
from dispatcher.simulator.checkers.law import Law
from dispatcher.simulator.world import World

EVERY = 16


class PlanIsBounded(Law):
    """Plans twice, every so many looks."""

    name = "law 5: plan"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._looks = 0

    def look(self) -> None:
        """The plan that the leader would make now."""
        self._looks += 1
        memory = self.world.leader.memory
        if memory is None or self._looks % EVERY:
            return
        policy, now = self.world.scenario.policy, self.world.leader.clock.now()
        snapshot = self.world.leader.reconciler.snapshot(memory)
        plan = plan_cycle(snapshot, policy, now)
        if not plan.launches:
            return
        if self.world.leader.clock.apart:
            raise self.broken(f"{len(plan.launches)} launches though the clocks are far apart")
        self._within_capacity(snapshot, plan, policy, now)
        after = self._applied(snapshot, plan, policy, now)
        again = plan_cycle(after, policy, now)
        full = len(plan.launches) + len(plan.rejections) >= policy.launches_per_cycle_max
        if again.launches and not full:
            raise self.broken(f"planning again launches {len(again.launches)} more, first {again.launches[0].placed}")

    def _within_capacity(self, snapshot: Snapshot, plan: Plan, policy: Policy, now: datetime) -> None:
        profile = policy.virtual_node
        paid = [launch for launch in plan.launches if launch.placed.where is Placement.VIRTUAL_NODE]
        if profile is None or not paid:
            return
        pods = sum(launch.placed.shape.pods_max for launch in paid)
        if snapshot.ledger.addresses(now) + pods > profile.addresses_max:
            raise self.broken(f"{pods} more groups than there are addresses for")
        entries = snapshot.ledger.entries.values()
        cpu = sum(entry.groups * entry.cpu_millis for entry in entries if entry.paid)
        for launch in paid:
            cpu += launch.placed.shape.pods_max * billed(policy.tasks[launch.task].requests).cpu_millis
        if cpu > profile.cores_max * 1000:
            raise self.broken(f"{cpu} thousandths of a core planned, {profile.cores_max} cores allowed")

    def _applied(self, snapshot: Snapshot, plan: Plan, policy: Policy, now: datetime) -> Snapshot:
        draft = Draft(snapshot.ledger, policy.budgets, policy.virtual_node.release_hold)  # type: ignore[union-attr]
        active, starting, node_pods = Counter(snapshot.active), list(snapshot.starting), snapshot.node_pods
        on_nodes, of_tenant = Counter(snapshot.on_nodes), Counter(snapshot.active_of_tenant)
        taken: Counter[tuple[str, str, int]] = Counter()
        retried = set()
        for number, launch in enumerate(plan.launches):
            try:
                draft.open(_entry(number, launch, policy, now))
            except NoRoom as no_room:
                raise self.broken(f"a plan beyond an account: {no_room}") from None
            shape = launch.placed.shape
            active[launch.task] += shape.parallelism
            of_tenant[launch.tenant] += shape.parallelism
            most = policy.tenant_pods_max.get(launch.tenant)
            if most is not None and of_tenant[launch.tenant] > most:
                raise self.broken(f"{of_tenant[launch.tenant]} pods of {launch.tenant} planned, {most} allowed")
            if launch.placed.where is Placement.NODE_POOL:
                starting.append((policy.tasks[launch.task].requests, shape.parallelism))
                node_pods += shape.parallelism
                on_nodes[launch.task] += shape.parallelism
            if launch.retry is None:
                taken[launch.task, launch.tenant, launch.priority] += len(launch.items)
            else:
                retried.add(launch.retry)
        for rejection in plan.rejections:
            first = rejection.items[0]
            taken[first.task, first.tenant, first.priority] += len(rejection.items)
        circuit = snapshot.circuit
        if circuit.is_open and any(launch.placed.where is Placement.VIRTUAL_NODE for launch in plan.launches):
            circuit = circuit.probed(now)
        return replace(
            snapshot,
            lanes=[_rest(lane, taken[lane.key]) for lane in snapshot.lanes],
            retries=[retry for retry in snapshot.retries if retry.name not in retried],
            ledger=draft.peek(),
            starting=starting,
            active=active,
            active_of_tenant=of_tenant,
            node_pods=node_pods,
            on_nodes=on_nodes,
            circuit=circuit,
        )


def _rest(lane: Lane, taken: int) -> Lane:
    items: dict[int, WorkItem] = dict(enumerate(islice(lane.items.values(), taken, None)))
    return Lane(lane.key, items)


def _entry(number: int, launch: Launch, policy: Policy, now: datetime) -> Entry:
    profile, requests = policy.virtual_node, policy.tasks[launch.task].requests
    assert profile is not None  # every scenario draws one
    worst = WorstCase(launch.placed.shape, group_rate(requests, profile.rates), profile.tail)
    return Entry(
        batch=f"again{number}",
        attempt=1,
        task=launch.task,
        tenant=launch.tenant,
        placement=launch.placed.where,
        items=launch.placed.shape.completions,
        written=now,
        epoch=0,
        shape=launch.placed.shape,
        rate=worst.rate,
        tail=worst.tail,
        cpu_millis=billed(requests).cpu_millis,
    )
