"""Rules about containers: commands, probes and hooks, init containers, ports, rights, images.

Decides nothing about levels; those are the profile's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dispatcher.judge.findings import ACI_DOCS, AKS_DOCS, CONNECTOR, Effect, Found, rule
from dispatcher.judge.workloads import Container, Workload, mapping, sequence, text, whole

_PRIVATE_REGISTRY = re.compile(r"^[a-z0-9]+\.azurecr\.(io|cn|us)/")


@rule(
    "args-without-command",
    says="arguments without a command",
    effect=Effect.FAILS,
    remedy="write the command out as well",
    source=CONNECTOR + ': "ACI does not support providing args without specifying the command"',
)
def _command(work: Workload) -> Iterator[Found]:
    for each in work.all_containers:
        if each.spec.get("args") and not each.spec.get("command"):
            yield Found(each.at("args"), "args without a command are refused, whatever the image's entry point")


@rule(
    "container-count",
    says="more containers than a group may have",
    effect=Effect.FAILS,
    remedy="split the pod",
    source=ACI_DOCS + ": quotas and limits",
)
def _container_count(work: Workload) -> Iterator[Found]:
    most = work.limits.counts.get("containers_max")
    if most is not None and len(work.all_containers) > most:
        yield Found(work.at("containers"), f"{len(work.all_containers)} containers, and a group takes {most}")


@rule(
    "startup-probe",
    says="a startup probe",
    effect=Effect.FAILS,
    remedy="take it out; a Job needs none",
    source=CONNECTOR + ': "ACI does not support startupProbe"',
)
def _startup(work: Workload) -> Iterator[Found]:
    for each in work.containers:
        if each.spec.get("startupProbe"):
            yield Found(each.at("startupProbe"), "startup probes are refused")


@rule(
    "probe-kind",
    says="a probe that is neither exec nor httpGet",
    effect=Effect.FAILS,
    remedy="use exec or httpGet",
    source=CONNECTOR + ': "probe must specify one of exec and httpGet"',
)
def _probe(work: Workload) -> Iterator[Found]:
    for each in work.containers:
        named = {text(mapping(port).get("name")) for port in sequence(each.spec.get("ports"))}
        for key in ("livenessProbe", "readinessProbe"):
            probe = mapping(each.spec.get(key))
            if not probe:
                continue
            if ("exec" in probe) == ("httpGet" in probe):
                yield Found(each.at(key), "a probe must be exec or httpGet")
            port = mapping(probe.get("httpGet")).get("port")
            if isinstance(port, str) and not port.isdigit() and port not in named:
                yield Found(
                    each.at(f"{key}.httpGet.port"), f"there is no port {port!r} in this container", "name its number"
                )


@rule(
    "lifecycle-hook",
    says="postStart and preStop hooks",
    effect=Effect.FAILS,
    remedy="do in the program what the hook does",
    source=CONNECTOR + ': "ACI does not support lifecycle hooks"',
)
def _hooks(work: Workload) -> Iterator[Found]:
    for each in work.all_containers:
        for key in ("postStart", "preStop"):
            handler = mapping(mapping(each.spec.get("lifecycle")).get(key))
            if {"exec", "httpGet", "tcpSocket"} & handler.keys():
                yield Found(each.at(f"lifecycle.{key}"), "hooks are refused")


@rule(
    "init-container-field",
    says="an init container with ports, resources or probes",
    effect=Effect.FAILS,
    remedy="take it out of the init container",
    source=CONNECTOR
    + ': "azure container instances initContainers do not support ..."; hard limitations: init containers',
)
def _init_fields(work: Workload) -> Iterator[Found]:
    for each in work.init_containers:
        for key in ("ports", "livenessProbe", "readinessProbe", "startupProbe"):
            if each.spec.get(key) is not None:
                yield Found(each.at(key), f"init containers may have no {key}")
        for part in ("requests", "limits"):
            if each.resources(part):
                yield Found(each.at(f"resources.{part}"), f"init containers may have no {part}")


@rule(
    "init-container",
    says="init containers",
    effect=Effect.DIFFERS,
    remedy="test it, or do the preparation in the container itself",
    source="hard limitations of virtual nodes: limited init container support; " + AKS_DOCS + " still lists none",
)
def _init(work: Workload) -> Iterator[Found]:
    for each in work.init_containers:
        if text(each.spec.get("restartPolicy")) != "Always":
            yield Found(
                each.path, "the connector passes init containers on, though the documents list them as unsupported"
            )


@rule(
    "native-sidecar",
    says="an init container that is to run on beside the others",
    effect=Effect.IGNORED,
    remedy="make it an ordinary container that ends by itself",
    source=CONNECTOR + ": restartPolicy of an init container is never read, so that the pod waits for its end",
)
def _sidecar(work: Workload) -> Iterator[Found]:
    for n, each in enumerate(work.init_containers):
        if text(each.spec.get("restartPolicy")) == "Always":
            yield Found(work.at(f"initContainers[{n}].restartPolicy"), "the pod waits for a container that never ends")


@rule(
    "host-port",
    says="a port of the host",
    effect=Effect.IGNORED,
    remedy="take hostPort out; the group has an address of its own",
    source="hard limitations of virtual nodes: no host networking; " + CONNECTOR + ": hostPort is never read",
)
def _host_port(work: Workload) -> Iterator[Found]:
    for each, n, port in _ports(work):
        if port.get("hostPort"):
            yield Found(each.at(f"ports[{n}].hostPort"), f"{text(port['hostPort'])} is opened on no host")


@rule(
    "port-reserved",
    says="a port that Azure keeps for itself",
    effect=Effect.FAILS,
    remedy="listen on another, for example 8080",
    source=ACI_DOCS + ": reserved ports",
)
def _reserved(work: Workload) -> Iterator[Found]:
    singles = {22, 9999, 19000, 19080, 19100, 19390}
    spans = ((1025, 1027), (3389, 3399), (20000, 30000), (49152, 65534))
    for each, n, port in _ports(work):
        number = whole(port.get("containerPort")) or 0
        if number in singles or any(first <= number <= last for first, last in spans):
            yield Found(each.at(f"ports[{n}].containerPort"), f"{number} is reserved")


@rule(
    "port-count",
    says="more ports than an address may have",
    effect=Effect.FAILS,
    remedy="declare only the ports that somebody calls",
    source=ACI_DOCS + ": quotas and limits",
)
def _port_count(work: Workload) -> Iterator[Found]:
    most, ports = work.limits.counts.get("ports_max"), list(_ports(work))
    if most is not None and len(ports) > most:
        yield Found(work.at("containers"), f"{len(ports)} ports, and an address takes {most}")


@rule(
    "privileged",
    says="a privileged container",
    effect=Effect.IGNORED,
    remedy="take it out, and what needs it; on real nodes it works",
    source="hard limitations of virtual nodes: no privileged containers; "
    + CONNECTOR
    + ": securityContext is never read",
)
def _privileged(work: Workload) -> Iterator[Found]:
    for each in work.all_containers:
        context = mapping(each.spec.get("securityContext"))
        if context.get("privileged") is True:
            yield Found(each.at("securityContext.privileged"), "no container has the rights of the host")
        if sequence(mapping(context.get("capabilities")).get("add")):
            yield Found(each.at("securityContext.capabilities.add"), "capabilities are not added")


@rule(
    "security-context",
    says="user, group or file system rules",
    effect=Effect.IGNORED,
    remedy="set the user in the image",
    source=CONNECTOR + ": securityContext is never read",
)
def _security(work: Workload) -> Iterator[Found]:
    if mapping(work.spec.get("securityContext")):
        yield Found(work.at("securityContext"), f"{_keys(work.spec['securityContext'])}: not obeyed")
    for each in work.all_containers:
        rest = {k: v for k, v in mapping(each.spec.get("securityContext")).items() if k != "privileged"}
        if rest:
            yield Found(each.at("securityContext"), f"{_keys(rest)}: not obeyed")


@rule(
    "private-image",
    says="an image of a private Azure registry without a pull Secret",
    effect=Effect.FAILS,
    remedy="name a Secret of type kubernetes.io/dockerconfigjson with username and password",
    source=CONNECTOR + " and " + AKS_DOCS + ": the cluster's own access to a registry does not count there",
)
def _private_image(work: Workload) -> Iterator[Found]:
    if sequence(work.spec.get("imagePullSecrets")):
        return
    for each in work.all_containers:
        image = text(each.spec.get("image"))
        if _PRIVATE_REGISTRY.match(image):
            yield Found(each.at("image"), f"{image!r} needs a login, and no imagePullSecrets are named")


def _ports(work: Workload) -> Iterator[tuple[Container, int, Mapping[str, Any]]]:
    for each in work.containers:
        for n, port in enumerate(sequence(each.spec.get("ports"))):
            yield each, n, mapping(port)


def _keys(context: Mapping[str, Any]) -> str:
    return ", ".join(sorted(map(str, context)))
