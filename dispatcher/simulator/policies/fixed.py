"""Rules with a fixed number of nodes, each the best one in hindsight: nobody has that number beforehand."""

from __future__ import annotations

from dispatcher.simulator.economy.world import World
from dispatcher.simulator.policies.shared import Rule, best_fixed_nodes, peak_nodes


class AllNodes(Rule):
    """So many nodes that the greatest peak starts at once, all the time; no virtual node."""

    name = "all nodes"

    def begin(self, world: World) -> None:
        """The pool is as large as the peak."""
        world.want(peak_nodes(world))

    def act(self, world: World) -> float | None:
        """Fills the nodes."""
        self.fill_nodes(world)
        return None


class StaticSplit(Rule):
    """The best fixed pool in hindsight; an item that comes while it is full goes to the virtual node at once."""

    name = "static split"

    def begin(self, world: World) -> None:
        """The pool is as large as was best."""
        world.want(best_fixed_nodes(world))

    def act(self, world: World) -> float | None:
        """Nodes first, the rest at once."""
        self.fill_nodes(world)
        self.spill(world)
        return None


class SpillOnPending(Rule):
    """The same pool; a pod that has been pending for half a minute is moved to the virtual node."""

    name = "spill on pending"
    pending_seconds = 30.0

    def begin(self, world: World) -> None:
        """The pool is as large as was best."""
        world.want(best_fixed_nodes(world))

    def act(self, world: World) -> float | None:
        """Nodes first; what has been pending for too long spills."""
        self.fill_nodes(world)
        self.spill(world, self.pending_seconds)
        oldest = [world.workload.at[queue[0]] for queue in world.waiting if queue]
        return min(oldest) + self.pending_seconds if oldest else None
