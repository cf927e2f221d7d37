from testbed.fixtures import virtual_node

__all__ = ["virtual_node"]
