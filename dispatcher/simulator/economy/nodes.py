"""A node pool in seconds and money: nodes are asked for, come late, are filled, and go after they were idle.

Decides what the cluster autoscaler decides: a node is billed from the request until it is removed, and removed once it
has been empty for the delay while more are there than are wanted. Pods are packed onto the fullest node that takes them
(the scheduler's MostAllocated), so that nodes become empty at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from dispatcher.core.pricing import NodePrice
from dispatcher.core.units import Resources

EARLIEST, LATEST = 0.8, 1.3
"""A node takes this part of its usual start-up at least, and at most."""


@dataclass(slots=True)
class Node:
    """One node."""

    number: int
    asked_at: float
    ready_at: float
    cpu_millis: int
    memory_bytes: int
    pods: int = 0
    idle_since: float = 0.0
    lost_at: float | None = None
    """When it is taken away, where it is a Spot node."""

    def slots(self, requests: Resources) -> int:
        """How many such pods still fit."""
        return min(
            self.cpu_millis // max(1, requests.cpu_millis), self.memory_bytes // max(1, requests.memory_bytes)
        )  # fmt: skip


class NodePool:
    """All nodes, and what they have cost so far in seconds."""

    def __init__(
        self,
        price: NodePrice,
        start_up: float,
        scale_down_after: float,
        nodes_max: int,
        random: Random,
        lost_every: float | None = None,
    ) -> None:
        """``lost_every``: a Spot node is taken away after so many seconds on the mean; None: never."""
        self._room = price.allocatable
        self._start_up = start_up
        self._scale_down_after = scale_down_after
        self._max = nodes_max
        self._random = random
        self._lost_every = lost_every
        self._made = 0
        self.nodes: list[Node] = []
        self.wanted = 0
        self.seconds = 0.0
        """Billed seconds of nodes that are gone."""
        self.starts = 0
        self.most = 0

    def want(self, nodes: int, now: float) -> None:
        """So many are wanted: what is missing is asked for at once."""
        self.wanted = min(self._max, nodes)
        while len(self.nodes) < self.wanted:
            ready_at = now + self._start_up * self._random.uniform(EARLIEST, LATEST)
            node = Node(self._made, now, ready_at, self._room.cpu_millis, self._room.memory_bytes, idle_since=ready_at)
            if self._lost_every is not None:
                node.lost_at = ready_at + self._random.expovariate(1 / self._lost_every)
            self._made += 1
            self.starts += 1
            self.nodes.append(node)
        self.most = max(self.most, len(self.nodes))

    def tend(self, now: float) -> list[Node]:
        """Removes what has been idle for long enough; the Spot nodes that are taken away now."""
        lost = [node for node in self.nodes if node.lost_at is not None and node.lost_at <= now]
        for node in lost:
            self._remove(node, now)
        surplus = len(self.nodes) - self.wanted
        if surplus > 0:
            idle = [n for n in self.nodes if not n.pods and n.ready_at <= now]
            over = sorted((n for n in idle if now - n.idle_since >= self._scale_down_after), key=lambda n: n.idle_since)
            for node in over[:surplus]:
                self._remove(node, now)
        return lost

    def _remove(self, node: Node, now: float) -> None:
        self.nodes.remove(node)
        self.seconds += now - node.asked_at

    def next_at(self, now: float) -> float | None:
        """When something happens here by itself: a node is ready, idle for long enough, or lost."""
        times = [node.ready_at for node in self.nodes if node.ready_at > now]
        times += [node.lost_at for node in self.nodes if node.lost_at is not None and node.lost_at > now]
        if len(self.nodes) > self.wanted:
            ends = (n.idle_since + self._scale_down_after for n in self.nodes if not n.pods and n.ready_at <= now)
            times += [end for end in ends if end > now]
        return min(times, default=None)

    def ready(self, now: float) -> list[Node]:
        """Nodes that take pods, fullest first."""
        return sorted((node for node in self.nodes if node.ready_at <= now), key=lambda n: (n.cpu_millis, n.number))

    def free(self, requests: Resources, now: float) -> int:
        """How many such pods start at once."""
        return sum(node.slots(requests) for node in self.nodes if node.ready_at <= now)

    def take(self, requests: Resources, now: float) -> Node | None:
        """Room for one pod on the fullest node that has it."""
        fitting = (n for n in self.nodes if n.ready_at <= now and n.slots(requests))
        node = min(fitting, key=lambda n: (n.cpu_millis, n.number), default=None)
        if node is not None:
            node.cpu_millis -= requests.cpu_millis
            node.memory_bytes -= requests.memory_bytes
            node.pods += 1
        return node

    def give_back(self, node: Node, requests: Resources, now: float) -> None:
        """A pod of it has ended."""
        node.cpu_millis += requests.cpu_millis
        node.memory_bytes += requests.memory_bytes
        node.pods -= 1
        if not node.pods:
            node.idle_since = now

    def close(self, now: float) -> float:
        """All seconds that are billed, until the autoscaler would have removed the last node."""
        for node in self.nodes:
            self.seconds += max(now, max(node.idle_since, node.ready_at) + self._scale_down_after) - node.asked_at
        self.nodes.clear()
        return self.seconds
