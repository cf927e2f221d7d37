"""What pods on the virtual node did reaches its circuit, and nobody else's does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from dispatcher.core.circuit import Circuit
from dispatcher.core.failures import FailureCause
from dispatcher.core.ledger import Draft
from dispatcher.core.policy import CircuitPolicy
from dispatcher.core.work import Placement
from dispatcher.memory import Memory
from dispatcher.ports import Ports
from dispatcher.simulator.run import run_seed
from dispatcher.stages.circuit import report_failure, report_success
from tests.builders import MINUTE, NOW, a_ledger, a_policy, an_entry

JOB = "burst-b1-1"
POLICY = a_policy(circuit=CircuitPolicy(failures=2, cool_down_min=MINUTE))
OPEN = Circuit(failures=2, probe_at=NOW, cool_down=MINUTE)


class Told:
    """A clock that stands, and the names of the events that were told."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def now(self) -> Any:
        return NOW

    def emit(self, event: str, **facts: Any) -> None:
        self.events.append(event)


def ports_of(told: Told) -> Ports:
    nothing: Any = None
    return Ports({}, nothing, nothing, nothing, told, nothing, told, nothing, nothing)


def memory_of(circuit: Circuit, placement: Placement = Placement.VIRTUAL_NODE) -> Memory:
    ledger = a_ledger(an_entry(placement=placement))
    return Memory(ledger, "1", Draft(ledger, (), timedelta(0)), NOW, circuit=circuit)


def test_failures_of_the_place_open_the_circuit_and_it_is_told_once() -> None:
    memory, told = memory_of(Circuit()), Told()
    for _ in range(3):
        report_failure(memory, ports_of(told), POLICY, JOB, FailureCause.ACI_QUOTA)
    assert memory.circuit.probe_at == NOW + MINUTE
    assert told.events == ["circuit.opened"]


def test_a_failed_probe_doubles_the_pause_and_is_a_probe_no_more() -> None:
    memory, told = memory_of(OPEN), Told()
    memory.probes.add(JOB)
    report_failure(memory, ports_of(told), POLICY, JOB, FailureCause.ACI_CAPACITY)
    assert memory.circuit.probe_at == NOW + 2 * MINUTE
    assert memory.probes == set()


@pytest.mark.parametrize("cause", [FailureCause.APPLICATION, FailureCause.ITEM_TIMEOUT])
def test_a_program_that_ran_and_failed_closes_the_circuit(cause: FailureCause) -> None:
    memory, told = memory_of(OPEN), Told()
    report_failure(memory, ports_of(told), POLICY, JOB, cause)
    assert memory.circuit == Circuit()
    assert told.events == ["circuit.closed"]


def test_a_success_closes_the_circuit() -> None:
    memory, told = memory_of(OPEN), Told()
    report_success(memory, ports_of(told), JOB)
    assert memory.circuit == Circuit()
    assert told.events == ["circuit.closed"]


def test_what_happens_on_nodes_says_nothing_of_the_virtual_node() -> None:
    memory, told = memory_of(OPEN, Placement.NODE_POOL), Told()
    report_success(memory, ports_of(told), JOB)
    report_failure(memory, ports_of(told), POLICY, JOB, FailureCause.START_DEADLINE)
    assert memory.circuit == OPEN
    assert told.events == []


def test_in_the_world_of_a_seed_a_circuit_that_opened_is_closed_by_a_pod_that_ran() -> None:
    occurred = run_seed(327).occurred
    assert occurred["event circuit.opened"] == 1
    assert occurred["event circuit.closed"] == 1
