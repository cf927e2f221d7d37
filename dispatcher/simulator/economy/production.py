"""The product itself in the coarse world: the plan, the ledger, the address book and the experience of the core decide.

Carries out what :func:`plan_cycle` says, once a second at most, and tells the ledger what came of it. Decides nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dispatcher.core.addresses import group_cpu_millis
from dispatcher.core.batching import Lane, LaneKey
from dispatcher.core.budgets import Account, AccountId
from dispatcher.core.experience import Experience, Seen
from dispatcher.core.ledger import Draft, Entry, Ledger, NoRoom
from dispatcher.core.observations import NodeHeadroom, NodeRoom
from dispatcher.core.plan import Launch, Snapshot, plan_cycle, seen_in
from dispatcher.core.pricing import group_rate
from dispatcher.core.units import NO_MONEY, UTC, Resources
from dispatcher.core.work import ItemId, Placement, WorkItem
from dispatcher.simulator.economy.world import Pod, World

START = datetime(2026, 3, 4, tzinfo=UTC)
_LOOK_AGAIN_SECONDS = 1.0
_HELD_LOOK_SECONDS = 15.0
_WRITE_EVERY_SECONDS = 60.0


@dataclass(slots=True)
class _Batch:
    entry: str
    placement: Placement
    left: int
    deadline: timedelta = timedelta(0)
    waiting: list[int] = field(default_factory=list)
    """Items of it that no pod runs yet."""


class Production:
    """The product, as a decider."""

    name = "burst dispatcher"
    node_price_percent = 100
    spot = False

    def __init__(self) -> None:
        self.held: Counter[str] = Counter()
        """How often something was held, by reason."""
        self.rejected = 0
        self.accounts: dict[AccountId, Account] = {}
        """Every account that was ever spent from, as last seen."""
        self.experience: Experience | None = None
        self._batches: dict[str, _Batch] = {}
        self._made = 0
        self._gone: list[tuple[datetime, str, str]] = []
        self._written = 0.0

    def begin(self, world: World) -> None:
        """An empty ledger, nothing learned."""
        policy = world.policy
        self.experience = Experience(policy)
        hold = policy.virtual_node.release_hold if policy.virtual_node else timedelta(0)
        self._hold = hold
        self._draft = Draft(Ledger(epoch=1), policy.budgets, hold)
        self._lanes: dict[LaneKey, dict[ItemId, WorkItem]] = {}
        self._circuit_start = START

    def act(self, world: World) -> float | None:
        """One cycle: take note of what happened, plan, carry it out, look at the load."""
        now = START + timedelta(seconds=world.now)
        assert self.experience is not None
        self._take_note(world, now)
        for item in world.arrived:
            self._arrive(world, item)
        snapshot = self._snapshot(world)
        plan = plan_cycle(snapshot, world.policy, now)
        for launch in plan.launches:
            self._launch(world, launch, now)
        for rejection in plan.rejections:
            for work in rejection.items:
                self._forget(world, work)
                self.rejected += 1
        for hold in plan.holds:
            self.held[hold.held.reason] += 1
        if self.experience.due(now):
            seen = seen_in(snapshot, plan, world.policy, now) if any(self._lanes.values()) else self._seen(world)
            self.experience.sample(seen, now)
            if self.experience.wanted is not None:
                world.want(self.experience.wanted.nodes)
        if world.now - self._written >= _WRITE_EVERY_SECONDS:
            self._write(now, world)
        return self._wake(world, plan.launches, [hold.held.until for hold in plan.holds])

    def _wake(self, world: World, launched: object, untils: list[datetime | None]) -> float:
        if launched:
            return world.now + _LOOK_AGAIN_SECONDS
        ends = [(until - START).total_seconds() for until in untils if until is not None]
        due = [end for end in ends if end > world.now]
        if untils and len(due) < len(untils):
            due.append(world.now + _LOOK_AGAIN_SECONDS)
        return min([world.now + _HELD_LOOK_SECONDS, *due])

    def _arrive(self, world: World, item: int) -> None:
        work = world.workload
        at = START + timedelta(seconds=work.at[item])
        task, tenant = work.tasks[work.task[item]], work.tenants[work.tenant[item]]
        made = WorkItem("work", item, str(item), "", task, tenant, 0, "{}", at, at)
        self._lanes.setdefault(LaneKey(task, tenant, 0), {})[made.id] = made

    def _forget(self, world: World, work: WorkItem) -> None:
        del self._lanes[LaneKey(work.task, work.tenant, work.priority)][work.id]
        world.waiting[world.workload.task[work.sequence_number]].remove(work.sequence_number)

    def _snapshot(self, world: World) -> Snapshot:
        names = world.workload.tasks
        on_nodes = {name: world.on_nodes[number] for number, name in enumerate(names)}
        active = {name: world.on_nodes[number] + world.on_virtual[number] for number, name in enumerate(names)}
        rooms = tuple(
            NodeRoom(f"node-{node.number}", Resources(node.cpu_millis, node.memory_bytes), 110 - node.pods)
            for node in world.pool.ready(world.now)
        )
        return Snapshot(
            lanes=[Lane(key, items) for key, items in self._lanes.items() if items],
            retries=(),
            ledger=self._draft.peek(),
            headroom=NodeHeadroom(rooms),
            active=active,
            node_pods=sum(world.on_nodes),
            on_nodes=on_nodes,
            experience=self.experience,
        )

    def _seen(self, world: World) -> Seen:
        names = world.workload.tasks
        return Seen(
            {name: world.on_nodes[number] for number, name in enumerate(names)},
            {name: world.on_virtual[number] for number, name in enumerate(names)},
        )

    def _launch(self, world: World, launch: Launch, now: datetime) -> None:
        placed, policy = launch.placed, world.policy
        self._made += 1
        virtual = policy.virtual_node
        paid = placed.where is Placement.VIRTUAL_NODE and virtual is not None
        requests = policy.tasks[launch.task].requests
        if virtual is not None:
            requests = virtual.of_group(requests)
        entry = Entry(
            batch=f"b{self._made}",
            attempt=1,
            task=launch.task,
            tenant=launch.tenant,
            placement=placed.where,
            items=len(launch.items),
            written=now,
            epoch=1,
            shape=placed.shape,
            rate=group_rate(requests, virtual.rates) if paid and virtual else NO_MONEY,
            tail=virtual.tail if paid and virtual else timedelta(0),
            cpu_millis=group_cpu_millis(requests) if paid else 0,
        )
        try:
            self._draft.open(entry)
        except NoRoom as no_room:
            raise AssertionError(f"planned beyond an account: {no_room}") from no_room
        batch = _Batch(entry.name, placed.where, len(launch.items), placed.shape.deadline)
        self._batches[entry.name] = batch
        queue = world.waiting[world.workload.tasks.index(launch.task)]
        for work in launch.items:
            item = work.sequence_number
            del self._lanes[LaneKey(work.task, work.tenant, work.priority)][work.id]
            if queue and queue[0] == item:
                queue.popleft()
            else:
                queue.remove(item)
            if not world.launch(item, placed.where, entry.name):
                raise AssertionError("planned more pods than the nodes have room for")
            if paid:
                self._draft.pod_seen(entry.name, str(item), now, None)

    def _take_note(self, world: World, now: datetime) -> None:
        assert self.experience is not None
        learned, work = self.experience.learned, world.workload
        for pod in world.started:
            name = work.tasks[work.task[pod.item]]
            learned.started(name, pod.place, timedelta(seconds=pod.started_at - pod.launched_at))
        for pod in world.ended:
            name = work.tasks[work.task[pod.item]]
            learned.ran(name, pod.place, timedelta(seconds=pod.ends_at - pod.started_at))
            self._ended(pod)
        while self._gone and self._gone[0][0] <= now:
            self._draft.drop(self._gone.pop(0)[1])

    def _ended(self, pod: Pod) -> None:
        batch = self._batches[pod.batch]
        batch.left -= 1
        end = START + timedelta(seconds=pod.ends_at)
        if pod.place is Placement.VIRTUAL_NODE:
            uid = str(pod.item)
            begun = START + timedelta(seconds=pod.launched_at)
            self._draft.pod_seen(batch.entry, uid, begun, end)
            self._draft.charge(batch.entry, uid, begun, end)
            self._draft.pod_gone(batch.entry, uid, end)
        if batch.left:
            return
        del self._batches[pod.batch]
        if pod.place is Placement.NODE_POOL:
            self._draft.drop(batch.entry)
        else:
            self._draft.no_more_pods(batch.entry)
            self._draft.settle_money(batch.entry)
            self._gone.append((end + self._hold, batch.entry, ""))

    def _write(self, now: datetime, world: World) -> None:
        self._written = world.now
        ledger = self._draft.finish(now)
        self.accounts.update(ledger.accounts)
        self._draft = Draft(ledger, world.policy.budgets, self._hold)
