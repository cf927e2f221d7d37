"""Explain: where an item, a batch or a tenant's work is, why there, why not elsewhere, and what would have to change.

Finds the subject in what the leader has in mind and in what happened lately, and puts the answer together; the
sentences about verdicts are core/telling. Looks only: acts on nothing, reads nothing from outside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from dispatcher.core import telling
from dispatcher.core.attempts import Attempt, Stage
from dispatcher.core.considered import Considered
from dispatcher.core.history import History, Told
from dispatcher.core.inflight import ItemState
from dispatcher.core.jobs import attempt_name, verdict_on
from dispatcher.core.observations import PodPhase, PodSeen
from dispatcher.core.plan import Hold
from dispatcher.core.policy import Policy
from dispatcher.core.records import RulingKind
from dispatcher.core.retries import Tries
from dispatcher.core.telling import Reasons
from dispatcher.core.units import Money, from_text
from dispatcher.core.verdicts import Held, HoldReason, Why
from dispatcher.core.words import counted, dollars, due, moment, span
from dispatcher.core.work import Placement, Task, WorkItem
from dispatcher.memory import Memory

_ITEMS_SHOWN = 5
_BATCH_PREFIX = attempt_name("", 0).partition("-")[0] + "-"
WHERE, WHY, ELSEWHERE = "Where it is", "Why", "Why not elsewhere"
NEXT, CHANGE, BEFORE = "When it is looked at next", "What would have to change", "What happened so far"


class Subject(StrEnum):
    """What can be asked about."""

    ITEM = "item"
    BATCH = "batch"
    TENANT = "tenant"


@dataclass(slots=True)
class Explanation:
    """An answer: headings with sentences, in the order in which they are read."""

    title: str
    found: bool = True
    sections: dict[str, list[str]] = field(default_factory=dict)

    def add(self, heading: str, lines: Sequence[str]) -> None:
        """Puts sentences under a heading; none: no heading."""
        if lines:
            self.sections.setdefault(heading, []).extend(lines)

    def add_reasons(self, reasons: Reasons) -> None:
        """Puts the words on a verdict under their headings."""
        self.add(WHY, reasons.why)
        self.add(ELSEWHERE, reasons.not_elsewhere)
        self.add(NEXT, reasons.next_look)
        self.add(CHANGE, reasons.would_change)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        sections = [{"heading": heading, "lines": lines} for heading, lines in self.sections.items()]
        return {"title": self.title, "found": self.found, "sections": sections}


@dataclass(frozen=True, slots=True)
class Scene:
    """All that an explanation is made from."""

    memory: Memory
    policy: Policy
    history: History
    now: datetime


def explain(name: str, subject: Subject | None, scene: Scene) -> Explanation:
    """Explains what that name stands for; without a subject the first that is known of item, batch and tenant."""
    for each, make in ((Subject.ITEM, _item), (Subject.BATCH, _batch), (Subject.TENANT, _tenant)):
        if subject in (None, each):
            found = make(name, scene)
            if found is not None:
                return found
    what = subject.value if subject else "item, batch or tenant"
    unknown = Explanation(f"{what} {name}", found=False)
    unknown.add(
        WHERE,
        [
            "Nothing is known of it. A message that is still on the queue is not known before it was received: at "
            "most "
            f"{scene.policy.lookahead_max} are, and {len(scene.memory.inflight)} are at present.",
            "What ended long ago stands in the event log, and what was given up in the dead-letter queue "
            "(`dispatcher dead-letters list`).",
        ],
    )
    return unknown


# --- items ----------------------------------------------------------------------------------------------------------


def _item(name: str, scene: Scene) -> Explanation | None:
    found = next(scene.memory.inflight.find(name), None)
    if found is None:
        return _ended_item(name, scene)
    item, state = found
    answer = Explanation(f"item {item.message_id} (task {item.task}, tenant {item.tenant}, number {item.id})")
    if state in (ItemState.UNDER_LOCK, ItemState.BACKLOG):
        _waiting_item(answer, item, scene)
    elif state is ItemState.COPY:
        answer.add(WHERE, ["It waits behind an earlier message with the same id and body."])
        answer.add(WHY, ["Two messages with one id and body are one piece of work: it runs once."])
        answer.add(NEXT, ["When the first one has ended."])
        answer.add(CHANGE, ["The first is done: this one is removed with it. The first is given up: this one runs."])
    else:
        _claimed_item(answer, item, state, scene)
    answer.add(BEFORE, _past(scene.history.of_item(item.message_id), scene.now))
    return answer


def _waiting_item(answer: Explanation, item: WorkItem, scene: Scene) -> None:
    lanes = {lane.key: lane for lane in scene.memory.inflight.lanes()}
    key = next(key for key in lanes if (key.task, key.tenant, key.priority) == (item.task, item.tenant, item.priority))
    ids = [each.id for each in lanes[key].items.values()]
    place = ids.index(item.id)
    line = "It is the first in line" if not place else f"{place} of them came before it"
    others = counted(len(ids) - 1, "other item") if len(ids) > 1 else "no other item"
    answer.add(
        WHERE,
        [
            f"It waits to be started, with {others} of the same task, tenant and priority "
            f"({item.priority}). {line}. It has waited {span(scene.now - item.enqueued_at)}."
        ],
    )
    hold = next((hold for hold in scene.memory.holds if _holds(hold, item)), None)
    if hold is None:
        answer.add(WHY, ["It was not decided on yet."])
        answer.add(NEXT, [telling.EVERY_CYCLE])
    else:
        _add_hold(answer, hold, scene)
    if item.expires_at is not None:
        answer.add(CHANGE, [f"If it still waits at {due(item.expires_at, scene.now)}, it is given up as expired."])


def _holds(hold: Hold, item: WorkItem) -> bool:
    return hold.retry is None and (hold.task, hold.tenant, hold.priority) == (item.task, item.tenant, item.priority)


def _add_hold(answer: Explanation, hold: Hold, scene: Scene) -> None:
    task = scene.policy.tasks.get(hold.task)
    if task is None:
        answer.add(WHY, [f"There is no task {hold.task} in the configuration any more."])
        return
    answer.add_reasons(telling.held(hold.held, hold.considered, task, scene.policy, scene.now))


def _claimed_item(answer: Explanation, item: WorkItem, state: ItemState, scene: Scene) -> None:
    claims = [
        (attempt, index)
        for attempt in scene.memory.attempts.values()
        for index, each in enumerate(attempt.record.items)
        if each.id == item.id
    ]
    if not claims:
        answer.add(WHERE, ["It is being started: its record is written, its Job is not there yet."])
        answer.add(NEXT, [telling.EVERY_CYCLE])
        return
    attempt, index = max(claims, key=lambda claim: claim[0].record.attempt)
    answer.add(WHERE, _where_of_claimed(attempt, index, state, scene.now))
    _add_attempt(answer, attempt, scene, _pod_of(attempt, index))
    answer.add(BEFORE, _tries_words(attempt.record.tries[index], scene.policy.tasks.get(item.task), scene.policy))


def _where_of_claimed(attempt: Attempt, index: int, state: ItemState, now: datetime) -> list[str]:
    others = counted(len(attempt.record.items) - 1, "other item") if len(attempt.record.items) > 1 else "no other item"
    if state is ItemState.RULED:
        ruling = attempt.record.rulings.get(index)
        done = ruling is not None and ruling.kind is RulingKind.DONE
        what = "It is done" if done else "It was given up"
        return [f"{what}, in attempt {attempt.name}; its message is about to leave the queue."]
    if attempt.stage is Stage.HELD:
        return [f"It waits to be tried again, as attempt {attempt.name}, with {others}."]
    if attempt.stage is Stage.OPENED:
        return [f"It is being started: Job {attempt.name} was asked for, with {others}, and was not seen yet."]
    pod = _pod_of(attempt, index)
    return [f"It is in Job {attempt.name} (attempt {attempt.record.attempt}), with {others}. {_pod_words(pod, now)}"]


def _pod_of(attempt: Attempt, index: int) -> PodSeen | None:
    """The latest pod of that position."""
    pods = [pod for pod in attempt.sight.pods.values() if pod.index == index]
    return max(pods, key=lambda pod: pod.created_at, default=None)


def _pod_words(pod: PodSeen | None, now: datetime) -> str:
    if pod is None:
        return "Its pod was not seen yet."
    where = f" on {pod.node}" if pod.node else ""
    if pod.phase is PodPhase.RUNNING:
        since = pod.started_at or pod.created_at
        return f"Its pod {pod.name} has been running{where} since {moment(since, now)}, for {span(now - since)}."
    if pod.phase is PodPhase.PENDING:
        why = f" ({pod.reason}: {pod.message})" if pod.reason else ""
        return f"Its pod {pod.name} was made at {moment(pod.created_at, now)} and does not run yet{why}."
    return f"Its pod {pod.name} has ended ({pod.phase.value}); what follows is about to be decided."


def _tries_words(tries: Tries, task: Task | None, policy: Policy) -> list[str]:
    if not tries.failures:
        return []
    allowed = task.backoff_limit if task is not None else 0
    cause = f" The last cause was {tries.cause.value}" if tries.cause else ""
    told = f": {tries.message}" if tries.message else ""
    return [
        f"It has failed {counted(tries.failures, 'time')}: {tries.own} of its own ({allowed} may be tried again), "
        f"{tries.platform} of the platform's ({policy.platform_retries_max} may).{cause}{told}".rstrip(".")
        + "."
    ]


def _ended_item(name: str, scene: Scene) -> Explanation | None:
    told = scene.history.of_item(name)
    if not told:
        return None
    last = told[-1]
    of = f" (task {last.facts['task']}, tenant {last.facts['tenant']})" if "task" in last.facts else ""
    answer = Explanation(f"item {name}{of}")
    at, facts = moment(last.at, scene.now), last.facts
    if last.event == "item.done":
        where = telling.PLACES[Placement(facts["placement"])] if facts.get("placement") else "a place not noted"
        waited = f", {facts['waited_seconds']:.0f} s after it was sent" if "waited_seconds" in facts else ""
        answer.add(WHERE, [f"It is done, since {at}{waited}: in Job {facts.get('job')}, on {where}."])
        _add_past_placement(answer, str(facts.get("job")), scene)
        answer.add(NEXT, ["Never again: its message has left the queue."])
    elif last.event == "item.dead_lettered":
        answer.add(
            WHERE,
            [f"It was given up at {at} and lies in the dead-letter queue, with the reason {facts.get('reason')}."],
        )
        answer.add(
            WHY,
            [f"It ended so in attempt {facts.get('attempts')}, in {facts.get('job')}; cause: {facts.get('cause')}."],
        )
        answer.add(NEXT, ["Never again, by itself."])
        answer.add(CHANGE, ["Mend the cause, then `dispatcher dead-letters replay` sends it again."])
    elif last.event == "item.rejected":
        answer.add(
            WHERE, [f"It was refused at the door at {at} and lies in the dead-letter queue: {facts.get('reason')}."]
        )
        answer.add(WHY, [str(facts.get("description", ""))])
        answer.add(
            CHANGE, ["Its sender sends a message that the task takes (`dispatcher schema` prints how it looks)."]
        )
    else:
        answer.add(WHERE, ["It is not known at present. After a restart it is found again when the queue is swept."])
    answer.add(BEFORE, _past(told[:-1], scene.now))
    return answer


def _add_past_placement(answer: Explanation, job: str, scene: Scene) -> None:
    for told in scene.history.of_attempt(job):
        task = scene.policy.tasks.get(str(told.facts.get("task")))
        if told.event == "batch.launched" and task is not None:
            answer.add_reasons(_placement_words(told, task, scene.policy))


def _placement_words(told: Told, task: Task, policy: Policy) -> Reasons:
    facts = told.facts
    considered = Considered.from_json(facts["considered"]) if facts.get("considered") else None
    return telling.placed(Why(facts["why"]), Placement(facts["placement"]), considered, task, policy)


# --- batches --------------------------------------------------------------------------------------------------------


def _batch(name: str, scene: Scene) -> Explanation | None:
    """By the name of a Job, or by the batch's id: then its latest attempt."""
    prefix = name if name.startswith(_BATCH_PREFIX) else f"{_BATCH_PREFIX}{name}"
    live = [each for each in scene.memory.attempts.values() if each.name == prefix or each.record.batch == name]
    if live:
        return _live_batch(max(live, key=lambda attempt: attempt.record.attempt), scene)
    known = [each for each in scene.history.attempts() if each == prefix or each.startswith(f"{prefix}-")]
    return _ended_batch(known[-1], scene) if known else None


def _live_batch(attempt: Attempt, scene: Scene) -> Explanation:
    record = attempt.record
    answer = Explanation(f"batch {record.batch}, attempt {record.attempt} (task {record.task}, tenant {record.tenant})")
    ended = Counter(ruling.kind for ruling in record.rulings.values())
    progress = ", ".join(f"{count} {kind.value}" for kind, count in sorted(ended.items())) or "none has ended yet"
    states = {
        Stage.HELD: "It waits to be tried again",
        Stage.OPENED: f"Its Job {attempt.name} was asked for and was not seen yet",
        Stage.RUNNING: f"It is the Job {attempt.name}",
    }
    answer.add(WHERE, [f"{states[attempt.stage]}: {counted(len(record.items), 'item')}; of these {progress}."])
    phases = Counter(pod.phase.value for pod in attempt.sight.pods.values())
    if phases:
        pods = ", ".join(f"{count} {phase}" for phase, count in sorted(phases.items()))
        answer.add(WHERE, [f"Its pods: {pods}."])
    _add_attempt(answer, attempt, scene, None)
    shown = [item.message_id for item in record.items[:_ITEMS_SHOWN]]
    more = f" and {len(record.items) - _ITEMS_SHOWN} more" if len(record.items) > _ITEMS_SHOWN else ""
    answer.add("Its items", [f"{', '.join(shown)}{more}"])
    answer.add(BEFORE, _past(scene.history.of_attempt(attempt.name), scene.now))
    return answer


def _add_attempt(answer: Explanation, attempt: Attempt, scene: Scene, pod: PodSeen | None) -> None:
    """Why the attempt is where it is, or why it is held."""
    record, task = attempt.record, scene.policy.tasks.get(attempt.record.task)
    if attempt.stage is Stage.HELD:
        _add_held_retry(answer, attempt, task, scene)
        return
    entry = scene.memory.draft.entries.get(attempt.name)
    found = verdict_on(record.job) if record.job is not None else None
    if task is not None and entry is not None:
        why, content = found if found is not None else ("", {})
        try:
            reasons = telling.placed(Why(why), entry.placement, Considered.from_json(content), task, scene.policy)
        except (KeyError, ValueError):  # a Job of an earlier version says less
            reasons = Reasons(
                why=[f"It was placed on {telling.PLACES[entry.placement]}; the reason was not written down."]
            )
        answer.add_reasons(reasons)
    if entry is not None and entry.paid:
        bound = Money(max((money.picos for money in entry.reserved.values()), default=0))
        answer.add(WHY, [f"It has cost {dollars(entry.spent)} so far; {dollars(bound)} more is set aside for it."])
    answer.add(NEXT, _next_for_running(attempt, entry.written if entry else None, entry, pod, scene))
    if attempt.stage is Stage.OPENED:
        answer.add(CHANGE, ["The cluster answers: the Job is looked for by its name, and its create is sent again."])


def _next_for_running(
    attempt: Attempt, written: datetime | None, entry: Any, pod: PodSeen | None, scene: Scene
) -> list[str]:
    if written is None or entry is None:
        return [telling.EVERY_CYCLE]
    task = scene.policy.tasks.get(attempt.record.task)
    lines = ["As soon as one of its pods starts, ends or fails."]
    if pod is not None and pod.phase is PodPhase.PENDING and task is not None:
        at = pod.created_at + task.start_deadline
        lines.append(f"If the pod does not run by {due(at, scene.now)}, it is stopped and tried elsewhere.")
    job = attempt.sight.job
    ends = (job.created_at if job is not None else written) + entry.shape.deadline
    lines.append(f"At the latest at its Job's deadline, {due(ends, scene.now)}.")
    return lines


def _add_held_retry(answer: Explanation, attempt: Attempt, task: Task | None, scene: Scene) -> None:
    hold = next((hold for hold in scene.memory.holds if hold.retry == attempt.name), None)
    not_before = attempt.record.not_before
    if hold is not None:
        _add_hold(answer, hold, scene)
    elif task is None:
        answer.add(WHY, [f"There is no task {attempt.record.task} in the configuration any more."])
    elif not_before is not None and scene.now < not_before:
        held = Held(HoldReason.RETRY_DELAY, not_before)
        answer.add_reasons(telling.held(held, None, task, scene.policy, scene.now))
    else:
        answer.add(WHY, [f"The attempt before it, {attempt.record.parent}, is not cleared away yet."])
        answer.add(NEXT, [telling.EVERY_CYCLE])
        answer.add(CHANGE, ["All items of the attempt before it are settled."])


def _ended_batch(name: str, scene: Scene) -> Explanation:
    told = scene.history.of_attempt(name)
    facts = {key: value for each in told for key, value in each.facts.items()}
    answer = Explanation(f"Job {name} (task {facts.get('task')}, tenant {facts.get('tenant')})")
    last = told[-1]
    if last.event == "attempt.closed":
        cost = dollars(Money.from_usd(facts.get("cost_usd", "0")))
        answer.add(WHERE, [f"It is over and cleared away since {moment(last.at, scene.now)}. It has cost {cost}."])
    else:
        answer.add(WHERE, ["Its items are settled; what is left of it is being cleared away."])
    _add_past_placement(answer, name, scene)
    answer.add(BEFORE, _past(told, scene.now))
    return answer


# --- tenants --------------------------------------------------------------------------------------------------------


def _tenant(name: str, scene: Scene) -> Explanation | None:
    memory = scene.memory
    lanes = [lane for lane in memory.inflight.lanes() if lane.key.tenant == name]
    attempts = [attempt for attempt in memory.attempts.values() if attempt.record.tenant == name]
    known = name in scene.policy.tenant_weights or name in scene.history.tenants()
    if not lanes and not attempts and not known:
        return None
    answer = Explanation(f"tenant {name}")
    answer.add(WHERE, [*_tenant_waits(name, scene), *_tenant_runs(attempts, scene)] or ["Nothing of it is under way."])
    for hold in memory.holds:
        if hold.tenant == name:
            part = Explanation("")
            _add_hold(part, hold, scene)
            answer.add(
                WHY, [f"{hold.task}, {counted(hold.count, 'item')}: {line}" for line in part.sections.get(WHY, [])]
            )
            answer.add(ELSEWHERE, [f"{hold.task}: {line}" for line in part.sections.get(ELSEWHERE, [])])
            answer.add(CHANGE, [f"{hold.task}: {line}" for line in part.sections.get(CHANGE, [])])
    if memory.holds:
        answer.add(NEXT, [telling.EVERY_CYCLE])
    answer.add("Its share", _share(name, scene))
    answer.add("Its budgets", list(_budgets_of(name, scene)))
    latest = [told for task in scene.history.tasks_of(name) for told in scene.history.of_kind(task, name)[-3:]]
    answer.add(BEFORE, _past(sorted(latest, key=lambda told: told.at), scene.now))
    return answer


def _tenant_waits(name: str, scene: Scene) -> list[str]:
    lines = []
    for lane in scene.memory.inflight.lanes():
        if lane.key.tenant == name:
            oldest = next(iter(lane.items.values()))
            waits = "waits" if len(lane.items) == 1 else "wait"
            lines.append(
                f"{counted(len(lane.items), 'item')} of {lane.key.task}, priority {lane.key.priority}, "
                f"{waits}; the oldest for {span(scene.now - oldest.enqueued_at)}."
            )
    return lines


def _tenant_runs(attempts: Sequence[Attempt], scene: Scene) -> list[str]:
    running: Counter[tuple[str, str]] = Counter()
    for attempt in attempts:
        entry = scene.memory.draft.entries.get(attempt.name)
        where = f"on {telling.PLACES[entry.placement]}" if entry is not None else "waiting to be tried again"
        running[attempt.record.task, where] += len(attempt.unruled())
    return [f"{counted(count, 'item')} of {task} {where}." for (task, where), count in sorted(running.items()) if count]


def _share(name: str, scene: Scene) -> list[str]:
    waiting = {lane.key.tenant for lane in scene.memory.inflight.lanes()} | {name}
    weights = {each: scene.policy.tenant_weights.get(each, 1) for each in waiting}
    total = sum(weights.values())
    others = f" among {counted(len(waiting), 'tenant')} with waiting work" if len(waiting) > 1 else ""
    return [
        f"Its weight is {weights[name]}: where there is not room for all it gets {weights[name]} of {total} "
        f"parts{others}. "
        "Higher priorities go first, then whoever has the least in flight for its weight."
    ]


def _budgets_of(name: str, scene: Scene) -> Iterator[str]:
    reserved = scene.memory.ledger.reserved()
    for account_id, account in sorted(scene.memory.ledger.accounts.items()):
        owner = account_id.owner
        if account.window.start <= scene.now < account.window.end and owner.split("/")[0] in ("*", name):
            whose = "" if owner == "*" else f" ({owner})"
            bound = reserved.get(account_id, Money(0))
            yield (
                f"{account.budget}{whose}: {dollars(account.limit)} until {moment(account.window.end, scene.now)}, "
                f"{dollars(account.spent)} spent, {dollars(bound)} set aside."
            )


# --- what happened --------------------------------------------------------------------------------------------------


def _past(told: Sequence[Told], now: datetime) -> list[str]:
    return [f"{moment(each.at, now)}: {words}." for each in told if (words := _event_words(each, now))]


def _event_words(told: Told, now: datetime) -> str:
    facts = told.facts
    if told.event == "item.received":
        return "received from the queue"
    if told.event == "item.retried":
        message = f" ({facts['message']})" if facts.get("message") else ""
        return f"failed in {facts.get('job')}: {facts.get('cause')}{message}; tried again"
    if told.event == "batch.launched":
        where = telling.PLACES[Placement(facts["placement"])]
        bound = (
            f", at most {dollars(Money.from_usd(facts['reserved_usd']))}"
            if facts.get("reserved_usd", "0") != "0"
            else ""
        )
        return f"{facts.get('job')} started on {where} with {counted(facts.get('items', 0), 'item')}{bound}"
    if told.event == "batch.held":
        until = f" until {moment(from_text(facts['until']), now)}" if facts.get("until") else ""
        return f"{counted(facts.get('items', 0), 'item')} held: {str(facts.get('reason')).replace('_', ' ')}{until}"
    if told.event == "item.dead_lettered":
        return f"an item was given up: {facts.get('cause')}"
    if told.event == "attempt.closed":
        return f"cleared away; it has cost {dollars(Money.from_usd(facts.get('cost_usd', '0')))}"
    if told.event == "job.refused":
        return f"the cluster refused the Job: {facts.get('text')}"
    if told.event == "attempt.cancelled":
        return f"the launch was taken back: {facts.get('why')}"
    if told.event == "job.create_unanswered":
        return "the create of the Job got no answer; it is looked for by name"
    return ""
