"""What a real mutating webhook may do to our Jobs, what is told, and what is not made at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kube_kit import a_job, config_for, kube
from webhooks import a_webhook

from dispatcher.core.observations import Placement
from dispatcher.ports import Answer
from testbed.control_plane import ControlPlane

POD = "/spec/template/spec"
SIDECAR = {"op": "add", "path": f"{POD}/containers/-", "value": {"name": "mesh", "image": "example/mesh:1"}}
DEARER = {"op": "replace", "path": f"{POD}/containers/0/resources", "value": {"requests": {"cpu": "2"}}}
HARMLESS = [
    {"op": "add", "path": "/metadata/labels/example.com~1team", "value": "a"},
    {"op": "add", "path": "/metadata/annotations/example.com~1seen", "value": "yes"},
    {"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/billing"},
    {"op": "add", "path": "/spec/template/metadata/labels/example.com~1team", "value": "a"},
    {"op": "add", "path": f"{POD}/tolerations", "value": [{"key": "team", "operator": "Exists"}]},
]


def always(*patch: dict[str, Any]) -> Any:
    return lambda _: patch


@pytest.mark.parametrize("placement", [Placement.NODE_POOL, Placement.VIRTUAL_NODE])
async def test_labels_annotations_finalizers_and_tolerations_of_others_are_none_of_our_business(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, placement: Placement
) -> None:
    patch = HARMLESS if placement is Placement.NODE_POOL else HARMLESS[:4]
    async with (
        kube(config_for(control_plane, namespace)) as it,
        a_webhook(control_plane, namespace, tmp_path, always(*patch)),
    ):
        job = await it.launch(a_job(namespace, placement=placement, run_seconds=0))
        assert job.annotations["example.com/seen"] == "yes"
        assert (await it.ended()).succeeded == 1
        assert list(it.cluster.faults()) == []


@pytest.mark.parametrize("patch", [SIDECAR, DEARER])
async def test_what_is_added_to_pods_on_nodes_costs_nothing_and_is_taken(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, patch: dict[str, Any]
) -> None:
    async with (
        kube(config_for(control_plane, namespace)) as it,
        a_webhook(control_plane, namespace, tmp_path, always(patch)) as webhook,
    ):
        await it.launch(a_job(namespace, run_seconds=0))
        assert list(it.cluster.faults()) == []
        assert webhook.rehearsals == 0


@pytest.mark.parametrize(
    ("patch", "told"),
    [
        (SIDECAR, "spec.template.spec.containers: mesh was added; nothing is set aside for it"),
        (DEARER, "spec.template.spec: a pod asks for 2000m"),
        (
            {"op": "replace", "path": "/spec/activeDeadlineSeconds", "value": 9999},
            "activeDeadlineSeconds: 9999 instead",
        ),
        (
            {"op": "replace", "path": "/spec/backoffLimitPerIndex", "value": 5},
            "spec.backoffLimitPerIndex: 5 instead of 0",
        ),
    ],
)
async def test_a_paid_job_that_would_cost_more_than_was_set_aside_is_never_made_and_may_come_when_the_webhook_is_mended(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, patch: dict[str, Any], told: str
) -> None:
    async with (
        kube(config_for(control_plane, namespace)) as it,
        a_webhook(control_plane, namespace, tmp_path, always(patch)) as webhook,
    ):
        job = a_job(namespace, placement=Placement.VIRTUAL_NODE, run_seconds=0)
        (refused,) = await it.cluster.create_jobs([job])
        assert (refused.answer, refused.later) == (Answer.REFUSED, True)
        assert told in refused.text
        assert [fault for fault in it.cluster.faults() if told in fault]
        assert await it.cluster.get_job("burst-b-1") is None
        assert len(webhook.reviews) == webhook.rehearsals == 1
        webhook.patch = always()
        await it.launch(job)
        assert (await it.ended()).succeeded == 1


async def test_jobs_of_one_kind_are_rehearsed_once(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    async with (
        kube(config_for(control_plane, namespace)) as it,
        a_webhook(control_plane, namespace, tmp_path, always()) as webhook,
    ):
        jobs = [a_job(namespace, f"n{each}", placement=Placement.VIRTUAL_NODE, run_seconds=0) for each in range(5)]
        created = await it.cluster.create_jobs(jobs)
        assert [each.answer for each in created] == [Answer.DONE] * 5
        assert (len(webhook.reviews), webhook.rehearsals) == (6, 1)


async def test_a_job_by_which_we_would_lose_sight_is_told(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    lost = {"op": "remove", "path": "/spec/template/metadata/labels/burst-dispatcher.io~1job"}
    async with (
        kube(config_for(control_plane, namespace)) as it,
        a_webhook(control_plane, namespace, tmp_path, always(lost)),
    ):
        await it.launch(a_job(namespace, run_seconds=0))
        (fault,) = it.cluster.faults()
        assert "spec.template.metadata.labels: burst-dispatcher.io/job is None" in fault


async def test_a_webhook_that_spares_rehearsals_is_told_when_the_job_is_there(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    def spares_rehearsals(asked: dict[str, Any]) -> Any:
        return [] if asked.get("dryRun") else [SIDECAR]

    async with (
        kube(config_for(control_plane, namespace)) as it,
        a_webhook(control_plane, namespace, tmp_path, spares_rehearsals) as webhook,
    ):
        await it.launch(a_job(namespace, placement=Placement.VIRTUAL_NODE, run_seconds=0))
        assert (len(webhook.reviews), webhook.rehearsals) == (2, 1)
        (fault,) = it.cluster.faults()
        assert "Job burst-b-1 was altered on its way" in fault
        assert "mesh was added" in fault
