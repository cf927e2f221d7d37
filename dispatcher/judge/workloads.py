"""A document, read as the pod that it makes.

Decides where the pod stands in each kind, what its pods will be called at the longest, and what of it can be read at
all: a field of the wrong type is a mistake of its own, never an exception. Knows no rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

TEMPLATE_AT: Mapping[str, tuple[str, ...]] = {
    "Pod": (),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "Deployment": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
}
"""Where a pod's metadata and spec stand in each kind that is understood."""
NETWORK_POLICY = "NetworkPolicy"
RANDOM_SUFFIX_LENGTH = 6
"""A hyphen and the five characters that Kubernetes adds to a generated name."""
_HASH_LENGTH = 11
"""A hyphen and the template's hash, at the longest, in the name of a ReplicaSet."""
_SCHEDULE_LENGTH = 9
"""A hyphen and the minute of its schedule in the name of a CronJob's Job: eight digits until the year 2160."""
_GENERATED_BASE_MAX = 58
"""Kubernetes cuts a name here before it adds five characters of its own."""


@dataclass(frozen=True, slots=True)
class Container:
    """One container, with the path that it stands at."""

    path: str
    spec: Mapping[str, Any]
    init: bool

    def at(self, field_path: str) -> str:
        """The path of one of its fields."""
        return f"{self.path}.{field_path}"

    def resources(self, part: str) -> Mapping[str, Any]:
        """Its requests or its limits, as written."""
        return mapping(mapping(self.spec.get("resources")).get(part))


@dataclass(frozen=True, slots=True)
class Limits:
    """The numbers and lists that a profile gives to rules."""

    counts: Mapping[str, int] = field(default_factory=dict)
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    node_labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Mapping[str, str], ...] = ()
    selectors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Workload:
    """A document that makes pods."""

    kind: str
    name: str
    namespace: str
    document: Mapping[str, Any]
    metadata: Mapping[str, Any]
    """The pod's own."""
    spec: Mapping[str, Any]
    """The pod's own."""
    root: str
    """The path of what holds the pod's metadata and spec, with a dot at its end; empty for a Pod."""
    limits: Limits

    def at(self, field_path: str) -> str:
        """The path of a field of the pod's spec."""
        return f"{self.root}spec.{field_path}"

    def metadata_at(self, field_path: str) -> str:
        """The path of a field of the pod's metadata."""
        return f"{self.root}metadata.{field_path}"

    @property
    def title(self) -> str:
        """Kind and name."""
        return f"{self.kind}/{self.name or '(no name)'}"

    @property
    def job(self) -> Mapping[str, Any] | None:
        """The spec of the Job that the document is or makes."""
        if self.kind == "Job":
            return mapping(self.document.get("spec"))
        if self.kind == "CronJob":
            return mapping(mapping(mapping(self.document.get("spec")).get("jobTemplate")).get("spec"))
        return None

    @property
    def job_path(self) -> str:
        """The path of that spec."""
        return "spec" if self.kind == "Job" else "spec.jobTemplate.spec"

    @property
    def containers(self) -> list[Container]:
        """Those that do the work."""
        return list(self._listed("containers", init=False))

    @property
    def init_containers(self) -> list[Container]:
        """Those that come first."""
        return list(self._listed("initContainers", init=True))

    @property
    def all_containers(self) -> list[Container]:
        """Both."""
        return [*self.init_containers, *self.containers]

    @property
    def volumes(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Path and definition of each volume."""
        return [(self.at(f"volumes[{n}]"), mapping(each)) for n, each in enumerate(sequence(self.spec.get("volumes")))]

    @property
    def pod_name_length(self) -> int:
        """How long the names of its pods can get."""
        job = self.job
        if self.kind == "Pod":
            return len(self.name) if mapping(self.document.get("metadata")).get("name") else self._generated(0)
        if job is not None:
            indexed = job.get("completionMode") == "Indexed"
            last = max(0, (whole(job.get("completions")) or 1) - 1)
            index = 1 + len(str(last)) if indexed else 0
            return self._generated(index + (_SCHEDULE_LENGTH if self.kind == "CronJob" else 0))
        if self.kind == "Deployment":
            return self._generated(_HASH_LENGTH)
        if self.kind == "StatefulSet":
            replicas = whole(mapping(self.document.get("spec")).get("replicas")) or 1
            return len(self.name) + 1 + len(str(replicas - 1))
        return self._generated(0)

    def _generated(self, added: int) -> int:
        return min(len(self.name) + added + 1, _GENERATED_BASE_MAX) + RANDOM_SUFFIX_LENGTH - 1

    def _listed(self, key: str, *, init: bool) -> Iterator[Container]:
        for position, each in enumerate(sequence(self.spec.get(key))):
            yield Container(self.at(f"{key}[{position}]"), mapping(each), init)


def workload_of(document: Mapping[str, Any], limits: Limits, namespace: str = "default") -> Workload | None:
    """The pod that a document makes; None for a kind that makes none."""
    kind = document.get("kind")
    if not isinstance(kind, str) or (kind not in TEMPLATE_AT and kind != NETWORK_POLICY):
        return None
    metadata = mapping(document.get("metadata"))
    name = metadata.get("name") or metadata.get("generateName")
    steps = TEMPLATE_AT.get(kind, ())
    template: Mapping[str, Any] = document
    for step in steps:
        template = mapping(template.get(step))
    if kind == NETWORK_POLICY:
        template = {}
    return Workload(
        kind=kind,
        name=str(name or ""),
        namespace=str(metadata.get("namespace") or namespace),
        document=document,
        metadata=mapping(template.get("metadata")),
        spec=mapping(template.get("spec")),
        root="".join(f"{step}." for step in steps),
        limits=limits,
    )


# --- reading what may be anything -----------------------------------------------------------------------------------


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, otherwise an empty one."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: Any) -> Sequence[Any]:
    """The value if it is a list, otherwise an empty one."""
    return value if isinstance(value, (list, tuple)) else ()


def whole(value: Any) -> int | None:
    """The value if it is a whole number."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def text(value: Any) -> str:
    """The value as it is written; nothing for what is not there."""
    return "" if value is None else str(value)


_SUFFIXES = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}  # fmt: skip


_NUMBER = re.compile(
    r"([0-9]{1,25}(?:\.[0-9]{0,25})?|\.[0-9]{1,25})(e[+-]?[0-9]{1,2}|E[+-]?[0-9]{1,2})?([a-zA-Z]{0,2})"
)
_LARGEST = Decimal(10**20)
"""No machine has as much of anything; beyond it nothing is reckoned with."""


def quantity(value: Any) -> Decimal | None:
    """A Kubernetes quantity in its base unit (cores, bytes); None where the value is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    match = _NUMBER.fullmatch(str(value))
    if match is None or match[3] not in _SUFFIXES:
        return None
    amount = Decimal(match[1] + (match[2] or "")) * _SUFFIXES[match[3]]
    return amount if amount <= _LARGEST else None
