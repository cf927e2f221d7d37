"""The templates, and what was written by hand about each before anything was asked.

Decides what a template's twin is: the same, but without a field that is said to be ignored (or with what is said to be
assumed). Pure, apart from reading the files. Knows nothing of what becomes of either.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from dispatcher.judge import Finding, documents_of, findings_of, known_profiles

FOLDER = Path(__file__).parents[1] / "fixtures" / "templates"
RECORDS = FOLDER / "connector.json"
_STEP = re.compile(r"[^.\[\]]+|\[\d+\]")


class Outcome(StrEnum):
    """What becomes of a template's pods on the virtual node."""

    RUNS = "runs"
    """They run, as they are written."""
    FAILS = "fails"
    """They are refused, by the connector or by Azure."""
    PENDING = "pending"
    """They wait for ever."""
    IGNORED = "ignored"
    """They run, as if what they ask for were not written."""
    ABSENT = "absent"
    """There is none on the virtual node."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """How it is proved that something is ignored: a twin, which becomes the very same group."""

    without: tuple[str, ...] = ()
    """Fields that the twin has not."""
    having: Mapping[str, Any] = field(default_factory=dict)
    """Fields that the twin has, with their values."""
    lacks: str = ""
    """Or no twin: the group's definition has no such field."""

    @property
    def has_twin(self) -> bool:
        """Whether there is one to be compared with."""
        return bool(self.without or self.having)

    @property
    def words(self) -> str:
        """In a sentence."""
        if self.lacks:
            return f"the group has no {self.lacks}"
        parts = [f"without {', '.join(f'`{each}`' for each in self.without)}"] if self.without else []
        parts += [f"with `{path}: {_inline(value)}`" for path, value in self.having.items()]
        return f"the same {' and '.join(parts)}"


@dataclass(frozen=True, slots=True)
class Template:
    """One of them."""

    name: str
    documents: tuple[Mapping[str, Any], ...]
    expected: Outcome
    source: str
    evidence: Evidence
    at_first: str = ""
    """What was written before it was tried, where it turned out otherwise."""
    told: Mapping[str, str] = field(default_factory=dict)
    """What its containers are told to do: variables for the stand-in."""

    @property
    def number(self) -> str:
        """The first two characters of its name."""
        return self.name[:2]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the judge says of it."""
        profile = known_profiles()["virtual-node-v1"]
        return tuple(each for document in self.documents for each in findings_of(document, profile) or ())

    @property
    def kinds(self) -> frozenset[str]:
        """Of its documents."""
        return frozenset(str(document["kind"]) for document in self.documents)

    def in_namespace(self, letter: str) -> Placed:
        """Its documents as they are created, each in a namespace of this template's own."""
        names = {str(document["metadata"].get("namespace", "default")) for document in self.documents}
        (original,) = names
        # As long as the original, because a group's name begins with it.
        namespace = f"{original[: len(original) - 4].rstrip('-')}-{letter}{self.number}".rjust(len(original), "x")
        return Placed(namespace, tuple(_placed(each, namespace, self.told) for each in self.documents))

    def twin(self) -> Template:
        """The one that its evidence speaks of."""
        documents = tuple(_changed(each, self.evidence) for each in self.documents)
        return replace(self, documents=documents)


@dataclass(frozen=True, slots=True)
class Placed:
    """Documents, and the namespace that they are for."""

    namespace: str
    documents: tuple[Mapping[str, Any], ...]


def all_templates() -> list[Template]:
    """Those in the folder, in order."""
    verdicts = yaml.safe_load((FOLDER / "verdicts.yaml").read_text(encoding="utf-8"))
    return [_template(path, verdicts[path.stem]) for path in sorted(FOLDER.glob("[0-9]*.yaml"))]


def _template(path: Path, verdict: Mapping[str, Any]) -> Template:
    evidence = verdict.get("evidence") or {}
    return Template(
        path.stem,
        tuple(documents_of(path.read_text(encoding="utf-8"))),
        Outcome(verdict["connector"]),
        verdict["source"],
        Evidence(
            tuple(evidence.get("without", ())),
            evidence.get("with", {}),
            evidence.get("lacks", ""),
        ),
        verdict.get("at_first", ""),
        verdict.get("told", {}),
    )


def _inline(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()


# --- changing documents ---------------------------------------------------------------------------------------------


def _placed(document: Mapping[str, Any], namespace: str, told: Mapping[str, str]) -> Mapping[str, Any]:
    placed = copy.deepcopy(dict(document))
    placed["metadata"] = {**placed["metadata"], "namespace": namespace}
    for container in _containers(placed) if told else ():
        container["env"] = [*container.get("env", ()), *({"name": k, "value": v} for k, v in told.items())]
    return placed


def _containers(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    spec = document["spec"]
    while "containers" not in spec:
        spec = (spec.get("jobTemplate") or spec["template"])["spec"]
    return list(spec["containers"])


def _changed(document: Mapping[str, Any], evidence: Evidence) -> Mapping[str, Any]:
    changed = copy.deepcopy(dict(document))
    for path in sorted(evidence.without, reverse=True):  # of one list, the last first
        parent, last = _at(changed, path)
        del parent[last]
    for path, value in evidence.having.items():
        parent, last = _at(changed, path)
        parent[last] = value
    return changed


def _at(document: Any, path: str) -> tuple[Any, Any]:
    steps: Sequence[Any] = [int(s[1:-1]) if s.startswith("[") else s for s in _STEP.findall(path)]
    for step in steps[:-1]:
        document = document[step]
    return document, steps[-1]
