"""Rules about the whole pod: what makes it, where it may go, what it is called, who else wants to reach into it.

Decides nothing about levels; those are the profile's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dispatcher.judge.findings import ACI_DOCS, AKS_DOCS, CONNECTOR, Effect, Found, rule
from dispatcher.judge.workloads import NETWORK_POLICY, Workload, mapping, sequence, text

_ARCHITECTURE = ("kubernetes.io/arch", "beta.kubernetes.io/arch")
_OS = ("kubernetes.io/os", "beta.kubernetes.io/os")
_LOOKS_ARM = re.compile(r"(^|[:/._-])(arm64|arm64v8|aarch64|arm32v7|armv7|arm)([._/-]|$)")
_CHARTED_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_MESH = {
    "sidecar.istio.io/inject": ("true",),
    "linkerd.io/inject": ("enabled", "ingress"),
    "kuma.io/sidecar-injection": ("true", "enabled"),
    "consul.hashicorp.com/connect-inject": ("true",),
    "openservicemesh.io/sidecar-injection": ("true", "enabled", "yes"),
    "dapr.io/enabled": ("true",),
}
_MESH_CONTAINERS = ("istio-proxy", "istio-init", "linkerd-proxy", "linkerd-init", "kuma-sidecar", "envoy-sidecar")
WORKLOAD_IDENTITY = "azure.workload.identity/use"


@rule(
    "manifest-shape",
    says="a pod without containers, or with fields of the wrong type",
    effect=Effect.FAILS,
    remedy="write it as Kubernetes takes it",
    source="Kubernetes API reference, Pod",
)
def _shape(work: Workload) -> Iterator[Found]:
    if work.kind == NETWORK_POLICY:
        return
    if not work.spec:
        yield Found(work.at("containers"), "there is no pod in it")
        return
    containers = work.spec.get("containers")
    if not isinstance(containers, list) or not containers:
        yield Found(work.at("containers"), "a list with one container at least is needed")
    for key, wanted in (("initContainers", list), ("volumes", list), ("tolerations", list), ("nodeSelector", dict)):
        value = work.spec.get(key)
        if value is not None and not isinstance(value, wanted):
            yield Found(work.at(key), f"holds a {type(value).__name__}, where a {wanted.__name__} is needed")
    for each in work.all_containers:
        if not isinstance(each.spec.get("name"), str) or not each.spec["name"]:
            yield Found(each.at("name"), "every container needs a name")
        if not isinstance(each.spec.get("image"), str) or not each.spec["image"]:
            yield Found(each.at("image"), "every container needs an image")


@rule(
    "kind-daemonset",
    says="a DaemonSet",
    effect=Effect.DIFFERS,
    remedy="run it on real nodes; let the pod send its logs and metrics itself",
    source="hard limitations of virtual nodes: no DaemonSets; tried on "
    + CONNECTOR
    + ": one pod in a group of its own",
)
def _daemonset(work: Workload) -> Iterator[Found]:
    if work.kind == "DaemonSet":
        yield Found(
            "kind",
            "its pod on the virtual node is one more container group: it sees no other pod's, and is billed for ever",
        )


@rule(
    "kind-steady-state",
    says="a workload that is meant to run for ever",
    effect=Effect.DIFFERS,
    remedy="run steady work on real nodes, and bursts as Jobs here",
    source="hard limitations of virtual nodes: not for steady-state workloads",
)
def _steady(work: Workload) -> Iterator[Found]:
    if work.kind in ("Deployment", "StatefulSet"):
        yield Found("kind", f"a {work.kind} runs for ever and is billed by the second, at more than a busy VM costs")


@rule(
    "claim-template",
    says="a StatefulSet with volume claims",
    effect=Effect.FAILS,
    remedy="keep state outside of the pod: object storage, a database, or an inline Azure Files volume",
    source="hard limitations of virtual nodes: no persistent volumes; " + CONNECTOR,
)
def _claim_templates(work: Workload) -> Iterator[Found]:
    claims = sequence(mapping(work.document.get("spec")).get("volumeClaimTemplates"))
    if work.kind == "StatefulSet" and claims:
        yield Found("spec.volumeClaimTemplates", f"{len(claims)} persistent volume(s) are claimed for each pod")


@rule(
    "network-policy",
    says="a NetworkPolicy",
    effect=Effect.IGNORED,
    remedy="put the rules into the network security group of the delegated subnet",
    source="common mistakes with virtual nodes: network policies do not work there; " + AKS_DOCS,
)
def _network_policy(work: Workload) -> Iterator[Found]:
    if work.kind == NETWORK_POLICY:
        yield Found("kind", "network policies are not enforced for pods on the virtual node")


@rule(
    "os-windows",
    says="Windows containers",
    effect=Effect.PENDING,
    remedy="build the image for Linux, or run it on a Windows node pool",
    source="hard limitations of virtual nodes: Linux containers only; " + AKS_DOCS,
)
def _windows(work: Workload) -> Iterator[Found]:
    if text(mapping(work.spec.get("os")).get("name")).lower() == "windows":
        yield Found(work.at("os.name"), "asks for Windows; the virtual node is Linux")
    for path, value in _chosen(work, _OS):
        if value.lower() == "windows":
            yield Found(path, "asks for a Windows node; the virtual node is Linux")


@rule(
    "arch-not-amd64",
    says="another architecture than amd64",
    effect=Effect.PENDING,
    remedy="build the image for linux/amd64, or for both",
    source=ACI_DOCS + ": images for amd64 only",
)
def _architecture(work: Workload) -> Iterator[Found]:
    for path, value in _chosen(work, _ARCHITECTURE):
        if value != "amd64":
            yield Found(path, f"asks for {value}; container groups are amd64")
    for each in work.all_containers:
        image = text(each.spec.get("image"))
        if _LOOKS_ARM.search(image.split("@")[0]):
            yield Found(each.at("image"), f"{image!r} is named as an image for ARM; container groups are amd64")


@rule(
    "selector-missing",
    says="nothing that leads the pod to the virtual node",
    effect=Effect.DIFFERS,
    remedy="add the node selector of the placement",
    source=AKS_DOCS + ": node selector and tolerations",
)
def _selector_missing(work: Workload) -> Iterator[Found]:
    if work.kind == NETWORK_POLICY:
        return
    selected = mapping(work.spec.get("nodeSelector"))
    if work.spec.get("nodeName") or any(key in selected for key in work.limits.selectors):
        return
    if any(_key(each) in work.limits.selectors and each.get("operator") == "In" for _, each in _required(work)):
        return
    wanted = ", ".join(f"{key}: {work.limits.node_labels.get(key, '')}" for key in work.limits.selectors)
    yield Found(work.at("nodeSelector"), "nothing leads this pod to the virtual node", f"add {wanted}")


@rule(
    "selector-unknown-label",
    says="a node label that the virtual node has not, or with another value",
    effect=Effect.PENDING,
    remedy="take it out, or keep the pod on real nodes",
    source=CONNECTOR + ": labels of its node; no label for zone, instance type or architecture",
)
def _selector_unknown(work: Workload) -> Iterator[Found]:
    labels = work.limits.node_labels
    for key, value in mapping(work.spec.get("nodeSelector")).items():
        if key in (*_OS, *_ARCHITECTURE) and text(value) != labels.get(key) and text(value) not in ("linux", "amd64"):
            continue  # another operating system or architecture has a rule of its own
        if labels.get(key) != text(value) and not key.endswith("/hostname"):
            has = f"it is {labels[key]} there" if key in labels else "the virtual node has no such label"
            yield Found(work.at(f"nodeSelector['{key}']"), f"asks for a node with {key}: {text(value)}; {has}")
    for path, each in _required(work):
        if (
            each.get("operator") in ("In", "Exists")
            and _key(each) not in labels
            and _key(each) not in (*_OS, *_ARCHITECTURE)
            and not _key(each).endswith("/hostname")
        ):
            yield Found(path, f"requires the node label {_key(each)!r}, and the virtual node has no such label")


@rule(
    "affinity-keeps-off",
    says="an affinity that keeps the pod off the virtual node",
    effect=Effect.PENDING,
    remedy="take the term out, or keep the pod on real nodes",
    source=AKS_DOCS + ": keeping pods off by affinity",
)
def _keeps_off(work: Workload) -> Iterator[Found]:
    for path, each in _required(work):
        if _excludes(each, work.limits.node_labels):
            yield Found(path, f"excludes nodes by {_key(each)}, and with them the virtual node")


@rule(
    "toleration-missing",
    says="no toleration of the virtual node's taint",
    effect=Effect.PENDING,
    remedy="tolerate it",
    source=CONNECTOR + ": taint of its node; " + AKS_DOCS,
)
def _toleration(work: Workload) -> Iterator[Found]:
    if work.kind == NETWORK_POLICY or work.kind == "DaemonSet":
        return
    for taint in work.limits.taints:
        if not any(_tolerates(mapping(each), taint) for each in sequence(work.spec.get("tolerations"))):
            remedy = f"add {{key: {taint['key']}, operator: Exists}}"
            yield Found(work.at("tolerations"), f"the taint {taint['key']} is not tolerated: the pod stays off", remedy)


@rule(
    "not-kept-off",
    says="a pod for real nodes that may land on the virtual node",
    effect=Effect.DIFFERS,
    remedy="require by node affinity that the label type is not in [virtual-kubelet]",
    source=AKS_DOCS + ": keeping pods off by affinity",
)
def _not_kept_off(work: Workload) -> Iterator[Found]:
    for position, each in enumerate(sequence(work.spec.get("tolerations"))):
        blanket = mapping(each).get("operator") == "Exists" and not mapping(each).get("key")
        named = text(mapping(each).get("key")) in work.limits.words.get("virtual_taints", ())
        if (blanket or named) and not any(_excludes_virtual(term) for _, term in _required(work)):
            yield Found(
                work.at(f"tolerations[{position}]"), "tolerates the virtual node, and nothing keeps the pod off it"
            )


@rule(
    "group-name",
    says="a name that is too long, or none that Azure takes",
    effect=Effect.FAILS,
    remedy="shorten the name or the namespace",
    source=ACI_DOCS + ": names of container groups; " + CONNECTOR + ": the group is called namespace-pod",
)
def _group_name(work: Workload) -> Iterator[Found]:
    longest = work.limits.counts.get("group_name_max")
    if longest is None or work.kind in (NETWORK_POLICY, "DaemonSet"):
        return
    length = len(work.namespace) + 1 + work.pod_name_length
    if length > longest:
        parts = f"namespace {work.namespace!r} ({len(work.namespace)}), a hyphen and up to {work.pod_name_length}"
        yield Found(
            "metadata.name", f"the container group's name has {length} characters of {longest}: {parts} of the pod"
        )
    if work.name and not _CHARTED_NAME.fullmatch(work.name.removesuffix("-")):
        yield Found(
            "metadata.name",
            f"{work.name!r} cannot be part of a container group's name (small letters, digits, single hyphens)",
            "rename it without dots",
        )
    elif "--" in work.name:
        yield Found("metadata.name", f"{work.name!r} has two hyphens in a row", "use single hyphens")


@rule(
    "service-mesh",
    says="a sidecar of a service mesh",
    effect=Effect.DIFFERS,
    remedy="switch injection off for this pod, and let it speak TLS itself",
    source="common mistakes with virtual nodes: service meshes work differently or not at all",
)
def _mesh(work: Workload) -> Iterator[Found]:
    for part in ("labels", "annotations"):
        for key, values in _MESH.items():
            if text(mapping(work.metadata.get(part)).get(key)).lower() in values:
                yield Found(
                    work.metadata_at(f"{part}['{key}']"),
                    "asks for a sidecar that redirects the pod's traffic, for which a container group has no rights",
                )
    for each in work.all_containers:
        if each.spec.get("name") in _MESH_CONTAINERS:
            yield Found(each.at("name"), f"{each.spec['name']} redirects traffic, for which a group has no rights")


@rule(
    "workload-identity",
    says="workload identity",
    effect=Effect.IGNORED,
    remedy="use a Secret (a SAS token of short life), or virtual nodes on ACI (virtual-node-v2)",
    source=AKS_DOCS + ": no managed identity for pods on the add-on's virtual node",
)
def _workload_identity(work: Workload) -> Iterator[Found]:
    if text(mapping(work.metadata.get("labels")).get(WORKLOAD_IDENTITY)).lower() == "true":
        path = work.metadata_at(f"labels['{WORKLOAD_IDENTITY}']")
        yield Found(path, "the pod would get no token: projected tokens do not reach a container group")


@rule(
    "ignored-field",
    says="a field of the pod that has no effect there",
    effect=Effect.IGNORED,
    remedy="do not rely on it",
    source=CONNECTOR + ": the field is never read",
)
def _ignored(work: Workload) -> Iterator[Found]:
    for key in work.limits.words.get("ignored_fields", ()):
        if key == "terminationGracePeriodSeconds" and work.spec.get(key) == work.limits.counts.get("grace_seconds"):
            continue  # what is rendered for such a place, so that a deleted pod goes at once: nobody relies on it
        if work.spec.get(key) not in (None, False, "", [], {}):
            own = "let the Job have the deadline" if key == "activeDeadlineSeconds" else ""
            yield Found(work.at(key), f"{key} has no effect there", own)


@rule(
    "host-namespaces",
    says="host network, processes or memory",
    effect=Effect.IGNORED,
    remedy="take it out; there is no host to share",
    source="hard limitations of virtual nodes: no host networking; " + CONNECTOR + ": the field is never read",
)
def _host_namespaces(work: Workload) -> Iterator[Found]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if work.spec.get(key) is True:
            yield Found(work.at(key), f"{key}: a container group is a machine of its own")


# --- reading selectors ----------------------------------------------------------------------------------------------


def _required(work: Workload) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All terms that a node must satisfy, with their paths."""
    at = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
    found: Any = work.spec
    for step in at.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    for n, term in enumerate(sequence(found)):
        for m, each in enumerate(sequence(mapping(term).get("matchExpressions"))):
            yield work.at(f"{at}[{n}].matchExpressions[{m}]"), mapping(each)


def _chosen(work: Workload, keys: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The values of node labels that the pod insists on."""
    for key, value in mapping(work.spec.get("nodeSelector")).items():
        if key in keys:
            yield work.at(f"nodeSelector['{key}']"), text(value)
    for path, each in _required(work):
        values = [text(value) for value in sequence(each.get("values"))]
        if _key(each) in keys and each.get("operator") == "In" and not {"linux", "amd64"} & set(values):
            yield from ((path, value) for value in values[:1])


def _key(term: Mapping[str, Any]) -> str:
    return text(term.get("key"))


def _excludes(term: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    own = labels.get(_key(term))
    values = [text(value) for value in sequence(term.get("values"))]
    operator = term.get("operator")
    if own is None:
        return False
    return (
        operator == "DoesNotExist"
        or (operator == "NotIn" and own in values)
        or (operator == "In" and own not in values and _key(term) not in (*_OS, *_ARCHITECTURE))
    )


def _excludes_virtual(term: Mapping[str, Any]) -> bool:
    return _excludes(term, {"type": "virtual-kubelet", "kubernetes.azure.com/managed": "false"})


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, str]) -> bool:
    """As the scheduler decides it."""
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if not toleration.get("key"):
        return toleration.get("operator") == "Exists"
    if toleration["key"] != taint["key"]:
        return False
    return toleration.get("operator") == "Exists" or text(toleration.get("value")) == taint["value"]
