from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cluster_kit import a_job

from dispatcher.core.units import Resources
from dispatcher.core.work import Placement
from dispatcher.embedded.processes.manifests import BadManifest, expand, read_manifest


def test_a_manifest_of_the_core_is_read_whole() -> None:
    stop_at = datetime(2026, 3, 1, tzinfo=UTC)
    job = a_job("true", completions=7, parallelism=3, retries=2, deadline=timedelta(seconds=90), stop_at=stop_at)
    spec = read_manifest(json.loads(json.dumps(job)))
    assert (spec.completions, spec.parallelism, spec.backoff_limit_per_index) == (7, 3, 2)
    assert spec.deadline == timedelta(seconds=90)
    assert spec.ignores_disruptions
    assert spec.kept_by_us
    assert spec.pod.requests == Resources(100, 10**7)
    assert spec.pod.record == spec.name
    assert spec.pod.stop_at == stop_at


def test_a_job_for_the_virtual_node_has_no_failure_policy_and_no_deadline_of_its_pods() -> None:
    spec = read_manifest(a_job("true", placement=Placement.VIRTUAL_NODE))
    assert not spec.ignores_disruptions
    assert spec.pod.deadline is None


def spec_with(**fields: Any) -> dict[str, Any]:
    job = a_job("true")
    return {**job, "spec": {**job["spec"], **fields}}


@pytest.mark.parametrize(
    ("job", "named"),
    [
        (spec_with(suspend=True), "spec.suspend"),
        (spec_with(completionMode="NonIndexed"), "spec.completionMode"),
        (spec_with(completions=None), "spec.completions"),
        (spec_with(podFailurePolicy={"rules": [{"action": "FailJob", "onPodConditions": []}]}), "podFailurePolicy"),
        ({"kind": "Job"}, "metadata"),
    ],
)
def test_what_would_be_half_obeyed_is_refused_by_name(job: dict[str, Any], named: str) -> None:
    with pytest.raises(BadManifest, match=named):
        read_manifest(job)


def test_variables_are_put_into_commands_as_kubernetes_does() -> None:
    assert expand("a $(X) $$(X) $(Y) $X $$", {"X": "1"}) == "a 1 $(X) $(Y) $X $"
