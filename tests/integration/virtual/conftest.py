from testbed.fixtures import virtual_namespace, virtual_node

__all__ = ["virtual_namespace", "virtual_node"]
