from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.units import Resources
from dispatcher.embedded.processes.config import NodeConfig
from dispatcher.embedded.processes.node_pool import Node, first_fit, measured, rooms, taking


def test_a_node_that_is_not_configured_has_this_machines_cores_and_free_memory() -> None:
    node = measured(NodeConfig())
    assert node.allocatable.cpu_millis >= 1000
    assert node.allocatable.memory_bytes > 0


def test_a_pod_goes_to_the_first_node_that_it_fits_on() -> None:
    nodes = (Node("small", Resources(500, 100), 10), Node("large", Resources(4000, 100), 10))
    chosen = first_fit(rooms(nodes, []), Resources(1000, 50))
    assert chosen is not None
    assert chosen.name == "large"


def test_a_node_takes_no_more_pods_than_it_may_have() -> None:
    nodes = (Node("n", Resources(4000, 100), 1),)
    assert first_fit(rooms(nodes, [("n", Resources(1, 1))]), Resources(1, 1)) is None


@given(st.lists(st.integers(1, 1500), max_size=30))
def test_placed_pods_never_take_more_than_a_node_has(requests: list[int]) -> None:
    nodes = (Node("a", Resources(2000, 10**9), 5), Node("b", Resources(1000, 10**9), 2))
    headroom = rooms(nodes, [])
    for cpu in requests:
        chosen = first_fit(headroom, Resources(cpu, 1))
        if chosen is not None:
            headroom = taking(headroom, chosen, Resources(cpu, 1))
    assert all(room.free.cpu_millis >= 0 and room.pods_free >= 0 for room in headroom.nodes)
