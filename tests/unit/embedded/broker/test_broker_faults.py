"""Which faults bite where and how often; nothing is damaged here."""

from __future__ import annotations

import pytest

from dispatcher.embedded.broker.faults import STRIKES, CreditBucket, Fault, FaultError, Faults


class Recorder:
    """A stage on which nothing happens but what is noted."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def reset_connections(self) -> int:
        self.calls.append(("reset",))
        return 3

    def freeze_connections(self) -> int:
        self.calls.append(("freeze",))
        return 2

    def detach_links(self, queue: str | None, condition: str) -> int:
        self.calls.append(("detach", queue, condition))
        return 1

    def revoke_locks(self, queue: str, count: int) -> int:
        self.calls.append(("revoke", queue, count))
        return count

    def wake(self) -> None:
        self.calls.append(("wake",))


def faults(now: list[float] | None = None) -> Faults:
    clock = now or [0.0]
    return Faults(Recorder(), lambda: clock[0])


def test_nothing_bites_that_is_not_armed() -> None:
    quiet = faults()
    assert all(quiet.bites(fault, "jobs") is None for fault in Fault)
    assert quiet.credits(7, "jobs") == 7
    assert quiet.all_credits(10**9, "jobs")
    assert not quiet.fired


def test_a_fault_bites_as_often_as_it_is_armed_for_and_each_bite_is_counted() -> None:
    some = faults()
    some.arm(Fault.LOSE_SETTLEMENT, times=2)
    assert [some.bites(Fault.LOSE_SETTLEMENT, "jobs") is not None for _ in range(3)] == [True, True, False]
    assert some.fired[Fault.LOSE_SETTLEMENT] == 2
    assert not some.armed


def test_a_fault_of_one_queue_bites_in_no_other_nor_in_its_dead_letters() -> None:
    some = faults()
    some.arm(Fault.FILL_QUOTA, queue="Jobs")
    assert some.bites(Fault.FILL_QUOTA, "jobs")
    assert not some.bites(Fault.FILL_QUOTA, "other")
    assert not some.bites(Fault.FILL_QUOTA, "jobs/$deadletterqueue")
    assert some.fired[Fault.FILL_QUOTA] == 1


def test_asking_whether_a_fault_is_armed_does_not_use_it_up() -> None:
    some = faults()
    some.arm(Fault.DISABLE_QUEUE, times=1)
    assert some.is_armed(Fault.DISABLE_QUEUE, "jobs")
    assert some.bites(Fault.DISABLE_QUEUE, "jobs")


def test_disarming_keeps_the_count_and_wakes_what_was_held_back() -> None:
    some = faults()
    some.arm(Fault.DENY_TOKENS)
    some.bites(Fault.DENY_TOKENS)
    some.arm(Fault.THROTTLE)
    some.disarm(Fault.DENY_TOKENS)
    assert list(some.armed) == [Fault.THROTTLE]
    some.disarm()
    assert not some.armed
    assert some.fired[Fault.DENY_TOKENS] == 1
    assert some._stage.calls == [("wake",), ("wake",)]  # type: ignore[attr-defined]


def test_a_strike_happens_at_once_and_counts_what_it_hit() -> None:
    some = faults()
    assert some.strike(Fault.RESET_CONNECTIONS) == 3
    assert some.strike(Fault.FREEZE_CONNECTIONS) == 2
    assert some.strike(Fault.DETACH_LINKS, queue="jobs", condition="amqp:x") == 1
    assert some.strike(Fault.REVOKE_LOCKS, queue="jobs", count=5) == 5
    assert {fault: some.fired[fault] for fault in STRIKES} == {
        Fault.RESET_CONNECTIONS: 3,
        Fault.FREEZE_CONNECTIONS: 2,
        Fault.DETACH_LINKS: 1,
        Fault.REVOKE_LOCKS: 5,
    }


def test_disabling_a_queue_detaches_who_is_there() -> None:
    some = faults()
    some.arm(Fault.DISABLE_QUEUE, queue="jobs")
    assert some._stage.calls == [("detach", "jobs", "com.microsoft:entity-disabled")]  # type: ignore[attr-defined]


@pytest.mark.parametrize("fault", list(Fault))
def test_each_fault_is_either_armed_or_struck(fault: Fault) -> None:
    with pytest.raises(FaultError, match=str(fault)):
        faults().arm(fault) if fault in STRIKES else faults().strike(fault)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"times": 0}, "times"),
        ({"value": 0.0}, "value"),
        ({"value": -1.0}, "value"),
        ({"value": float("nan")}, "value"),
        ({"queue": "jobs"}, "queue"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, float], reason: str) -> None:
    with pytest.raises(FaultError, match=reason):
        faults().arm(Fault.ADD_ROUND_TRIP, **options)  # type: ignore[arg-type]
    with pytest.raises(FaultError, match="has none"):
        faults().arm(Fault.DENY_TOKENS, value=1.0)
    with pytest.raises(FaultError, match="queue"):
        faults().strike(Fault.REVOKE_LOCKS)


def test_the_throttle_lets_a_second_s_worth_through_and_then_its_rate() -> None:
    now = [0.0]
    some = faults(now)
    some.arm(Fault.THROTTLE, value=10)
    assert some.credits(25, "jobs") == 10
    assert some.credits(1, "jobs") == 0
    assert some.until_credit() == pytest.approx(0.1)
    now[0] = 0.35
    assert some.credits(25, "jobs") == 3
    now[0] = 100
    assert some.credits(25, "jobs") == 10
    assert some.fired[Fault.THROTTLE] == 4


def test_a_batch_is_let_through_as_a_whole_or_not_at_all() -> None:
    bucket = CreditBucket(10, 0)
    assert bucket.take_all(6, 0)
    assert not bucket.take_all(6, 0)
    assert bucket.take_all(4, 0)
    assert bucket.take_all(6, 0.6)


def test_a_batch_larger_than_a_second_s_worth_is_paid_for_afterwards() -> None:
    bucket = CreditBucket(10, 0)
    assert bucket.take_all(30, 0)
    assert bucket.take(5, 0) == 0
    assert not bucket.take_all(1, 1.9)
    assert bucket.take_all(1, 2.2)
