"""Jobs and what to wait for, for the tests of the testbed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from testbed.control_plane import ControlPlane
from testbed.waiting import until

PATIENCE_SECONDS = 60.0


def job(
    name: str,
    annotations: Mapping[str, str],
    *,
    completions: int = 1,
    retries: int = 0,
    virtual: bool = False,
    labels: Mapping[str, str] | None = None,
    **pod: Any,
) -> dict[str, Any]:
    """An Indexed Job; ``pod`` goes into the pods' spec."""
    spec: dict[str, Any] = {"restartPolicy": "Never", "containers": [{"name": "worker", "image": "any"}], **pod}
    if virtual:
        spec["nodeSelector"] = {"type": "virtual-kubelet"}
        spec["tolerations"] = [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "completionMode": "Indexed",
            "completions": completions,
            "parallelism": completions,
            "backoffLimitPerIndex": retries,
            "template": {"metadata": {"annotations": dict(annotations), "labels": dict(labels or {})}, "spec": spec},
        },
    }


class Namespace:
    """One namespace of a control plane, as a test looks at it."""

    def __init__(self, plane: ControlPlane, name: str) -> None:
        self.plane = plane
        self.name = name

    async def create(self, manifest: Mapping[str, Any]) -> None:
        await self.plane.api.post(f"/apis/batch/v1/namespaces/{self.name}/jobs", manifest)

    async def ended(self, name: str) -> dict[str, Any]:
        """The Job's status as soon as it is Complete or Failed."""

        async def look() -> dict[str, Any] | None:
            status = (await self.plane.api.get(f"/apis/batch/v1/namespaces/{self.name}/jobs/{name}"))["status"]
            kinds = {each["type"] for each in status.get("conditions", []) if each["status"] == "True"}
            return status if kinds & {"Complete", "Failed"} else None

        return await until(look, f"the end of {name}")

    async def pods(self) -> list[dict[str, Any]]:
        found = (await self.plane.api.get(f"/api/v1/namespaces/{self.name}/pods"))["items"]
        return sorted(found, key=lambda pod: pod["metadata"]["name"])

    async def pod(self, condition: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """The first pod that meets the condition."""

        async def look() -> dict[str, Any] | None:
            return next((pod for pod in await self.pods() if condition(pod)), None)

        return await until(look, what)

    async def running(self) -> dict[str, Any]:
        return await self.pod(lambda pod: pod["status"]["phase"] == "Running", "a running pod")


def condition(status: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The condition of that type, empty if it is not there or not true."""
    found = [each for each in status.get("conditions", []) if each["type"] == kind and each["status"] == "True"]
    return found[0] if found else {}


def terminated(pod: Mapping[str, Any]) -> dict[str, Any]:
    return pod["status"]["containerStatuses"][0]["state"]["terminated"]
