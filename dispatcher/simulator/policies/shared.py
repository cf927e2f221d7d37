"""What the rules share: filling nodes, sending the rest to the virtual node, and the load over time in hindsight."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from dispatcher.core.work import Placement
from dispatcher.simulator.economy.workload import Workload
from dispatcher.simulator.economy.world import World

SCAN_SECONDS = 10.0
"""How often the cluster autoscaler looks at pending pods."""


class Rule:
    """A rule that pays list prices and uses no Spot nodes, unless it says otherwise."""

    name = ""
    node_price_percent = 100
    spot = False

    def begin(self, world: World) -> None:
        """Nothing to prepare."""

    def fill_nodes(self, world: World, nodes_max: int | None = None) -> None:
        """Starts what fits on the nodes; ``nodes_max``: as if no more than so many were there."""
        for task in range(len(world.tasks)):
            count = min(len(world.waiting[task]), world.free(task))
            if nodes_max is not None:
                count = min(count, max(0, nodes_max * world.slots(task) - world.on_nodes[task]))
            world.launch_waiting(task, Placement.NODE_POOL, count)

    def spill(self, world: World, waited_seconds: float = 0.0) -> None:
        """Starts on the virtual node whatever has waited for so long."""
        for task, queue in enumerate(world.waiting):
            count = 0
            for item in queue:
                if world.now - world.workload.at[item] < waited_seconds:
                    break
                count += 1
            world.launch_waiting(task, Placement.VIRTUAL_NODE, count)

    def nodes_for(self, world: World, *, waiting: bool) -> int:
        """How many nodes the pods on nodes fill, and those that wait if they are to go there too."""
        milli = 0
        for task in range(len(world.tasks)):
            pods = world.on_nodes[task] + (len(world.waiting[task]) if waiting else 0)
            milli += pods * 1000 // max(1, world.slots(task))
        return -(-milli // 1000)


def loads(workload: Workload, slots: list[int]) -> Iterator[tuple[float, float, float]]:
    """How many nodes the work would fill if all of it started at once: (from, to, nodes), in hindsight."""
    ends: list[tuple[float, float]] = []
    load, before = 0.0, 0.0
    for item in range(len(workload)):
        at, part = workload.at[item], 1 / max(1, slots[workload.task[item]])
        while ends and ends[0][0] <= at:
            end, gone = heapq.heappop(ends)
            if end > before:
                yield before, end, load
                before = end
            load -= gone
        if at > before:
            yield before, at, load
            before = at
        load += part
        heapq.heappush(ends, (at + workload.run[item], part))
    while ends:
        end, gone = heapq.heappop(ends)
        if end > before:
            yield before, end, load
            before = end
        load -= gone


def peak_nodes(world: World) -> int:
    """The fewest nodes on which all of it would start at once."""
    slots = [world.slots(task) for task in range(len(world.tasks))]
    return max((int(load + 0.999) for _begin, _end, load in loads(world.workload, slots)), default=0)


def best_fixed_nodes(world: World) -> int:
    """How many nodes, kept all the time, make nodes and virtual node together cheapest, in hindsight."""
    slots = [world.slots(task) for task in range(len(world.tasks))]
    spread: dict[int, float] = {}
    total = 0.0
    for begin, end, load in loads(world.workload, slots):
        spread[round(load * 10)] = spread.get(round(load * 10), 0.0) + end - begin
        total += end - begin
    node = float(world.node_second_picos)
    elsewhere = max(rate * slot for rate, slot in zip(world.virtual_rates, slots, strict=True))

    def cost(nodes: int) -> float:
        over = sum(max(0.0, load / 10 - nodes) * seconds for load, seconds in spread.items())
        return nodes * total * node + over * elsewhere

    most = max(spread, default=0) // 10 + 1
    return min(range(most + 1), key=cost)
