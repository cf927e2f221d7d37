"""The cycle: receive, batch, route, launch, watch, settle.

One straight line, one owner: nothing else acts on items, records, the ledger or Jobs. It looks, asks the core, and
acts; the order of acts is what makes a crash between any two of them harmless. After anything that leaves doubt
(another leader wrote, a write got no answer) the memory is thrown away and taken over anew. It does not sleep, and
knows no time-outs: those belong to the adapters and to the service around it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

from dispatcher.core.attempts import Attempt, Stage
from dispatcher.core.baseline import MILLI, Wanted
from dispatcher.core.experience import Experience
from dispatcher.core.history import History
from dispatcher.core.plan import HeldRetry, Hold, Plan, Snapshot, plan_cycle, seen_in, share
from dispatcher.core.policy import Policy
from dispatcher.core.rehearsal import Rehearsal, rehearse
from dispatcher.core.retries import own_allowance_left
from dispatcher.core.steadiness import Advice
from dispatcher.core.units import Resources, to_text
from dispatcher.core.work import Placement
from dispatcher.errors import Deposed, LookFailed, OutcomeUnknown
from dispatcher.explaining import Explanation, Scene, Subject, explain
from dispatcher.memory import Memory, Tallies
from dispatcher.ports import Answer, MessageReader, Ports
from dispatcher.stages import (
    accounting,
    auditing,
    bookkeeping,
    closing,
    hearing,
    launching,
    ordering,
    receiving,
    rejecting,
    replying,
    settling,
    sweeping,
    watching,
)
from dispatcher.stages.leading import take_over
from dispatcher.stages.ordering import Ordered, TopUpOrder

__all__ = ["Ordered", "Reconciler", "TopUpOrder"]

IDLE = timedelta(seconds=1)
"""How long nothing need be looked at if no bell rings."""
STANDBY = timedelta(seconds=2)
"""How often a standby tries for the lease, and how long a leader waits after something could not be read."""
AT_ONCE = timedelta(0)


class Reconciler:
    """Carries work from the queues to Jobs and back, for as long as it leads."""

    def __init__(self, policy: Policy, ports: Ports) -> None:
        self._policy = policy
        self._ports = ports
        self._memory: Memory | None = None
        self._adopted: tuple[Policy, MessageReader] | None = None
        self._experience = Experience(policy)
        self._orders: list[TopUpOrder] = []
        self.tallies = Tallies()

    @property
    def leading(self) -> bool:
        """Whether this process leads, as far as it knows."""
        return self._memory is not None

    def adopt(self, policy: Policy, read_message: MessageReader) -> None:
        """From the next cycle on all is decided under another policy, after a takeover as at the start."""
        self._adopted = (policy, read_message)

    @property
    def policy(self) -> Policy:
        """What is decided under at present."""
        return self._policy

    def rehearse(self, policy: Policy | None) -> Rehearsal | None:
        """What the backlog would do now, under that policy or the present one; None while it does not lead."""
        if self._memory is None:
            return None
        return rehearse(self.snapshot(self._memory), policy or self._policy, self._ports.clock.now())

    def order(self, order: TopUpOrder) -> None:
        """Takes an order; it is answered within the next cycle, or at once where this process does not lead."""
        if self._memory is None:
            order.tell(Ordered(Answer.REFUSED, "this replica does not lead; ask the one that does"))
        else:
            self._orders.append(order)

    async def cycle(self) -> timedelta:
        """Runs one whole cycle; how long one may sleep before the next unless something happens."""
        try:
            if self._adopted is not None:
                (self._policy, reader), self._adopted = self._adopted, None
                self._experience.adopt(self._policy)
                self._ports = replace(self._ports, read_message=reader)
                if self._memory is not None:
                    await self._stand_down("the configuration has changed")
            if self._memory is None:
                self._memory = await take_over(self._ports, self._policy, self.tallies)
                if self._memory is None:
                    return STANDBY
                self._memory.experience = self._experience
            elif not await self._ports.lease.acquire():
                await self._stand_down("the lease is held by another")
                return STANDBY
            return await self._cycle(self._memory)
        except LookFailed as failure:
            # Nothing follows from a read that failed, and nothing was lost by not acting: look again.
            self._ports.events.emit("look.failed", text=str(failure))
            return STANDBY
        except (Deposed, OutcomeUnknown) as doubt:
            await self._stand_down(str(doubt))
            return AT_ONCE
        except Exception as fault:
            # What is in memory may be half changed. The service tells the fault; the next cycle looks how things are.
            await self._stand_down(f"{type(fault).__name__}: {fault}")
            raise

    async def _cycle(self, memory: Memory) -> timedelta:
        ports, policy, tallies = self._ports, self._policy, self.tallies
        tallies.cycles += 1
        if self._orders:
            orders, self._orders = self._orders, []
            await ordering.carry_out(memory, ports, policy, orders)
        received = await receiving.receive(memory, ports, policy, tallies)
        memory.headroom = await ports.cluster.headroom()
        await rejecting.expire(memory, ports, policy)
        now = ports.clock.now()
        snapshot = self.snapshot(memory)
        plan = plan_cycle(snapshot, auditing.as_quotas_are(policy, memory, now), now)
        self._gain_experience(memory, snapshot, plan)
        self._tell_holds(memory, plan)
        await rejecting.reject(memory, ports, plan.rejections)
        await launching.launch(memory, ports, policy, plan, tallies)
        await receiving.defer(memory, ports, policy)
        await watching.watch(memory, ports, policy)
        await hearing.hear(memory, ports, policy, tallies)
        await settling.settle(memory, ports, policy, tallies)
        await replying.reply(memory, ports, policy, tallies)
        closing.close(memory, ports)
        await accounting.account(memory, ports)
        await auditing.audit(memory, ports, policy)
        await closing.clear_away(memory, ports, policy)
        await sweeping.sweep(memory, ports, policy)
        memory.looked_after()
        busy = received or plan.launches or memory.draft.changed or memory.sweep_from
        return AT_ONCE if busy else IDLE

    async def _stand_down(self, why: str) -> None:
        """Forgets everything: what is in memory may be wrong now. The next cycle takes over anew, if it may."""
        memory, self._memory = self._memory, None
        orders, self._orders = self._orders, []
        for order in orders:
            order.tell(Ordered(Answer.REFUSED, f"nothing was booked: {why}; ask again"))
        self._ports.events.emit("leader.stood_down", why=why)
        if memory is not None:
            await receiving.give_back(memory, self._ports)

    async def close(self) -> None:
        """Acts no more, and gives back the messages that are under lock, so that the next leader need not wait."""
        if self._memory is not None:
            await self._stand_down("stopped")

    def snapshot(self, memory: Memory) -> Snapshot:
        """What the plan is made from: everything seen and accepted so far, with this cycle's changes of the ledger."""
        active: Counter[str] = Counter()
        of_tenant: Counter[str] = Counter()
        shares: Counter[str] = Counter()
        starting: list[tuple[Resources, int]] = []
        on_nodes: Counter[str] = Counter()
        for name, entry in memory.draft.entries.items():
            load = memory.load(name)
            if load.stopped:
                continue
            pods = min(entry.shape.parallelism, max(0, entry.shape.completions - load.ended))
            active[entry.task] += pods
            of_tenant[entry.tenant] += pods
            if entry.task in self._policy.tasks:
                shares[entry.tenant] += share(self._policy, self._policy.tasks[entry.task], pods)
            if entry.placement is Placement.NODE_POOL and entry.task in self._policy.tasks:
                starting.append((self._policy.tasks[entry.task].requests, max(0, pods - load.placed)))
                on_nodes[entry.task] += pods
        return Snapshot(
            lanes=memory.inflight.lanes(),
            retries=[self._held(attempt) for attempt in memory.attempts.values() if self._waits(memory, attempt)],
            ledger=memory.draft.peek(),
            headroom=memory.headroom,
            starting=starting,
            active=active,
            active_of_tenant=of_tenant,
            share_of_tenant=shares,
            served=memory.served,
            node_pods=on_nodes.total(),
            on_nodes=on_nodes,
            experience=self._experience,
            circuit=memory.circuit,
            ledger_full=bookkeeping.is_full(memory.ledger),
            clock_fault=self._ports.clock_fault(),
        )

    def _waits(self, memory: Memory, attempt: Attempt) -> bool:
        return (
            attempt.stage is Stage.HELD
            and not attempt.record.rulings
            and attempt.record.task in self._policy.tasks
            and launching.may_open(memory, attempt)
        )

    def _held(self, attempt: Attempt) -> HeldRetry:
        record, task = attempt.record, self._policy.tasks[attempt.record.task]
        return HeldRetry(
            name=record.name,
            task=record.task,
            tenant=record.tenant,
            priority=record.priority,
            count=len(record.items),
            waiting_since=record.created_at,
            not_before=record.not_before or record.created_at,
            allowance_left=min(own_allowance_left(tries, task) for tries in record.tries),
        )

    def _gain_experience(self, memory: Memory, snapshot: Snapshot, plan: Plan) -> None:
        """Looks at the load now and then; tells when other nodes are wanted, or other work is steady."""
        experience, now = self._experience, self._ports.clock.now()
        if not experience.due(now):
            return
        if not experience.sample(seen_in(snapshot, plan, self._policy, now), now):
            return
        wanted = experience.wanted
        if wanted is not None:
            self._ports.events.emit("nodes.wanted", **_wanted_facts(wanted))
        for advice in experience.advice:
            self._ports.events.emit("guard.advised", **_advice_facts(advice))

    def _tell_holds(self, memory: Memory, plan: Plan) -> None:
        """Tells a hold when its reason is new for its lane, not in every cycle."""
        memory.holds = plan.holds
        told = {(hold.task, hold.tenant, hold.priority, hold.held.reason): hold for hold in plan.holds}
        for key, hold in told.items():
            if key not in memory.told_holds:
                considered = hold.considered and hold.considered.to_json()
                self._ports.events.emit("batch.held", **_hold_facts(hold), considered=considered)
        memory.told_holds = frozenset(told)

    def explain(self, name: str, subject: Subject | None, history: History) -> Explanation | None:
        """Where that item, batch or tenant is, and why; None while this process does not lead."""
        if self._memory is None:
            return None
        return explain(name, subject, Scene(self._memory, self._policy, history, self._ports.clock.now()))

    def budgets(self) -> list[dict[str, Any]] | None:
        """Every account with its top-ups and its forecast, as plain JSON; None while this process does not lead."""
        if self._memory is None:
            return None
        return bookkeeping.budget_rows(self._memory.ledger, self._policy.budgets, self._ports.clock.now())

    def status(self) -> dict[str, Any]:
        """How things stand, as plain JSON."""
        tallies, memory = self.tallies, self._memory
        items = {
            "received": tallies.received,
            "rejected": tallies.rejected,
            "done": tallies.done,
            "dead_lettered": tallies.dead_lettered,
            "retried_item": tallies.retried["item"],
            "retried_platform": tallies.retried["platform"],
            "backlog": 0,
            "under_lock": 0,
            "in_flight": 0,
        }
        placements = {
            place.value: {"batches": tallies.batches[place], "items": tallies.items[place]} for place in Placement
        }
        base: dict[str, Any] = {
            "leading": memory is not None,
            "items": items,
            "attempts": [],
            "leaks": [],
            "open_entries": 0,
            "held": [],
            "budgets": [],
            "subnet": {"usable": 0, "in_use": 0},
            "placements": placements,
            "outcomes": {"sent": tallies.replied, "owed": 0, "given_up": tallies.replies_given_up, "not_taken": {}},
            "cycle": {"count": tallies.cycles},
            "nodes_wanted": _wanted_facts(self._experience.wanted) if self._experience.wanted is not None else None,
            "steady_work": [_advice_facts(advice) for advice in self._experience.advice],
        }
        if memory is None:
            return base
        now = self._ports.clock.now()
        items["backlog"] = memory.inflight.in_lanes()
        base["outcomes"]["owed"] = len(memory.owed)
        base["outcomes"]["not_taken"] = {name: line.why for name, line in memory.reply_lines.items() if line.failures}
        items["under_lock"] = len(memory.locks)
        items["in_flight"] = len(memory.inflight) - memory.inflight.in_lanes()
        profile = self._policy.virtual_node
        base["attempts"] = [_attempt_facts(memory, attempt) for attempt in memory.attempts.values()]
        base["leaks"] = bookkeeping.leak_rows(memory.draft.peek())
        base["open_entries"] = len(memory.draft.entries)
        base["held"] = [_hold_facts(hold) for hold in memory.holds]
        base["budgets"] = bookkeeping.account_rows(memory.ledger, self._policy.budgets, now)
        base["subnet"] = {
            "usable": profile.addresses_max if profile else 0,
            "in_use": memory.ledger.addresses(now),
        }
        return base


def _wanted_facts(wanted: Wanted) -> dict[str, Any]:
    return {
        "nodes": wanted.nodes,
        "rule": wanted.rule,
        "load_nodes": wanted.load_milli_nodes / MILLI,
        "since": to_text(wanted.since),
    }


def _advice_facts(advice: Advice) -> dict[str, Any]:
    return {
        "task": advice.task,
        "duty_percent": advice.duty_permille / 10,
        "duty_percent_max": advice.duty_percent_max,
        "break_even_percent": None if advice.break_even_permille is None else advice.break_even_permille / 10,
        "steady_pods": advice.steady_pods,
        "nodes": advice.nodes,
        "virtual_node_usd_a_day": f"{advice.on_virtual_node.usd:.4f}",
        "nodes_usd_a_day": f"{advice.on_nodes.usd:.4f}",
        "advice": advice.sentence,
    }


def _hold_facts(hold: Hold) -> dict[str, Any]:
    return {
        "reason": hold.held.reason,
        "task": hold.task,
        "tenant": hold.tenant,
        "items": hold.count,
        "until": to_text(hold.held.until) if hold.held.until else None,
        "detail": hold.held.detail,
    }


def _attempt_facts(memory: Memory, attempt: Attempt) -> dict[str, Any]:
    entry = memory.draft.entries.get(attempt.name)
    return {
        "job": attempt.name,
        "task": attempt.record.task,
        "tenant": attempt.record.tenant,
        "placement": entry.placement if entry else None,
        "state": attempt.stage,
        "attempt": attempt.record.attempt,
        "items": len(attempt.record.items),
        "done": len(attempt.settled),
    }
