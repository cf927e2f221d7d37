"""The control plane itself: identities, RBAC, restarts, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from testbed_jobs import PATIENCE_SECONDS, Namespace, job

from testbed.api import Api, ApiError
from testbed.behaviour import NEVER, told
from testbed.binary import CannotBuild, ensure_binary, kubernetes_version
from testbed.control_plane import ControlPlane
from testbed.waiting import until

ROOT = Path(__file__).parents[3]


def _gone(pids: list[int]) -> bool:
    alive = [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]
    return not alive


async def test_every_program_is_of_the_pinned_version(control_plane: ControlPlane) -> None:
    version = await control_plane.api.get("/version")
    assert version["gitVersion"] == kubernetes_version()


async def test_rbac_refuses_what_was_not_allowed(control_plane: ControlPlane, namespace: str) -> None:
    token = await control_plane.create_token(namespace, "worker")
    worker = Api(control_plane.url, token, control_plane.ca_file)
    pods = f"/api/v1/namespaces/{namespace}/pods"
    with pytest.raises(ApiError) as refused:
        await worker.get(pods)
    assert (refused.value.status, refused.value.reason) == (403, "Forbidden")

    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    await control_plane.api.post(f"{rbac}/roles", {"metadata": {"name": "look"}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": "worker", "namespace": namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "look"}
    await control_plane.api.post(
        f"{rbac}/rolebindings", {"metadata": {"name": "look"}, "subjects": [subject], "roleRef": role}
    )
    await _allowed(worker, pods)
    with pytest.raises(ApiError, match="403"):
        await worker.delete(pods)


async def _allowed(worker: Api, path: str) -> None:
    """The API server hears of a new binding by its own watch."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            assert (await worker.get(path))["kind"] == "PodList"
        except ApiError:
            assert time.monotonic() < ends
            await asyncio.sleep(0.05)
        else:
            return


async def test_a_token_that_nobody_gave_out_is_refused(control_plane: ControlPlane) -> None:
    with pytest.raises(ApiError, match="401"):
        await Api(control_plane.url, "invented", control_plane.ca_file).get("/api/v1/namespaces")


async def test_a_quota_of_a_namespace_refuses(control_plane: ControlPlane, namespace: str) -> None:
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"count/jobs.batch": "1"}}}
    await control_plane.api.post(f"/api/v1/namespaces/{namespace}/resourcequotas", quota)

    async def counted() -> bool | None:
        seen = await control_plane.api.get(f"/api/v1/namespaces/{namespace}/resourcequotas/few")
        return True if seen["status"].get("used") else None

    await until(counted, "the quota in force")
    here = Namespace(control_plane, namespace)
    await here.create(job("first", told(run_seconds=NEVER)))
    with pytest.raises(ApiError, match="exceeded quota"):
        await here.create(job("second", told()))


async def test_a_restarted_api_server_and_kwok_go_on_where_they_were(
    control_plane: ControlPlane, namespace: str
) -> None:
    here = Namespace(control_plane, namespace)
    await here.create(job("through", told(run_seconds=NEVER)))
    pod = await here.running()
    await control_plane.restart("kube-apiserver")
    path = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}"
    await control_plane.api.patch(path, {"metadata": {"annotations": told(run_seconds=0)}})
    assert (await here.ended("through"))["completedIndexes"] == "0"


OWNER = """
import asyncio, sys
from testbed.control_plane import ControlPlane

async def main():
    plane = await ControlPlane.start()
    print(plane.folder, *(program.pid for program in plane.programs.values()), flush=True)
    if sys.argv[1] == "close":
        plane.close()
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
def owner(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A process that has started a control plane of its own."""
    command = [sys.executable, "-c", OWNER, request.param]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def started_by(owner: subprocess.Popen[str]) -> tuple[Path, list[int]]:
    assert owner.stdout is not None
    folder, *pids = owner.stdout.readline().split()
    assert len(pids) == 5
    return Path(folder), [int(pid) for pid in pids]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < ends, f"never seen: {what}"
        time.sleep(0.05)


@pytest.mark.parametrize("owner", ["keep"], indirect=True)
def test_nothing_is_left_of_it_when_its_owner_is_killed(owner: subprocess.Popen[str]) -> None:
    folder, pids = started_by(owner)
    owner.kill()
    owner.wait(PATIENCE_SECONDS)
    wait_until(lambda: _gone(pids), "the end of every program")
    # A killed owner cannot clear up: the next one that starts does.

    def cleared() -> bool:
        ControlPlane.clear_away_the_dead()
        return not folder.exists()  # another process that starts one may be at it already

    wait_until(cleared, "the end of its folder")


@pytest.mark.parametrize("owner", ["close"], indirect=True)
def test_nothing_is_left_of_it_when_it_is_closed(owner: subprocess.Popen[str]) -> None:
    folder, pids = started_by(owner)
    wait_until(lambda: _gone(pids) and not folder.exists(), "the end of every program and of the folder")
    assert owner.poll() is None


def test_the_folder_of_a_living_owner_is_left_alone(control_plane: ControlPlane) -> None:
    ControlPlane.clear_away_the_dead()
    assert control_plane.kubeconfig.exists()


# --- the binary -------------------------------------------------------------------------------------------------------


def test_without_go_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotBuild, match=r"no go is on the PATH: install Go 1\.\d+ or newer"):
        ensure_binary()


def test_a_go_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho go1.19.2\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(CannotBuild, match=r"needs Go 1\.\d+ or newer, and .* is go1\.19\.2"):
        ensure_binary()
