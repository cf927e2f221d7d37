"""Rules about containers: commands, sizes, variables, probes, ports, rights.

Decides nothing about levels; those are the profile's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from dispatcher.judge.findings import ACI_DOCS, AKS_DOCS, CONNECTOR, Effect, Found, rule
from dispatcher.judge.workloads import Container, Workload, mapping, quantity, sequence, text, whole

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
_PRIVATE_REGISTRY = re.compile(r"^[a-z0-9]+\.azurecr\.(io|cn|us)/")
_NOT_EXTENDED = ("cpu", "memory", "ephemeral-storage")
_CPU_STEP = Decimal("0.01")
_MEMORY_STEP = Decimal(10**8)


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


# --- sizes ----------------------------------------------------------------------------------------------------------


@rule(
    "quantity",
    says="a size that is no quantity",
    effect=Effect.FAILS,
    remedy="write for example 500m, 2 or 1.5G",
    source="Kubernetes API reference, Quantity",
)
def _quantities(work: Workload) -> Iterator[Found]:
    for each in work.all_containers:
        for part in ("requests", "limits"):
            for name, value in _resources(each, part).items():
                if quantity(value) is None:
                    yield Found(each.at(f"resources.{part}.{name}"), f"{text(value)!r} is not a quantity")


@rule(
    "resources-missing",
    says="no requests and no limits",
    effect=Effect.IGNORED,
    remedy="write both, the same, as much as the work needs",
    source=CONNECTOR + ": 1 CPU and 1.5 GB are assumed, and billed; common mistakes with virtual nodes",
)
def _missing(work: Workload) -> Iterator[Found]:
    assumed = {"cpu": "1 CPU is", "memory": "1.5 GB are"}
    for each in work.containers:
        for name, words in assumed.items():
            if _size(each, name) is None and name not in _resources(each, "limits"):
                yield Found(each.at(f"resources.requests.{name}"), f"is missing: {words} assumed and billed")


@rule(
    "limits-missing",
    says="requests without limits",
    effect=Effect.DIFFERS,
    remedy="write the same as limits",
    source="common mistakes with virtual nodes: not setting resource limits",
)
def _limits_missing(work: Workload) -> Iterator[Found]:
    for each in work.containers:
        for name in ("cpu", "memory"):
            if name in _resources(each, "requests") and name not in _resources(each, "limits"):
                yield Found(
                    each.at(f"resources.limits.{name}"), "is missing: what is billed and what may be used then differ"
                )


@rule(
    "limits-above-requests",
    says="limits above what the group requests",
    effect=Effect.FAILS,
    remedy="make requests and limits the same; what is requested is what is billed",
    source="Azure's answer: ContainerLimitGreaterThanContainerGroupTotalRequest",
)
def _limits_above(work: Workload) -> Iterator[Found]:
    for name in ("cpu", "memory"):
        total = sum((_truncated(name, _size(each, name)) for each in work.containers), start=Decimal(0))
        for each in work.containers:
            limit, own = quantity(_resources(each, "limits").get(name)), _size(each, name)
            if limit is None or own is None or limit <= own:
                continue
            passed = limit if name == "cpu" else _truncated(name, limit)
            if passed > total:
                written = text(_resources(each, "limits").get(name))
                yield Found(
                    each.at(f"resources.limits.{name}"),
                    f"{written} is more than the {_told(name, total)} that the whole group requests",
                )


@rule(
    "limits-differ",
    says="limits that are not the requests",
    effect=Effect.DIFFERS,
    remedy="make requests and limits the same",
    source=ACI_DOCS + ": requests are reserved and billed, limits are not",
)
def _limits_differ(work: Workload) -> Iterator[Found]:
    for each in work.containers:
        for name in ("cpu", "memory"):
            limit, own = quantity(_resources(each, "limits").get(name)), _size(each, name)
            if limit is not None and own is not None and limit != own:
                yield Found(
                    each.at(f"resources.limits.{name}"), f"{_told(name, limit)}, and {_told(name, own)} is requested"
                )


@rule(
    "cpu-step",
    says="CPU in steps finer than 10m",
    effect=Effect.FAILS,
    remedy="write a multiple of 10m",
    source=CONNECTOR + ": the request is truncated to 0.01 and the limit is not, so that it is above the request",
)
def _cpu_step(work: Workload) -> Iterator[Found]:
    for each in work.containers:
        limit, own = quantity(_resources(each, "limits").get("cpu")), _size(each, "cpu")
        if limit is not None and own == limit and limit % _CPU_STEP:
            up = (limit / _CPU_STEP).to_integral_value(rounding="ROUND_CEILING") * 10
            path = each.at("resources.limits.cpu")
            yield Found(path, f"{_told('cpu', limit)} is not a multiple of 10m", f"write {up}m as request and limit")


@rule(
    "memory-step",
    says="memory that is no multiple of 0.1 GB",
    effect=Effect.DIFFERS,
    remedy="write decimal gigabytes with one digit",
    source=CONNECTOR + ": memory is counted in decimal GB and truncated to 0.1",
)
def _memory_step(work: Workload) -> Iterator[Found]:
    for each in work.containers:
        own = _size(each, "memory")
        if own is not None and own >= _MEMORY_STEP and own % _MEMORY_STEP:
            up = (own / _MEMORY_STEP).to_integral_value(rounding="ROUND_CEILING") / 10
            less = _told("memory", _truncated("memory", own))
            written = text(_resources(each, "requests").get("memory") or _resources(each, "limits").get("memory"))
            yield Found(each.at("resources.requests.memory"), f"{written} becomes {less}", f"write {up.normalize():f}G")


@rule(
    "memory-below-step",
    says="less memory than 0.1 GB",
    effect=Effect.FAILS,
    remedy="write 100M at least",
    source=CONNECTOR + ": the request becomes 0.1 GB, a limit below it becomes 0",
)
def _memory_below(work: Workload) -> Iterator[Found]:
    for each in work.containers:
        limit = quantity(_resources(each, "limits").get("memory"))
        if limit is not None and limit < _MEMORY_STEP:
            yield Found(each.at("resources.limits.memory"), "is less than 0.1 GB, and reaches Azure as 0")


@rule(
    "group-too-large",
    says="more than the largest container group",
    effect=Effect.FAILS,
    remedy="ask for less, or run it on a real node",
    source=ACI_DOCS + ": 31 vCPU and 240 GB a group, and no quota request raises it",
)
def _too_large(work: Workload) -> Iterator[Found]:
    yield from _above(work, "group_cpu_max_millis", "group_memory_max_mb", "is the most that there is")


@rule(
    "group-needs-quota",
    says="more than a container group gets without a quota request",
    effect=Effect.DIFFERS,
    remedy="ask for less, or have the quota raised first; capacity for such sizes comes on demand",
    source=ACI_DOCS + ": above 4 vCPU or 16 GB a quota request is needed",
)
def _needs_quota(work: Workload) -> Iterator[Found]:
    yield from _above(work, "group_cpu_usual_millis", "group_memory_usual_mb", "needs no quota request")


@rule(
    "gpu",
    says="a GPU",
    effect=Effect.FAILS,
    remedy="run it on a GPU node pool",
    source=CONNECTOR + ': "ACI doesn\'t provide GPU enabled container group"; Azure retired GPU groups in July 2025',
)
def _gpu(work: Workload) -> Iterator[Found]:
    for path, name in _extended(work):
        if "gpu" in name.lower() or name.startswith("nvidia.com/"):
            yield Found(path, f"{name}: there are no GPUs, whole or shared")


@rule(
    "resource-unknown",
    says="a resource that the virtual node does not announce",
    effect=Effect.PENDING,
    remedy="run it on nodes that have it",
    source=CONNECTOR + ": its node announces cpu, memory and pods",
)
def _unknown_resource(work: Workload) -> Iterator[Found]:
    for path, name in _extended(work):
        if "gpu" not in name.lower() and not name.startswith("nvidia.com/"):
            yield Found(path, f"no virtual node has {name}")


@rule(
    "ephemeral-storage",
    says="requests for local storage",
    effect=Effect.IGNORED,
    remedy="do not rely on it; a container group has 50 GB in all, images included",
    source=CONNECTOR + ": ephemeral-storage is never read",
)
def _ephemeral_storage(work: Workload) -> Iterator[Found]:
    for each in work.all_containers:
        for part in ("requests", "limits"):
            if "ephemeral-storage" in _resources(each, part):
                yield Found(each.at(f"resources.{part}.ephemeral-storage"), "has no effect there")


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


# --- variables ------------------------------------------------------------------------------------------------------


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


# --- life -----------------------------------------------------------------------------------------------------------


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
            if _resources(each, part):
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


# --- network and rights ---------------------------------------------------------------------------------------------


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


# --- reading containers ---------------------------------------------------------------------------------------------


def _resources(container: Container, part: str) -> Mapping[str, Any]:
    return mapping(mapping(container.spec.get("resources")).get(part))


def _size(container: Container, name: str) -> Decimal | None:
    """What is requested; where only a limit is written the API server takes that."""
    requested = _resources(container, "requests").get(name)
    return quantity(requested if requested is not None else _resources(container, "limits").get(name))


def _truncated(name: str, amount: Decimal | None) -> Decimal:
    """As the connector passes a request on."""
    if amount is None:
        return Decimal(1) if name == "cpu" else Decimal(15 * 10**8)
    step = _CPU_STEP if name == "cpu" else _MEMORY_STEP
    return max((amount / step).to_integral_value(rounding="ROUND_FLOOR"), Decimal(1)) * step


def _told(name: str, amount: Decimal) -> str:
    if name == "cpu":
        return f"{(amount * 1000).normalize():f}m"
    return f"{(amount / 10**9).quantize(Decimal('0.001')).normalize():f}G"


def _above(work: Workload, cpu: str, memory: str, words: str) -> Iterator[Found]:
    for name, key, unit in (("cpu", cpu, Decimal("0.001")), ("memory", memory, Decimal(10**6))):
        most = work.limits.counts.get(key)
        total = sum((_truncated(name, _size(each, name)) for each in work.containers), start=Decimal(0))
        if most is not None and total > most * unit:
            where = "containers[0].resources.requests" if len(work.containers) == 1 else "containers"
            yield Found(
                work.at(where), f"{name} {_told(name, total)} is requested, and {_told(name, most * unit)} {words}"
            )


def _extended(work: Workload) -> Iterator[tuple[str, str]]:
    for each in work.all_containers:
        seen = set()
        for part in ("limits", "requests"):
            for name in _resources(each, part):
                if name not in _NOT_EXTENDED and name not in seen:
                    seen.add(name)
                    yield each.at(f"resources.{part}['{name}']"), text(name)


def _variables(work: Workload) -> Iterator[tuple[Container, int, Mapping[str, Any]]]:
    for each in work.all_containers:
        for n, variable in enumerate(sequence(each.spec.get("env"))):
            yield each, n, mapping(variable)


def _ports(work: Workload) -> Iterator[tuple[Container, int, Mapping[str, Any]]]:
    for each in work.containers:
        for n, port in enumerate(sequence(each.spec.get("ports"))):
            yield each, n, mapping(port)


def _keys(context: Mapping[str, Any]) -> str:
    return ", ".join(sorted(map(str, context)))
