"""Receive: deliveries become known items; poison goes to the dead-letter queue.

What is known already is deferred again.

Decides nothing: what a body becomes, the reader of messages says; what an item may become, the table of moves.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime

from dispatcher.core.inflight import ItemState
from dispatcher.core.policy import Policy
from dispatcher.core.units import to_text
from dispatcher.core.work import ItemId
from dispatcher.errors import BadMessage, LookFailed
from dispatcher.memory import Lock, Memory, Tallies
from dispatcher.ports import Answer, DeadLetter, Delivery, Ports, WorkQueue
from dispatcher.stages import replying


async def receive(memory: Memory, ports: Ports, policy: Policy, tallies: Tallies) -> int:
    """Takes what the queues have delivered, as far as the look-ahead has room; how many deliveries that were."""
    count = 0
    for queue in ports.queues.values():
        room = max(0, policy.lookahead_max - len(memory.inflight))
        # Ruled items that the broker would not settle may wait to be delivered and deferred: they are known already.
        room += len(memory.ask_again_at)
        deliveries = await queue.receive(room)
        count += len(deliveries)
        poison: dict[str, tuple[Delivery, BadMessage]] = {}
        for delivery in deliveries:
            _admit(memory, ports, tallies, queue.name, delivery, poison)
        if poison:
            await _reject(memory, queue, ports, tallies, poison)
    return count


def _admit(
    memory: Memory,
    ports: Ports,
    tallies: Tallies,
    queue: str,
    delivery: Delivery,
    poison: dict[str, tuple[Delivery, BadMessage]],
) -> None:
    now = ports.clock.now()
    item_id = ItemId(queue, delivery.message.sequence_number)
    if item_id in memory.inflight:
        # Its defer failed, or its lock ended. It is claimed all the same: take the new lock, never a second claim.
        memory.locks[item_id] = Lock(delivery.lock_token, delivery.locked_until, now)
        return
    try:
        item = ports.read_message(queue, delivery.message)
    except BadMessage as bad:
        poison[delivery.lock_token] = (delivery, bad)
        return
    state = memory.inflight.arrive(item, ItemState.UNDER_LOCK)
    memory.locks[item_id] = Lock(delivery.lock_token, delivery.locked_until, now)
    tallies.received += 1
    ports.events.emit(
        "item.received",
        item=item.message_id,
        sequence_number=item.sequence_number,
        task=item.task,
        tenant=item.tenant,
        state=state,
        traceparent=item.traceparent,
    )


async def _reject(
    memory: Memory,
    queue: WorkQueue,
    ports: Ports,
    tallies: Tallies,
    poison: Mapping[str, tuple[Delivery, BadMessage]],
) -> None:
    """Dead-letters poison under its first lock. Where that got no answer the broker brings it again: no harm."""
    answers = await queue.dead_letter(
        {token: DeadLetter(bad.reason, bad.description) for token, (_, bad) in poison.items()}
    )
    for token, (delivery, bad) in poison.items():
        if answers.get(token) is Answer.DONE:
            tallies.rejected += 1
            replying.owe_for_poison(memory, queue.name, delivery.message, bad, ports.clock.now())
            ports.events.emit(
                "item.rejected",
                item=delivery.message.message_id,
                sequence_number=delivery.message.sequence_number,
                reason=bad.reason,
                description=bad.description,
            )


def must_defer(memory: Memory, policy: Policy, item_id: ItemId, lock: Lock, now: datetime) -> bool:
    """Whether a lock has served its purpose: its Job exists, or it was held long enough, or nothing waits for it."""
    state = memory.inflight.state(item_id)
    if state is ItemState.UNDER_LOCK:
        return now - lock.since >= policy.lock_hold_max
    if state is ItemState.IN_ATTEMPT:
        return item_id not in memory.drafted
    return True


async def defer(memory: Memory, ports: Ports, policy: Policy) -> None:
    """Defers what needs its lock no more. Whatever the broker answers, the token is used up; the claim stays."""
    now = ports.clock.now()
    due: dict[str, dict[str, ItemId]] = {}
    for item_id, lock in memory.locks.items():
        if must_defer(memory, policy, item_id, lock, now):
            due.setdefault(item_id.queue, {})[lock.token] = item_id
    for queue, tokens in due.items():
        answers = await ports.queues[queue].defer(list(tokens))
        for token, item_id in tokens.items():
            _deferred(memory, ports, item_id, token, answers.get(token, Answer.UNKNOWN))


def _deferred(memory: Memory, ports: Ports, item_id: ItemId, token: str, answer: Answer) -> None:
    lock = memory.locks.get(item_id)
    if lock is not None and lock.token == token:
        del memory.locks[item_id]
    if memory.inflight.state(item_id) is ItemState.UNDER_LOCK:
        memory.inflight.move(item_id, ItemState.BACKLOG)
    if answer is not Answer.DONE:
        ports.events.emit("defer.failed", item=str(item_id), answer=answer, at=to_text(ports.clock.now()))


async def give_back(memory: Memory, ports: Ports) -> None:
    """Unlocks what we hold and fetches no more, as far as that goes: claims do not hang on locks, and another can
    receive at once."""
    tokens: dict[str, list[str]] = {}
    for item_id, lock in memory.locks.items():
        tokens.setdefault(item_id.queue, []).append(lock.token)
    memory.locks.clear()
    for name, queue in ports.queues.items():
        with suppress(LookFailed):  # then what it has fetched comes back when its lock ends
            await queue.receive(0)
        if name in tokens:
            await queue.abandon(tokens[name])
    if ports.reports is not None:
        with suppress(LookFailed):
            await ports.reports.receive(0)
        if memory.reports:
            await ports.reports.abandon(list(memory.reports))
