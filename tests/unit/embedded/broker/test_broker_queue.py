"""The rules of a queue, one by one: no clock but the one in the test."""

from __future__ import annotations

from itertools import count

import pytest

from dispatcher.embedded.broker.messages import Content, split
from dispatcher.embedded.broker.model import Change, Consumer, Kind, Message, QueueCounts, State
from dispatcher.embedded.broker.queue import RETRY_MS, Queue

LOCK = 1000
BODY = b"\x00\x53\x75\xa0\x01x"


class Desk:
    """A queue with its dead-letter queue, and the two-step changes done in one."""

    def __init__(
        self,
        max_delivery_count: int = 3,
        ttl_ms: int | None = None,
        bury_expired: bool = False,
        size_max: int | None = None,
    ) -> None:
        numbers = count(1)

        def token() -> bytes:
            return next(numbers).to_bytes(16, "big")

        self.dead = Queue(
            lock_duration_ms=LOCK, max_delivery_count=max_delivery_count, new_token=token, size_max=size_max
        )
        self.queue = Queue(
            lock_duration_ms=LOCK,
            max_delivery_count=max_delivery_count,
            new_token=token,
            dead_letters=self.dead,
            ttl_ms=ttl_ms,
            bury_expired=bury_expired,
            size_max=size_max,
        )

    def put(self, now: int = 0, due: int | None = None, ttl: int | None = None) -> int:
        change = self.queue.begin_put(Content(BODY, due_ms=due, ttl_ms=ttl), now)
        self.queue.commit(change)
        return change.sequence

    def lock(self, now: int = 0, consumer: Consumer | None = None) -> Message:
        consumer = consumer or Consumer(settled=False)
        self.queue.consumers.grant(consumer, 1)
        ((got, message),) = self.queue.assign(now, 10)
        assert got is consumer
        return message

    def do(self, change: Change) -> None:
        change.queue.commit(change)

    def expire(self, now: int) -> list[Change]:
        changes = self.queue.expire(now)
        for change in changes:
            self.do(change)
        return changes


def totals(queue: Queue) -> tuple[int, int, int, int, int]:
    c = queue.counts()
    return c.active, c.locked, c.deferred, c.scheduled, c.dead_lettered


def test_sequence_numbers_ascend_from_one() -> None:
    desk = Desk()
    assert [desk.put() for _ in range(3)] == [1, 2, 3]


def test_a_message_is_seen_by_nobody_before_it_is_durable() -> None:
    desk = Desk()
    change = desk.queue.begin_put(Content(BODY), 0)
    desk.queue.consumers.grant(Consumer(settled=False), 1)
    assert desk.queue.assign(0, 10) == []
    assert desk.queue.shelf.peek(0, 10, 10_000) == []
    desk.queue.commit(change)
    assert len(desk.queue.assign(0, 10)) == 1


def test_a_message_that_could_not_be_written_was_never_there() -> None:
    desk = Desk()
    desk.queue.cancel(desk.queue.begin_put(Content(BODY), 0), 0)
    assert totals(desk.queue) == (0, 0, 0, 0, 0)
    assert desk.put() == 2


def test_the_oldest_message_goes_to_the_consumer_that_asked_first() -> None:
    desk = Desk()
    first, second = Consumer(settled=False), Consumer(settled=False)
    desk.queue.consumers.grant(first, 1)
    desk.queue.consumers.grant(second, 2)
    for _ in range(3):
        desk.put()
    assigned = desk.queue.assign(0, 10)
    assert [(consumer, message.sequence) for consumer, message in assigned] == [(first, 1), (second, 2), (second, 3)]
    assert first.credit == second.credit == 0


def test_credit_is_absolute() -> None:
    desk = Desk()
    consumer = Consumer(settled=False)
    for _ in range(3):
        desk.put()
    desk.queue.consumers.grant(consumer, 5)
    desk.queue.consumers.grant(consumer, 1)
    assert len(desk.queue.assign(0, 10)) == 1


def test_a_consumer_without_credit_or_paused_gets_nothing() -> None:
    desk = Desk()
    desk.put()
    consumer = Consumer(settled=False)
    desk.queue.consumers.grant(consumer, 1)
    desk.queue.consumers.pause(consumer)
    assert desk.queue.assign(0, 10) == []
    desk.queue.consumers.resume(consumer)
    desk.queue.consumers.grant(consumer, 0)
    assert desk.queue.assign(0, 10) == []
    desk.queue.consumers.grant(consumer, 1)
    assert len(desk.queue.assign(0, 10)) == 1


def test_a_lock_holds_until_its_duration_is_over_and_not_longer() -> None:
    desk = Desk()
    desk.put()
    message = desk.lock(now=0)
    assert message.token is not None
    assert desk.queue.locked(message.token, LOCK - 1) is message
    assert desk.queue.locked(message.token, LOCK) is None
    assert desk.expire(LOCK - 1) == []
    assert [change.kind for change in desk.expire(LOCK)] == [Kind.RETURN]
    assert (message.delivery_count, message.token) == (1, None)
    assert desk.lock(now=LOCK) is message


def test_renewing_moves_the_end_of_the_lock() -> None:
    desk = Desk()
    desk.put()
    message = desk.lock(now=0)
    assert message.token is not None
    assert desk.queue.renew([message.token], 600) == 600 + LOCK
    assert desk.expire(LOCK) == []
    assert desk.queue.next_deadline_ms() == 600 + LOCK
    assert len(desk.expire(600 + LOCK)) == 1


def test_one_lost_lock_renews_none() -> None:
    desk = Desk()
    desk.put()
    message = desk.lock(now=0)
    assert message.token is not None
    assert desk.queue.renew([message.token, b"?" * 16], 600) is None
    assert message.locked_until_ms == LOCK


def test_completing_removes_the_message_once_it_is_durable() -> None:
    desk = Desk()
    desk.put()
    message = desk.lock()
    change = desk.queue.begin_drop(message)
    assert desk.queue.locked(message.token or b"", 0) is None  # a second settlement finds nothing
    desk.do(change)
    assert len(desk.queue) == 0


@pytest.mark.parametrize("begin", ["begin_drop", "begin_defer", "begin_return"])
def test_a_settlement_that_could_not_be_written_leaves_the_lock_as_it_was(begin: str) -> None:
    desk = Desk()
    desk.put()
    message = desk.lock()
    desk.queue.cancel(getattr(desk.queue, begin)(message), 10)
    assert totals(desk.queue) == (0, 1, 0, 0, 0)
    assert message.token is not None
    assert desk.queue.locked(message.token, LOCK - 1) is message
    assert (message.delivery_count, message.state) == (0, State.ACTIVE)
    assert len(desk.expire(LOCK)) == 1


def test_releasing_does_not_count() -> None:
    desk = Desk()
    desk.put()
    message = desk.lock()
    desk.queue.release(message)
    assert message.delivery_count == 0
    assert desk.lock() is message


def test_a_returned_message_goes_before_younger_ones() -> None:
    desk = Desk()
    desk.put()
    desk.put()
    first = desk.lock()
    desk.do(desk.queue.begin_return(first))
    assert desk.lock() is first


def test_one_delivery_too_many_buries_with_a_reason() -> None:
    desk = Desk(max_delivery_count=2)
    desk.put()
    for _ in range(2):
        desk.do(desk.queue.begin_return(desk.lock()))
    assert totals(desk.queue) == (0, 0, 0, 0, 1)
    (dead,) = desk.dead.shelf.peek(0, 10, 10_000)
    assert (dead.sequence, dead.delivery_count) == (1, 2)
    assert b"MaxDeliveryCountExceeded" in dead.content.body


def test_a_lock_that_expires_once_too_often_buries() -> None:
    desk = Desk(max_delivery_count=1)
    desk.put()
    desk.lock()
    assert [change.kind for change in desk.expire(LOCK)] == [Kind.BURY]
    assert len(desk.dead) == 1


def test_a_burial_that_could_not_be_written_is_tried_again_later() -> None:
    desk = Desk(max_delivery_count=1)
    desk.put()
    desk.lock()
    (change,) = desk.queue.expire(LOCK)
    desk.queue.cancel(change, LOCK)
    assert desk.queue.assign(LOCK, 10) == []
    assert desk.queue.expire(LOCK + RETRY_MS - 1) == []
    assert len(desk.expire(LOCK + RETRY_MS)) == 1
    assert len(desk.dead) == 1


def test_deferred_messages_are_taken_all_or_none() -> None:
    desk = Desk()
    for _ in range(3):
        desk.put()
    for _ in range(2):
        desk.do(desk.queue.begin_defer(desk.lock()))
    assert totals(desk.queue) == (1, 0, 2, 0, 0)
    for missing in ([1, 9], [1, 3], [1, 1]):
        assert desk.queue.take_deferred(missing, 0, settled=True) is None
    assert totals(desk.queue) == (1, 0, 2, 0, 0)
    taken = desk.queue.take_deferred([2, 1], 0, settled=False)
    assert taken is not None
    assert [message.sequence for message in taken] == [2, 1]
    assert desk.queue.take_deferred([1], 0, settled=False) is None


def test_a_deferred_message_whose_lock_expires_stays_deferred_and_is_counted() -> None:
    desk = Desk()
    desk.put()
    message = desk.lock()
    desk.do(desk.queue.begin_defer(message))
    assert message.delivery_count == 0
    assert desk.queue.take_deferred([1], 0, settled=False)
    desk.expire(LOCK)
    assert totals(desk.queue) == (0, 0, 1, 0, 0)
    assert (message.state, message.delivery_count) == (State.DEFERRED, 1)


def test_a_deferred_message_taken_settled_comes_back_if_it_could_not_be_removed() -> None:
    desk = Desk()
    desk.put()
    desk.do(desk.queue.begin_defer(desk.lock()))
    taken = desk.queue.take_deferred([1], 0, settled=True)
    assert taken is not None
    desk.queue.cancel(desk.queue.begin_drop(taken[0]), 0)
    assert totals(desk.queue) == (0, 0, 1, 0, 0)
    assert desk.queue.take_deferred([1], 0, settled=True) is not None


def test_a_scheduled_message_gets_a_new_number_when_it_is_due() -> None:
    desk = Desk()
    desk.put(now=0, due=500)
    desk.put()
    assert totals(desk.queue) == (1, 0, 0, 1, 0)
    assert desk.queue.next_deadline_ms() == 500
    assert desk.expire(499) == []
    assert [change.kind for change in desk.expire(500)] == [Kind.ACTIVATE]
    assert [(m.sequence, m.enqueued_ms) for m in desk.queue.shelf.peek(0, 10, 10_000)] == [(2, 0), (3, 500)]
    assert totals(desk.queue) == (2, 0, 0, 0, 0)


def test_only_scheduled_messages_can_be_cancelled() -> None:
    desk = Desk()
    desk.put(due=500)
    desk.put()
    assert desk.queue.begin_cancel_schedule([1, 2]) is None
    changes = desk.queue.begin_cancel_schedule([1])
    assert changes is not None
    desk.do(changes[0])
    assert totals(desk.queue) == (1, 0, 0, 0, 0)
    assert desk.expire(500) == []


def test_a_message_due_in_the_past_is_active_at_once() -> None:
    desk = Desk()
    desk.put(now=1000, due=500)
    assert totals(desk.queue) == (1, 0, 0, 0, 0)


def test_a_peek_starts_anywhere_and_stops_at_its_bounds() -> None:
    desk = Desk()
    for _ in range(10):
        desk.put()
    desk.do(desk.queue.begin_drop(desk.lock()))
    assert [m.sequence for m in desk.queue.shelf.peek(0, 3, 10_000)] == [2, 3, 4]
    assert [m.sequence for m in desk.queue.shelf.peek(8, 10, 10_000)] == [8, 9, 10]
    assert [m.sequence for m in desk.queue.shelf.peek(2, 10, 1)] == [2]
    assert desk.queue.shelf.peek(11, 10, 10_000) == []


def test_what_was_delivered_too_often_before_a_restart_is_buried_after_it() -> None:
    desk = Desk(max_delivery_count=2)
    desk.queue.restore(Message(7, split(BODY), 0, delivery_count=2))
    desk.queue.restore(Message(8, split(BODY), 0, delivery_count=1))
    for change in desk.queue.begin_bury_exhausted():
        desk.do(change)
    assert totals(desk.queue) == (1, 0, 0, 0, 1)
    assert desk.lock().sequence == 8


def test_the_dead_letter_queue_returns_instead_of_burying() -> None:
    desk = Desk(max_delivery_count=1)
    desk.put()
    desk.do(desk.queue.begin_return(desk.lock()))
    consumer = Consumer(settled=False)
    for _ in range(5):
        desk.dead.consumers.grant(consumer, 1)
        ((_, message),) = desk.dead.assign(0, 1)
        desk.do(desk.dead.begin_return(message))
    assert totals(desk.dead) == (1, 0, 0, 0, 0)


def test_operations_of_clients_are_counted_and_those_of_the_broker_are_not() -> None:
    desk = Desk()
    desk.put()
    desk.lock()
    desk.expire(LOCK)
    assert desk.queue.counts() == QueueCounts(1, 0, 0, 0, 0, operations=1, entered=1)


def test_what_became_of_messages_is_counted_from_the_start() -> None:
    desk = Desk()
    for _ in range(3):
        desk.put()
    desk.do(desk.queue.begin_drop(desk.lock()))
    desk.do(desk.queue.begin_bury(desk.lock(), "r", "d"))
    desk.do(desk.queue.begin_return(desk.lock()))
    counts = desk.queue.counts()
    assert (counts.entered, counts.removed, counts.buried, counts.active) == (3, 1, 1, 1)


@pytest.mark.parametrize(("ttl_ms", "own", "end"), [(None, 50, 50), (50, None, 50), (50, 20, 20), (50, 90, 50)])
def test_the_shorter_of_the_two_lives_counts(ttl_ms: int | None, own: int | None, end: int) -> None:
    desk = Desk(ttl_ms=ttl_ms)
    desk.put(ttl=own)
    assert desk.expire(end - 1) == []
    assert [change.kind for change in desk.expire(end)] == [Kind.DROP]
    assert totals(desk.queue) == (0, 0, 0, 0, 0)


def test_expired_messages_are_dead_lettered_where_the_queue_says_so() -> None:
    desk = Desk(bury_expired=True)
    desk.put(ttl=50)
    assert [change.kind for change in desk.expire(50)] == [Kind.BURY]
    (dead,) = desk.dead.shelf.peek(0, 10, 10_000)
    assert b"TTLExpiredException" in dead.content.body
    assert desk.dead.expire(10**9) == []


def test_locked_and_deferred_messages_do_not_expire() -> None:
    desk = Desk()
    desk.put(ttl=50)
    message = desk.lock()
    assert desk.expire(60) == []
    desk.do(desk.queue.begin_defer(message))
    assert desk.expire(10**9) == []
    assert totals(desk.queue) == (0, 0, 1, 0, 0)


def test_a_message_that_outlived_its_time_under_a_lock_expires_when_it_comes_back() -> None:
    desk = Desk()
    desk.put(ttl=50)
    message = desk.lock()
    desk.queue.release(message)
    assert [change.kind for change in desk.expire(60)] == [Kind.DROP]


def test_an_expiry_that_could_not_be_written_is_tried_again_later() -> None:
    desk = Desk()
    desk.put(ttl=50)
    (change,) = desk.queue.expire(50)
    desk.queue.cancel(change, 50)
    assert totals(desk.queue) == (1, 0, 0, 0, 0)
    assert desk.queue.expire(50 + RETRY_MS - 1) == []
    assert len(desk.expire(50 + RETRY_MS)) == 1


def deferred(desk: Desk, ttl: int | None = None) -> Message:
    desk.put(ttl=ttl)
    message = desk.lock()
    desk.do(desk.queue.begin_defer(message))
    return message


def test_a_message_whose_life_is_over_is_handed_to_nobody_even_before_the_clock_ticks() -> None:
    desk = Desk()
    desk.put(ttl=100)
    younger = desk.put()
    assert desk.lock(now=100).sequence == younger
    assert [change.kind for change in desk.expire(100)] == [Kind.DROP]
    assert totals(desk.queue) == (0, 1, 0, 0, 0)


def test_a_deferred_message_outlives_its_time_until_it_is_asked_for() -> None:
    desk = Desk(bury_expired=True)
    message = deferred(desk, ttl=100)
    assert desk.expire(10_000) == []
    assert desk.queue.expire_touched([message.sequence], 99) == []
    (change,) = desk.queue.expire_touched([message.sequence], 100)
    assert desk.queue.take_deferred([message.sequence], 100, settled=True) is None
    desk.do(change)
    assert totals(desk.queue) == (0, 0, 0, 0, 1)


def test_a_touched_message_that_could_not_be_expired_stays_deferred() -> None:
    desk = Desk()
    message = deferred(desk, ttl=100)
    (change,) = desk.queue.expire_touched([message.sequence], 100)
    desk.queue.cancel(change, 100)
    assert totals(desk.queue) == (0, 0, 1, 0, 0)


def test_the_life_of_a_scheduled_message_begins_when_it_is_due() -> None:
    desk = Desk()
    desk.put(due=1000, ttl=100)
    assert [change.kind for change in desk.expire(1000)] == [Kind.ACTIVATE]
    assert desk.expire(1099) == []
    assert [change.kind for change in desk.expire(1100)] == [Kind.DROP]


def test_dead_letters_count_against_the_size_of_their_queue_and_refused_messages_do_not() -> None:
    desk = Desk(size_max=100)
    content = Content(b"\x00\x53\x75\xa0\x30" + bytes(48))
    assert content.size == 55
    refused = desk.queue.begin_put(content, 0)
    assert not desk.queue.has_room([content])
    desk.queue.cancel(refused, 0)
    assert desk.queue.has_room([content])
    desk.do(desk.queue.begin_put(content, 0))
    desk.do(desk.queue.begin_bury(desk.lock(), None, None))
    assert not desk.queue.has_room([content])
    consumer = Consumer(settled=True)
    desk.dead.consumers.grant(consumer, 1)
    ((_consumer, message),) = desk.dead.assign(0, 1)
    desk.do(desk.dead.begin_drop(message))
    assert desk.queue.has_room([content])
