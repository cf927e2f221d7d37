"""What the chart makes of values, rendered by the real Helm: rights, settings, where pods may be, what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart_kit import (
    CHART,
    ROOT,
    SETS,
    Manifest,
    container_of,
    of_kind,
    one,
    pod_of,
    render,
    strings_in,
    value_files,
    write_configuration,
    write_mounted,
)

from dispatcher.cluster.config import node_profile
from dispatcher.cluster.rights import Where, rules
from dispatcher.settings import examine
from dispatcher.telemetry import Metrics
from scripts import chart_schema
from testbed.charts import Helm, HelmSaid

Rules = set[tuple[str, str, str]]


def verbs(of: list[Any]) -> Rules:
    """Single verbs, since one Role may say in two rules what another says in one."""
    return {
        (group, resource, verb)
        for rule in of
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


# --- Helm's own judgement ---------------------------------------------------------------------------------------------


def test_lint_finds_nothing_in_the_chart_alone_and_with_each_value_set(helm: Helm) -> None:
    for more in ([], *map(value_files, SETS)):
        said = helm.run("lint", CHART, "--strict", "--kube-version=1.36.3", *more)
        assert "0 chart(s) failed" in said


def test_without_values_it_says_what_is_missing_and_how_to_write_it(helm: Helm) -> None:
    with pytest.raises(HelmSaid, match=r"config\.queues: is empty; name at least one queue, for example"):
        helm.run("template", "dispatcher", CHART, "--kube-version=1.36.3")


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ("replicas=0", "at '/replicas': minimum: got 0, want 1"),
        ("replica=2", "at '': additional properties 'replica' not allowed"),
        ("image.digest=latest", "at '/image/digest': 'latest' does not match pattern"),
        ("config.virtual_node.subnett=10.0.0.0/24", "at '/config/virtual_node': additional properties 'subnett' not"),
        ("config.timing.stop_timeout=20 seconds", "at '/config/timing/stop_timeout': '20 seconds' does not match"),
        ("config.local.web_port=1", "config.local: is only for a machine of its own"),
        ("tasks[0].resources.cpu=half", "at '/tasks/0/resources/cpu': 'half' does not match pattern"),
        ("config.budgets[0].name=daily", "at '/config/budgets/0': missing property 'limit_usd'"),
        ("tasks=null", "tasks: is empty; name at least one task"),
        ("serviceBus.existingSecret.name=", "serviceBus: there is no way to the broker"),
        ("serviceBus.connectionString=Endpoint=sb://a/", "serviceBus: names a connection string and a Secret"),
        ("config.service_bus.namespace=a.example", "config.service_bus.namespace: is for identities"),
        ("config.service_bus.connection_string=x", "config.service_bus.connection_string: is a secret"),
        ("config.service_bus.connection_string_file=/x", "config.service_bus.connection_string_file: the chart sets"),
        ("workloadIdentity.enabled=true", "workloadIdentity.clientId: is empty"),
        ("tolerations[0].operator=Exists", "tolerations: one would let the dispatcher onto a virtual node"),
        ("tolerations[0].key=virtual-kubelet.io/provider", "tolerations: one would let the dispatcher onto a virtual"),
        ("terminationGracePeriodSeconds=1m", "at '/terminationGracePeriodSeconds': got string, want integer"),
    ],
)
def test_a_bad_value_is_refused_in_one_line_that_names_it(helm: Helm, wrong: str, line: str) -> None:
    with pytest.raises(HelmSaid) as said:
        render(helm, "minimal", "--set", wrong)
    telling = [each for each in str(said.value).splitlines() if line in each]
    assert len(telling) == 1, said.value
    assert len([each for each in str(said.value).splitlines() if each.strip().startswith("- at ")]) <= 1


def test_the_schema_is_the_one_that_the_settings_give() -> None:
    assert chart_schema.TARGET.read_text(encoding="utf-8") == chart_schema.text(), (
        "run .venv/bin/python scripts/chart_schema.py"
    )


def test_every_value_of_the_chart_has_a_sentence_and_the_schema_knows_no_other() -> None:
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if re.match(r"\s*[A-Za-z_]+:(\s.*\S)?$", line) and not line.rstrip().endswith(":"):
            assert lines[number - 1].lstrip().startswith("#"), (
                f"line {number + 1} of values.yaml says nothing of {line}"
            )
    values = yaml.safe_load(text)
    assert values.keys() == chart_schema.schema()["properties"].keys() - {"global"}


# --- rights -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "own", "tasks"),
    [
        ("minimal", "burst", {"reports"}),
        ("one-namespace", "burst", {"burst"}),
        ("several-namespaces", "burst-state", {"reports", "images", "default", "old-batch"}),
    ],
)
def test_the_account_gets_exactly_the_rights_that_the_dispatcher_needs(
    helm: Helm, name: str, own: str, tasks: set[str]
) -> None:
    made = render(helm, name)
    roles = {role["metadata"]["namespace"]: verbs(role["rules"]) for role in of_kind(made, "Role")}
    wanted = {namespace: verbs(rules(Where.TASKS)) for namespace in tasks}
    wanted[own] = wanted.get(own, set()) | verbs(rules(Where.OWN, records_too=True))
    assert roles == wanted
    assert verbs(one(made, "ClusterRole")["rules"]) == verbs(rules(Where.CLUSTER))
    account = {"kind": "ServiceAccount", "name": "dispatcher", "namespace": "burst"}
    bindings = of_kind(made, "RoleBinding")
    assert {each["metadata"]["namespace"] for each in bindings} == set(wanted)
    for binding in (*bindings, one(made, "ClusterRoleBinding")):
        assert binding["subjects"] == [account]
        assert binding["roleRef"]["name"] == binding["metadata"]["name"]
    assert pod_of(made)["spec"]["serviceAccountName"] == one(made, "ServiceAccount")["metadata"]["name"] == "dispatcher"


def test_two_releases_share_no_object_of_the_whole_cluster_and_no_jobs(helm: Helm, tmp_path: Path) -> None:
    first, second = render(helm), render(helm, namespace="other")
    names = [{each["metadata"]["name"] for each in of_kind(made, "ClusterRole")} for made in (first, second)]
    assert not names[0] & names[1]
    tasks_roles = [
        {each["metadata"]["name"] for each in of_kind(made, "Role") if each["metadata"]["namespace"] == "reports"}
        for made in (first, second)
    ]
    assert not tasks_roles[0] & tasks_roles[1]
    configs = [
        yaml.safe_load((write_configuration(made, tmp_path / str(number)) / "dispatcher.yaml").read_text())
        for number, made in enumerate((first, second))
    ]
    assert [config["kubernetes"]["instance"] for config in configs] == ["burst-dispatcher", "other-dispatcher"]


def test_rights_and_account_can_be_somebody_elses(helm: Helm) -> None:
    made = render(helm, "rights-elsewhere")
    kinds = {each["kind"] for each in made}
    assert not kinds & {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "ServiceAccount"}
    assert pod_of(made)["spec"]["serviceAccountName"] == "burst"


# --- configuration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_the_dispatcher_takes_the_configuration_that_comes_out(helm: Helm, name: str, tmp_path: Path) -> None:
    made = render(helm, name)
    examined = examine(write_mounted(made, tmp_path), local=False, environ={})
    assert examined.mistakes == ()
    settings = examined.settings
    assert settings is not None
    assert settings.service.web_port == container_of(made)["ports"][0]["containerPort"]
    namespaces = {role["metadata"]["namespace"] for role in of_kind(made, "Role")}
    if namespaces:
        assert namespaces >= {task.namespace for task in settings.tasks}
    grace = pod_of(made)["spec"]["terminationGracePeriodSeconds"]
    assert grace >= 2 * settings.timing.stop_timeout.total_seconds() + 10


def test_small_and_large_numbers_arrive_exactly(helm: Helm, tmp_path: Path) -> None:
    settings = examine(write_mounted(render(helm, "several-namespaces"), tmp_path), local=False, environ={}).settings
    assert settings is not None
    assert settings.prices.per_cpu_second_usd == Decimal("0.0000112")
    assert settings.prices.per_gb_second_usd == Decimal("0.0000005")
    assert settings.timing.lookahead_max == 2_000_000
    assert settings.budgets[0].limit_usd == Decimal("25.10")


def test_a_connection_string_is_in_a_secret_and_nowhere_else(helm: Helm) -> None:
    made = render(helm, "one-namespace")
    secret = one(made, "Secret")
    assert secret["stringData"]["connection-string"].endswith("SharedAccessKey=bm90IGEga2V5")
    rest = [each for each in made if each["kind"] != "Secret"]
    assert not any("SharedAccessKey" in text for text in strings_in(rest))
    (mounted,) = [each for each in pod_of(made)["spec"]["volumes"] if each["name"] == "service-bus"]
    assert mounted["secret"]["secretName"] == secret["metadata"]["name"]
    mounts = container_of(made)["volumeMounts"]
    # Kubernetes never updates a single mounted file: a rotated key would not arrive.
    assert not any("subPath" in mount for mount in mounts)


def test_a_workload_identity_needs_no_secret(helm: Helm) -> None:
    made = render(helm, "workload-identity")
    assert not of_kind(made, "Secret")
    assert pod_of(made)["metadata"]["labels"]["azure.workload.identity/use"] == "true"
    annotations = one(made, "ServiceAccount")["metadata"]["annotations"]
    assert annotations["azure.workload.identity/client-id"] == "11111111-2222-3333-4444-555555555555"
    assert annotations["azure.workload.identity/tenant-id"] == "66666666-7777-8888-9999-000000000000"
    assert container_of(made)["image"].startswith("myregistry.azurecr.io/burst-dispatcher@sha256:0123")
    assert not any("servicebus" in mount["mountPath"] for mount in container_of(made)["volumeMounts"])


def test_another_configuration_makes_new_pods_and_the_same_one_none(helm: Helm) -> None:
    def mark(*more: str) -> str:
        annotations: Mapping[str, str] = pod_of(render(helm, "minimal", *more))["metadata"]["annotations"]
        return annotations["checksum/configuration"]

    assert mark() == mark("--set", "replicas=3")
    assert mark() != mark("--set", "config.timing.sweep_every=6m")
    assert mark() != mark("--set", "tasks[0].backoff_limit=1")
    assert "annotations" not in pod_of(render(helm, "minimal", "--set", "rolloutOnChange=false"))["metadata"]


# --- the pod ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_the_pod_is_on_real_nodes_alone_without_privileges(helm: Helm, name: str) -> None:
    made = render(helm, name)
    spec, container = pod_of(made)["spec"], container_of(made)
    profile = node_profile()
    assert spec["affinity"]["nodeAffinity"] == profile["affinity"]["nodeAffinity"]
    assert profile["nodeSelector"].items() <= spec["nodeSelector"].items()
    assert not any("virtual" in str(each) or "aci" in str(each) for each in spec.get("tolerations", ()))
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert container["resources"]["limits"].keys() == {"memory"}
    assert [container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")] == [
        "/livez", "/livez", "/readyz",
    ]  # fmt: skip


def test_a_new_replica_is_ready_before_an_old_one_goes_and_only_one_is_drained_at_a_time(helm: Helm) -> None:
    made = render(helm)
    deployment = one(made, "Deployment")["spec"]
    assert deployment["replicas"] == 2
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    keys = [each["topologyKey"] for each in pod_of(made)["spec"]["topologySpreadConstraints"]]
    assert keys == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    assert one(made, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    labels = pod_of(made)["metadata"]["labels"]
    for each in (one(made, "PodDisruptionBudget"), one(made, "Deployment")):
        assert each["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert one(made, "Service")["spec"]["selector"].items() <= labels.items()
    policy = one(made, "NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["policyTypes"] == ["Ingress", "Egress"]


# --- what is seen -----------------------------------------------------------------------------------------------------


def test_monitoring_is_there_only_if_asked_for(helm: Helm) -> None:
    assert not any(each["apiVersion"].startswith("monitoring") for each in render(helm))
    made = render(helm, "several-namespaces")
    for kind in ("ServiceMonitor", "PrometheusRule"):
        assert one(made, kind)["metadata"]["labels"]["release"] == "prometheus"
    service = one(made, "Service")
    assert one(made, "ServiceMonitor")["spec"]["selector"]["matchLabels"].items() <= (
        service["metadata"]["labels"].items()
    )
    # The alerts select by the name that Prometheus gives to what it finds behind this Service.
    assert 'service="dispatcher"' in str(one(made, "PrometheusRule"))
    assert service["metadata"]["name"] == "dispatcher"


def test_alerts_ask_for_metrics_and_labels_that_exist(helm: Helm) -> None:
    made = render(helm, "several-namespaces")
    registry = Metrics().registry
    known = {
        name: set(getattr(collector, "_labelnames", ()))
        for collector, names in registry._collector_to_names.items()
        for name in names
    }
    groups = one(made, "PrometheusRule")["spec"]["groups"]
    alerts = [rule for group in groups for rule in group["rules"]]
    assert len({alert["alert"] for alert in alerts}) == len(alerts) >= 10
    for alert in alerts:
        used = re.findall(r"(burst_\w+)\{([^}]*)\}", alert["expr"])
        assert used, alert["alert"]
        assert len(re.findall(r"\bburst_\w+", alert["expr"])) == len(used), "each is asked of this release alone"
        for name, matchers in used:
            assert name in known, f"{alert['alert']} asks for {name}"
            labels = set(re.findall(r'(\w+)=~?"', matchers))
            assert {"namespace", "service"} <= labels
            assert labels - {"namespace", "service"} <= known[name], alert["alert"]
        grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", alert["expr"]))))
        assert grouped <= {"budget", "owner"}
        assert alert["labels"]["severity"] in ("warning", "critical")
        assert alert["annotations"].keys() == {"summary", "action"}
        for opening, closing in ("()", "{}"):
            assert alert["expr"].count(opening) == alert["expr"].count(closing)


def test_the_notes_say_how_to_look_and_warn_of_a_missing_budget(helm: Helm) -> None:
    said = helm.run("install", "dispatcher", CHART, "--dry-run=client", "--namespace=burst", *value_files("minimal"))
    notes = said.partition("NOTES:")[2]
    assert "kubectl -n burst rollout status deployment/dispatcher" in notes
    assert "There is no budget" in notes
    assert "makes Jobs in reports" in notes


def test_the_values_of_the_install_guide_are_taken_and_its_flags_exist(helm: Helm, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"^```yaml (values-\S+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    for name, block in blocks.items():
        (tmp_path / f"{name}.yaml").write_text(block, encoding="utf-8")
    alone = helm.run(
        "template", "dispatcher", CHART, f"--values={tmp_path}/values-identity.yaml", "--kube-version=1.36.3"
    )
    made = [each for each in yaml.safe_load_all(alone) if each]
    assert pod_of(made)["metadata"]["labels"]["azure.workload.identity/use"] == "true"
    assert examine(write_mounted(made, tmp_path / "identity"), local=False, environ={}).mistakes == ()
    without = ("--set=workloadIdentity.enabled=false", "--set=config.service_bus.namespace=null")
    files = [f"--values={tmp_path}/{name}.yaml" for name in ("values-identity", "values-connection-string")]
    said = helm.run("template", "dispatcher", CHART, *files, *without, "--kube-version=1.36.3")
    assert "secretName: orders" in said
    for command, flags in re.findall(r"^helm (upgrade|rollback|history|uninstall)\b([^\n]*)", text, re.MULTILINE):
        known = helm.run(command, "--help")
        for flag in re.findall(r"--[a-z-]+", flags):
            assert flag in known, f"helm {command} {flag}"


def test_chart_and_package_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert project is not None
    assert chart["appVersion"] == project[1]


def test_no_manifest_is_empty_or_double(helm: Helm) -> None:
    for name in SETS:
        made: list[Manifest] = render(helm, name)
        keys = [(each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]) for each in made]
        assert len(set(keys)) == len(keys)
        assert all(json.dumps(each) for each in made)
