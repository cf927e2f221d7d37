"""Where work goes: baseline to the nodes, what cannot start there in time to the virtual node, else held with a reason.

Decides one demand at a time against the room that is left, and uses the room up. Knows nothing of which demand comes
first (that is the plan) or of what happens to a verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dispatcher.core.addresses import AddressBook
from dispatcher.core.batching import items_in_a_pod, pods_for
from dispatcher.core.budgets import CLOCK_ERROR, Spender, WhenExhausted, WorstCase
from dispatcher.core.capacity import NodeSpace
from dispatcher.core.circuit import Circuit
from dispatcher.core.considered import BudgetRoom, Considered, VirtualRoom
from dispatcher.core.failures import FailureCause
from dispatcher.core.jobs import shape_of
from dispatcher.core.ledger import Ledger, accounts_of
from dispatcher.core.outlook import Outlook
from dispatcher.core.policy import Policy, VirtualNodePolicy
from dispatcher.core.pricing import group_rate
from dispatcher.core.units import NO_MONEY, Money
from dispatcher.core.verdicts import Held, HoldReason, Placed, Rejected, Why
from dispatcher.core.work import Placement, Task, WorkItem

GATHER_SHARE = 8
"""Room for less than this part of a task's pods in flight is gathered before it is used: a Job costs the cluster about
as much as a pod does, so that what gathering saves is little from there on."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Work of one task and tenant that could start now."""

    task: Task
    tenant: str
    count: int
    """So many items; a launch may take fewer, unless ``whole``."""
    waiting_since: datetime
    whole: bool = False
    """A retry goes as the record has it: all its items in one Job."""
    may_spill_at_once: bool = False
    """It has waited before: spill_after does not start again."""
    pods_max: int | None = None
    """So many pods of it at once at most; None: as many as its task may."""
    allowance_left: int = 0
    """Failures of its own that its most tried item may still have."""
    items: Sequence[WorkItem] = ()
    """New work, oldest first; a retry has waited long enough for nobody to ask since when."""
    behind: int = 0
    """So many items of the same lane wait behind these."""

    @property
    def spender(self) -> Spender:
        """Whose money it would spend."""
        return Spender(self.tenant, self.task.name)


class MoneyRoom:
    """What is left in every account, used up as a plan goes on."""

    def __init__(self, ledger: Ledger, policy: Policy) -> None:
        self._accounts = ledger.accounts
        self._budgets = policy.budgets
        self._reserved = Counter({account: money.picos for account, money in ledger.reserved().items()})

    def rooms(self, spender: Spender, unit: WorstCase, now: datetime) -> Iterator[BudgetRoom]:
        """Every account that this worst case touches, and what is left in it."""
        start, end = unit.first_second(now), unit.last_second(now)
        for account_id, account in accounts_of(self._accounts, self._budgets, spender, start, end).items():
            needed = unit.within(account.window, now)
            if needed:
                yield BudgetRoom(
                    account.budget,
                    account_id.owner,
                    account.window.end,
                    account.limit,
                    account.spent,
                    Money(self._reserved[account_id]),
                    needed,
                    account.overrun,
                )

    def fit(self, spender: Spender, unit: WorstCase, now: datetime) -> tuple[int | None, Held | None]:
        """How many times that worst case fits (None: no budget speaks), and what stops there being more."""
        least = min(self.rooms(spender, unit, now), key=lambda room: room.pods, default=None)
        if least is None:
            return None, None
        detail = (
            f"budget {least.budget}: ${least.limit} until {least.until:%Y-%m-%d %H:%M} UTC, "
            f"${least.spent} spent, ${least.reserved} reserved; one more pod reserves ${least.needed}"
        )
        return least.pods, Held(HoldReason.BUDGET_EXHAUSTED, least.until + CLOCK_ERROR, detail)

    def spent_up(self, spender: Spender, unit: WorstCase, now: datetime) -> tuple[WhenExhausted, Held] | None:
        """The budget, if any, that is spent for this window and says what then becomes of the work.

        What is reserved comes back, so that it exhausts nothing.
        """
        for budget in self._budgets:
            if budget.when_exhausted is WhenExhausted.NODES_ONLY or not budget.counts(spender):
                continue
            window = next(budget.windows(now, now))
            account = self._accounts.get(budget.account_of(spender, window))
            needed = unit.within(window, now)
            limit, spent = (account.limit, account.spent) if account else (budget.limit, NO_MONEY)
            if needed and limit < spent + needed:
                detail = (
                    f"budget {budget.name}: ${spent} of ${limit} are spent, one more pod may cost ${needed}, "
                    f"until {window.end:%Y-%m-%d %H:%M} UTC"
                )
                return budget.when_exhausted, Held(HoldReason.BUDGET_EXHAUSTED, window.end + CLOCK_ERROR, detail)
        return None

    def take(self, spender: Spender, worst: WorstCase, now: datetime) -> None:
        """Sets a worst case aside in every account that it touches."""
        start, end = worst.first_second(now), worst.last_second(now)
        accounts = accounts_of(self._accounts, self._budgets, spender, start, end)
        for account_id, account in accounts.items():
            self._reserved[account_id] += worst.within(account.window, now).picos


class Room:
    """All that there is room for in this cycle."""

    def __init__(
        self,
        policy: Policy,
        ledger: Ledger,
        nodes: NodeSpace,
        circuit: Circuit,
        active: Mapping[str, int],
        ledger_full: bool,
        now: datetime,
        clock_fault: str | None = None,
        outlook: Outlook | None = None,
    ) -> None:
        """``active``: pods in flight by task; ``ledger_full``: the document is near the store's limit on size.

        ``clock_fault``: why ``now`` cannot be relied upon, in words; None where it can. ``outlook``: what may be
        expected of the nodes; None: nothing.
        """
        self._outlook = outlook or Outlook(policy, None, 0, {}, now)
        self._policy = policy
        self._now = now
        self.nodes = nodes
        self.addresses = AddressBook(ledger, policy.virtual_node, now) if policy.virtual_node else None
        self._money = MoneyRoom(ledger, policy)
        self._circuit_left = circuit.pods_allowed(now)
        self._circuit = circuit
        self._active = Counter(active)
        self._active_before = Counter(active)
        self._on_virtual: Counter[str] = Counter()
        self._launched_at: dict[str, datetime] = {}
        for entry in ledger.entries.values():
            before = self._launched_at.get(entry.task)
            self._launched_at[entry.task] = entry.written if before is None else max(before, entry.written)
            if entry.paid:
                self._on_virtual[entry.task] += entry.groups
        self._frozen = ledger.frozen
        self._leaked = sorted(leak.group for leak in ledger.leaks.values() if leak.bills)
        self._clock_behind_until = ledger.written if ledger.written is not None and now < ledger.written else None
        self._full = ledger_full
        self._clock_fault = clock_fault

    def look(self, demand: Demand) -> Considered:
        """The numbers that a verdict on that demand is made from, as they stand now; uses nothing up."""
        task = demand.task
        return Considered(
            at=self._now,
            waiting_since=demand.waiting_since,
            count=demand.count,
            in_flight=self._active[task.name],
            parallelism_max=task.parallelism_max,
            node_slots=self._node_slots(demand) if Placement.NODE_POOL in task.placements else None,
            virtual=self._look_at_virtual_node(demand),
        )

    def _look_at_virtual_node(self, demand: Demand) -> VirtualRoom | None:
        task, profile, addresses = demand.task, self._policy.virtual_node, self.addresses
        if profile is None or addresses is None or Placement.VIRTUAL_NODE not in task.placements:
            return None
        groups, scarce = addresses.fit(task.requests)
        waits = Placement.NODE_POOL in task.placements and not demand.may_spill_at_once
        return VirtualRoom(
            spill_at=demand.waiting_since + (task.spill_after if waits else timedelta(0)),
            groups=groups,
            scarce=scarce,
            frees_at=addresses.frees_at(scarce),
            addresses_in_use=addresses.in_use,
            addresses_max=profile.addresses_max,
            probe_at=self._circuit.probe_at,
            failures=self._circuit.failures,
            frozen=self._frozen,
            budgets=tuple(self._money.rooms(demand.spender, self._worst(task, profile, 1, 1), self._now)),
        )

    def route(self, demand: Demand) -> Placed | Held | Rejected:
        """The verdict on one demand; room for a placed one is used up."""
        if self._full:
            return Held(HoldReason.LEDGER_FULL, detail="the ledger is near its size limit; attempts must close first")
        if self._clock_behind_until is not None:
            detail = "the clock is before the ledger's last write"
            return Held(HoldReason.CLOCK_BEHIND, self._clock_behind_until, detail)
        if self._clock_fault is not None:
            return Held(HoldReason.CLOCKS_APART, detail=self._clock_fault)
        task = demand.task
        parallelism = task.parallelism_max - self._active[task.name]
        if demand.pods_max is not None:
            parallelism = min(parallelism, demand.pods_max)
        if parallelism <= 0:
            return Held(HoldReason.TASK_PARALLELISM, detail=f"{self._active[task.name]} pods of {task.name} in flight")
        exhausted = self._exhausted(demand)
        if exhausted is not None:
            return exhausted
        gathering = self._gathering(demand, parallelism)
        if gathering is not None:
            return gathering
        on_nodes = self._on_nodes(demand, parallelism) if Placement.NODE_POOL in task.placements else None
        verdict = on_nodes or self._on_virtual_node(demand, parallelism)
        if isinstance(verdict, Placed):
            self._active[task.name] += verdict.shape.parallelism
        return verdict

    def _gathering(self, demand: Demand, parallelism: int) -> Held | None:
        """Room that frees pod by pod is gathered for a moment, so that each pod does not become a Job of its own.

        Only while the task keeps most of its room busy, and for no longer than its ``linger`` since its last launch.
        """
        task = demand.task
        launched_at = self._launched_at.get(task.name)
        if demand.whole or launched_at is None or self._now >= launched_at + task.linger:
            return None
        on_nodes = self._node_slots(demand) if Placement.NODE_POOL in task.placements else 0
        room = min(parallelism, on_nodes or parallelism)
        if (
            room >= pods_for(demand.count, self._per_pod(demand, None if on_nodes else self.addresses))
            or room * GATHER_SHARE >= self._active_before[task.name]
        ):
            return None
        detail = f"room for {room} pods of {task.name} is free, {self._active_before[task.name]} are in flight"
        return Held(HoldReason.LINGER, launched_at + task.linger, detail)

    def _exhausted(self, demand: Demand) -> Held | Rejected | None:
        """What operators want done where a budget is spent; None: nothing, or no budget is."""
        profile = self._policy.virtual_node
        if profile is None or Placement.VIRTUAL_NODE not in demand.task.placements:
            return None  # what it costs is nothing that a budget counts
        found = self._money.spent_up(demand.spender, self._worst(demand.task, profile, 1, 1), self._now)
        if found is None:
            return None
        action, held = found
        if action is WhenExhausted.DEAD_LETTER and not demand.whole:
            return Rejected(FailureCause.BUDGET_EXHAUSTED, held.detail)
        return held

    def _node_slots(self, demand: Demand) -> int:
        """How many of its pods would start on the nodes at once, and may: nodes that are to go are not filled again."""
        slots = self.nodes.slots(demand.task.requests)
        most = self._outlook.most_on_nodes(demand.task, demand.count + demand.behind)
        return slots if most is None or demand.whole else min(slots, most)

    def _on_nodes(self, demand: Demand, parallelism: int) -> Placed | None:
        task = demand.task
        per_pod = self._per_pod(demand, None)
        pods = pods_for(demand.count, per_pod)
        slots = min(self._node_slots(demand), parallelism, pods)
        if slots <= 0:
            return None
        completions = pods if demand.whole else slots
        shape = shape_of(
            task,
            placement=Placement.NODE_POOL,
            completions=completions,
            parallelism=slots,
            allowance_left=demand.allowance_left,
            profile=self._policy.node_pool.profile,
            items_per_pod=per_pod,
        )
        self.nodes.take(task.requests, slots)
        self._outlook.took(task, slots)
        return Placed(Placement.NODE_POOL, shape, NO_MONEY, Why.NODES_HAVE_ROOM, per_pod)

    def _per_pod(self, demand: Demand, addresses: AddressBook | None) -> int:
        """How many items a pod is to do, on the nodes or (with their address book) on the virtual node."""
        left = addresses.creates_left if addresses is not None else None
        return items_in_a_pod(demand.task, demand.count + demand.behind, left)

    def _on_virtual_node(self, demand: Demand, parallelism: int) -> Placed | Held:
        task, profile = demand.task, self._policy.virtual_node
        if profile is None or self.addresses is None or Placement.VIRTUAL_NODE not in task.placements:
            return Held(HoldReason.NODE_HEADROOM, detail=f"no node has room for a pod of {task.name}")
        spilling = demand.count
        if Placement.NODE_POOL in task.placements:
            waiting = self._waits_for_nodes(demand)
            if isinstance(waiting, Held):
                return waiting
            spilling = waiting
        if self._frozen:
            return Held(HoldReason.VIRTUAL_NODE_FROZEN, detail=self._frozen)
        if self._leaked:
            more = f" and {len(self._leaked) - 1} more" if len(self._leaked) > 1 else ""
            detail = f"container group {self._leaked[0]}{more} bills on without a pod: delete it in Azure"
            return Held(HoldReason.LEAKED_GROUPS, detail=detail)
        per_pod = self._per_pod(demand, self.addresses)
        most = min(parallelism, pods_for(spilling, per_pod))
        worst = self._virtual_fit(demand, profile, self.addresses, most, per_pod)
        while _is_too_dear(worst) and per_pod > 1 and task.items_per_pod is None:
            per_pod //= 2  # a load that nobody has fixed shrinks to what the budgets have room for
            most = min(parallelism, pods_for(spilling, per_pod))
            worst = self._virtual_fit(demand, profile, self.addresses, most, per_pod)
        if isinstance(worst, Held):
            return worst
        return self._place_on_virtual_node(demand, self.addresses, worst, per_pod)

    def _waits_for_nodes(self, demand: Demand) -> int | Held:
        """How many of it, from the front, spill now; or why all of it waits for the nodes."""
        task, since = demand.task, demand.waiting_since
        if task.name in self._outlook.kept_off:
            return Held(HoldReason.STEADY_WORK, detail=f"{task.name} is steady work; it waits for nodes")
        if demand.may_spill_at_once:
            return demand.count
        spill_at, spill_by = since + task.spill_after, self._outlook.spill_by(task, since)
        if spill_by is not None:
            spill_at = min(spill_at, spill_by)
        if self._now < spill_at:
            return Held(HoldReason.WAITING_TO_SPILL, spill_at, "no node has room; it may spill then")
        if spill_by is None:
            return demand.count
        # From the newest item's point of view, as if it had come just now: whoever was too hopeful spills when due.
        in_lane = demand.count + demand.behind
        hoped = self._outlook.hoped_for(task, self._outlook.spill_by(task, self._now) or self._now)
        spilling = max(in_lane - hoped, self._urgent(demand))
        if spilling > 0:
            return min(spilling, demand.count)
        self._outlook.promise(task, in_lane)
        detail = f"{in_lane} wait, {hoped} starts on nodes are expected in time for start_by"
        return Held(HoldReason.NODES_IN_TIME, spill_by, detail)

    def _urgent(self, demand: Demand) -> int:
        """How many at the front are lost for the objective if they do not spill before the next pod on a node ends."""
        next_end = self._outlook.next_end(demand.task) or timedelta(0)
        count = 0
        for item in demand.items:
            spill_by = self._outlook.spill_by(demand.task, item.received_at)
            if spill_by is None or spill_by > self._now + next_end:
                break
            count += 1
        return count

    def _virtual_fit(
        self, demand: Demand, profile: VirtualNodePolicy, addresses: AddressBook, parallelism: int, per_pod: int
    ) -> WorstCase | Held:
        """What of it may go there, as its worst case; or why nothing may."""
        task, pods = demand.task, pods_for(demand.count, per_pod)
        at_once = min(pods, parallelism)
        if self._circuit_left is not None:
            if not self._circuit_left:
                detail = f"{self._circuit.failures} failures in a row"
                return Held(HoldReason.CIRCUIT_OPEN, self._circuit.probe_at, detail)
            at_once = min(at_once, self._circuit_left)
        if task.virtual_pods_max is not None:
            left = task.virtual_pods_max - self._on_virtual[task.name]
            if left <= 0:
                detail = f"{self._on_virtual[task.name]} pods of {task.name} are on the virtual node"
                return Held(HoldReason.VIRTUAL_NODE_BOUND, detail=detail)
            at_once = min(at_once, left)
        # A retry goes whole, in waves if fewer may run at once: else an open circuit would never be probed by it.
        needed = pods if demand.whole else 1
        # Where both are short, money is told: addresses come back in minutes, money with the window.
        unit = self._worst(task, profile, needed, at_once, per_pod)
        affordable, held = self._money.fit(demand.spender, unit, self._now)
        if held is not None and not affordable:
            return held
        groups, reason = addresses.fit(task.requests)
        if groups < needed:
            detail = f"{groups} more pods of {task.name} fit, {needed} needed; {addresses.in_use} addresses in use"
            return Held(reason, addresses.frees_at(reason), detail)
        if not demand.whole:
            count = min(at_once, groups, at_once if affordable is None else affordable)
            unit = self._worst(task, profile, count, count, per_pod)
        return self._with_retries(demand, profile, unit, groups) if per_pod == 1 else unit

    def _with_retries(self, demand: Demand, profile: VirtualNodePolicy, unit: WorstCase, groups: int) -> WorstCase:
        """The same with as many retries inside the Job as are left of the allowance, where the place has its Job
        controller make them; as far as there is room and money, since each may be a group of its own.

        What waits behind goes first, and what the Job does not retry comes back to the dispatcher.
        """
        if not profile.profile.retries_in_job:
            return unit
        shape, task = unit.shape, demand.task
        spare = groups - shape.completions - demand.behind
        if task.virtual_pods_max is not None:
            spare = min(spare, task.virtual_pods_max - self._on_virtual[task.name] - shape.completions)
        for retries in range(min(demand.allowance_left, spare // shape.completions), 0, -1):
            more = self._worst(task, profile, shape.completions, shape.parallelism, retries=retries)
            affordable, _ = self._money.fit(demand.spender, more, self._now)
            if affordable is None or affordable:
                return more
        return unit

    def _worst(
        self,
        task: Task,
        profile: VirtualNodePolicy,
        count: int,
        at_once: int,
        items_per_pod: int = 1,
        *,
        retries: int = 0,
    ) -> WorstCase:
        shape = shape_of(
            task,
            placement=Placement.VIRTUAL_NODE,
            completions=count,
            parallelism=at_once,
            allowance_left=retries,
            items_per_pod=items_per_pod,
            profile=profile.profile,
        )
        return WorstCase(shape, group_rate(profile.of_group(task.requests), profile.rates), profile.tail)

    def _place_on_virtual_node(self, demand: Demand, addresses: AddressBook, worst: WorstCase, per_pod: int) -> Placed:
        self._money.take(demand.spender, worst, self._now)
        addresses.take(demand.task.requests, worst.shape.pods_max)
        self._on_virtual[demand.task.name] += worst.shape.pods_max
        if self._circuit_left is not None:
            self._circuit_left -= worst.shape.parallelism
            self._circuit = self._circuit.probed(self._now)
        nodes_allowed = Placement.NODE_POOL in demand.task.placements
        why = Why.WAITED_TOO_LONG if demand.task.start_by is None else Why.NODES_TOO_LATE
        if not nodes_allowed:
            why = Why.NO_NODES_ALLOWED
        return Placed(Placement.VIRTUAL_NODE, worst.shape, worst.total(), why, per_pod)


def _is_too_dear(verdict: WorstCase | Held) -> bool:
    return isinstance(verdict, Held) and verdict.reason is HoldReason.BUDGET_EXHAUSTED
