"""Nodes that KWOK plays, as manifests: real ones, and the AKS virtual node.

Decides what a node of each class looks like to the scheduler. Knows nothing of pods.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

KWOK_ANNOTATION = "kwok.x-k8s.io/node"
"""KWOK plays exactly the nodes that carry it."""
VIRTUAL_NODE_NAME = "virtual-node-aci-linux"


@dataclass(frozen=True, slots=True)
class Node:
    """A node to be created. Quantities are Kubernetes' own ("4", "500m", "16Gi")."""

    name: str
    cpu: str = "4"
    memory: str = "16Gi"
    pods: int = 110
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Mapping[str, str], ...] = ()
    kubelet_version: str = "v1.36.0-kwok"


def real_node(name: str, *, cpu: str = "4", memory: str = "16Gi", pods: int = 110, **labels: str) -> Node:
    """A node that is paid for anyway."""
    return Node(name, cpu, memory, pods, labels)


def virtual_node(name: str = VIRTUAL_NODE_NAME) -> Node:
    """The first generation of the AKS virtual node: its labels, its taint, and the capacity that it announces."""
    labels = {
        "type": "virtual-kubelet",
        "kubernetes.io/role": "agent",
        "alpha.service-controller.kubernetes.io/exclude-balancer": "true",
        "node.kubernetes.io/exclude-from-external-load-balancers": "true",
        "kubernetes.azure.com/managed": "false",
    }
    taint = {"key": "virtual-kubelet.io/provider", "value": "azure", "effect": "NoSchedule"}
    return Node(name, "10000", "4Ti", 5000, labels, (taint,), "v1.25.0-vk-azure-aci-1.6.4")


def conditions(ready: str, reason: str) -> list[dict[str, Any]]:
    """The conditions of a node that is ready ("True"), or is not ("False"), or is silent ("Unknown"), as of now."""
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    times = {"lastHeartbeatTime": now, "lastTransitionTime": now}
    fine = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")
    return [
        {"type": "Ready", "status": ready, "reason": reason, "message": "", **times},
        *({"type": kind, "status": "False", "reason": "Fine", "message": "", **times} for kind in fine),
    ]


def manifest(node: Node, kubelet_port: int) -> dict[str, Any]:
    """The node as it is created: ready, on loopback, its logs served at ``kubelet_port``."""
    labels = {"kubernetes.io/hostname": node.name, "kubernetes.io/os": "linux", "beta.kubernetes.io/os": "linux"}
    capacity = {"cpu": node.cpu, "memory": node.memory, "pods": str(node.pods)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": {**labels, **node.labels},
            "annotations": {KWOK_ANNOTATION: "fake"},
        },
        "spec": {"taints": [dict(taint) for taint in node.taints]},
        "status": {
            "capacity": capacity,
            "allocatable": dict(capacity),
            "conditions": conditions("True", "KubeletReady"),
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": node.name}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet_port}},
            "nodeInfo": {
                "architecture": "amd64",
                "operatingSystem": "linux",
                "kubeletVersion": node.kubelet_version,
                "containerRuntimeVersion": "kwok",
                "bootID": "",
                "kernelVersion": "",
                "kubeProxyVersion": "",
                "machineID": "",
                "osImage": "",
                "systemUUID": "",
            },
        },
    }
