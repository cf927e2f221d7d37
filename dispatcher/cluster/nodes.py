"""Room on the real nodes: what is allocatable, less the requests of all pods that are there.

Decides which nodes count (ready, schedulable, and such as the node pool's selectors and tolerations admit; no
virtual ones) and keeps the sums up to date pod by pod: asking costs a look at each node, not at each pod. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dispatcher.cluster.reading import allocatable, pod_requests
from dispatcher.core.observations import NodeHeadroom, NodeRoom
from dispatcher.core.units import Resources

__all__ = ["NodeRow", "Occupied", "Rooms", "node_row", "occupied"]

Raw = Mapping[str, Any]

_VIRTUAL_LABELS = (("type", "virtual-kubelet"), ("virtualization", "virtualnode2"))
_VIRTUAL_TAINT = "virtual-kubelet.io/provider"


@dataclass(frozen=True, slots=True)
class NodeRow:
    """What matters of a node."""

    name: str
    room: Resources
    pods_max: int
    counts: bool
    """Whether our pods may be scheduled there now."""


@dataclass(frozen=True, slots=True)
class Occupied:
    """What a pod takes of a node."""

    node: str
    requests: Resources


def occupied(pod: Raw) -> Occupied | None:
    """What a pod takes; None for one that is on no node, or has ended."""
    node = (pod.get("spec") or {}).get("nodeName")
    if not node or (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return None
    return Occupied(node, pod_requests(pod))


def node_row(node: Raw, profile: Mapping[str, Any]) -> NodeRow:
    """Reads a node; ``profile`` is a pod spec's nodeSelector, affinity and tolerations."""
    room, pods_max = allocatable(node)
    spec, labels = node.get("spec") or {}, node["metadata"].get("labels") or {}
    counts = (
        not spec.get("unschedulable")
        and _is_ready(node)
        and not _is_virtual(labels, spec)
        and _selected(node["metadata"]["name"], labels, profile)
        and all(_tolerated(taint, profile.get("tolerations") or ()) for taint in spec.get("taints") or ())
    )
    return NodeRow(node["metadata"]["name"], room, pods_max, counts)


def _is_ready(node: Raw) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)


def _is_virtual(labels: Raw, spec: Raw) -> bool:
    marked = any(labels.get(key) == value for key, value in _VIRTUAL_LABELS)
    return marked or any(taint.get("key") == _VIRTUAL_TAINT for taint in spec.get("taints") or ())


def _selected(name: str, labels: Raw, profile: Mapping[str, Any]) -> bool:
    if any(labels.get(key) != value for key, value in (profile.get("nodeSelector") or {}).items()):
        return False
    affinity = (profile.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    return any(_term_admits(term, name, labels) for term in required.get("nodeSelectorTerms") or ())


def _term_admits(term: Raw, name: str, labels: Raw) -> bool:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False  # an empty term matches nothing
    by_label = all(_expression_admits(each, labels) for each in expressions)
    return by_label and all(_expression_admits(each, {"metadata.name": name}) for each in fields)


def _expression_admits(expression: Raw, labels: Raw) -> bool:
    value: str | None = labels.get(expression["key"])
    values: list[str] = expression.get("values") or []
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt":
            return value is not None and int(value) > int(values[0])
        case "Lt":
            return value is not None and int(value) < int(values[0])
    return False


def _tolerated(taint: Raw, tolerations: Iterable[Raw]) -> bool:
    """Whether a pod is scheduled in spite of the taint; PreferNoSchedule keeps nobody away."""
    if taint.get("effect") == "PreferNoSchedule":
        return True
    for each in tolerations:
        if each.get("effect") not in (None, "", taint.get("effect")):
            continue
        if not each.get("key") and each.get("operator") == "Exists":
            return True
        if each.get("key") != taint.get("key"):
            continue
        if each.get("operator") == "Exists" or (each.get("value") or "") == (taint.get("value") or ""):
            return True
    return False


class Rooms:
    """Nodes, and what is taken on each."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeRow] = {}
        self._taken: dict[str, tuple[int, int, int]] = {}
        """By node: thousandths of cores, bytes, pods."""

    def node(self, uid: str, after: NodeRow | None) -> None:
        """A node came, changed or went."""
        if after is not None:
            self._nodes[uid] = after
        else:
            self._nodes.pop(uid, None)

    def pod(self, before: Occupied | None, after: Occupied | None) -> None:
        """A pod came, changed or went."""
        if before == after:
            return
        for each, sign in ((before, -1), (after, 1)):
            if each is None:
                continue
            cpu, memory, pods = self._taken.get(each.node, (0, 0, 0))
            now = (
                cpu + sign * each.requests.cpu_millis,
                memory + sign * each.requests.memory_bytes,
                pods + sign,
            )
            if now == (0, 0, 0):
                del self._taken[each.node]
            else:
                self._taken[each.node] = now

    def headroom(self) -> NodeHeadroom:
        """What is free, node by node, by name. A node that is over-committed has nothing free."""
        rooms = []
        for row in sorted(self._nodes.values(), key=lambda row: row.name):
            if not row.counts:
                continue
            cpu, memory, pods = self._taken.get(row.name, (0, 0, 0))
            free = Resources(max(0, row.room.cpu_millis - cpu), max(0, row.room.memory_bytes - memory))
            rooms.append(NodeRoom(row.name, free, max(0, row.pods_max - pods)))
        return NodeHeadroom(tuple(rooms))
