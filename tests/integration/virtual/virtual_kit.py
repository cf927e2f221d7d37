"""Pods and Jobs for the virtual node, and what to wait for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from testbed.api import ApiError
from testbed.virtual import VirtualNode
from testbed.waiting import until

PATIENCE_SECONDS = 90.0
NEVER = "never"


def container(command: list[str] | None = None, *, cpu: str = "1", memory: str = "1G", **told: Any) -> dict[str, Any]:
    """A container whose environment tells the stand-in what it does: ``run_seconds=3``, ``exit_code=1``."""
    size = {"cpu": cpu, "memory": memory}
    return {
        "name": "worker",
        "image": "example.azurecr.io/work:1",
        "command": command or ["work"],
        "resources": {"requests": size, "limits": size},
        "env": [{"name": f"STANDIN_{key.upper()}", "value": str(value)} for key, value in told.items()],
    }


def spec(*containers: dict[str, Any], **pod: Any) -> dict[str, Any]:
    return {
        "restartPolicy": "Never",
        "nodeSelector": {"kubernetes.io/role": "agent", "kubernetes.io/os": "linux", "type": "virtual-kubelet"},
        "tolerations": [{"key": "virtual-kubelet.io/provider", "operator": "Exists", "effect": "NoSchedule"}],
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,  # the connector keeps a deleted pod for that long, whatever its group does
        "containers": list(containers) or [container()],
        **pod,
    }


def job(name: str, completions: int, template: Mapping[str, Any], **how: Any) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "completionMode": "Indexed",
            "completions": completions,
            "parallelism": completions,
            "backoffLimitPerIndex": 0,
            "template": {"spec": dict(template)},
            **how,
        },
    }


class Here:
    """One namespace beside the virtual node."""

    def __init__(self, virtual: VirtualNode, namespace: str) -> None:
        self.virtual = virtual
        self.api = virtual.plane.api
        self.name = namespace

    def group(self, pod: str) -> str:
        return f"{self.name}-{pod}"

    async def create_pod(self, name: str, template: Mapping[str, Any]) -> None:
        pod = {"metadata": {"name": name}, "spec": dict(template)}
        await self.api.post(f"/api/v1/namespaces/{self.name}/pods", pod)

    async def create_job(self, manifest: Mapping[str, Any]) -> None:
        await self.api.post(f"/apis/batch/v1/namespaces/{self.name}/jobs", manifest)

    async def delete_pod(self, name: str) -> None:
        await self.api.delete(f"/api/v1/namespaces/{self.name}/pods/{name}")

    async def delete_job(self, name: str) -> None:
        await self.api.delete(f"/apis/batch/v1/namespaces/{self.name}/jobs/{name}", propagationPolicy="Background")

    async def pods(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.api.get(f"/api/v1/namespaces/{self.name}/pods"))["items"]
        return sorted(found, key=lambda pod: str(pod["metadata"]["name"]))

    async def pod(self, name: str, condition: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """That pod as soon as it meets the condition."""

        async def look() -> dict[str, Any] | None:
            try:
                found: dict[str, Any] = await self.api.get(f"/api/v1/namespaces/{self.name}/pods/{name}")
            except ApiError as error:
                if error.status == 404:
                    return None
                raise
            return found if condition(found) else None

        return await until(look, f"pod {name}: {what}")

    async def in_phase(self, name: str, *phases: str) -> dict[str, Any]:
        return await self.pod(name, lambda pod: pod["status"]["phase"] in phases, " or ".join(phases))

    async def gone(self, name: str) -> None:
        async def look() -> bool | None:
            return True if all(pod["metadata"]["name"] != name for pod in await self.pods()) else None

        await until(look, f"the end of pod {name}")

    async def ended(self, name: str) -> dict[str, Any]:
        """The Job's status as soon as it is Complete or Failed."""

        async def look() -> dict[str, Any] | None:
            found = await self.api.get(f"/apis/batch/v1/namespaces/{self.name}/jobs/{name}")
            status: dict[str, Any] = found["status"]
            kinds = {each["type"] for each in status.get("conditions", []) if each["status"] == "True"}
            return status if kinds & {"Complete", "Failed"} else None

        return await until(look, f"the end of Job {name}")

    async def group_look(self, pod: str, condition: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """The group of that pod, in the stand-in's own words, as soon as it meets the condition."""

        async def look() -> dict[str, Any] | None:
            found = [each for each in (await self.virtual.aci.look())["groups"] if each["name"] == self.group(pod)]
            return found[0] if found and condition(found[0]) else None

        return await until(look, f"group of {pod}: {what}")

    async def no_groups(self) -> None:
        async def look() -> bool | None:
            return None if (await self.virtual.aci.look())["groups"] else True

        await until(look, "the end of every group")

    async def read_again(self, pod: str, times: int = 6) -> None:
        """The connector has asked for the group so many times more: two a pass, so it has had its say."""
        name = self.group(pod)
        before = (await self.virtual.aci.look())["reads"].get(name, 0)

        async def look() -> bool | None:
            return True if (await self.virtual.aci.look())["reads"].get(name, 0) >= before + times else None

        await until(look, f"{times} more looks of the connector at {name}")

    async def bill_of(self, pod: str) -> dict[str, Any]:
        (line,) = [each for each in (await self.virtual.aci.bill())["groups"] if each["group"] == self.group(pod)]
        return dict(line)
