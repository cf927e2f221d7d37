"""The node pool: which node a pod fits on, and what is free. Pure.

Decides first fit by requests, as far as this product cares about a scheduler. Knows nothing of processes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from dispatcher.core.observations import NodeHeadroom, NodeRoom
from dispatcher.core.units import Resources
from dispatcher.embedded.processes.config import NodeConfig


@dataclass(frozen=True, slots=True)
class Node:
    """A node with its measured or configured size."""

    name: str
    allocatable: Resources
    pods_max: int


def measured(config: NodeConfig) -> Node:
    """The node as configured; what is left open is what this machine has: its cores, and the memory free now."""
    return Node(config.name, config.allocatable or this_machine(), config.pods_max)


def this_machine() -> Resources:
    """All cores of this machine, and the memory that is free at this moment."""
    return Resources((psutil.cpu_count() or 1) * 1000, psutil.virtual_memory().available)


def rooms(nodes: Iterable[Node], taken: Iterable[tuple[str | None, Resources]]) -> NodeHeadroom:
    """What is free on each node, when pods on (node, requests) have taken theirs."""
    free = {node.name: NodeRoom(node.name, node.allocatable, node.pods_max) for node in nodes}
    for name, requests in taken:
        if name is not None and name in free:
            free[name] = less(free[name], requests)
    return NodeHeadroom(tuple(free.values()))


def less(room: NodeRoom, requests: Resources) -> NodeRoom:
    """The room that is left beside one more pod."""
    return NodeRoom(room.name, room.free - requests, room.pods_free - 1)


def first_fit(headroom: NodeHeadroom, requests: Resources) -> NodeRoom | None:
    """The first node that the pod fits on."""
    return next((room for room in headroom.nodes if room.pods_free > 0 and requests.fits_in(room.free)), None)


def taking(headroom: NodeHeadroom, chosen: NodeRoom, requests: Resources) -> NodeHeadroom:
    """The headroom once the pod is on that node."""
    return NodeHeadroom(tuple(less(room, requests) if room is chosen else room for room in headroom.nodes))
