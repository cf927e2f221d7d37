"""Rules about variables and names: what a program is told, and by whom it can be found.

Decides nothing about levels; those are the profile's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dispatcher.judge.findings import ACI_DOCS, CONNECTOR, Effect, Found, rule
from dispatcher.judge.workloads import Container, Workload, mapping, sequence, text

_ENV_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_]{0,61}[A-Za-z0-9])?")
_FIELDS_KNOWN = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "metadata.labels",
    "metadata.annotations",
    "spec.nodeName",
    "spec.serviceAccountName",
)
_ONE_FIELD = re.compile(r"metadata\.(labels|annotations)\['[^']+'\]")
_CLUSTER_NAME = re.compile(r"\.svc(\.cluster\.local)?([:/\s]|$)")


@rule(
    "env-field-ref",
    says="a variable from a field that is not known there",
    effect=Effect.PENDING,
    remedy="use metadata.name, metadata.namespace, metadata.uid, one label or annotation, or spec.nodeName",
    source=CONNECTOR + ": an unknown field ends the create before any status is written",
)
def _field_ref(work: Workload) -> Iterator[Found]:
    for each, n, variable in _variables(work):
        reference = mapping(variable.get("valueFrom")).get("fieldRef")
        path = text(mapping(reference).get("fieldPath"))
        if reference is not None and path not in _FIELDS_KNOWN and not _ONE_FIELD.fullmatch(path):
            yield Found(
                each.at(f"env[{n}].valueFrom.fieldRef.fieldPath"), f"{path!r}: the pod stays Pending, without a word"
            )


@rule(
    "env-resource-ref",
    says="a variable from a resource",
    effect=Effect.IGNORED,
    remedy="write the value itself",
    source=CONNECTOR + ": resourceFieldRef is left out",
)
def _resource_ref(work: Workload) -> Iterator[Found]:
    for each, n, variable in _variables(work):
        if "resourceFieldRef" in mapping(variable.get("valueFrom")):
            yield Found(each.at(f"env[{n}].valueFrom.resourceFieldRef"), "the variable will not be there")


@rule(
    "env-empty",
    says="an empty variable",
    effect=Effect.IGNORED,
    remedy="let the program take a missing variable for an empty one",
    source=CONNECTOR + ": variables with an empty value are left out",
)
def _empty(work: Workload) -> Iterator[Found]:
    for each, n, variable in _variables(work):
        if not variable.get("valueFrom") and text(variable.get("value")) == "":
            yield Found(each.at(f"env[{n}].value"), f"{text(variable.get('name'))} is empty and will not be there")


@rule(
    "env-name",
    says="a variable's name that Azure does not take",
    effect=Effect.FAILS,
    remedy="use at most 63 letters, digits and _, with none at either end",
    source=ACI_DOCS + ": naming rules",
)
def _env_name(work: Workload) -> Iterator[Found]:
    for each, n, variable in _variables(work):
        name = text(variable.get("name"))
        if not _ENV_NAME.fullmatch(name):
            yield Found(each.at(f"env[{n}].name"), f"{name!r} is no name for a variable in a container group")


@rule(
    "env-secret",
    says="a Secret as variables",
    effect=Effect.DIFFERS,
    remedy="mount the Secret as a volume, or use a token of short life",
    source=CONNECTOR + ": the value is resolved first and sent as an ordinary variable, which readers of the group see",
)
def _secret(work: Workload) -> Iterator[Found]:
    for each, n, variable in _variables(work):
        if "secretKeyRef" in mapping(variable.get("valueFrom")):
            yield Found(
                each.at(f"env[{n}].valueFrom.secretKeyRef"), "whoever may read the group in Azure reads its value"
            )
    for each in work.all_containers:
        for n, source in enumerate(sequence(each.spec.get("envFrom"))):
            if "secretRef" in mapping(source):
                yield Found(each.at(f"envFrom[{n}].secretRef"), "whoever may read the group in Azure reads its values")


@rule(
    "service-links",
    says="variables of every Service of the namespace",
    effect=Effect.DIFFERS,
    remedy="write enableServiceLinks: false",
    source=CONNECTOR + ": all of them are sent with every create, which has a size limit",
)
def _service_links(work: Workload) -> Iterator[Found]:
    if work.containers and work.spec.get("enableServiceLinks") is not False:
        yield Found(
            work.at("enableServiceLinks"), "is on: every Service of the namespace becomes variables of the group"
        )


@rule(
    "token-mount",
    says="the service account's token",
    effect=Effect.IGNORED,
    remedy="write automountServiceAccountToken: false",
    source=CONNECTOR + ": projected tokens do not reach a container group",
)
def _token(work: Workload) -> Iterator[Found]:
    if work.containers and work.spec.get("automountServiceAccountToken") is not False:
        yield Found(work.at("automountServiceAccountToken"), "is on, and there will be no token for the Kubernetes API")


@rule(
    "cluster-dns",
    says="names of Services in the cluster",
    effect=Effect.DIFFERS,
    remedy="use full names that resolve outside of the cluster, or private endpoints",
    source="common mistakes with virtual nodes: limited networking; groups have addresses of the subnet, not of pods",
)
def _dns(work: Workload) -> Iterator[Found]:
    for each in work.all_containers:
        for key in ("command", "args"):
            for n, word in enumerate(sequence(each.spec.get(key))):
                if _CLUSTER_NAME.search(text(word)):
                    yield Found(each.at(f"{key}[{n}]"), "names a Service: cluster DNS may not answer there")
    for each, n, variable in _variables(work):
        if _CLUSTER_NAME.search(text(variable.get("value"))):
            yield Found(
                each.at(f"env[{n}].value"), f"{text(variable.get('name'))} names a Service: cluster DNS may not answer"
            )
    if text(work.spec.get("dnsPolicy")).startswith("ClusterFirst"):
        yield Found(
            work.at("dnsPolicy"), "the group is given the cluster's DNS server, which must answer from the subnet"
        )


def _variables(work: Workload) -> Iterator[tuple[Container, int, Mapping[str, Any]]]:
    for each in work.all_containers:
        for n, variable in enumerate(sequence(each.spec.get("env"))):
            yield each, n, mapping(variable)
