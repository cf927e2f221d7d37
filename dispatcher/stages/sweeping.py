"""Sweep: deferred messages that nothing claims are found by peeking, and become backlog.

A deferred message never comes back by itself; one late or lost answer to a defer would hide it for ever. An orphan is a
number that is unknown when the answer to the peek is handled: a cycle does one thing after another, so nothing can have
been settled in between. A peek is over when it returns nothing, not when it returns little.
"""

from __future__ import annotations

from collections.abc import Sequence

from dispatcher.core.inflight import ItemState
from dispatcher.core.policy import Policy
from dispatcher.core.work import ItemId
from dispatcher.errors import BadMessage, Deposed
from dispatcher.memory import Memory
from dispatcher.ports import Answer, DeadLetter, MessageState, Peeked, Ports, WorkQueue
from dispatcher.stages import bookkeeping, replying

PAGE = 250


async def sweep_all(memory: Memory, ports: Ports, policy: Policy, queue: WorkQueue) -> None:
    """Searches a whole queue, at takeover."""
    position = 1
    while True:
        page = await queue.peek(position, PAGE)
        if not page:
            return
        await _take_in(memory, ports, policy, queue, page)
        position = page[-1].message.sequence_number + 1


async def sweep(memory: Memory, ports: Ports, policy: Policy) -> None:
    """One page of each queue a cycle, while a sweep is due."""
    now = ports.clock.now()
    if memory.sweep_at is not None and now >= memory.sweep_at:
        memory.sweep_at = now + policy.sweep_every
        await bookkeeping.must_be_ours(memory, ports)
        await _records_must_be_known(memory, ports)
        memory.sweep_from = dict.fromkeys(ports.queues, 1)
    for name, position in list(memory.sweep_from.items()):
        queue = ports.queues[name]
        page = await queue.peek(position, PAGE)
        if not page:
            del memory.sweep_from[name]
            continue
        await _take_in(memory, ports, policy, queue, page)
        memory.sweep_from[name] = page[-1].message.sequence_number + 1


async def _records_must_be_known(memory: Memory, ports: Ports) -> None:
    """A record that we do not know was made late by a leader before us. Raises Deposed: a takeover tells what it is."""
    for stored in await ports.store.list_records():
        if stored.name not in memory.records and stored.name not in memory.strays:
            raise Deposed(f"record {stored.name} is not one of ours")


async def _take_in(memory: Memory, ports: Ports, policy: Policy, queue: WorkQueue, page: Sequence[Peeked]) -> None:
    for peeked in page:
        item_id = ItemId(queue.name, peeked.message.sequence_number)
        if peeked.state is not MessageState.DEFERRED or item_id in memory.inflight:
            continue
        if len(memory.inflight) >= policy.lookahead_max:
            return  # it is found again by a later sweep, when there is room to know it
        try:
            item = ports.read_message(queue.name, peeked.message)
        except BadMessage as bad:
            # Deferred by an older version or configuration that could read it; by today's rules it is poison.
            letter = DeadLetter(bad.reason, bad.description)
            if await queue.dead_letter_deferred(item_id.sequence_number, letter) is not Answer.DONE:
                continue  # a later sweep finds it again, if it is still there
            replying.owe_for_poison(memory, queue.name, peeked.message, bad, ports.clock.now())
            ports.events.emit("item.rejected", item=peeked.message.message_id, reason=bad.reason)
            continue
        memory.inflight.arrive(item, ItemState.BACKLOG)
        ports.events.emit("orphan.found", item=item.message_id, sequence_number=item.sequence_number)
