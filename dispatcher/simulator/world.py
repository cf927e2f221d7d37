"""The world of one seed: time, acts under way, the places behind the ports, and the dispatcher processes in it.

Decides what happens next and when, by the dice of the seed; takes the lead away from processes, and gives it back.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

from dispatcher.core.ledger import Ledger
from dispatcher.core.work import WorkItem
from dispatcher.embedded.processes.controller import Backoff
from dispatcher.errors import BadMessage, Deposed
from dispatcher.ports import Message, ObjectRef
from dispatcher.simulator.behaviour import Behaviour
from dispatcher.simulator.clock import HostClock, WorldClock
from dispatcher.simulator.cluster import Cluster
from dispatcher.simulator.faults import NO_FAULTS, Fault, FaultPlan
from dispatcher.simulator.meter import Meter
from dispatcher.simulator.process import Places, Process, SeededIds, Turn
from dispatcher.simulator.queue import Broker
from dispatcher.simulator.replies import ReplyQueues
from dispatcher.simulator.scenario import Scenario
from dispatcher.simulator.store import Lease, Store
from dispatcher.simulator.trace import Trace
from dispatcher.simulator.wire import Wire

NOTHING = timedelta(0)
SHORTEST = timedelta(milliseconds=100)
CLOCK_OFF_SECONDS = 4.0
STALL_SECONDS = (5.0, 300.0)
OPERATOR_COMES_AFTER = timedelta(seconds=60)


@dataclass(slots=True)
class _UnderWay:
    due: datetime
    what: str
    perform: Callable[[], object]


class World:
    """Everything there is, for one seed."""

    def __init__(self, scenario: Scenario, tell: Callable[[str], None] | None = None) -> None:
        self.scenario = scenario
        self.clock = WorldClock(scenario.start)
        self.trace = Trace(self.clock, tell)
        self.random = Random(f"run {scenario.seed}")
        self.faults: FaultPlan = scenario.faults
        self.occurred: Counter[str] = Counter()
        self.hears: list[Callable[[str, str, Mapping[str, Any]], None]] = []
        self.after_time: list[Callable[[], None]] = []
        """Looked at whenever time has passed."""
        self.lost_ledger_at: datetime | None = None
        self.overrun_allowed = False
        self.kinds: dict[int, str] = {}
        policy, profile = scenario.policy, scenario.policy.virtual_node
        assert profile is not None  # every scenario draws one
        self.store = Store()
        self.lease = Lease()
        self.broker = Broker("work", self.clock, self, self._dice("broker"), policy.lock_duration)
        self.reports = Broker("reports", self.clock, self, self._dice("reports"), policy.lock_duration)
        self.replies = ReplyQueues(self.clock, self, self._dice("replies"), scenario.replies_lag)
        self.meter = Meter(profile.rates, policy.budgets, profile.tail, scenario.release_lag)
        self.behaviour = Behaviour(self._dice("behaviour"), self, policy)
        self.cluster = Cluster(
            self.clock,
            self,
            self.store,
            self.meter,
            self.behaviour.behave,
            self.behaviour.carry,
            self.reports.send,
            scenario.nodes,
            Backoff(timedelta(seconds=10), timedelta(minutes=10)),
        )
        self._places = Places(self.broker, self.cluster, self.store, self.lease, self.replies, self.reports, self)
        self._ids = SeededIds(self._dice("ids"))
        self._under_way: list[_UnderWay] = []
        self._to_send = list(reversed(scenario.messages))
        self._born = 0
        self._operator_at: datetime | None = None
        self.stalled: list[tuple[datetime, Process]] = []
        self.deposed: list[Process] = []
        self._set_faults(scenario.faults)
        self.leader = self._new_process()
        self.lease.holder = self.leader.who
        self._send_due()

    def _dice(self, whose: str) -> Random:
        return Random(f"{whose} {self.scenario.seed}")

    # --- what the places need

    def struck(self, fault: Fault) -> None:
        """Counts a fault."""
        self.occurred[f"fault {fault}"] += 1

    def land_later(self, after: timedelta, what: str, perform: Callable[[], object]) -> None:
        """Keeps an act that is under way."""
        self._under_way.append(_UnderWay(self.clock.now() + after, what, perform))

    def let_pass(self, span: timedelta) -> None:
        """Lets time pass; whatever is due on the way happens at its own time."""
        target = self.clock.now() + span
        while True:
            due = self._next_event()
            if due is None or due > target:
                break
            self.clock.move_to(due)
            self._happen()
        self.clock.move_to(target)
        self._happen()
        for look in self.after_time:
            look()

    def _next_event(self) -> datetime | None:
        due = [act.due for act in self._under_way]
        soonest = self.cluster.next_event()
        if soonest is not None:
            due.append(soonest)
        if self._to_send:
            due.append(self.scenario.start + self._to_send[-1].at)
        if not due:
            return None
        now = self.clock.now()
        first = min(due)
        return first if first > now else now + timedelta(milliseconds=50)

    def _happen(self) -> None:
        now = self.clock.now()
        self._send_due()
        if self._under_way:
            landing = [act for act in self._under_way if act.due <= now]
            self._under_way = [act for act in self._under_way if act.due > now]
            for act in landing:
                self._land(act)
        self.cluster.step()

    def _land(self, act: _UnderWay) -> None:
        try:
            answer = act.perform()
        except Deposed:
            answer = "refused"
        self.trace.line(f"~ landed late: {act.what} -> {getattr(answer, 'answer', answer)}")

    def _send_due(self) -> None:
        now = self.clock.now()
        while self._to_send and self.scenario.start + self._to_send[-1].at <= now:
            planned = self._to_send.pop()
            number = self.broker.send(planned.message_id, planned.body, planned.time_to_live)
            self.kinds[number] = planned.kind
            self.trace.line(f"~ sent {number} {planned.message_id} {planned.kind}")

    # --- processes

    def _new_process(self) -> Process:
        self._born += 1
        who = f"p{self._born}"
        offset = NOTHING
        if self.faults.rate(Fault.CLOCK_STEP):
            offset = timedelta(seconds=round(self.random.uniform(-CLOCK_OFF_SECONDS, CLOCK_OFF_SECONDS), 3))
        dice = self._dice(who)
        process = Process(
            who,
            self._places,
            Wire(who, self, self.trace, dice),
            HostClock(self.clock, offset),
            self.scenario.policy,
            self._ids,
            dice,
            self._told,
            read_message,
            with_account=self.scenario.with_account,
        )
        process.set_faults(self.faults)
        self.trace.line(f"~ {who} starts, its clock off by {offset.total_seconds()} s")
        return process

    def _set_faults(self, plan: FaultPlan) -> None:
        self.faults = self.broker.faults = self.behaviour.faults = self.replies.faults = plan
        self.reports.faults = plan

    def heal(self) -> None:
        """No more faults: the world is well from now on, and whatever is under way still lands."""
        self.trace.line("~ the faults end")
        self._set_faults(NO_FAULTS)
        for process in (self.leader, *self.deposed, *(process for _, process in self.stalled)):
            process.set_faults(NO_FAULTS)
            process.clock.offset = NOTHING
            process.clock.apart = False
            process.lease.lies_left = 0

    def _told(self, who: str, event: str, facts: Mapping[str, Any]) -> None:
        self.trace.event(who, event, facts)
        for hear in self.hears:
            hear(who, event, facts)

    def turn(self) -> bool:
        """Every process that is up takes its turn; whether any of them did anything."""
        before = self.trace.count
        self._wake_the_stalled()
        for process in list(self.deposed):
            self._went(process, process.turn())
            if process in self.deposed and not process.reconciler.leading:
                self.deposed.remove(process)
                process.end()
        leader = self.leader
        self._went(leader, leader.turn())
        return self.trace.count > before

    def _wake_the_stalled(self) -> None:
        now = self.clock.now()
        waking = [process for until, process in self.stalled if until <= now]
        self.stalled = [(until, process) for until, process in self.stalled if until > now]
        for process in waking:
            self.trace.line(f"~ {process.who} goes on where it stalled")
            self.deposed.append(process)
            if self.random.random() < 0.3:
                process.lease.lies_left = self.random.randint(1, 4)

    def _went(self, process: Process, turn: Turn) -> None:
        if turn is Turn.SLEEPS:
            return
        if process in self.deposed:
            self.deposed.remove(process)
        self.trace.line(f"~ {process.who} {turn.value}")
        if turn is Turn.STALLED:
            until = self.clock.now() + timedelta(seconds=self.random.uniform(*STALL_SECONDS))
            self.stalled.append((until, process))
        if process is self.leader:
            self.let_pass(timedelta(seconds=round(self.random.uniform(0.1, 20.0), 3)))
            self._replace_leader()

    def _replace_leader(self) -> None:
        self.leader = self._new_process()
        self.lease.holder = self.leader.who

    # --- what happens between turns

    def accidents(self) -> None:
        """Faults that strike the world rather than an act."""
        for fault, strike in self._accidents.items():
            rate = self.faults.rate(fault)
            if rate and self.random.random() < rate and strike(self):
                self.struck(fault)
                self.trace.line(f"~ ! {fault}")
        if self._operator_at is not None and self.clock.now() >= self._operator_at:
            self.operator_looks()

    def _lose_locks(self) -> bool:
        return self.broker.lose_locks(0.7) + self.reports.lose_locks(0.7) > 0

    def _step_clock(self) -> bool:
        offset = round(self.random.uniform(-CLOCK_OFF_SECONDS, CLOCK_OFF_SECONDS), 3)
        self.leader.clock.offset = timedelta(seconds=offset)
        return True

    def _part_clocks(self) -> bool:
        """Somebody sets the host's clock wrong, or right again."""
        self.leader.clock.apart = not self.leader.clock.apart
        return self.leader.clock.apart

    def _delete_job(self) -> bool:
        live = [job for job in self.cluster.jobs.values() if not job.marked]
        if not live:
            return False
        job = self.random.choice(live)
        self.cluster.mark(ObjectRef(job.spec.name, job.uid))
        return True

    def _delete_pod(self) -> bool:
        pods = [pod for job in self.cluster.jobs.values() for pod in job.pods.values() if not pod.marked]
        if not pods:
            return False
        pod = self.random.choice(pods)
        self.cluster.delete_pod(ObjectRef(pod.uid, pod.uid))
        return True

    def _lose_node(self) -> bool:
        there = [node.name for node in self.scenario.nodes if node.name not in self.cluster.lost_nodes]
        if not there:
            return False
        until = self.clock.now() + timedelta(seconds=round(self.random.uniform(10.0, 90.0), 3))
        self.cluster.lose_node(self.random.choice(there), until)
        return True

    def _two_leaders(self) -> bool:
        if len(self.deposed) > 1:
            return False
        self.leader.lease.lies_left = self.random.randint(1, 6)
        self.deposed.append(self.leader)
        self._replace_leader()
        return True

    def _lose_ledger(self) -> bool:
        if self.store.ledger is None or self.lost_ledger_at is not None:
            return False
        self.meter.read(self.clock.now())
        self.store.ledger = None
        self.lost_ledger_at = self.clock.now()
        self._operator_at = self.clock.now() + OPERATOR_COMES_AFTER
        self.meter.ledger_lost(self.clock.now())
        return True

    _accidents: Mapping[Fault, Callable[[World], bool]] = {
        Fault.LOCK_LOST: _lose_locks,
        Fault.CLOCK_STEP: _step_clock,
        Fault.CLOCKS_APART: _part_clocks,
        Fault.JOB_DELETED: _delete_job,
        Fault.POD_DELETED: _delete_pod,
        Fault.NODE_LOST: _lose_node,
        Fault.TWO_LEADERS: _two_leaders,
        Fault.LEDGER_LOST: _lose_ledger,
    }

    def operator_looks(self) -> None:
        """A person has looked at the bill: lifts the freeze and closes overruns, by a write of the ledger."""
        self._operator_at = None
        stored = self.store.ledger
        if stored is None:
            return
        document = json.loads(json.dumps(stored.document))
        accounts = document["accounts"].values()
        if not document["frozen"] and not any(account["overrun"] for account in accounts):
            return
        document["frozen"] = ""
        for account in accounts:
            account["overrun"] = False
        self.trace.line("~ an operator has looked at the bill")
        self.store.write_ledger(Ledger.from_document(document).to_document(), stored.version)

    # --- how it ends

    @property
    def drained(self) -> bool:
        """Whether nothing is left to do, anywhere."""
        ledger = self.store.ledger
        return not (
            self.broker.messages
            or self._to_send
            or self.store.records
            or self.reports.messages
            or self.cluster.jobs
            or self._under_way
            or self.stalled
            or self.deposed
            or (ledger is not None and (ledger.document["entries"] or ledger.document.get("leaks")))
        )

    def left(self) -> str:
        """What is left, in words."""
        entries = self.store.ledger.document["entries"] if self.store.ledger else {}
        return (
            f"messages {sorted(self.broker.messages)[:8]}, reports {len(self.reports.messages)}, "
            f"records {sorted(self.store.records)[:4]}, "
            f"Jobs {sorted(self.cluster.jobs)[:4]}, entries {sorted(entries)[:4]}, "
            f"acts under way {len(self._under_way)}, "
            f"leaks {sorted(self.store.ledger.document.get('leaks', {}))[:4] if self.store.ledger else []}"
        )


def read_message(queue: str, message: Message, now: datetime) -> WorkItem:
    """What a message asks for. The real reader has its own tests; this one knows the simulator's messages."""
    body = json.loads(message.body)
    try:
        return WorkItem(
            queue=queue,
            sequence_number=message.sequence_number,
            message_id=message.message_id,
            digest=digest_of(message.body),
            task=body["task"],
            tenant=body["tenant"],
            priority=0,
            params_json=json.dumps(body["params"]),
            enqueued_at=message.enqueued_at,
            received_at=now,
            expires_at=message.expires_at,
            reply_to=body.get("reply_to"),
        )
    except KeyError as missing:
        raise BadMessage("bad_message", f"{missing} is missing", body.get("reply_to")) from None


def digest_of(body: bytes) -> str:
    """What tells two bodies apart."""
    return hashlib.sha256(body).hexdigest()
