"""Rules about sizes: requests and limits, and what a container group can be at most.

Decides nothing about levels; those are the profile's.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from dispatcher.judge.findings import ACI_DOCS, CONNECTOR, Effect, Found, rule
from dispatcher.judge.workloads import Container, Workload, quantity, text

_NOT_EXTENDED = ("cpu", "memory", "ephemeral-storage")
_CPU_STEP = Decimal("0.01")
_MEMORY_STEP = Decimal(10**8)


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
            for name, value in each.resources(part).items():
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
            if _size(each, name) is None and name not in each.resources("limits"):
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
            if name in each.resources("requests") and name not in each.resources("limits"):
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
            limit, own = quantity(each.resources("limits").get(name)), _size(each, name)
            if limit is None or own is None or limit <= own:
                continue
            passed = limit if name == "cpu" else _truncated(name, limit)
            if passed > total:
                written = text(each.resources("limits").get(name))
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
            limit, own = quantity(each.resources("limits").get(name)), _size(each, name)
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
        limit, own = quantity(each.resources("limits").get("cpu")), _size(each, "cpu")
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
            written = text(each.resources("requests").get("memory") or each.resources("limits").get("memory"))
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
        limit = quantity(each.resources("limits").get("memory"))
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
    effect=Effect.PENDING,
    remedy="run it on a GPU node pool",
    source=CONNECTOR + ": its node announces none, so that no pod is scheduled; Azure retired GPU groups in July 2025",
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
            if "ephemeral-storage" in each.resources(part):
                yield Found(each.at(f"resources.{part}.ephemeral-storage"), "has no effect there")


# --- reading sizes ----------------------------------------------------------------------------------------------------


def _size(container: Container, name: str) -> Decimal | None:
    """What is requested; where only a limit is written the API server takes that."""
    requested = container.resources("requests").get(name)
    return quantity(requested if requested is not None else container.resources("limits").get(name))


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
            for name in each.resources(part):
                if name not in _NOT_EXTENDED and name not in seen:
                    seen.add(name)
                    yield each.at(f"resources.{part}['{name}']"), text(name)
