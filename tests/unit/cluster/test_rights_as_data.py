"""What the dispatcher asks of a cluster: its version, and rights as data."""

from __future__ import annotations

import pytest

from dispatcher.cluster.config import KubernetesConfig
from dispatcher.cluster.rights import Where, rules, uses
from dispatcher.cluster.versions import fault_of
from dispatcher.errors import BadConfiguration


@pytest.mark.parametrize("version", ["v1.31.0", "v1.34.2", "v1.36.3", "v1.37.0-rc.1+abc", "v2.0.0"])
def test_clusters_of_today_will_do(version: str) -> None:
    assert fault_of({"gitVersion": version}) is None


def test_an_old_cluster_is_told_in_one_line_what_it_lacks() -> None:
    fault = fault_of({"gitVersion": "v1.28.5-eks-abc"})
    assert fault is not None
    assert "\n" not in fault
    assert "1.28" in fault
    assert "1.31 or newer" in fault
    assert "backoffLimitPerIndex" in fault
    assert "Indexed" not in fault


def test_what_a_server_emulates_counts() -> None:
    emulated = {"gitVersion": "v1.36.3", "emulationMajor": "1", "emulationMinor": "30"}
    assert "the cluster runs Kubernetes 1.30; 1.31 or newer" in str(fault_of(emulated))
    assert fault_of({**emulated, "emulationMinor": "33"}) is None


def test_a_server_that_does_not_say_what_it_is_is_refused() -> None:
    assert fault_of({}) is not None
    assert fault_of({"gitVersion": "kubernetes"}) is not None


def test_no_right_goes_further_than_needed() -> None:
    for where in Where:
        for rule in rules(where):
            assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])
            assert "secrets" not in rule["resources"]
    in_cluster = {verb for rule in rules(Where.CLUSTER) for verb in rule["verbs"]}
    assert in_cluster == {"list", "watch"}


def test_each_namespace_with_tasks_needs_its_own_rights() -> None:
    config = KubernetesConfig("own", ("one", "two"))
    wanted = {(use.namespace, use.right.full_resource, use.verb) for use in uses(config)}
    for namespace in ("one", "two"):
        assert (namespace, "jobs", "create") in wanted
        assert (namespace, "pods/log", "get") in wanted
    assert ("own", "jobs", "create") not in wanted
    assert ("own", "leases", "update") in wanted
    assert ("own", "configmaps", "list") in wanted
    assert ("", "nodes", "watch") in wanted


def test_a_configuration_that_cannot_work_is_refused_with_the_remedy() -> None:
    with pytest.raises(BadConfiguration) as refused:
        KubernetesConfig("own", (), requests_per_second=0)
    assert len(refused.value.mistakes) == 2
