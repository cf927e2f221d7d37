"""The real control plane, and a proxy in front of it that can be told to spoil things."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from testbed.api_proxy import ApiProxy
from testbed.control_plane import ControlPlane
from testbed.fixtures import control_plane, namespace

__all__ = ["control_plane", "namespace", "proxy"]


@pytest_asyncio.fixture
async def proxy(control_plane: ControlPlane) -> AsyncIterator[ApiProxy]:
    """A proxy without faults so far."""
    async with ApiProxy(control_plane.url, control_plane.ca_file) as made:
        yield made
