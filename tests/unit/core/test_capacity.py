"""How many pods still start on the real nodes."""

import pytest

from dispatcher.core.capacity import NodeSpace
from dispatcher.core.policy import NodePoolPolicy
from dispatcher.core.units import Resources
from tests.builders import NOTHING, a_headroom, a_node

ONE_CORE = Resources(1000, 10**9)
TWO_CORES = Resources(2000, 10**9)


def space(*nodes: object, our_pods: int = 0, **policy: object) -> NodeSpace:
    return NodeSpace(a_headroom(*nodes), NodePoolPolicy(**policy), our_pods)  # type: ignore[arg-type]


def test_free_cores_on_two_nodes_do_not_add_up() -> None:
    assert space(a_node(1), a_node(1)).slots(TWO_CORES) == 0
    assert space(a_node(1), a_node(2)).slots(TWO_CORES) == 1


@pytest.mark.parametrize(
    ("node", "slots"),
    [
        (a_node(4, 99, 99), 4),
        (a_node(99, 3, 99), 3),
        (a_node(99, 99, 2), 2),
        (a_node(-1, 8, 8), 0),
        (a_node(4, 8, -1), 0),
    ],
)
def test_cores_memory_and_the_number_of_pods_each_bound_a_node(node: object, slots: int) -> None:
    assert space(node).slots(ONE_CORE) == slots


def test_no_node_has_no_room() -> None:
    assert NodeSpace(NOTHING, NodePoolPolicy(), 0).slots(ONE_CORE) == 0


def test_a_pod_that_asks_for_nothing_needs_a_place_among_the_pods_only() -> None:
    assert space(a_node(0, 0, 7)).slots(Resources(0, 0)) == 7


def test_what_is_kept_back_is_kept_back_on_every_node() -> None:
    assert space(a_node(2), a_node(2), keep_back=Resources(1000, 0)).slots(ONE_CORE) == 2


def test_pods_taken_fill_one_node_after_the_other() -> None:
    room = space(a_node(3), a_node(3))
    room.take(ONE_CORE, 2)
    assert room.slots(TWO_CORES) == 1
    room.take(TWO_CORES, 1)
    assert (room.slots(TWO_CORES), room.slots(ONE_CORE)) == (0, 2)


def test_what_does_not_fit_is_not_taken() -> None:
    room = space(a_node(2))
    room.take(ONE_CORE, 5)
    assert room.slots(ONE_CORE) == 0
    assert space(a_node(1)).slots(ONE_CORE) == 1


def test_the_operators_cap_counts_our_pods() -> None:
    room = space(a_node(10, 99), our_pods=3, pods_max=5)
    assert room.slots(ONE_CORE) == 2
    room.take(ONE_CORE, 1)
    assert room.slots(ONE_CORE) == 1
    assert space(a_node(10, 99), our_pods=9, pods_max=5).slots(ONE_CORE) == 0


def test_pods_that_are_starting_take_the_room_that_nobody_else_sees_taken() -> None:
    room = space(a_node(4))
    room.take_all([(ONE_CORE, 1), (TWO_CORES, 1)])
    assert room.slots(ONE_CORE) == 1


def test_pods_that_are_starting_count_once_against_the_operators_cap() -> None:
    room = space(a_node(10, 99), our_pods=3, pods_max=5)
    room.take_all([(ONE_CORE, 3)])
    assert room.slots(ONE_CORE) == 2
