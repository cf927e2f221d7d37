"""``check-manifest --server`` and ``check-config --server``: the API server itself is asked; nothing is created."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from kube_kit import config_for
from typer.testing import CliRunner, Result

from dispatcher.cli import app
from dispatcher.cli.check import refused_jobs
from dispatcher.cluster import ServerClock, connect
from dispatcher.settings import examine
from testbed.control_plane import ControlPlane

TEMPLATES = Path(__file__).parents[2] / "fixtures/templates"
FITS = ["01-job-clean", "02-pod-clean", "30-deployment", "31-cronjob"]


async def check(*arguments: str, stdin: str | None = None) -> Result:
    """The command runs an event loop of its own, so it has a thread of its own."""
    return await asyncio.to_thread(CliRunner().invoke, app, ["check-manifest", *arguments], input=stdin)


def asking(plane: ControlPlane, namespace: str) -> list[str]:
    return ["--server", "--kubeconfig", str(plane.kubeconfig), "--namespace", namespace]


def template(name: str, namespace: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((TEMPLATES / f"{name}.yaml").read_text())
    document["metadata"]["namespace"] = namespace
    return document


async def test_what_fits_fits_there_too_and_is_not_created(control_plane: ControlPlane, namespace: str) -> None:
    text = yaml.safe_dump_all([template(name, namespace) for name in FITS])
    result = await check("-", *asking(control_plane, namespace), stdin=text)
    assert result.exit_code == 0, result.stdout
    config = config_for(control_plane, namespace)
    api = await connect(config, ServerClock())
    try:
        for path in (f"/api/v1/namespaces/{namespace}/pods", f"/apis/batch/v1/namespaces/{namespace}/jobs"):
            assert (await api.send("GET", path)).body["items"] == []
    finally:
        await api.close()


async def test_what_only_the_server_knows_is_told_with_its_field(control_plane: ControlPlane, namespace: str) -> None:
    pod = template("02-pod-clean", namespace)
    pod["spec"]["dnsPolicy"] = "Somewhere"
    result = await check("-", "--json", *asking(control_plane, namespace), stdin=yaml.safe_dump(pod))
    assert result.exit_code == 1
    [found] = json.loads(result.stdout)["files"][0]["findings"]
    assert (found["rule"], found["path"]) == ("api-server", "spec.dnsPolicy")
    assert "Somewhere" in found["message"]


async def test_a_misspelt_field_is_refused(control_plane: ControlPlane, namespace: str) -> None:
    pod = template("02-pod-clean", namespace)
    pod["spec"]["nodeselector"] = {"type": "virtual-kubelet"}
    result = await check("-", *asking(control_plane, namespace), stdin=yaml.safe_dump(pod))
    assert result.exit_code == 1
    assert "nodeselector" in result.stdout


async def test_a_stored_job_as_the_server_prints_it_can_be_asked_about(
    control_plane: ControlPlane, namespace: str
) -> None:
    config = config_for(control_plane, namespace)
    api = await connect(config, ServerClock())
    job = template("01-job-clean", namespace)
    job["spec"]["suspend"] = True
    try:
        stored = await api.send("POST", f"/apis/batch/v1/namespaces/{namespace}/jobs", body=job)
    finally:
        await api.close()
    assert stored.ok, stored.text
    result = await check("-", *asking(control_plane, namespace), stdin=yaml.safe_dump(dict(stored.body)))
    assert [line for line in result.stdout.splitlines() if line.startswith("ERROR")] == []
    assert result.exit_code == 0


@pytest.mark.timeout(90)
async def test_a_server_that_does_not_answer_ends_with_3(control_plane: ControlPlane, namespace: str) -> None:
    nowhere = control_plane.write_kubeconfig("nowhere", control_plane.admin_token, server="https://127.0.0.1:9")
    result = await check(str(TEMPLATES / "02-pod-clean.yaml"), "--server", "--kubeconfig", str(nowhere))
    assert result.exit_code == 3
    assert "does not answer" in result.stderr


# --- check-config ---------------------------------------------------------------------------------------------------


async def test_the_jobs_of_every_task_are_taken_or_their_mistakes_told(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    task = {
        "name": "report",
        "namespace": namespace,
        "image": "registry.example/report:1",
        "command": ["run"],
        "resources": {"cpu": "1", "memory": "512Mi"},
    }
    elsewhere = {**task, "name": "lost", "namespace": "nowhere", "placements": ["node_pool"]}
    dispatcher = {
        "queues": [{"name": "work", "tasks": ["report", "lost"]}],
        "service_bus": {"namespace": "orders.servicebus.windows.net"},
        "kubernetes": {"kubeconfig": str(control_plane.kubeconfig)},
        "virtual_node": {},
    }
    (tmp_path / "dispatcher.yaml").write_text(yaml.safe_dump(dispatcher))
    (tmp_path / "tasks.yaml").write_text(yaml.safe_dump({"tasks": [task, elsewhere]}))
    settings = examine(tmp_path, local=False, environ={}).settings
    assert settings is not None
    said = await asyncio.to_thread(refused_jobs, settings, tmp_path)
    assert said["task report on nodes"] == said["task report on virtual-node-v1"] == []
    [line] = said["task lost on nodes"]
    assert "nowhere" in line
