"""The control plane in a suite. In the conftest of a folder whose tests need one:

    from testbed.fixtures import control_plane, namespace  # noqa: F401

``control_plane`` is one for each worker of pytest-xdist, started by the first test that asks (about three seconds, half
a gigabyte) and shared by all that follow: one for all workers would be shared nodes, and a test that kills one would
fail its neighbours. It has two nodes of 4 cores, ``node-1`` and ``node-2``, and the virtual node. A test that changes
nodes makes its own, or puts back what it changed. ``namespace`` is a new namespace of that control plane, emptied after
the test.

``virtual_node`` is the virtual node with the real connector and a stand-in for ACI, on a control plane of its own with
one node of 4 cores, ``node-1``; ``virtual_namespace`` is a new namespace there, and everything of the stand-in is as at
its start when a test begins.

Where a binary is missing, :func:`build_first` builds it when the tests have been collected, since no test could wait
for it; tests/conftest.py calls it. ``make test`` has them built before.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import nullcontext, suppress
from typing import Any, TypeVar

import pytest
import pytest_asyncio

from testbed.aci.options import Options
from testbed.binary import CannotBuild, Recipe, ensure_binary
from testbed.control_plane import ControlPlane, real_node
from testbed.control_plane import virtual_node as kwok_virtual_node
from testbed.virtual import VirtualNode

T = TypeVar("T")


def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine in a loop of its own, whatever loop the test framework has under way in this thread."""
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001 - handed over to the thread that waits
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


def build_first(config: pytest.Config, *recipes: Recipe) -> None:
    """Builds binaries that are missing. Where one cannot be built, each test that needs it says why."""
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext(), suppress(CannotBuild):
        for recipe in recipes:
            ensure_binary(recipe)


async def _with_nodes() -> ControlPlane:
    plane = await ControlPlane.start()
    try:
        await plane.create_nodes(real_node("node-1"), real_node("node-2"), kwok_virtual_node())
    except BaseException:
        plane.close()
        raise
    return plane


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """A control plane with two real nodes and the virtual node, for all tests of this worker."""
    plane = run_apart(_with_nodes())
    try:
        yield plane
    finally:
        plane.close()


@pytest_asyncio.fixture
async def namespace(control_plane: ControlPlane) -> AsyncIterator[str]:
    """The name of a new namespace; what is in it afterwards is removed, so that it takes no room on the nodes."""
    name = await control_plane.create_namespace()
    yield name
    await control_plane.clear_namespace(name)


async def _with_virtual_node() -> VirtualNode:
    plane = await ControlPlane.start()
    try:
        await plane.create_nodes(real_node("node-1"))
        # Quick to start and to go, so that no test waits for what it does not ask about.
        return await VirtualNode.start(plane, Options(prepare_seconds=0.2, image_mb=1, release_seconds=2))
    except BaseException:
        plane.close()
        raise


@pytest.fixture(scope="session")
def virtual_node() -> Iterator[VirtualNode]:
    """The virtual node of this worker, on a control plane of its own."""
    virtual = run_apart(_with_virtual_node())
    try:
        yield virtual
    finally:
        virtual.close()
        virtual.plane.close()


@pytest_asyncio.fixture
async def virtual_namespace(virtual_node: VirtualNode) -> AsyncIterator[str]:
    """The name of a new namespace beside the virtual node; its pods and their groups are removed afterwards."""
    await virtual_node.aci.reset()
    name = await virtual_node.plane.create_namespace()
    yield name
    await virtual_node.plane.clear_namespace(name)
