"""What a look at a queue proves, and what it leaves open."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dispatcher.ports import DeadLetter, Message
from dispatcher.queue.seen import Expected, Level, Seen, findings, notes_of_running

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GOOD = Expected(timedelta(seconds=60), 100, None)


def a_message(number: int = 7, lives: timedelta | None = None, deliveries: int = 0) -> Message:
    until = None if lives is None else NOW + lives
    return Message(number, f"m-{number}", b"{}", NOW, expires_at=until, delivery_count=deliveries)


def told(seen: Seen, expected: Expected = GOOD) -> dict[Level, str]:
    lines: dict[Level, str] = {}
    for each in findings(seen, expected):
        lines[each.level] = f"{lines.get(each.level, '')}{each.text}\n"
    return lines


def test_an_empty_queue_shows_that_we_may_listen_and_says_what_cannot_be_seen() -> None:
    lines = told(Seen())
    assert set(lines) == {Level.FINE, Level.UNSEEN}
    assert "we may listen" in lines[Level.FINE]
    for what in ("lock duration", "partitions", "max delivery count", "dead-lettering on expiration", "duplicate"):
        assert what in lines[Level.UNSEEN]


def test_a_good_queue_with_messages_leaves_little_open() -> None:
    dead = (a_message(9), DeadLetter("TTLExpiredException", ""))
    lines = told(Seen(lock=timedelta(seconds=59.4), messages=[a_message()], dead=[dead]))
    assert set(lines) == {Level.FINE, Level.UNSEEN}
    assert "a lock lasts 59 s" in lines[Level.FINE]
    assert "not partitioned, by the numbers of 2 messages" in lines[Level.FINE]
    assert "what outlives its time is dead-lettered" in lines[Level.FINE]


@pytest.mark.parametrize(
    ("seen", "level", "said"),
    [
        ({"listen_refused": "may not"}, Level.MISTAKE, "may not"),
        ({"lock": timedelta(seconds=29.9)}, Level.MISTAKE, "a lock lasts 30 s and service_bus.lock_duration says 60 s"),
        ({"messages": [a_message(3 << 48 | 1)]}, Level.MISTAKE, "the queue is partitioned"),
        ({"dead": [(a_message(1 << 48), DeadLetter("x", ""))]}, Level.MISTAKE, "the queue is partitioned"),
        (
            {"dead": [(a_message(deliveries=10), DeadLetter("MaxDeliveryCountExceeded", ""))]},
            Level.MISTAKE,
            "gave a message up after 10 deliveries; set the queue's max delivery count to 100",
        ),
        ({"messages": [a_message(lives=timedelta(hours=1))]}, Level.WARNING, "a message lives for 3600 s only"),
        ({"messages": [a_message(deliveries=12)]}, Level.UNSEEN, "max delivery count (more than 12"),
    ],
)
def test_what_is_not_as_it_should_be_is_told_with_the_remedy(seen: dict[str, Any], level: Level, said: str) -> None:
    assert said in told(Seen(**seen))[level]


def test_a_message_that_lives_for_less_than_was_declared_is_told_and_one_that_does_not_is_not() -> None:
    expected = Expected(timedelta(seconds=60), 100, timedelta(days=14))
    short, long = (Seen(messages=[a_message(lives=timedelta(days=days))]) for days in (13, 14))
    assert "lives for 1123200 s and service_bus.time_to_live says 1209600 s" in told(short, expected)[Level.WARNING]
    assert Level.WARNING not in told(long, expected)


@pytest.mark.parametrize("refused", [None, "no"])
def test_the_right_to_send_is_only_missed_where_it_is_needed(refused: str | None) -> None:
    seen = Seen(send_refused=refused)
    assert Level.MISTAKE not in told(seen)
    assert ("we may not send" in told(seen)[Level.FINE]) is (refused is not None)
    replies = told(seen, Expected(timedelta(0), 1, None, sends=True, receives=False))
    assert replies == {Level.FINE: "we may send\n"} if refused is None else {Level.MISTAKE: "no\n"}


def test_a_running_service_notes_locks_that_are_shorter_than_told_and_partitions() -> None:
    minute = timedelta(seconds=60)
    assert notes_of_running(None, False, minute) == []
    assert notes_of_running(timedelta(seconds=59), False, minute) == []
    short, partitioned = notes_of_running(timedelta(seconds=30), True, minute)
    assert short.startswith("a lock lasts 30 s")
    assert partitioned.startswith("the queue is partitioned")
