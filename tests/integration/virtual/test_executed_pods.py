"""Pods of the virtual node whose commands are run: what they see, write and leave is real."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import psutil
import pytest
from virtual_kit import Here, container, job, spec

from testbed.virtual import VirtualNode
from testbed.waiting import until


@pytest.fixture
async def here(virtual_node: VirtualNode, virtual_namespace: str) -> Here:
    await virtual_node.aci.reset(executes=True)
    return Here(virtual_node, virtual_namespace)


async def test_a_job_reads_its_items_and_a_secret_and_its_outcomes_are_its_programs(here: Here) -> None:
    items = {f"{index}.json": json.dumps({"code": code}) for index, code in enumerate((0, 3, 0))}
    core = f"/api/v1/namespaces/{here.name}"
    await here.api.post(f"{core}/configmaps", {"metadata": {"name": "burst-a-1"}, "data": items})
    secret = {"metadata": {"name": "key"}, "data": {"token": base64.b64encode(b"secret\n").decode()}}
    await here.api.post(f"{core}/secrets", secret)
    program = (
        "import json,os,sys; item=json.load(open(os.environ['ITEMS']+'/'+os.environ['JOB_COMPLETION_INDEX']+'.json'));"
        "print('saw', item, open('/etc/key/token').read().strip(), flush=True); sys.exit(item['code'])"
    )
    worker = container(["python", "-c", program]) | {
        "env": [{"name": "ITEMS", "value": "/var/run/burst/items"}],
        "volumeMounts": [
            {"name": "items", "mountPath": "/var/run/burst/items"},
            {"name": "secret", "mountPath": "/etc/key"},
        ],
    }
    volumes = [
        {"name": "items", "configMap": {"name": "burst-a-1", "optional": False}},
        {"name": "secret", "secret": {"secretName": "key"}},
    ]
    await here.create_job(job("three", 3, spec(worker, volumes=volumes)))
    status = await here.ended("three")
    assert (status["completedIndexes"], status["failedIndexes"]) == ("0,2", "1")
    for pod in await here.pods():
        index = pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"]
        log = await here.virtual.plane.kubectl("logs", "-n", here.name, pod["metadata"]["name"])
        assert log.strip() == f"saw {json.loads(items[f'{index}.json'])} secret"
        group = await here.virtual.aci.request(
            "GET", f"{here.virtual.aci.groups_path}/{here.group(pod['metadata']['name'])}"
        )
        state = group["properties"]["containers"][0]["properties"]["instanceView"]["currentState"]
        assert state["exitCode"] == json.loads(items[f"{index}.json"])["code"]  # Azure knows it; Kubernetes is not told
        assert group["properties"]["volumes"][0]["secret"] == {}


async def test_a_deleted_pods_program_is_told_to_stop_and_leaves_nothing(here: Here) -> None:
    await here.virtual.aci.change_options(stop_seconds=10, delete_seconds=12)
    program = "trap 'exit 0' TERM; echo $$; while :; do sleep 0.1; done"
    await here.create_pod("runs", spec(container(["sh", "-c", program])))
    await here.in_phase("runs", "Running")
    process = psutil.Process(int(await here.virtual.plane.kubectl("logs", "-n", here.name, "runs")))
    assert process.is_running()
    await here.delete_pod("runs")

    async def ended() -> bool | None:
        return None if process.is_running() else True

    await until(ended, "the end of the program")
    line = await here.bill_of("runs")
    assert not line["metered"]  # it ended by itself, long before it would have been ended


async def test_what_runs_ends_with_the_stand_in(here: Here) -> None:
    await here.create_pod("runs", spec(container(["sleep", "300"])))
    await here.in_phase("runs", "Running")
    server = psutil.Process(here.virtual.programs["aci"].pid)
    (program,) = [each for each in server.children(recursive=True) if "sleep" in each.name()]
    await here.virtual.aci.reset()

    async def ended() -> bool | None:
        return None if program.is_running() and program.status() != psutil.STATUS_ZOMBIE else True

    await until(ended, "the end of the program")


def made_in(folder: Path) -> set[str]:
    """Kinds of files of any size worth having."""
    return {path.suffix for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 1000}


@pytest.mark.parametrize(
    ("task", "params", "suffix"),
    [("report", {"country": "Kenya"}, ".html"), ("thumbnail", {"photo": "coffee"}, ".jpg")],
)
async def test_a_task_of_the_demo_makes_its_artifact_on_the_virtual_node(
    here: Here, tmp_path: Path, task: str, params: dict[str, str], suffix: str
) -> None:
    item = {"id": "one", "task": task, "tenant": "acme", "params": params, "sequence_number": 1}
    data = {"0.json": json.dumps(item)}
    core = f"/api/v1/namespaces/{here.name}"
    await here.api.post(f"{core}/configmaps", {"metadata": {"name": "burst-a-1"}, "data": data})
    told = {
        "BURST_ITEMS_DIR": "/var/run/burst/items",
        "BURST_BATCH": "a",
        "BURST_ATTEMPT": "1",
        "BURST_DEMO_OUTPUT": str(tmp_path),
        "BURST_RUN_LOG": "/dev/null",
    }
    worker = container(["python", f"examples/tasks/{task}.py"], cpu="500m", memory="600M") | {
        "env": [{"name": name, "value": value} for name, value in told.items()],
        "volumeMounts": [{"name": "items", "mountPath": "/var/run/burst/items"}],
    }
    volumes = [{"name": "items", "configMap": {"name": "burst-a-1", "optional": False}}]
    await here.create_job(job(task, 1, spec(worker, volumes=volumes)))
    status = await here.ended(task)
    (pod,) = await here.pods()
    log = await here.virtual.plane.kubectl("logs", "-n", here.name, pod["metadata"]["name"])
    assert status.get("completedIndexes") == "0", log
    assert suffix in made_in(tmp_path), log
