"""What is under our locks: what is handed over, given back, forgotten, and how many more there is room for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from dispatcher.ports import Delivery, Message
from dispatcher.queue.holding import Held, Holding

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MARGIN = timedelta(seconds=10)


def a_held(number: int, token: str | None = None, lock: timedelta = timedelta(seconds=60)) -> Held:
    message = Message(sequence_number=number, message_id=f"m-{number}", body=b"{}", enqueued_at=NOON)
    delivery = Delivery(message=message, lock_token=token or f"t-{number}", locked_until=NOON + lock)
    return Held(received=None, delivery=delivery, generation=1)  # type: ignore[arg-type]


def a_holding(*held: Held) -> Holding:
    holding = Holding(MARGIN)
    holding.add(held)
    return holding


def tokens(deliveries: list[Delivery]) -> list[str]:
    return [each.lock_token for each in deliveries]


def test_what_is_left_of_the_count_may_be_fetched() -> None:
    holding = a_holding(a_held(1), a_held(2))
    assert holding.room == 0
    assert tokens(holding.take(5, NOON)) == ["t-1", "t-2"]
    assert holding.room == 3
    holding.add([a_held(3)])
    assert holding.room == 2
    assert tokens(holding.take(0, NOON)) == []
    assert (holding.room, holding.buffered) == (0, 1)


def test_nothing_is_handed_over_twice() -> None:
    holding = a_holding(*(a_held(n) for n in range(5)))
    assert tokens(holding.take(2, NOON)) == ["t-0", "t-1"]
    assert tokens(holding.take(9, NOON)) == ["t-2", "t-3", "t-4"]
    assert tokens(holding.take(9, NOON)) == []
    assert len(holding) == 5


def test_a_message_delivered_again_takes_the_place_of_its_earlier_delivery() -> None:
    holding = a_holding(a_held(1, "old"))
    holding.add([a_held(1, "new")])
    assert tokens(holding.take(9, NOON)) == ["new"]
    assert holding.get("old") is None
    holding.settled("old")
    holding.settled("new")
    assert len(holding) == 0


def test_what_comes_twice_under_one_lock_is_handed_over_once() -> None:
    holding = a_holding(a_held(1), a_held(1))
    assert tokens(holding.take(9, NOON)) == ["t-1"]
    holding.add([a_held(1)])
    assert tokens(holding.take(9, NOON)) == []
    holding.settled("t-1")
    holding.add([a_held(1)])  # it was settled: nothing can be done under this lock any more
    assert tokens(holding.take(9, NOON)) == []
    assert len(holding) == 0


def test_what_has_too_little_of_its_lock_left_is_given_back_not_handed_over() -> None:
    holding = a_holding(a_held(1, lock=timedelta(seconds=9)), a_held(2), a_held(3, lock=timedelta(0)))
    assert tokens(holding.take(9, NOON)) == ["t-2"]
    assert holding.short(NOON) == ["t-1"]
    assert holding.buffered == 0
    assert holding.get("t-3") is None
    assert holding.get("t-1") is not None
    assert holding.short(NOON) == []


def test_locks_that_have_ended_are_forgotten_wherever_they_are() -> None:
    holding = a_holding(a_held(1), a_held(2, lock=timedelta(seconds=90)), a_held(3))
    holding.take(1, NOON)
    holding.forget_expired(NOON + timedelta(seconds=60))
    assert len(holding) == 1
    assert tokens(holding.take(9, NOON)) == ["t-2"]


def test_emptying_the_buffer_leaves_what_was_handed_over() -> None:
    holding = a_holding(a_held(1), a_held(2))
    holding.take(1, NOON)
    holding.take(5, NOON)
    holding.add([a_held(3)])
    assert holding.empty_buffer() == ["t-3"]
    assert (holding.room, holding.buffered, len(holding)) == (0, 0, 3)


def test_doubts_are_remembered_within_bounds() -> None:
    holding = a_holding()
    for n in range(10_001):
        holding.doubt(f"t-{n}")
    assert not holding.is_doubtful("t-0")
    assert holding.is_doubtful("t-1")
    assert holding.is_doubtful("t-10000")
