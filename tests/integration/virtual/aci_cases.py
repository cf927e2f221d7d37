"""What can become of a pod on the virtual node: how each case is brought about, and when it has shown itself.

The statuses that the real connector writes in these cases are kept in tests/fixtures/aci.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from virtual_kit import NEVER, Here, container, spec
from virtual_kit import spec as pods_spec

Shown = Callable[[Here, str], Awaitable[dict[str, Any]]]

PROVISIONING_TIMEOUT_SECONDS = 8
CAPACITY_ERROR_SECONDS = 3


async def failed(here: Here, pod: str) -> dict[str, Any]:
    return await here.in_phase(pod, "Failed")


async def succeeded(here: Here, pod: str) -> dict[str, Any]:
    return await here.in_phase(pod, "Succeeded")


async def refused_for_good(here: Here, pod: str) -> dict[str, Any]:
    return await here.pod(pod, lambda found: found["status"].get("reason") == "ProviderFailed", "refused")


async def restarted(here: Here, pod: str) -> dict[str, Any]:
    def again(found: dict[str, Any]) -> bool:
        statuses = found["status"].get("containerStatuses") or [{}]
        return statuses[0].get("restartCount", 0) == 1 and "running" in statuses[0].get("state", {})

    return await here.pod(pod, again, "running again")


async def stays(here: Here, pod: str) -> dict[str, Any]:
    """Nothing is told of it, however often the connector looks."""
    await here.read_again(pod, 8)
    return next(each for each in await here.pods() if each["metadata"]["name"] == pod)


def after(state: str) -> Shown:
    """As :func:`stays`, once the group's provisioning is in that state."""

    async def shown(here: Here, pod: str) -> dict[str, Any]:
        await here.group_look(pod, lambda each: each["provisioning_state"] == state, state)
        return await stays(here, pod)

    return shown


async def vanished_before_its_start(here: Here, pod: str) -> dict[str, Any]:
    await here.group_look(pod, lambda each: bool(each["address"]), "accepted")
    await here.virtual.aci.steer(here.group(pod), "vanish")
    return await stays(here, pod)


@dataclass(frozen=True, slots=True)
class Case:
    """One case. ``fault`` hits its group alone."""

    name: str
    meaning: str
    shown: Shown
    fault: Mapping[str, Any] | None = None
    spec: Mapping[str, Any] = field(default_factory=spec)


def _fault(name: str, meaning: str, kind: str, spec: Mapping[str, Any] | None = None, **how: Any) -> Case:
    return Case(name, meaning, failed, {"kind": kind, **how}, spec or pods_spec())


def _with(base: dict[str, Any], **more: Any) -> dict[str, Any]:
    return spec({**base, **more})


_MOUNTED = _with(container(run_seconds=0), volumeMounts=[{"name": "items", "mountPath": "/items"}])
_GREEDY = _with(
    container(),
    resources={"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"cpu": "2", "memory": "4Gi"}},
)
_RUNS = spec(container(run_seconds=NEVER))

CASES = (
    Case("succeeded", "the program ended with 0", succeeded, spec=spec(container(run_seconds=0))),
    Case("exit-42", "the program ended with 42, and the code is lost", failed, spec=spec(container(exit_code=42))),
    _fault("quota-groups", "the subscription's quota of groups", "quota_groups"),
    _fault("quota-cores", "the subscription's quota of cores", "quota_cores"),
    _fault("quota-of-none", "names that Azure takes for fraud", "quota_of_none"),
    _fault("no-capacity", "the region has no room", "no_capacity"),
    _fault("subnet-full", "no address is left", "subnet_full"),
    _fault("inaccessible-image", "image or credential are wrong", "inaccessible_image"),
    _fault("registry-error", "the registry answered badly", "registry_error"),
    _fault("link-not-ready", "the subnet is not linked yet", "link_not_ready"),
    _fault("transitioning", "another operation on the group is under way", "transitioning"),
    _fault("server-timeout", "no answer in time, nothing created", "server_timeout"),
    _fault("accepted-but-503", "no answer in time, and the group runs", "accepted_but_503"),
    _fault("accepted-then-retried", "as before, but the SDK's own retry found the group", "accepted_but_503", times=1,
           spec=spec(container(image_mb=170))),
    _fault("forbidden", "no right to create groups", "forbidden"),
    _fault("may-not-join", "no right to the subnet", "may_not_join"),
    _fault("too-large", "the definition is too big", "too_large"),
    _fault("throttled", "beyond a rate for longer than the SDK waits", "throttled", seconds=90),
    _fault("internal", "something in Azure broke", "internal"),
    Case("refused-onfailure", "refused, and its restart policy is OnFailure", refused_for_good,
         {"kind": "no_capacity"}, {**_RUNS, "restartPolicy": "OnFailure"}),
    Case("capacity-lost", "accepted, then no capacity", after("Failed"), {"kind": "capacity_lost"}),
    Case("never-provisioned", "accepted, and never provisioned", after("Failed"), {"kind": "never_prepared"}),
    Case("image-never-pulled", "the pull fails again and again", after("Creating"), {"kind": "image_never_pulled"}),
    Case("vnet-trouble", "joining the network takes long", after("Repairing"),
         {"kind": "vnet_trouble", "seconds": 600}),
    Case("vanished", "the group was deleted behind the connector's back", failed, {"kind": "vanishes", "seconds": 8},
         _RUNS),
    Case("vanished-before-start", "the same before it ran", vanished_before_its_start, {"kind": "never_prepared"},
         _RUNS),
    Case("maintenance", "the platform stopped and started it", restarted, {"kind": "maintenance", "seconds": 1}, _RUNS),
    Case("restarted-after-failure", "the platform started a failed program again in spite of Never", restarted,
         {"kind": "restarted_after_failure"}, spec(container(run_seconds=20, fail_times=1, exit_code=1))),
    Case("limits-above-requests", "limits are above the group's requests", failed, spec=_GREEDY),
    Case("args-alone", "arguments without a command", failed,
         spec=_with({k: v for k, v in container().items() if k != "command"}, args=["work"])),
    Case("startup-probe", "a startup probe", failed,
         spec=_with(container(), startupProbe={"exec": {"command": ["x"]}})),
    Case("hook", "a lifecycle hook", failed,
         spec=_with(container(), lifecycle={"preStop": {"exec": {"command": ["x"]}}})),
    Case("config-map-required", "its ConfigMap is gone, and it says that it needs it", failed,
         spec={**_MOUNTED, "volumes": [{"name": "items", "configMap": {"name": "burst-x-1", "optional": False}}]}),
    Case("config-map-assumed", "its ConfigMap is gone, and it says nothing of it", failed,
         spec={**_MOUNTED, "volumes": [{"name": "items", "configMap": {"name": "burst-x-1"}}]}),
    Case("host-path", "a folder of the node", failed,
         spec={**_MOUNTED, "volumes": [{"name": "items", "hostPath": {"path": "/data"}}]}),
    Case("downward-volume", "a downward API volume", failed,
         spec={**_MOUNTED, "volumes": [{"name": "items", "downwardAPI": {"items": [
             {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}),
    Case("pull-secret-missing", "its pull secret is gone", failed, spec=spec(imagePullSecrets=[{"name": "gone"}])),
    Case("status-env", "a variable from the pod's status", stays,
         spec=_with(container(), env=[{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}])),
)  # fmt: skip
