"""The real connector of the virtual node, with a control plane of its own."""

from testbed.fixtures import virtual_namespace, virtual_node

__all__ = ["virtual_namespace", "virtual_node"]
