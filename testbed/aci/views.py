"""A group as Azure Resource Manager shows it.

Decides the shape of answers. Pure. The connector insists on an id, tags, the group's and each container's state, ports,
image and restart count; a container that has not started has no start time, and the connector then tells nothing at all
of its pod.
"""

from __future__ import annotations

import copy
from datetime import datetime
from typing import Any

from testbed.aci.groups import Container, Event, Group, Run, State
from testbed.aci.wording import TYPE


def group_id(subscription: str, group: Group) -> str:
    """Its resource id."""
    return f"/subscriptions/{subscription}/resourceGroups/{group.resource_group}/providers/{TYPE}/{group.name}"


def group(subscription: str, location: str, shown: Group, *, with_instances: bool = True) -> dict[str, Any]:
    """The group; lists show it without what its instances do, as Azure's do."""
    raw = copy.deepcopy(dict(shown.definition.raw))
    properties = dict(raw.get("properties") or {})
    for volume in properties.get("volumes") or ():
        if volume.get("secret") is not None:
            volume["secret"] = {}  # Azure never gives a secret back
    by_name = {each.definition.name: each for each in shown.containers}
    for key in ("containers", "initContainers"):
        for container in properties.get(key) or ():
            inner = container["properties"]
            for variable in inner.get("environmentVariables") or ():
                variable.pop("secureValue", None)
            if key == "containers":
                inner.setdefault("ports", [])
            if with_instances:
                inner["instanceView"] = _instance(by_name[container["name"]])
    properties["provisioningState"] = shown.provisioning_state
    if shown.address:
        properties["ipAddress"] = {"ip": shown.address, "type": "Private", "ports": []}
    if with_instances:
        properties["instanceView"] = {"state": shown.state, "events": [_event(each) for each in shown.events]}
    return {
        "id": group_id(subscription, shown),
        "name": shown.name,
        "type": TYPE,
        "location": raw.get("location") or location,
        "tags": dict(shown.definition.tags),
        "properties": properties,
    }


def _instance(container: Container) -> dict[str, Any]:
    view: dict[str, Any] = {
        "restartCount": max(0, container.starts - 1),
        "currentState": _current(container),
        "events": [_event(each) for each in container.events],
    }
    previous = container.last if container.state is State.WAITING else container.previous
    if previous:
        view["previousState"] = _ended(previous)
    return view


def _current(container: Container) -> dict[str, Any]:
    if container.state is State.TERMINATED and container.last:
        return _ended(container.last)
    shown: dict[str, Any] = {"state": container.state.value, "detailStatus": container.detail}
    if container.state is State.RUNNING and container.started:
        shown["startTime"] = _time(container.started)
    return shown


def _ended(run: Run) -> dict[str, Any]:
    return {
        "state": State.TERMINATED.value,
        "startTime": _time(run.started),
        "exitCode": run.exit_code,
        "finishTime": _time(run.finished),
        "detailStatus": "Completed" if run.exit_code == 0 else "Error",
    }


def _event(event: Event) -> dict[str, Any]:
    at = _time(event.at)
    return {
        "count": 1,
        "firstTimestamp": at,
        "lastTimestamp": at,
        "name": event.name,
        "message": event.message,
        "type": event.kind,
    }


def _time(at: datetime) -> str:
    # As exact as the bill, so that whoever reads these times can come to the same seconds.
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
