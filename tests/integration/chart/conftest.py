"""The chart, the real Helm, and a control plane that runs Deployments: its pods go through admission and scheduling."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.charts import Helm
from testbed.control_plane import CONTROLLERS, ControlPlane, Options, real_node, virtual_node
from testbed.fixtures import run_apart

DEPLOYMENT_CONTROLLERS = ("deployment-controller", "replicaset-controller", "disruption-controller")


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm without a cluster."""
    return Helm.at(tmp_path_factory.mktemp("helm"))


async def _with_deployments() -> ControlPlane:
    plane = await ControlPlane.start(Options(controllers=(*CONTROLLERS, *DEPLOYMENT_CONTROLLERS)))
    try:
        await plane.create_nodes(real_node("node-1"), real_node("node-2"), virtual_node())
    except BaseException:
        plane.close()
        raise
    return plane


@pytest.fixture(scope="session")
def deploying_plane(helm: Helm) -> Iterator[ControlPlane]:
    """A control plane of this folder's own, since others need no Deployments."""
    plane = run_apart(_with_deployments())
    try:
        yield plane
    finally:
        plane.close()


@pytest.fixture
def installing(helm: Helm, deploying_plane: ControlPlane, tmp_path: Path) -> Helm:
    """Helm as the administrator of that control plane."""
    return Helm(helm.binary, tmp_path / "helm", deploying_plane.kubeconfig)
