"""What Kubernetes shows of a pod on the virtual node, in every case that has a name: as it was recorded, still.

``make record-aci`` (this file with ``RECORD_ACI=1``) writes the records anew, from the real connector in front of the
stand-in for ACI. Times, addresses and what is random are made the same in each.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from aci_cases import CAPACITY_ERROR_SECONDS, CASES, PROVISIONING_TIMEOUT_SECONDS, Case
from virtual_kit import Here

from testbed.virtual import VirtualNode

RECORDS = Path(__file__).parents[2] / "fixtures" / "aci"
NAMESPACE = "recorded"
_TIME = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_ADDRESS = re.compile(r"\b10\.240\.\d+\.\d+(?!\d|/)")


def plain(value: Any) -> Any:
    """The same without what differs from run to run."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items() if key not in ("containerID", "observedGeneration")}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, str):
        return _ADDRESS.sub("10.240.0.4", _TIME.sub("2026-01-01T00:00:00Z", value))
    return value


def record_of(case: Case, pod: dict[str, Any]) -> dict[str, Any]:
    kept = ("nodeName", "nodeSelector", "restartPolicy")
    status = dict(pod["status"])
    # Whether the scheduler's condition is there depends on who wrote last, and tells nothing of the connector.
    conditions = [each for each in status.pop("conditions", ()) if each["type"] != "PodScheduled"]
    if conditions:
        status["conditions"] = conditions
    return {
        "case": case.name,
        "meaning": case.meaning,
        "pod": {
            "metadata": {"name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]},
            "spec": {key: pod["spec"][key] for key in kept},
            "status": plain(status),
        },
    }


async def observe(here: Here, case: Case) -> dict[str, Any]:
    if case.fault:
        await here.virtual.aci.add_fault(**case.fault, match=f"^{re.escape(here.group(case.name))}$")
    await here.create_pod(case.name, case.spec)
    return record_of(case, await case.shown(here, case.name))


def test_every_case_has_a_name_of_its_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert {path.stem for path in RECORDS.glob("*.json")} == {case.name for case in CASES}


@pytest.mark.timeout(240)
async def test_every_case_shows_what_was_recorded_of_it(virtual_node: VirtualNode) -> None:
    await virtual_node.aci.reset(
        provisioning_timeout_seconds=PROVISIONING_TIMEOUT_SECONDS, capacity_error_seconds=CAPACITY_ERROR_SECONDS
    )
    here = Here(virtual_node, await virtual_node.plane.create_namespace(NAMESPACE))
    try:
        seen = await asyncio.gather(*(observe(here, case) for case in CASES), return_exceptions=True)
    finally:
        await virtual_node.plane.clear_namespace(NAMESPACE)
    wrong = []
    for record in seen:
        if isinstance(record, BaseException):
            wrong.append(str(record))
            continue
        path = RECORDS / f"{record['case']}.json"
        text = json.dumps(record, indent=2, sort_keys=True) + "\n"
        if os.environ.get("RECORD_ACI"):
            path.write_text(text, encoding="utf-8")
        elif text != path.read_text(encoding="utf-8"):
            wrong.append(f"{record['case']} now shows {json.dumps(record['pod']['status'])}")
    assert wrong == []
