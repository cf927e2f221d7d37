"""What the dispatcher may do in the cluster, as data: exactly the verbs that this package sends, and nothing more.

Decides the least privilege that is enough. Whoever writes a Role takes it from here; the check at start and the tests
do too. Sends nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dispatcher.cluster.config import KubernetesConfig


class Where(StrEnum):
    """Where a right is needed."""

    OWN = "own"
    """In the dispatcher's own namespace: ledger and lease."""
    TASKS = "tasks"
    """In each namespace with tasks: records, Jobs, pods."""
    CLUSTER = "cluster"
    """In the whole cluster: what room there is on nodes."""


@dataclass(frozen=True, slots=True)
class Right:
    """Some verbs on one kind of object, and what they are for."""

    where: Where
    group: str
    resource: str
    verbs: tuple[str, ...]
    reason: str
    subresource: str = ""

    @property
    def full_resource(self) -> str:
        """As a Role writes it: ``pods/log``."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


RIGHTS: tuple[Right, ...] = (
    Right(Where.OWN, "", "configmaps", ("create", "get", "update"), "the ledger"),
    Right(Where.OWN, "coordination.k8s.io", "leases", ("create", "get", "update"), "who leads"),
    Right(Where.TASKS, "", "configmaps", ("create", "get", "list", "patch", "delete"), "records"),
    Right(Where.TASKS, "batch", "jobs", ("create", "get", "list", "watch", "patch", "delete"), "Jobs"),
    Right(Where.TASKS, "", "pods", ("delete", "deletecollection"), "pods of our Jobs"),
    Right(Where.TASKS, "", "pods", ("get",), "the end of a failed pod's log", "log"),
    Right(Where.CLUSTER, "", "nodes", ("list", "watch"), "what nodes have"),
    Right(Where.CLUSTER, "", "pods", ("list", "watch"), "pods of our Jobs, and what those of others take of the nodes"),
)
"""Records are also listed in the dispatcher's own namespace, where a record goes whose task is not known any more."""


@dataclass(frozen=True, slots=True)
class Use:
    """One verb on one kind of object in one place; no namespace: in the whole cluster."""

    namespace: str
    right: Right
    verb: str

    def __str__(self) -> str:
        where = f"in namespace {self.namespace}" if self.namespace else "in the whole cluster"
        group = f" of {self.right.group}" if self.right.group else ""
        return f"{self.verb} {self.right.full_resource}{group} {where} ({self.right.reason})"


def uses(config: KubernetesConfig) -> Iterator[Use]:
    """Every single right that this configuration needs."""
    tasks = dict.fromkeys((*config.namespaces, config.namespace))
    places: Mapping[Where, Sequence[str]] = {
        Where.OWN: (config.namespace,),
        Where.TASKS: tuple(config.namespaces),
        Where.CLUSTER: ("",),
    }
    for right in RIGHTS:
        of_records = right.where is Where.TASKS and right.reason == "records"
        for namespace in tuple(tasks) if of_records else places[right.where]:
            for verb in right.verbs:
                yield Use(namespace, right, verb)


def rules(where: Where, *, records_too: bool = False) -> list[dict[str, Any]]:
    """The rules of a Role (or ClusterRole) for one of the three places."""
    wanted = [right for right in RIGHTS if right.where is where or (records_too and right.reason == "records")]
    return [
        {"apiGroups": [right.group], "resources": [right.full_resource], "verbs": list(right.verbs)}
        for right in wanted
    ]  # fmt: skip
