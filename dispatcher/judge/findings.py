"""Rules and what they find.

Decides what a rule is: an id that never changes, a sentence, what the place does with such a pod, the remedy, and the
source. Whether a finding refuses or warns is the profile's to say. Knows nothing of any single rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum

from dispatcher.judge.workloads import Workload


class Level(StrEnum):
    """How serious a finding is."""

    ERROR = "error"
    """It does not fit."""
    WARNING = "warning"
    """It runs, but otherwise than one may think."""


class Effect(StrEnum):
    """What becomes of a pod that breaks the rule."""

    FAILS = "fails"
    """The create is refused, by the connector or by Azure: the pod fails or never has a container."""
    PENDING = "pending"
    """The pod waits for ever, and nothing says why."""
    IGNORED = "silently ignored"
    """It runs as if the field were not there."""
    DIFFERS = "differs"
    """It runs, with other values or on other terms than are written."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule came upon: where, and what exactly; with a remedy or an effect of its own where the rule's is too
    general."""

    path: str
    message: str
    remedy: str = ""
    effect: Effect | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not fit, or that a person should know."""

    level: Level
    rule: str
    workload: str
    """Kind and name, as in ``Job/report-generator``."""
    path: str
    message: str
    remedy: str
    effect: Effect
    source: str

    def __str__(self) -> str:
        return f"{self.level.upper()} {self.rule} {self.workload} {self.path}: {self.message}; {self.remedy}"

    def to_json(self) -> dict[str, str]:
        """Plain data."""
        return {key: str(value) for key, value in asdict(self).items()}


Check = Callable[[Workload], Iterable[Found]]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``says`` completes the sentence "what it is about: ..."; ``remedy`` is an order."""

    id: str
    says: str
    effect: Effect
    remedy: str
    source: str
    check: Check


RULES: dict[str, Rule] = {}
"""All rules by id, in the order in which they are told."""

CONNECTOR = "azure-aci connector 1.6.4"
"""Read in its source: the open-source provider of the AKS add-on `virtual-node`."""
AKS_DOCS = "AKS documentation, virtual nodes"
ACI_DOCS = "Azure Container Instances documentation"
JOB_DOCS = "Kubernetes documentation, Jobs"


def rule(name: str, *, says: str, effect: Effect, remedy: str, source: str) -> Callable[[Check], Check]:
    """Registers a check under an id."""

    def register(check: Check) -> Check:
        if name in RULES:
            raise ValueError(f"two rules are called {name}")
        RULES[name] = Rule(name, says, effect, remedy, source, check)
        return check

    return register
