"""One template on the virtual node: created as it stands, and looked at until it is clear what became of its pods.

Decides what counts as an outcome. Knows nothing of what was expected; of a template it needs the documents, and whether
it has a twin to be compared with.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from testbed.aci.options import OUT_OF_THE_WAY
from testbed.virtual import Refused, VirtualNode

from . import surroundings
from .templates import Outcome, Placed, Template

OPTIONS: Mapping[str, Any] = {
    # No limit is to be met but those that a template itself meets.
    **OUT_OF_THE_WAY,
    "private_registries": [surroundings.PRIVATE_REGISTRY],
}
"""What the stand-in is set to."""
PATIENCE_SECONDS = 150.0
LOOK_EVERY_SECONDS = 0.25
READS = 8
FOREVER_SECONDS = 20.0
"""How often the connector must have asked for a group that it never created, and for how long its pod must have said
nothing, before it is said to wait for ever: a refusal shows within seconds, and two reads make a round of five."""
_ARM = re.compile(r"RESPONSE (\d+).*?\n(\{.*\})\s*-+\s*$", re.DOTALL)
"""How the connector tells Azure's answer: address, status, and the body as JSON."""
_SPACE = re.compile(r"\s+")
WORDS_MAX = 400


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of a template's pods, all of them; ``words`` are Kubernetes' own."""

    outcome: Outcome
    words: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"outcome": self.outcome.value, "words": self.words}


class NotClear(RuntimeError):
    """Its pods did not all come to the same end, or to none in time."""


async def attempt(virtual: VirtualNode, template: Template) -> Seen:
    """Tries the template, and its twin where its evidence names one. Raises NotClear."""
    if not template.evidence.has_twin:
        trial = Trial(virtual, template)
        try:
            seen = await trial.run()
            lacking = template.evidence.lacks
            if seen.outcome is Outcome.RUNS and lacking and not _has(await trial.groups(), lacking):
                return Seen(Outcome.IGNORED, template.evidence.words)
            return seen
        finally:
            await trial.remove()
    one, other = Trial(virtual, template, "a"), Trial(virtual, template.twin(), "b")
    try:
        seen, like = await asyncio.gather(one.run(), other.run())
        same = await one.shown() == await other.shown()
        if same and seen.outcome is like.outcome is Outcome.RUNS:
            return Seen(Outcome.IGNORED, template.evidence.words)
        return seen
    finally:
        await asyncio.gather(one.remove(), other.remove())


class Trial:
    """A template in a namespace of its own, from its creation until it is clear."""

    def __init__(self, virtual: VirtualNode, template: Template, letter: str = "a") -> None:
        self._virtual = virtual
        self._api = virtual.plane.api
        self._template = template
        self._placed: Placed = template.in_namespace(letter)
        self.namespace = self._placed.namespace
        self._silent_since: dict[str, float] = {}

    async def run(self) -> Seen:
        """Creates it and waits. Raises NotClear."""
        await surroundings.create(self._virtual.plane, self.namespace, self._template.name)
        await self._apply()
        ends = time.monotonic() + PATIENCE_SECONDS
        while True:
            seen = await self._look()
            if seen is not None:
                return seen
            if time.monotonic() > ends:
                pods = {name: pod["status"] for name, pod in (await self._pods()).items()}
                raise NotClear(f"{self._template.name}: not clear after {PATIENCE_SECONDS:.0f} s: {json.dumps(pods)}")
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def remove(self) -> None:
        """All that was made of it."""
        await surroundings.remove(self._virtual.plane, self.namespace, self._template.name)

    async def _apply(self) -> None:
        text = yaml.safe_dump_all(map(dict, self._placed.documents))
        try:
            await self._virtual.plane.kubectl("create", "--filename=-", stdin=text)
        except RuntimeError as error:
            raise NotClear(f"{self._template.name}: {error}") from error
        for document in self._placed.documents:
            if document["kind"] == "CronJob":  # not waited for until two in the morning
                name = document["metadata"]["name"]
                await self._virtual.plane.kubectl(
                    "create", "job", f"{name}-now", f"--from=cronjob/{name}", f"--namespace={self.namespace}"
                )

    # --- what became of it --------------------------------------------------------------------------------------------

    async def _look(self) -> Seen | None:
        pods, wanted = await self._pods(), sum(pods_of(each) for each in self._placed.documents)
        if wanted == 0:
            return Seen(Outcome.ABSENT)
        there = {name: pod for name, pod in pods.items() if "deletionTimestamp" not in pod["metadata"]}
        if not there or (len(there) < wanted and not await self._job_ended()):
            return None
        if self._fails_on_purpose and not await self._job_ended():
            return None
        found = [await self._outcome(name, pod) for name, pod in there.items()]
        if any(each is None for each in found):
            return None
        kinds = Counter(each.outcome for each in found if each)
        if len(kinds) > 1:
            raise NotClear(f"{self._template.name}: {dict(kinds)}")
        return found[0]

    async def _outcome(self, name: str, pod: Mapping[str, Any]) -> Seen | None:
        status, node = pod["status"], pod["spec"].get("nodeName")
        words = self._plain(f"{status.get('reason') or ''}: {_short(status.get('message') or '')}")
        if node not in (None, self._virtual.name):
            return Seen(Outcome.ABSENT, f"runs on {node}")
        if status.get("reason") == "ProviderFailed":
            return Seen(Outcome.FAILS, words)
        if node is None:
            conditions = {each["type"]: each for each in status.get("conditions", ())}
            scheduled = conditions.get("PodScheduled", {})
            if scheduled.get("reason") != "Unschedulable":
                return None
            return Seen(Outcome.PENDING, self._plain(f"Unschedulable: {_first(scheduled.get('message', ''))}"))
        if status["phase"] == "Succeeded" or _is_running(status):
            return Seen(Outcome.RUNS)
        if status["phase"] == "Failed":
            # It ran, and its program was told to fail: what is of interest then is how its Job ended.
            return Seen(Outcome.RUNS if self._fails_on_purpose else Outcome.FAILS, words.strip(": "))
        look = await self._virtual.aci.look()
        group = f"{self.namespace}-{name}"
        since = self._silent_since.setdefault(name, time.monotonic())
        if any(each["name"] == group for each in look["groups"]) or await self._was_refused(group):
            return None  # there is something to tell, and the connector tells it one pod after another
        if look["reads"].get(group, 0) < READS or time.monotonic() - since < FOREVER_SECONDS:
            return None
        return Seen(Outcome.PENDING, "no group is asked for, and nothing is said")

    async def _was_refused(self, group: str) -> bool:
        return any(each["name"] == group and each["code"] for each in await self._virtual.aci.requests())

    @property
    def _fails_on_purpose(self) -> bool:
        return "STANDIN_EXIT_CODE" in self._template.told

    async def _pods(self) -> dict[str, dict[str, Any]]:
        found = (await self._api.get(f"/api/v1/namespaces/{self.namespace}/pods"))["items"]
        return {pod["metadata"]["name"]: pod for pod in sorted(found, key=lambda each: str(each["metadata"]["name"]))}

    async def _job_ended(self) -> bool:
        status = await self._job()
        return any(each["type"] in ("Complete", "Failed") for each in status.get("conditions", ()))

    async def _job(self) -> dict[str, Any]:
        jobs = (await self._api.get(f"/apis/batch/v1/namespaces/{self.namespace}/jobs"))["items"]
        return dict(jobs[0]["status"]) if jobs else {}

    def _plain(self, words: str) -> str:
        """Without what differs from run to run."""
        words = words.replace(self.namespace, str(self._template.documents[0]["metadata"].get("namespace", "default")))
        for document in self._placed.documents:
            name = str(document["metadata"]["name"])
            words = re.sub(rf"{re.escape(name[:50])}[a-z0-9-]*-[a-z0-9]{{5}}\b", f"{name}-...", words)
        return _SPACE.sub(" ", words).strip()[:WORDS_MAX]

    # --- what it became -----------------------------------------------------------------------------------------------

    async def groups(self) -> list[dict[str, Any]]:
        """The definitions of its groups as they reached Azure, without what is of one time alone."""
        found = []
        for name in await self._pods():
            try:
                group = await self._virtual.aci.request(
                    "GET", f"{self._virtual.aci.groups_path}/{self.namespace}-{name}"
                )
            except Refused:
                continue  # never created
            found.append(_definition(group["properties"]))
        return sorted(found, key=json.dumps)

    async def shown(self) -> tuple[str, str]:
        """Everything by which it can be told from its twin: its groups, and how its Job ended."""
        job = await self._job()
        kept = ("succeeded", "failed", "completedIndexes", "failedIndexes")
        groups = json.dumps(await self.groups()).replace(self.namespace, "here")
        return groups, json.dumps({key: job[key] for key in kept if key in job})


def _definition(properties: Mapping[str, Any]) -> dict[str, Any]:
    kept = {
        key: value for key, value in properties.items() if key not in ("ipAddress", "instanceView", "provisioningState")
    }
    for kind in ("containers", "initContainers"):
        kept[kind] = [{**each, "properties": _container(each["properties"])} for each in kept.get(kind) or ()]
    return kept


def _container(properties: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in properties.items() if key != "instanceView"}
    # The connector takes them from a map, so that their order is another every time.
    kept["environmentVariables"] = sorted(kept.get("environmentVariables") or (), key=lambda each: str(each["name"]))
    return kept


def _short(message: str) -> str:
    found = _ARM.search(message)
    if not found:
        return message
    error = json.loads(found[2])["error"]
    return f"{found[1]} {error['code']}: {error['message']}"


def _has(groups: list[dict[str, Any]], name: str) -> bool:
    return f'"{name}"' in json.dumps(groups)


def _is_running(status: Mapping[str, Any]) -> bool:
    return status["phase"] == "Running" and bool(status.get("containerStatuses"))


def _first(message: str) -> str:
    """The scheduler's words about the nodes, without those about preemption."""
    return message.split(". ")[0].split(" preemption:")[0].rstrip(".")


def pods_of(document: Mapping[str, Any]) -> int:
    """How many pods it makes at first."""
    spec = document["spec"]
    match document["kind"]:
        case "NetworkPolicy":
            return 0
        case "CronJob":
            spec = spec["jobTemplate"]["spec"]
            return int(min(spec["parallelism"], spec["completions"]))
        case "Job":
            return int(min(spec["parallelism"], spec["completions"]))
        case "Deployment":
            return int(spec["replicas"])
        case _:
            return 1
