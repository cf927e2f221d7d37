"""Whatever is done to a queue, in whatever order, and whichever writes fail: no message is lost or doubled."""

from __future__ import annotations

from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dispatcher.embedded.broker.messages import Content
from dispatcher.embedded.broker.model import Change, Consumer, Kind, Message, State
from dispatcher.embedded.broker.queue import Queue

BODY = b"\x00\x53\x75\xa0\x01x"
LOCK = 100


class QueueLaws(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        numbers = count(1)

        def token() -> bytes:
            return next(numbers).to_bytes(16, "big")

        self.dead = Queue(lock_duration_ms=LOCK, max_delivery_count=3, new_token=token)
        self.queue = Queue(
            lock_duration_ms=LOCK, max_delivery_count=3, new_token=token, dead_letters=self.dead, bury_expired=True
        )
        self.now = 0
        self.alive: set[int] = set()  # id() of each Message that was accepted and not removed
        self.kept: list[Message] = []  # so that no id is used twice
        self.held: list[Message] = []
        self.pending: list[Change] = []
        self.consumers = [Consumer(settled=False), Consumer(settled=False), Consumer(settled=True)]

    @rule(due=st.none() | st.integers(0, 300), ttl=st.none() | st.integers(1, 300))
    def send(self, due: int | None, ttl: int | None) -> None:
        due_ms = None if due is None else self.now + due
        self.pending.append(self.queue.begin_put(Content(BODY, due_ms=due_ms, ttl_ms=ttl), self.now))

    @precondition(lambda self: self.pending)
    @rule(data=st.data(), durable=st.booleans())
    def journal_speaks(self, data: st.DataObject, durable: bool) -> None:
        change = self.pending.pop(data.draw(st.integers(0, len(self.pending) - 1)))
        if not durable:
            change.queue.cancel(change, self.now)
            return
        change.queue.commit(change)
        if change.kind is Kind.PUT:
            self.kept.append(change.message)
            self.alive.add(id(change.message))
        elif change.kind is Kind.DROP:
            self.alive.remove(id(change.message))

    @rule(which=st.integers(0, 2), credit=st.integers(0, 3))
    def grant(self, which: int, credit: int) -> None:
        self.queue.consumers.grant(self.consumers[which], credit)

    @rule()
    def assign(self) -> None:
        before = [consumer.credit for consumer in self.consumers]
        given = self.queue.assign(self.now, 5)
        for consumer, message in given:
            if consumer.settled:
                self.pending.append(self.queue.begin_drop(message))
            else:
                assert message.token is not None
                assert message.locked_until_ms == self.now + LOCK
                self.held.append(message)
        assert sum(before) - sum(consumer.credit for consumer in self.consumers) == len(given)
        assert len({id(message) for _, message in given}) == len(given)
        assert all(consumer.credit >= 0 for consumer in self.consumers)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), verdict=st.sampled_from(["drop", "defer", "return", "bury", "release", "renew"]))
    def settle(self, data: st.DataObject, verdict: str) -> None:
        message = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        if message.token is None or self.queue.locked(message.token, self.now) is not message:
            return
        if verdict == "release":
            self.queue.release(message)
        elif verdict == "renew":
            assert self.queue.renew([message.token], self.now) == self.now + LOCK
            self.held.append(message)
        elif verdict == "bury":
            self.pending.append(self.queue.begin_bury(message, "reason", None))
        else:
            self.pending.append(getattr(self.queue, f"begin_{verdict}")(message))

    @rule(data=st.data(), settled=st.booleans())
    def take_deferred(self, data: st.DataObject, settled: bool) -> None:
        numbers = data.draw(st.lists(st.integers(1, self.queue.last_sequence + 1), min_size=1, max_size=3))
        self.pending += self.queue.expire_touched(numbers, self.now)
        messages = self.queue.take_deferred(numbers, self.now, settled)
        for message in messages or []:
            assert message.state is State.DEFERRED
            if settled:
                self.pending.append(self.queue.begin_drop(message))
            else:
                self.held.append(message)

    @rule(data=st.data())
    def cancel_schedule(self, data: st.DataObject) -> None:
        numbers = data.draw(st.lists(st.integers(1, self.queue.last_sequence + 1), min_size=1, max_size=2))
        self.pending += self.queue.begin_cancel_schedule(numbers) or []

    @rule(passed=st.integers(1, 150))
    def time_passes(self, passed: int) -> None:
        self.now += passed
        self.pending += self.queue.expire(self.now)

    @invariant()
    def every_accepted_message_is_in_exactly_one_place(self) -> None:
        here = [*self.queue.shelf.messages.values(), *self.dead.shelf.messages.values()]
        assert len(here) == len(self.alive)
        assert {id(message) for message in here} == self.alive

    @invariant()
    def the_counts_tell_the_truth(self) -> None:
        counts = self.queue.counts()
        messages = self.queue.shelf.messages.values()
        assert counts.locked == sum(message.token is not None for message in messages)
        idle = [message for message in messages if message.token is None and not message.busy]
        assert counts.active == sum(message.state is State.ACTIVE for message in idle)
        assert counts.deferred == sum(message.state is State.DEFERRED for message in idle)
        assert counts.scheduled == sum(message.state is State.SCHEDULED for message in idle)
        assert counts.dead_lettered == len(self.dead)

    @invariant()
    def nobody_holds_more_deliveries_than_allowed(self) -> None:
        assert all(message.delivery_count < 3 for message in self.queue.shelf.messages.values())

    @invariant()
    def a_peek_shows_every_message_in_order(self) -> None:
        shown = [message.sequence for message in self.queue.shelf.peek(0, 10_000, 10**9)]
        assert shown == sorted(self.queue.shelf.messages)

    @invariant()
    def a_lock_always_has_an_end(self) -> None:
        deadline = self.queue.next_deadline_ms()
        waiting = [m for m in self.queue.shelf.messages.values() if m.token is not None and not m.busy]
        assert not waiting or (deadline is not None and deadline <= self.now + 1000)


QueueLaws.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestQueueLaws = QueueLaws.TestCase
