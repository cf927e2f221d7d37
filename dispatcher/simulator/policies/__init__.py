"""The obvious rules, for comparison. None of them is in the product.

Each decides in the coarse world what the product decides there: where waiting items start, and how many nodes are
wanted. They are played at their best: those that need a number (how many nodes) get the best one in hindsight.
"""

from dispatcher.simulator.policies.elastic import (
    AllVirtual,
    ClusterAutoscaler,
    KedaAndAutoscaler,
    MeanOfLast300s,
    SpotPool,
)
from dispatcher.simulator.policies.fixed import AllNodes, SpillOnPending, StaticSplit

__all__ = [
    "AllNodes",
    "AllVirtual",
    "ClusterAutoscaler",
    "KedaAndAutoscaler",
    "MeanOfLast300s",
    "SpillOnPending",
    "SpotPool",
    "StaticSplit",
]
