"""Room on real nodes: how many pods of a kind still start, given what each node has free.

Decides by real fit: a pod must fit on one node, so free cores on two nodes do not add up. Knows nothing of the virtual
node, where nothing is measured and all is counted.
"""

from __future__ import annotations

from collections.abc import Iterable

from dispatcher.core.observations import NodeHeadroom
from dispatcher.core.policy import NodePoolPolicy
from dispatcher.core.units import Resources


class NodeSpace:
    """Free room per node, used up as a plan goes on."""

    def __init__(self, headroom: NodeHeadroom, policy: NodePoolPolicy, our_pods: int) -> None:
        """``our_pods``: those of ours that run on the nodes or are about to, for the operator's cap."""
        self._nodes = [
            [
                node.free.cpu_millis - policy.keep_back.cpu_millis,
                node.free.memory_bytes - policy.keep_back.memory_bytes,
                node.pods_free,
            ]
            for node in headroom.nodes
        ]
        self._pods_left = None if policy.pods_max is None else max(0, policy.pods_max - our_pods)

    @staticmethod
    def _fit(node: list[int], requests: Resources) -> int:
        cpu = node[0] // requests.cpu_millis if requests.cpu_millis else node[2]
        memory = node[1] // requests.memory_bytes if requests.memory_bytes else node[2]
        return max(0, min(cpu, memory, node[2]))

    def slots(self, requests: Resources) -> int:
        """How many such pods start now."""
        fit = sum(self._fit(node, requests) for node in self._nodes)
        return fit if self._pods_left is None else min(fit, self._pods_left)

    def take(self, requests: Resources, count: int) -> None:
        """Uses up room for so many pods, first node first; what does not fit is not taken."""
        if self._pods_left is not None:
            self._pods_left = max(0, self._pods_left - count)
        self._fill(requests, count)

    def _fill(self, requests: Resources, count: int) -> None:
        for node in self._nodes:
            here = min(count, self._fit(node, requests))
            node[0] -= requests.cpu_millis * here
            node[1] -= requests.memory_bytes * here
            node[2] -= here
            count -= here
            if not count:
                return

    def take_all(self, starting: Iterable[tuple[Resources, int]]) -> None:
        """Uses up room for pods that were launched and are not on a node yet: nobody else sees them so far.

        They are among ``our_pods`` already.
        """
        for requests, count in starting:
            self._fill(requests, count)
