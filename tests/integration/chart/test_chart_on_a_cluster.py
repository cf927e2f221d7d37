"""The chart on a real API server: judged by it, installed, upgraded, rolled back, removed, by the real Helm.

Real are admission (the strictest Pod Security level), scheduling, RBAC and rollouts. KWOK plays the nodes, so that no
code of the pods runs here. PodDisruptionBudget and NetworkPolicy are taken and checked by the server; that they hold is
the cluster's own affair and is not shown.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import textwrap
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from chart_kit import CHART, ROOT, SETS, VALUES, rendered, value_files, write_mounted

from dispatcher.cluster import ServerClock, check, connect
from dispatcher.errors import BadConfiguration
from dispatcher.service.wiring import kubernetes_config
from dispatcher.settings import examine
from testbed.charts import Helm, HelmSaid
from testbed.control_plane import ControlPlane

DEFINITIONS = Path(__file__).parent / "definitions.yaml"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
SECONDS_MAX = 60


@dataclass(frozen=True)
class Release:
    """A place for one: a namespace that takes only pods without privileges, a Secret, a namespace for tasks."""

    plane: ControlPlane
    helm: Helm
    namespace: str
    tasks: str
    name: str = "dispatcher"

    async def run(self, *arguments: str | Path) -> str:
        """Helm, in this namespace."""
        return await asyncio.to_thread(self.helm.run, *arguments, "--namespace", self.namespace)

    def values(self) -> list[str]:
        """The arguments with which it is installed here."""
        return [
            *value_files("minimal"),
            f"--values={VALUES / 'on-the-testbed.yaml'}",
            "--set", f"tasks[0].namespace={self.tasks}",
            "--timeout", f"{SECONDS_MAX}s",
        ]  # fmt: skip

    async def install(self, *more: str) -> str:
        """Installs it and waits until its pods are ready."""
        return await self.run("install", self.name, CHART, "--wait", *self.values(), *more)

    async def upgrade(self, *more: str) -> str:
        """Upgrades it; what is not said anew is as installed."""
        return await self.run("upgrade", self.name, CHART, "--wait", *self.values(), *more)

    async def get(self, *what: str) -> Any:
        """What kubectl gets in this namespace."""
        return json.loads(await self.plane.kubectl("get", *what, "--namespace", self.namespace, "--output=json"))

    async def pods(self) -> list[Any]:
        """Its pods that are not going."""
        items = (await self.get("pods"))["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    async def sets(self) -> set[str]:
        """Which pod templates its pods are of."""
        return {pod["metadata"]["labels"]["pod-template-hash"] for pod in await self.pods()}


async def _label(plane: ControlPlane, namespace: str) -> None:
    await plane.api.patch(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": RESTRICTED}})


@pytest_asyncio.fixture
async def release(installing: Helm, deploying_plane: ControlPlane) -> AsyncIterator[Release]:
    plane = deploying_plane
    namespace, tasks = await plane.create_namespace(), await plane.create_namespace()
    await _label(plane, namespace)
    secret = {"metadata": {"name": "orders"}, "stringData": {"connection-string": "Endpoint=sb://o.example/"}}
    await plane.api.post(f"/api/v1/namespaces/{namespace}/secrets", secret)
    made = Release(plane, installing, namespace, tasks)
    yield made
    await made.run("uninstall", made.name, "--ignore-not-found")
    for each in (namespace, tasks):
        await plane.clear_namespace(each)


@pytest.mark.parametrize("name", SETS)
async def test_the_api_server_takes_every_manifest(
    helm: Helm, deploying_plane: ControlPlane, release: Release, name: str
) -> None:
    await deploying_plane.kubectl("apply", "--server-side", f"--filename={DEFINITIONS}")
    await deploying_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", f"--filename={DEFINITIONS}")
    manifests = [each for each in yaml.safe_load_all(rendered(helm, name, namespace=release.namespace)) if each]
    for manifest in manifests:
        # Namespaces of the value sets are not there, and a dry run needs them.
        if "namespace" in manifest["metadata"]:
            manifest["metadata"]["namespace"] = release.namespace
    said = await deploying_plane.kubectl(
        "apply", "--dry-run=server", "--validate=strict", "--filename=-", stdin=yaml.safe_dump_all(manifests)
    )
    assert len(said.splitlines()) == len(manifests)
    assert "warning" not in said.lower()


async def test_installed_its_account_may_do_what_the_dispatcher_checks_at_its_start(
    release: Release, tmp_path: Path
) -> None:
    notes = await release.install()
    assert "rollout status" in notes
    pods = await release.pods()
    assert len(pods) == 2
    assert {pod["status"]["phase"] for pod in pods} == {"Running"}
    # Spread, and on no virtual node.
    assert {pod["spec"]["nodeName"] for pod in pods} == {"node-1", "node-2"}
    token = await release.plane.create_token(release.namespace, pods[0]["spec"]["serviceAccountName"])
    kubeconfig = release.plane.write_kubeconfig(f"chart-{release.namespace}", token)
    made = [*(await release.get("configmaps"))["items"]]
    settings = examine(write_mounted(made, tmp_path), local=False, environ={}).settings
    assert settings is not None
    there = {"namespace": release.namespace, "kubeconfig": kubeconfig}
    settings = settings.model_copy(update={"kubernetes": settings.kubernetes.model_copy(update=there)})
    config = kubernetes_config(settings, tmp_path)
    api = await connect(config, ServerClock())
    try:
        await _until_granted(api, config)
    finally:
        await api.close()


async def _until_granted(api: Any, config: Any) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            try:
                await check(api, config)
            except BadConfiguration:
                await asyncio.sleep(0.1)  # roles take effect a moment after they are written
            else:
                return


async def test_upgraded_and_rolled_back_it_has_the_pods_of_its_configuration(release: Release) -> None:
    await release.install()
    (first,) = await release.sets()
    await release.upgrade("--set", "config.timing.sweep_every=6m")
    (second,) = await release.sets()
    assert second != first
    assert '"sweep_every": "6m"' in str(await release.get("configmap", "dispatcher-config"))
    await release.run("rollback", release.name, "1", "--wait", "--timeout", f"{SECONDS_MAX}s")
    assert await release.sets() == {first}
    assert "sweep_every" not in str(await release.get("configmap", "dispatcher-config"))
    # What changes nothing for the pods leaves them alone.
    await release.upgrade("--set", "monitoring.prometheusRule.deadLettersPerHour=5")
    assert await release.sets() == {first}


async def test_an_upgrade_that_cannot_start_leaves_the_old_replicas_and_is_taken_back(release: Release) -> None:
    await release.install()
    before = {pod["metadata"]["uid"] for pod in await release.pods()}
    with pytest.raises(HelmSaid, match="at '/config/timing': additional properties 'sweep' not allowed"):
        await release.upgrade("--set", "config.timing.sweep=6m")
    broken = [
        "--set", "config.timing.sweep_every=6m",
        "--set-string", "podAnnotations.testbed\\.burst-dispatcher\\.io/start-seconds=never",
    ]  # fmt: skip
    upgrade = asyncio.create_task(release.upgrade(*broken, "--rollback-on-failure", "--timeout", "5s"))
    while not upgrade.done():
        running = {pod["metadata"]["uid"] for pod in await release.pods() if pod["status"]["phase"] == "Running"}
        assert before <= running
        await asyncio.wait({upgrade}, timeout=0.5)
    with pytest.raises(HelmSaid):
        await upgrade
    assert {pod["metadata"]["uid"] for pod in await release.pods()} == before
    assert "sweep_every" not in str(await release.get("configmap", "dispatcher-config"))


async def test_removed_it_leaves_no_right_behind_and_keeps_what_the_dispatcher_wrote(release: Release) -> None:
    await release.install()
    api = f"/api/v1/namespaces/{release.namespace}/configmaps"
    await release.plane.api.post(api, {"metadata": {"name": "dispatcher-ledger"}, "data": {"epoch": "7"}})
    await release.run("uninstall", release.name, "--wait", "--timeout", f"{SECONDS_MAX}s")
    kinds = "deployments,pods,roles,rolebindings,services,serviceaccounts,networkpolicies,poddisruptionbudgets"
    assert [
        each["metadata"]["name"]
        for each in (await release.get(kinds))["items"]
        if each["metadata"]["name"] != "default" and "deletionTimestamp" not in each["metadata"]
    ] == []
    tasks_rights = await release.plane.kubectl("get", "roles,rolebindings", "--namespace", release.tasks)
    assert tasks_rights == ""
    whole = json.loads(await release.plane.kubectl("get", "clusterroles,clusterrolebindings", "--output=json"))
    assert not [each for each in whole["items"] if each["metadata"]["name"].startswith(f"{release.namespace}-")]
    assert (await release.get("configmap", "dispatcher-ledger"))["data"] == {"epoch": "7"}
    assert (await release.get("secret", "orders"))["metadata"]["name"] == "orders"


async def test_what_is_left_behind_goes_as_the_install_guide_says(release: Release) -> None:
    plane, instance = release.plane, f"{release.namespace}-dispatcher"
    ours = {
        "labels": {"burst-dispatcher.io/instance": instance},
        "finalizers": ["burst-dispatcher.io/settle-before-forgetting"],
    }
    record, ledger = {"metadata": {"name": "burst-a-1", **ours}}, {"metadata": {"name": f"{instance}-ledger", **ours}}
    await plane.api.post(f"/api/v1/namespaces/{release.tasks}/configmaps", record)
    await plane.api.post(f"/api/v1/namespaces/{release.namespace}/configmaps", ledger)
    pod = {"restartPolicy": "Never", "containers": [{"name": "worker", "image": "any"}]}
    job = {"metadata": record["metadata"], "spec": {"suspend": True, "template": {"spec": pod}}}
    await plane.api.post(f"/apis/batch/v1/namespaces/{release.tasks}/jobs", job)
    lease = {"metadata": {"name": f"{instance}-leader"}}
    await plane.api.post(f"/apis/coordination.k8s.io/v1/namespaces/{release.namespace}/leases", lease)
    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    begin = text.index("       LABEL=")
    script = textwrap.dedent(text[begin : text.index("\n\n", begin)])
    for named, here in (
        ("burst-dispatcher.io/instance=burst-dispatcher", f"burst-dispatcher.io/instance={instance}"),
        ("burst-dispatcher-leader", f"{instance}-leader"),
        ("in reports burst;", f"in {release.tasks} {release.namespace};"),
        ("-n burst ", f"-n {release.namespace} "),
    ):
        assert named in script
        script = script.replace(named, here)
    await _bash(plane, script)
    for namespace in (release.tasks, release.namespace):
        left = await plane.kubectl("get", "jobs,configmaps,leases", "--namespace", namespace, "--output=name")
        assert not [each for each in left.split() if "kube-root-ca" not in each]


async def _bash(plane: ControlPlane, script: str) -> None:
    programs = plane.folder / "programs"
    programs.mkdir(exist_ok=True)
    if not (programs / "kubectl").exists():
        (programs / "kubectl").symlink_to(plane.binary)
    env = {"PATH": f"{programs}:/usr/bin:/bin", "KUBECONFIG": str(plane.kubeconfig), "HOME": str(plane.folder)}
    process = await asyncio.create_subprocess_exec(
        "bash", "-euo", "pipefail", "-c", script, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(), SECONDS_MAX)
    assert process.returncode == 0, said.decode()
