"""Report to the circuit: what pods on the virtual node did opens it, closes it, or answers a probe.

Decides which attempts it concerns; what follows from a report, the core's circuit decides, and the retry table says
which causes are the place's own.
"""

from __future__ import annotations

from dispatcher.core.failures import FailureCause
from dispatcher.core.policy import Policy
from dispatcher.core.retries import RETRY_RULES
from dispatcher.core.work import Placement
from dispatcher.memory import Memory
from dispatcher.ports import Ports

_PROGRAM_RAN = (FailureCause.APPLICATION, FailureCause.ITEM_TIMEOUT)


def report_failure(memory: Memory, ports: Ports, policy: Policy, name: str, cause: FailureCause) -> None:
    """A pod of that attempt failed. Where its program ran, whatever it did, the place works."""
    if not _is_on_virtual_node(memory, name):
        return
    if cause in _PROGRAM_RAN:
        report_success(memory, ports, name)
    if not RETRY_RULES[cause].opens_circuit:
        return
    before, now = memory.circuit, ports.clock.now()
    if name in memory.probes:
        memory.probes.discard(name)
        memory.circuit = before.after_failed_probe(policy.circuit, now)
    else:
        memory.circuit = before.after_failure(policy.circuit, now)
    if memory.circuit.is_open and memory.circuit.probe_at != before.probe_at:
        ports.events.emit("circuit.opened", cause=cause, failures=memory.circuit.failures)


def report_success(memory: Memory, ports: Ports, name: str) -> None:
    """A pod of that attempt ran."""
    if not _is_on_virtual_node(memory, name):
        return
    memory.probes.discard(name)
    if memory.circuit.is_open:
        ports.events.emit("circuit.closed", job=name)
    memory.circuit = memory.circuit.after_success()


def _is_on_virtual_node(memory: Memory, name: str) -> bool:
    entry = memory.draft.entries.get(name)
    return entry is not None and entry.placement is Placement.VIRTUAL_NODE
