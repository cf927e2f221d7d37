"""A world for the runs of one file: to start it takes as long as a run."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from testbed.control_plane import ControlPlane, real_node, virtual_node

from .world import World, a_world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[World]:
    """A control plane of its own: its node has room for several runs at once."""
    async with ControlPlane.started() as plane:
        await plane.create_nodes(real_node("node-1", cpu="256", memory="1Ti", pods=1000), virtual_node())
        async with a_world(plane, 20) as made:
            yield made
