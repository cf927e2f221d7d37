"""Kubernetes Jobs as processes of this machine: the Job controller, a node pool and a metered virtual node."""

from dispatcher.embedded.processes.cluster import ProcessCluster
from dispatcher.embedded.processes.config import NodeConfig, ProcessClusterConfig, VirtualNodeConfig

__all__ = ["NodeConfig", "ProcessCluster", "ProcessClusterConfig", "VirtualNodeConfig"]
