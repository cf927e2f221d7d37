"""Why pods fail, from recorded statuses: what kubelets, the scheduler, controllers and Azure write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dispatcher.cluster.failures import cause_of, exit_code_of, reason_and_message
from dispatcher.core.failures import FailureCause

SAMPLES = json.loads((Path(__file__).parent / "pod_failures.json").read_text(encoding="utf-8"))
V1 = {"nodeSelector": {"type": "virtual-kubelet", "kubernetes.io/role": "agent"}}


def pod(sample: dict[str, Any]) -> dict[str, Any]:
    metadata = {"deletionTimestamp": "2026-03-01T12:00:00Z"} if sample.get("deleted") else {}
    return {"metadata": metadata, "spec": V1 if sample.get("v1") else {}, "status": sample["status"]}


@pytest.mark.parametrize("sample", SAMPLES, ids=[sample["name"] for sample in SAMPLES])
def test_the_cause_is_what_the_status_says(sample: dict[str, Any]) -> None:
    wanted = None if sample["cause"] is None else FailureCause(sample["cause"])
    assert cause_of(pod(sample)) is wanted
    assert exit_code_of(pod(sample)) == sample.get("exit_code")
    if "message" in sample:
        assert reason_and_message(pod(sample))[1] == sample["message"]
    if "reason" in sample:
        assert reason_and_message(pod(sample))[0] == sample["reason"]


def test_every_sample_that_failed_says_something_a_person_can_read() -> None:
    for sample in SAMPLES:
        reason, message = reason_and_message(pod(sample))
        if sample["cause"] is not None:
            assert reason or message or exit_code_of(pod(sample)) is not None or sample.get("v1"), sample["name"]
