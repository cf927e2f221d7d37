"""Rules without a number: all virtual, autoscalers, and the mean of the last 300 seconds."""

from __future__ import annotations

from collections import deque

from dispatcher.simulator.economy.world import World
from dispatcher.simulator.policies.shared import SCAN_SECONDS, Rule


class AllVirtual(Rule):
    """Everything on the virtual node, at once."""

    name = "all virtual"

    def act(self, world: World) -> float | None:
        """All that waits."""
        self.spill(world)
        return None


class ClusterAutoscaler(Rule):
    """Pods wait for nodes; the autoscaler starts as many as the pending ones need, at each of its scans."""

    name = "cluster autoscaler"
    poll_seconds = 0.0
    """How often waiting work becomes pods; 0: at once."""

    def __init__(self) -> None:
        self._scan_at = 0.0
        self._poll_at = 0.0

    def act(self, world: World) -> float | None:
        """Fills the nodes there are, asks for those that are missing."""
        if world.now < self._poll_at and self.poll_seconds:
            return self._poll_at
        if self.poll_seconds:
            self._poll_at = world.now + self.poll_seconds
        self.fill_nodes(world)
        waits = any(world.waiting)
        if world.now >= self._scan_at:
            self._scan_at = world.now + SCAN_SECONDS
            world.want(self.nodes_for(world, waiting=True))
        if waits:
            return self._poll_at if self.poll_seconds else self._scan_at
        return self._scan_at if world.pool.wanted else None


class KedaAndAutoscaler(ClusterAutoscaler):
    """The same behind KEDA, which looks at the queue every 30 s and makes Jobs for what it finds."""

    name = "KEDA + autoscaler"
    poll_seconds = 30.0


class SpotPool(ClusterAutoscaler):
    """The cluster autoscaler over Spot nodes, at 30 % of the price; they are taken away now and then."""

    name = "spot nodes"
    node_price_percent = 30
    spot = True


class MeanOfLast300s(Rule):
    """As many nodes as the mean load of the last 300 s fills; what they have no room for spills at once."""

    name = "mean of the last 300 s"
    window_seconds = 300.0
    sample_seconds = 5.0

    def __init__(self) -> None:
        self._loads: deque[float] = deque(maxlen=int(self.window_seconds / self.sample_seconds))
        self._sample_at = 0.0
        self._nodes = 0

    def act(self, world: World) -> float | None:
        """One sample every five seconds; nodes up to the mean, then the virtual node."""
        if world.now >= self._sample_at:
            self._sample_at = world.now + self.sample_seconds
            pods = (
                (world.on_nodes[task] + world.on_virtual[task] + len(world.waiting[task])) / max(1, world.slots(task))
                for task in range(len(world.tasks))
            )
            self._loads.append(sum(pods))
            # The load of before the first sample counts as none.
            self._nodes = round(sum(self._loads) * self.sample_seconds / self.window_seconds)
            world.want(self._nodes)
        self.fill_nodes(world)
        self.spill(world)
        return self._sample_at
