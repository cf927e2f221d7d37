from testbed.fixtures import control_plane, namespace

__all__ = ["control_plane", "namespace"]
