"""Each rule by itself: one clean pod, one thing changed, one finding; and what no manifest can do to the judge."""

from __future__ import annotations

import re
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.core.jobs import JobShape, manifest
from dispatcher.core.profiles import NODES as REAL_NODES
from dispatcher.core.profiles import VIRTUAL_NODE_V1
from dispatcher.core.units import Resources
from dispatcher.core.work import Placement
from dispatcher.judge import (
    RULES,
    BadProfile,
    Effect,
    Finding,
    Level,
    Profile,
    Unreadable,
    documents_of,
    findings_of,
    known_profiles,
    profile_of,
    read_profile,
)
from dispatcher.judge.table import rules_table
from dispatcher.judge.workloads import quantity
from tests.builders import a_task

DOCS = Path(__file__).parents[3] / "docs/virtual-node-rules.md"
TEMPLATES = Path(__file__).parents[2] / "fixtures/templates"
PROFILES = known_profiles()
V1, V2, NODES = PROFILES["virtual-node-v1"], PROFILES["virtual-node-v2"], PROFILES["nodes"]


def pod(**spec: Any) -> dict[str, Any]:
    [clean] = documents_of((TEMPLATES / "02-pod-clean.yaml").read_text(encoding="utf-8"))
    return {**clean, "spec": {**clean["spec"], **spec}}


def pod_with(**container: Any) -> dict[str, Any]:
    clean = pod()
    clean["spec"]["containers"] = [{**clean["spec"]["containers"][0], **container}]
    return clean


def sized(cpu: str, memory: str, **more: str) -> dict[str, Any]:
    size = {"cpu": cpu, "memory": memory, **more}
    return pod_with(resources={"requests": size, "limits": dict(size)})


def job(**spec: Any) -> dict[str, Any]:
    [clean] = documents_of((TEMPLATES / "01-job-clean.yaml").read_text(encoding="utf-8"))
    return {**clean, "spec": {**clean["spec"], **spec}}


def judged(document: dict[str, Any], profile: Profile = V1) -> tuple[Finding, ...]:
    found = findings_of(document, profile)
    assert found is not None
    return found


def mounted(**volume: Any) -> dict[str, Any]:
    changed = pod(volumes=[{"name": "scratch", **volume}])
    changed["spec"]["containers"][0]["volumeMounts"] = [{"name": "scratch", "mountPath": "/scratch"}]
    return changed


def required(**term: Any) -> dict[str, Any]:
    terms = {"nodeSelectorTerms": [{"matchExpressions": [term]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "volume-ephemeral": (mounted(ephemeral={"volumeClaimTemplate": {}}), "spec.volumes[0].ephemeral"),
    "volume-unsupported": (mounted(nfs={"server": "10.0.0.4", "path": "/"}), "spec.volumes[0].nfs"),
    "volume-name": (pod(volumes=[{"name": "tmp", "emptyDir": {}}]), "spec.volumes[0].name"),
    "volume-count": (pod(volumes=[{"name": f"scratch-{n}", "emptyDir": {}} for n in range(21)]), "spec.volumes"),
    "empty-dir-options": (mounted(emptyDir={"medium": "Memory"}), "spec.volumes[0].emptyDir.medium"),
    "mount-unknown": (
        pod_with(volumeMounts=[{"name": "nowhere", "mountPath": "/data"}]),
        "spec.containers[0].volumeMounts[0].name",
    ),
    "volume-maybe-missing": (mounted(secret={"secretName": "key"}), "spec.volumes[0].secret.optional"),
    "memory-below-step": (sized("1", "64Mi"), "spec.containers[0].resources.limits.memory"),
    "container-count": (
        pod(containers=[{**pod()["spec"]["containers"][0], "name": f"c{n}", "resources": {
            "requests": {"cpu": "10m", "memory": "100M"}, "limits": {"cpu": "10m", "memory": "100M"}}}
            for n in range(61)]),
        "spec.containers",
    ),
    "env-name": (pod_with(env=[{"name": "_PRIVATE", "value": "x"}]), "spec.containers[0].env[0].name"),
    "port-reserved": (pod_with(ports=[{"containerPort": 22}]), "spec.containers[0].ports[0].containerPort"),
    "port-count": (pod_with(ports=[{"containerPort": 8080 + n} for n in range(6)]), "spec.containers"),
    "restart-policy": (pod(restartPolicy="OnFailure"), "spec.restartPolicy"),
    "parallelism": (job(completions=300, parallelism=300), "spec.parallelism"),
    "elastic-work": (job(completions=None, completionMode="NonIndexed", parallelism=5), "spec.completions"),
    "ephemeral-storage": (
        sized("1", "1G", **{"ephemeral-storage": "4Gi"}), "spec.containers[0].resources.requests.ephemeral-storage",
    ),
    "resource-unknown": (
        sized("1", "1G", **{"example.com/fpga": "1"}), "spec.containers[0].resources.limits['example.com/fpga']",
    ),
    "quantity": (sized("one", "1G"), "spec.containers[0].resources.requests.cpu"),
    "manifest-shape": (pod(containers=[]), "spec.containers"),
    "group-needs-quota": (sized("8", "1G"), "spec.containers[0].resources.requests"),
    "arch-not-amd64": (
        pod(affinity=required(key="kubernetes.io/arch", operator="In", values=["arm64"])),
        "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
        ".nodeSelectorTerms[0].matchExpressions[0]",
    ),
    "backoff-shared": (job(backoffLimitPerIndex=None, backoffLimit=3), "spec.backoffLimit"),
    "deadline-missing": (job(activeDeadlineSeconds=None), "spec.activeDeadlineSeconds"),
    "finished-kept": (job(ttlSecondsAfterFinished=None), "spec.ttlSecondsAfterFinished"),
    "token-mount": (pod(automountServiceAccountToken=None), "spec.automountServiceAccountToken"),
    "service-links": (pod(enableServiceLinks=True), "spec.enableServiceLinks"),
    "cluster-dns": (pod(dnsPolicy="ClusterFirst"), "spec.dnsPolicy"),
}  # fmt: skip


@pytest.mark.parametrize("rule", CASES)
def test_one_change_breaks_the_rule_where_it_was_made(rule: str) -> None:
    document, path = CASES[rule]
    assert path in [each.path for each in judged(document) if each.rule == rule]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES.keys())
def test_a_clean_pod_has_nothing_said_about_it(profile: Profile) -> None:
    clean = pod(
        nodeSelector=dict(profile.place.node_selector),
        tolerations=[dict(each) for each in profile.place.tolerations],
        affinity=required(**profile.place.keep_off[0]) if profile.place.keep_off else {},
    )
    assert judged(clean, profile) == ()


def test_every_rule_is_broken_by_some_template_or_case() -> None:
    verdicts = yaml.safe_load((TEMPLATES / "verdicts.yaml").read_text(encoding="utf-8"))
    named = {rule for each in verdicts.values() for key in ("errors", "warnings") for rule in each.get(key, ())}
    assert RULES.keys() - named - CASES.keys() == {"not-kept-off"}


def test_a_pod_for_nodes_that_tolerates_everything_is_told_that_it_may_land_elsewhere() -> None:
    anywhere = pod(nodeSelector={}, tolerations=[{"operator": "Exists"}])
    assert [each.rule for each in judged(anywhere, NODES)] == ["not-kept-off"]
    kept = pod(
        nodeSelector={},
        tolerations=[{"operator": "Exists"}],
        affinity=required(key="type", operator="NotIn", values=["virtual-kubelet"]),
    )
    assert judged(kept, NODES) == ()


def test_what_the_second_generation_runs_is_not_held_against_a_pod_there() -> None:
    asks = {"lifecycle": {"preStop": {"exec": {"command": ["sync"]}}}, "startupProbe": {"exec": {"command": ["true"]}}}
    document = pod_with(**asks)
    document["spec"]["nodeSelector"] = {"virtualization": "virtualnode2"}
    assert {each.rule for each in judged(document)} >= {"lifecycle-hook", "startup-probe"}
    assert judged(document, V2) == ()


def test_a_projected_volume_without_any_file_fails_and_beside_others_its_sources_are_ignored() -> None:
    token = {"serviceAccountToken": {"path": "token"}}
    settings = {"configMap": {"name": "app", "items": [{"key": "a", "path": "a"}]}}
    for sources, effect in (([token], Effect.FAILS), ([token, settings], Effect.IGNORED)):
        (found,) = judged(mounted(projected={"sources": sources}))
        assert (found.rule, found.effect) == ("volume-projected", effect)


@pytest.mark.parametrize(
    ("memory", "becomes"), [("1Gi", "1G"), ("2Gi", "2.1G"), ("4Gi", "4.2G"), ("8Gi", "8.5G"), ("16Gi", "17.1G")]
)
def test_binary_memory_is_told_as_azure_counts_it(memory: str, becomes: str) -> None:
    [finding] = [each for each in judged(sized("1", memory)) if each.rule == "memory-step"]
    assert finding.message == f"{memory} becomes {becomes}"


@pytest.mark.parametrize(
    ("name", "namespace", "completions", "length"),
    [("j" * 40, "n" * 10, 1, 10 + 1 + 40 + 2 + 6), ("j" * 40, "n" * 13, 100, 13 + 1 + 40 + 3 + 6)],
)
def test_a_groups_name_is_reckoned_with_index_and_random_end(
    name: str, namespace: str, completions: int, length: int
) -> None:
    document = job(completions=completions, parallelism=1)
    document["metadata"] = {"name": name, "namespace": namespace}
    assert length <= 63
    assert judged(document) == ()
    document["metadata"] = {"name": name, "namespace": namespace + "n" * (64 - length)}
    assert [each.rule for each in judged(document)] == ["group-name"]


@pytest.mark.parametrize("field_path", ["metadata.uid", "metadata.labels['team']", "spec.nodeName"])
def test_known_fields_may_be_variables(field_path: str) -> None:
    env = [{"name": "FIELD", "valueFrom": {"fieldRef": {"fieldPath": field_path}}}]
    assert judged(pod_with(env=env)) == ()


def test_all_findings_say_where_what_and_what_to_do() -> None:
    for document, _ in CASES.values():
        for each in judged(document):
            assert all((each.path, each.message, each.remedy, each.source, each.workload)), each


# --- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no object"),
        ("kind: [", "is not valid YAML, line 1"),
        ("just words", "has no kind"),
        ("spec: {}", "has no kind"),
        ("kind: List\nitems: [{kind: List, items: []}]", "a list within a list"),
        ("a: &a [*a]\nkind: [*a]", "has no kind"),
    ],
)
def test_what_is_no_manifest_is_unreadable_with_the_reason(text: str, says: str) -> None:
    with pytest.raises(Unreadable, match=re.escape(says)):
        documents_of(text)


def test_lists_and_several_documents_are_taken_apart() -> None:
    text = "kind: List\nitems: [{kind: Pod}, {kind: Service}]\n---\n---\nkind: Job\n"
    assert [document["kind"] for document in documents_of(text)] == ["Pod", "Service", "Job"]


def test_what_makes_no_pods_is_not_judged() -> None:
    assert findings_of({"kind": "Service", "metadata": {"name": "web"}}, V1) is None


@pytest.mark.parametrize(
    ("written", "amount"),
    [("1", "1"), (2, "2"), ("500m", "0.5"), ("1e3", "1000"), ("2Gi", "2147483648"), ("1.5G", "1500000000"),
     ("100u", "0.0001"), ("1E", "1000000000000000000")],
)  # fmt: skip
def test_quantities_are_read_as_kubernetes_writes_them(written: Any, amount: str) -> None:
    assert f"{quantity(written):f}".rstrip("0").rstrip(".") in (amount, amount.rstrip("0"))


@pytest.mark.parametrize("written", ["", "one", "-1", "NaN", "inf", "1 G", "1_0", "1e99", "9" * 30, True, None, [1]])
def test_what_is_no_quantity_is_none(written: Any) -> None:
    assert quantity(written) is None


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
_KEYS = st.sampled_from(
    ["name", "image", "command", "env", "value", "valueFrom", "fieldRef", "fieldPath", "resources", "requests",
     "limits", "cpu", "memory", "volumeMounts", "ports", "containerPort", "lifecycle", "preStop", "securityContext",
     "kind", "nodeSelector", "tolerations", "key", "operator", "affinity", "nodeAffinity", "volumes", "secret",
     "configMap", "csi", "projected", "sources", "items", "containers", "initContainers", "template", "spec",
     "metadata", "labels"]
)  # fmt: skip
_ANYTHING = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=5), max_leaves=20
)
_PARTS = ["containers", "initContainers", "volumes", "tolerations", "nodeSelector", "affinity", "securityContext", "os"]


@given(
    kind=st.sampled_from(["Pod", "Job", "CronJob", "Deployment", "DaemonSet", "StatefulSet", "NetworkPolicy"]),
    spec=st.dictionaries(st.sampled_from(_PARTS), _ANYTHING) | _ANYTHING,
    container=st.dictionaries(_KEYS, _ANYTHING, max_size=6),
    profile=st.sampled_from(sorted(PROFILES)),
)
@settings(max_examples=300, deadline=None)
def test_nothing_that_can_be_written_breaks_the_judge(kind: str, spec: Any, container: Any, profile: str) -> None:
    inner = {"containers": [container], **spec} if isinstance(spec, dict) else spec
    template = {"metadata": {"labels": container}, "spec": inner}
    document: dict[str, Any] = {"kind": kind, "metadata": {"name": "any"}, "spec": {"template": template}}
    if kind == "Pod":
        document = {**template, "kind": kind}
    if kind == "CronJob":
        document["spec"] = {"jobTemplate": {"spec": {"template": template}}}
    before = deepcopy(document)
    for finding in judged(document, PROFILES[profile]):
        assert str(finding)
    assert document == before


# --- profiles -------------------------------------------------------------------------------------------------------


def test_an_operators_profile_needs_no_code(tmp_path: Path) -> None:
    shown = re.findall(r"^```yaml\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "team-burst.yaml").write_text(shown[0])
    mine = read_profile(tmp_path / "team-burst.yaml")
    secret = pod_with(env=[{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}])
    assert {(each.rule, each.level) for each in judged(secret)} == {("env-secret", Level.WARNING)}
    assert {(each.rule, each.level) for each in judged(secret, mine)} == {("env-secret", Level.ERROR)}
    assert "memory-step" not in mine.rules
    assert mine.place.node_selector == {"kubernetes.io/hostname": "burst-linux-2", "type": "virtual-kubelet"}
    assert judged(sized("8", "1G"), mine) == ()


def test_what_the_core_takes_for_granted_is_what_the_shipped_files_say() -> None:
    assert (V1.place, NODES.place) == (VIRTUAL_NODE_V1, REAL_NODES)
    assert V2.place.surcharge == Resources(100, 10**8)


@pytest.mark.parametrize("where", Placement)
def test_what_we_render_ourselves_has_nothing_said_about_it(where: Placement) -> None:
    shape = JobShape(20, 20, 0, timedelta(seconds=600))
    ours = manifest(a_task(), shape, placement=where, batch_id="k3x9q2m7wd", attempt=1, sequence_numbers=(1,))
    said = judged(ours, V1 if where is Placement.VIRTUAL_NODE else NODES)
    # The dispatcher deletes finished pods itself, as soon as they are counted.
    assert [each.rule for each in said if each.rule != "finished-kept"] == []


def test_all_mistakes_of_a_profile_come_at_once() -> None:
    with pytest.raises(BadProfile) as refused:
        profile_of(
            {"format": 2, "rulez": {}, "rules": {"volume-pcv": "error", "gpu": "fatal"}, "counts": {"ports_max": "5"}}
        )
    said = str(refused.value)
    for words in (
        "format: 2",
        "name: is missing",
        "did you mean rules?",
        "did you mean volume-pvc?",
        "rules.gpu",
        "ports_max",
    ):
        assert words in said


def test_the_document_has_the_table_of_the_rules() -> None:
    shown = (
        DOCS.read_text(encoding="utf-8").partition("<!-- rules: begin -->\n")[2].partition("\n<!-- rules: end -->")[0]
    )
    assert shown == rules_table(), "make it anew: python -m dispatcher.judge"
