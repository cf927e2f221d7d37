"""`python -m tests.e2e.brief_job`: the Job that goes around as an example for virtual nodes, and its work as a task.

First the example, word for word, on the real connector in front of the stand-in for ACI: what becomes of its pods. Then
200 items of the same image and size, 50 at once, 3 retries each, through broker, dispatcher and Jobs: what becomes of
them, what it costs, and the two manifests side by side with the reason for each difference. Ends with 1 where the
example is not refused, or where anything of ours does not end as it should.
"""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
import yaml
from rich.console import Console

from dispatcher.embedded.broker import Broker, BrokerConfig, QueueConfig
from testbed.aci.options import Options
from testbed.control_plane import ControlPlane, real_node
from testbed.virtual import VirtualNode
from testbed.waiting import until
from tests.crash.report import markdown, table, write
from tests.e2e.cluster_service import ClusterService, Replica, cluster_service
from tests.e2e.local_service import QUEUE, WORKER, enqueue

EXAMPLE = Path(__file__).parents[1] / "fixtures" / "templates" / "03-brief-report-generator.yaml"
DOCUMENT = Path(__file__).parents[2] / "docs" / "virtual-node-rules.md"
NAME, COMMAND = "the example", "make brief-job WRITE=1"
TASK_NAME, PULL_SECRET, REGISTRY = "report-generator", "report-registry", "myregistry.azurecr.io"
ITEMS, AT_ONCE, RETRIES, FLAKY, BROKEN = 200, 50, 3, 10, 2
SECONDS_MAX = 900.0
CREATES = 1000
COLUMNS = ("", "there", "here", "because")


def example() -> dict[str, Any]:
    """The Job, word for word."""
    read: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    return read


# --- side by side -----------------------------------------------------------------------------------------------------


def side_by_side(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Every field in which the two Jobs differ, and why. ``here`` is a Job of the dispatcher's."""
    one, other = there["spec"], here["spec"]
    pod, own = one["template"]["spec"], other["template"]["spec"]
    container, worker = pod["containers"][0], own["containers"][0]
    sizes, given = container["resources"], worker["resources"]
    rows = [
        (
            "limits", _size(sizes["limits"]), _size(given["limits"]),
            "Azure refuses a limit above what the group requests, and bills requests: the two are the same",
        ),
        (
            "requests", _size(sizes["requests"]), _size(given["requests"]),
            "the connector counts in 0.1 GB and cuts off: 2Gi would become 2.1 GB, less than was asked for",
        ),
        (
            "Jobs", f"one of {one['completions']}, {one['parallelism']} at once",
            f"batches of at most {AT_ONCE}, each one wave",
            "what may ever run is set aside in money and addresses first; a pod that follows another needs an address "
            "that comes back late",
        ),
        (
            "completionMode", one.get("completionMode", "none"), other["completionMode"],
            "each pod has an item of its own, by its index",
        ),
        (
            "retries", f"backoffLimit: {one['backoffLimit']}",
            f"backoffLimitPerIndex: {other['backoffLimitPerIndex']}; up to {RETRIES} times an item by the dispatcher",
            "a refused create counts as a failed pod there: four of them end all 200",
        ),
        (
            "activeDeadlineSeconds", "none", "on the Job",
            "a pod that cannot start stays Pending, and a group that hangs is billed",
        ),
        (
            "command", "the image's", "written out",
            "the connector refuses arguments without a command, and knows no image's own",
        ),
        (
            "imagePullSecrets", "none", ", ".join(each["name"] for each in own["imagePullSecrets"]),
            "the cluster's own access to a registry does not count there",
        ),
        (
            "enableServiceLinks", "on", _switch(own["enableServiceLinks"]),
            "every Service of the namespace would be sent with every create",
        ),
        (
            "automountServiceAccountToken", "on", _switch(own["automountServiceAccountToken"]),
            "the token would not arrive",
        ),
        (
            "nodeSelector", _pairs(pod["nodeSelector"]), _pairs(own["nodeSelector"]),
            "the add-on's documentation names all three",
        ),
        (
            "finished pods", "stay", "deleted as soon as they are counted",
            "until then they hold an address and a place in the quota",
        ),
    ]  # fmt: skip
    for name, why in (("tolerations", "a difference here has no reason"), ("restartPolicy", "none either")):
        if pod[name] != own[name]:
            rows.append((name, json.dumps(pod[name]), json.dumps(own[name]), why))
    return rows


def _size(asked: Mapping[str, str]) -> str:
    cpu = str(asked["cpu"])
    whole = cpu.removesuffix("000m")  # as the API server writes it
    return f"{whole if cpu.endswith('000m') else cpu}, {asked['memory']}"


def _switch(on: bool) -> str:
    return "on" if on else "off"


def _pairs(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))


# --- theirs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Refused:
    """What became of the example."""

    ran: int
    reason: str
    words: str
    seconds: float


async def try_the_example(virtual: VirtualNode) -> Refused:
    """Creates it as it stands and waits until its Job has ended, at most for the time that a test waits."""
    plane = virtual.plane
    namespace = await plane.create_namespace()
    # Every namespace of a cluster has it, and the pods' token volumes refer to it.
    authority = {"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": plane.ca_file.read_text("utf-8")}}
    await plane.api.post(f"/api/v1/namespaces/{namespace}/configmaps", authority)
    await plane.kubectl("create", f"--namespace={namespace}", f"--filename={EXAMPLE}")
    began = time.monotonic()
    job = f"/apis/batch/v1/namespaces/{namespace}/jobs/{TASK_NAME}"

    async def ended() -> dict[str, Any] | None:
        conditions = (await plane.api.get(job))["status"].get("conditions") or ()
        return next((each for each in conditions if each["type"] in ("Complete", "Failed")), None)

    condition = await until(ended, "the end of the example's Job", 180)
    seconds = time.monotonic() - began
    pods = (await plane.api.get(f"/api/v1/namespaces/{namespace}/pods"))["items"]
    told = [each["status"].get("message", "") for each in pods if each["status"].get("reason") == "ProviderFailed"]
    await plane.clear_namespace(namespace)
    return Refused(
        ran=sum(each["status"]["phase"] in ("Running", "Succeeded") for each in pods),
        reason=f"{condition['type']}, {condition.get('reason', '')}",
        words=_code(told[0]) if told else "",
        seconds=seconds,
    )


def _code(message: str) -> str:
    return message.partition("ERROR CODE: ")[2].partition("\n")[0]


# --- ours -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of ours."""

    done: int
    dead: int
    failed_once: int
    jobs: int
    groups: int
    peak: int
    refused: Mapping[str, int]
    billed: Decimal
    charged: Decimal
    seconds: float
    manifest: Mapping[str, Any]


SETTINGS: dict[str, Any] = {
    "queues": [{"name": QUEUE, "tasks": [TASK_NAME]}],
    "virtual_node": {
        "subnet": "10.240.0.0/24",
        "release_hold": "12s",
        "tail": "10s",
        "creates_per_5min": CREATES,
        "creates_per_hour": CREATES,
        "deletes_per_5min": CREATES,
        "deletes_per_hour": CREATES,
    },
}


def task(folder: Path) -> dict[str, Any]:
    """The example's work as a task."""
    container = example()["spec"]["template"]["spec"]["containers"][0]
    return {
        "name": TASK_NAME,
        "image": container["image"],
        "command": ["sh", str(WORKER)],
        "env": {"RUN_LOG": str(folder / "runs.jsonl")},
        "labels": {},
        "image_pull_secrets": [PULL_SECRET],
        "resources": dict(container["resources"]["requests"]),
        "placements": ["virtual_node"],
        "item_timeout": "60s",
        "start_deadline": "60s",
        "backoff_limit": RETRIES,
        "batch_size_max": AT_ONCE,
        "parallelism_max": AT_ONCE,
        "linger": "2s",
    }


def messages() -> dict[str, bytes]:
    """Two seconds each; some fail the first time, two every time."""
    bodies = {}
    for number in range(ITEMS):
        params: dict[str, Any] = {"seconds": 2}
        if number < BROKEN:
            params["fail"] = True
        elif number < BROKEN + FLAKY:
            params["fail_once"] = True
        body = {"task": TASK_NAME, "params": params}
        bodies[f"report-{number}"] = json.dumps(body, separators=(",", ":")).encode()
    return bodies


async def run_ours(virtual: VirtualNode, folder: Path) -> Ran:
    """The same work through the dispatcher. Raises AssertionError where it does not end."""
    queue = QueueConfig(QUEUE, lock_duration=timedelta(seconds=10), max_delivery_count=100)
    async with Broker(BrokerConfig(queues=(queue,))) as broker:
        started = cluster_service(virtual.plane, folder, broker.connection_string, settings=SETTINGS, task=task(folder))
        async with started as service:
            await _create_pull_secret(virtual.plane, service.tasks)
            replica = service.replica()
            replica.start()
            await replica.ready()
            began = time.monotonic()
            await enqueue(broker.connection_string, messages())
            manifest, peak = await _until_settled(virtual, service, replica)
            seconds = time.monotonic() - began
            replica.stop()
            lines = [each for each in (await virtual.aci.bill())["groups"] if each["namespace"] == service.tasks]
            closed = {event["job"]: Decimal(event["cost_usd"]) for event in replica.events("attempt.closed")}
            counts = broker.counts(QUEUE)
            retried = [event for event in replica.events("item.retried") if event["allowance"] == "item"]
            return Ran(
                done=counts.removed,
                dead=counts.buried,
                failed_once=len({event["item"] for event in retried}) - BROKEN,
                jobs=len(closed),
                groups=len(lines),
                peak=peak,
                refused=await _refusals(virtual, service),
                billed=sum((Decimal(each["usd"]) for each in lines), Decimal(0)),
                charged=sum(closed.values(), Decimal(0)),
                seconds=seconds,
                manifest=manifest,
            )


async def _create_pull_secret(plane: ControlPlane, namespace: str) -> None:
    login = {"auths": {REGISTRY: {"username": "puller", "password": "secret"}}}
    secret = {
        "metadata": {"name": PULL_SECRET},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": json.dumps(login)},
    }
    await plane.api.post(f"/api/v1/namespaces/{namespace}/secrets", secret)


async def _until_settled(
    virtual: VirtualNode, service: ClusterService, replica: Replica
) -> tuple[Mapping[str, Any], int]:
    """The largest Job that was seen, and the most groups that ran at once."""
    largest: Mapping[str, Any] = {}
    peak = 0
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            jobs = (await virtual.plane.api.get(f"/apis/batch/v1/namespaces/{service.tasks}/jobs"))["items"]
            largest = max([*jobs, *([largest] if largest else [])], key=_completions, default={})
            peak = max(peak, (await virtual.aci.statistics())["now"]["metered"])
            status = await replica.status()
            counts = status.get("items") or {}
            ended = sum(int(counts.get(name) or 0) for name in ("done", "dead_lettered"))
            if ended >= ITEMS and not status.get("open_entries"):
                return largest, peak
            await asyncio.sleep(0.25)


def _completions(job: Mapping[str, Any]) -> int:
    return int(job["spec"]["completions"])


async def _refusals(virtual: VirtualNode, service: ClusterService) -> dict[str, int]:
    codes: dict[str, int] = {}
    for each in await virtual.aci.requests():
        if each["code"] and each["name"].startswith(f"{service.tasks}-"):
            codes[each["code"]] = codes.get(each["code"], 0) + 1
    return codes


# --- together ---------------------------------------------------------------------------------------------------------


def problems(theirs: Refused, ours: Ran) -> list[str]:
    """What is not as it should be, a line each."""
    checks = {
        f"{theirs.ran} pods of the example ran": theirs.ran == 0,
        f"the example was refused with {theirs.words!r}": theirs.words
        == "ContainerLimitGreaterThanContainerGroupTotalRequest",
        f"{ours.done} done and {ours.dead} dead-lettered": (ours.done, ours.dead) == (ITEMS - BROKEN, BROKEN),
        f"{ours.failed_once} items were tried again": ours.failed_once == FLAKY,
        f"{ours.peak} groups ran at once": ours.peak <= AT_ONCE,
        f"Azure refused {dict(ours.refused)}": not ours.refused,
        f"${ours.billed} billed, ${ours.charged} charged": ours.billed <= ours.charged,
    }
    return [what for what, holds in checks.items() if not holds]


def sentences(theirs: Refused, ours: Ran) -> str:
    """What became of both."""
    there = (
        f"There: every pod was refused (`{theirs.words}`), none ran, and after {theirs.seconds:.0f} s the Job was "
        f"{theirs.reason}."
    )
    here = (
        f"Here: {ours.done} of {ITEMS} items done and {ours.dead} dead-lettered, as they deserved, {FLAKY} after a "
        f"failure of their own, in {ours.jobs} Jobs and {ours.groups} groups, at most {ours.peak} at once; "
        f"${ours.billed:.4f} billed, ${ours.charged:.4f} charged (an upper bound, without read access to ACI); "
        f"{ours.seconds:.0f} s."
    )
    conditions = (
        "An item runs for two seconds; a group starts after 1.6 s here and after about a minute on Azure, and creates "
        f"are not the bound here ({CREATES} in 5 minutes, where Azure's default is 100)."
    )
    return f"{there} {here} {conditions}"


async def run(folder: Path) -> tuple[Refused, Ran]:
    """Both, one after the other, on one virtual node."""
    async with ControlPlane.started() as plane:
        await plane.create_nodes(real_node("node-1"))
        options = Options(
            executes=True,
            release_seconds=3,
            creates_per_5_minutes=CREATES,
            creates_per_hour=CREATES,
            deletes_per_5_minutes=CREATES,
            deletes_per_hour=CREATES,
            private_registries=(REGISTRY,),
        )
        async with VirtualNode.started(plane, options) as virtual:
            theirs = await try_the_example(virtual)
            return theirs, await run_ours(virtual, folder)


def main(
    write_down: Annotated[bool, typer.Option("--write", help="Write it into docs/virtual-node-rules.md.")] = False,
) -> None:
    """The example that goes around, and the same work as a task: what becomes of each, side by side."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.getLogger("azure").setLevel(logging.CRITICAL + 1)
    with tempfile.TemporaryDirectory(prefix="burst-brief-job-") as folder:
        theirs, ours = asyncio.run(run(Path(folder)))
    rows = side_by_side(example(), ours.manifest)
    console = Console()
    console.print(table(COLUMNS, rows))
    console.print(sentences(theirs, ours), markup=False)
    wrong = problems(theirs, ours)
    for line in wrong:
        console.print(f"error: {line}", markup=False)
    if write_down and not wrong:
        write(DOCUMENT, NAME, COMMAND, f"{markdown(COLUMNS, rows)}\n\n{sentences(theirs, ours)}")
    raise typer.Exit(1 if wrong else 0)


if __name__ == "__main__":
    typer.run(main)
