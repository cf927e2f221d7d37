"""When the virtual node is left alone, and when it is tried again."""

from datetime import timedelta

from dispatcher.core.circuit import Circuit
from dispatcher.core.policy import CircuitPolicy
from tests.builders import HOUR, MINUTE, NOW, SECOND

POLICY = CircuitPolicy(failures=3, cool_down_min=MINUTE, cool_down_max=5 * MINUTE)


def failed(times: int) -> Circuit:
    circuit = Circuit()
    for _ in range(times):
        circuit = circuit.after_failure(POLICY, NOW)
    return circuit


def test_a_closed_circuit_bounds_nothing() -> None:
    assert Circuit().pods_allowed(NOW) is None
    assert not Circuit().is_open


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    assert not failed(2).is_open
    assert failed(3).is_open


def test_a_success_between_starts_the_count_anew() -> None:
    circuit = failed(2).after_success()
    assert not circuit.after_failure(POLICY, NOW).is_open


def test_an_open_circuit_allows_nothing_until_its_probe_is_due_and_then_one() -> None:
    circuit = failed(3)
    assert circuit.pods_allowed(NOW + MINUTE - SECOND) == 0
    assert circuit.pods_allowed(NOW + MINUTE) == 1


def test_after_a_probe_the_next_waits_a_cool_down() -> None:
    circuit = failed(3).probed(NOW + MINUTE)
    assert circuit.pods_allowed(NOW + 2 * MINUTE - SECOND) == 0
    assert circuit.pods_allowed(NOW + 2 * MINUTE) == 1


def test_a_closed_circuit_needs_no_probe() -> None:
    assert Circuit().probed(NOW) == Circuit()


def test_the_cool_down_doubles_with_each_failed_probe_up_to_the_longest() -> None:
    circuit = failed(3)
    waits: list[timedelta] = []
    for _ in range(4):
        circuit = circuit.after_failed_probe(POLICY, NOW)
        waits.append(circuit.cool_down)
    assert waits == [2 * MINUTE, 4 * MINUTE, 5 * MINUTE, 5 * MINUTE]
    assert circuit.probe_at == NOW + 5 * MINUTE


def test_failures_of_pods_that_were_under_way_do_not_move_the_probe() -> None:
    circuit = failed(3)
    later = circuit.after_failure(POLICY, NOW + SECOND)
    assert (later.probe_at, later.cool_down, later.failures) == (circuit.probe_at, MINUTE, 4)


def test_a_successful_probe_closes_it() -> None:
    assert failed(5).after_success() == Circuit()


def test_a_probe_that_fails_after_another_has_closed_the_circuit_is_one_failure_like_any() -> None:
    closed = failed(3).probed(NOW).after_success()
    circuit = closed.after_failed_probe(POLICY, NOW + HOUR)
    assert (circuit.failures, circuit.is_open) == (1, False)
