"""Old clusters: one that behaves as an older Kubernetes still carries our Jobs; one that is too old is told so."""

from __future__ import annotations

import pytest
from kube_kit import a_job, config_for, kube

from dispatcher.cluster import check
from dispatcher.cluster.versions import version_of
from dispatcher.errors import DispatcherError
from testbed.api_proxy import ApiProxy
from testbed.behaviour import PREFIX
from testbed.control_plane import ControlPlane, Options, real_node

OLDEST_EMULATED = "1.33"
"""As far back as the API server of these tests can behave as an older one."""


async def test_an_api_server_that_behaves_as_an_older_one_is_seen_as_that_and_carries_our_jobs() -> None:
    older = (f"--emulated-version={OLDEST_EMULATED}",)
    options = Options(apiserver_flags=older, manager_flags=older, scheduler_flags=older)
    async with ControlPlane.started(options) as plane:
        await plane.create_nodes(real_node("node-1"))
        assert version_of(await plane.api.get("/version")) == (1, 33)
        namespace = await plane.create_namespace()
        async with kube(config_for(plane, namespace)) as it:
            await check(it.api, it.config)
            job = a_job(namespace, completions=2, run_seconds=0)
            job["spec"]["template"]["metadata"]["annotations"][f"{PREFIX}exit-code.1"] = "3"
            await it.launch(job)
            ended = await it.ended()
            assert (ended.completed_indexes, ended.failed_indexes) == ({0}, {1})


@pytest.mark.parametrize("version", ["v1.30.14", "v1.27.3-gke.100"])
async def test_a_cluster_that_is_too_old_is_refused_in_one_line_with_what_it_lacks(
    control_plane: ControlPlane, namespace: str, proxy: ApiProxy, version: str
) -> None:
    proxy.version = version
    async with kube(config_for(control_plane, namespace, proxy), started=False) as it:
        with pytest.raises(DispatcherError) as told:
            await check(it.api, it.config)
    text = str(told.value)
    assert "\n" not in text
    assert f"the cluster runs Kubernetes {version[1:5]}; 1.31 or newer is needed for: " in text
    assert "conditions Complete and Failed only when all pods have ended" in text
    assert ("backoffLimitPerIndex" in text) is (version < "v1.29")
