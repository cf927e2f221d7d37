"""Requests and a clock for the tests of the stand-in for ACI."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from testbed.aci import definitions, faults
from testbed.aci.groups import Group
from testbed.aci.options import Options
from testbed.aci.region import Region
from testbed.aci.wording import Refusal

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def container(name: str = "worker", *, cpu: float = 1, memory: float = 2, **environment: str) -> dict[str, Any]:
    return {
        "name": name,
        "properties": {
            "image": "example.azurecr.io/work:1",
            "command": ["work"],
            "environmentVariables": [{"name": key, "value": value} for key, value in environment.items()],
            "resources": {"requests": {"cpu": cpu, "memoryInGB": memory}},
        },
    }


def body(*containers: dict[str, Any], policy: str = "Never", **properties: Any) -> dict[str, Any]:
    return {
        "location": "eastus",
        "tags": {"PodName": "pod", "Namespace": "work", "NodeName": "virtual", "UID": "1"},
        "properties": {
            "osType": "Linux",
            "restartPolicy": policy,
            "containers": list(containers) or [container()],
            **properties,
        },
    }


def region(**options: Any) -> Region:
    """Pulls take a second, and so does each other step unless it is told otherwise."""
    quick: dict[str, Any] = {"prepare_seconds": 1, "image_mb": 17, "stop_seconds": 1, "delete_seconds": 3}
    return Region(Options(**(quick | {"release_seconds": 10} | options)))


def create(world: Region, name: str, seconds: float, *containers: dict[str, Any], **how: Any) -> Group:
    definition = definitions.read(name, body(*containers, **how))
    return world.create(at(seconds), "burst", definition)[0]


def refused(world: Region, name: str, seconds: float, *containers: dict[str, Any], **how: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        create(world, name, seconds, *containers, **how)
    return caught.value


def fault(world: Region, kind: str, **how: Any) -> None:
    world.faults.append(faults.read({"kind": kind, **how}))
