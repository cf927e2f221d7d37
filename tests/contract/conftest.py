"""The real control plane, for the worlds that need one."""

from testbed.fixtures import control_plane

__all__ = ["control_plane"]
