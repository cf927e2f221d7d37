"""Writes helm/dispatcher/values.schema.json, with which Helm refuses bad values before anything is sent.

The chart's own values are said here; `config` and `tasks` are the dispatcher's published schemas (`dispatcher schema`),
so that a misspelt setting is told by `helm install`, not by a pod. A test holds the file to this.

    .venv/bin/python scripts/chart_schema.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dispatcher.settings.schemas import DIALECT, config_schema, tasks_schema

TARGET = Path(__file__).parent.parent / "helm" / "dispatcher" / "values.schema.json"
Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_YES_OR_NO: Schema = {"type": "boolean"}
_NAME: Schema = {"type": "string", "pattern": "^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?$"}
_NAMES: Schema = {"type": "array", "items": {**_NAME, "minLength": 1}}
_TEXTS_BY_NAME: Schema = {"type": "object", "additionalProperties": _TEXT}
_ANY_OBJECTS: Schema = {"type": "array", "items": {"type": "object"}}
_SECONDS: Schema = {"type": "integer", "minimum": 1, "maximum": 3600}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
_UNSAID = ("default", "examples", "title", "description")
"""What `dispatcher schema` says besides; here it would only make every change of a sentence one of the chart."""


def _values(properties: Mapping[str, Schema], *required: str) -> Schema:
    """Some values that belong together; one that is not known is a mistake."""
    shape: Schema = {"type": "object", "additionalProperties": False, "properties": dict(properties)}
    return {**shape, "required": list(required)} if required else shape


_QUANTITIES: Schema = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number"], "pattern": "^[0-9]+(\\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"},
}
_OWN: Mapping[str, Schema] = {
    "serviceBus": _values(
        {
            "connectionString": {"type": "string", "pattern": "^$|^[^<>\\n]*Endpoint=sb://"},
            "existingSecret": _values({"name": _NAME, "key": {"type": "string", "pattern": "^[-._a-zA-Z0-9]+$"}}),
        }
    ),
    "workloadIdentity": _values({"enabled": _YES_OR_NO, "clientId": _TEXT, "tenantId": _TEXT}),
    "settingsSecrets": _NAMES,
    "replicas": {"type": "integer", "minimum": 1, "maximum": 9},
    "image": _values(
        {
            "repository": {"type": "string", "pattern": "^[^\\s:@]+(:[0-9]+/[^\\s:@]+)?$"},
            "tag": {"type": "string", "pattern": "^([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$"},
            "digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
            "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
            "pullSecrets": _NAMES,
        }
    ),
    "resources": _values({"requests": _QUANTITIES, "limits": _QUANTITIES}),
    "rolloutOnChange": _YES_OR_NO,
    "terminationGracePeriodSeconds": _SECONDS,
    "probes": _values(
        {
            "startupSeconds": _SECONDS,
            "periodSeconds": _SECONDS,
            "timeoutSeconds": _SECONDS,
            "failureThreshold": {"type": "integer", "minimum": 1},
        }
    ),
    "runAsUser": {"type": "integer", "minimum": 1},
    "nodeSelector": _TEXTS_BY_NAME,
    "tolerations": _ANY_OBJECTS,
    "priorityClassName": _NAME,
    "topologySpread": _values(
        {"enabled": _YES_OR_NO, "whenUnsatisfiable": {"enum": ["ScheduleAnyway", "DoNotSchedule"]}}
    ),
    "podLabels": _TEXTS_BY_NAME,
    "podAnnotations": _TEXTS_BY_NAME,
    "extraEnv": _ANY_OBJECTS,
    "extraVolumes": _ANY_OBJECTS,
    "extraVolumeMounts": _ANY_OBJECTS,
    "serviceAccount": _values({"create": _YES_OR_NO, "name": _NAME, "annotations": _TEXTS_BY_NAME}),
    "rbac": _values({"create": _YES_OR_NO}),
    "networkPolicy": _values(
        {
            "enabled": _YES_OR_NO,
            "metricsFrom": _ANY_OBJECTS,
            "egressPorts": {"type": "array", "items": _PORT, "minItems": 1},
            "extraEgress": _ANY_OBJECTS,
        }
    ),
    "podDisruptionBudget": _values({"enabled": _YES_OR_NO}),
    "service": _values({"annotations": _TEXTS_BY_NAME}),
    "monitoring": _values(
        {
            "serviceMonitor": _values(
                {
                    "enabled": _YES_OR_NO,
                    "interval": {"type": "string", "pattern": "^[0-9]+(ms|s|m)$"},
                    "labels": _TEXTS_BY_NAME,
                }
            ),
            "prometheusRule": _values(
                {
                    "enabled": _YES_OR_NO,
                    "labels": _TEXTS_BY_NAME,
                    "deadLettersPerHour": _COUNT,
                    "budgetSpentPercent": {"type": "number", "minimum": 1, "maximum": 100},
                    "platformFailures": _COUNT,
                }
            ),
        }
    ),
    "fullnameOverride": {"type": "string", "pattern": "^([a-z]([-a-z0-9]{0,48}[a-z0-9])?)?$"},
    "commonLabels": _TEXTS_BY_NAME,
    "global": {"type": "object"},
}


def schema() -> Schema:
    """The schema of the chart's values."""
    config, tasks = config_schema(), tasks_schema()
    definitions = {**config.pop("$defs"), **tasks.pop("$defs")}
    # The templates tell what is missing, so that `helm lint` passes with the chart's own values; and what is only for
    # one machine, or a secret, with its remedy.
    settings = {**config["properties"], "queues": {**config["properties"]["queues"]}}
    settings["queues"].pop("minItems", None)
    work = {**tasks["properties"]["tasks"]}
    work.pop("minItems", None)
    whole = _values({"config": _values(settings), "tasks": work, **_OWN}, "config")
    found: Schema = _one_line({"$schema": DIALECT, **whole, "$defs": _reached(whole, definitions)})
    return found


def _reached(whole: Any, definitions: Mapping[str, Schema]) -> dict[str, Schema]:
    """The definitions that are referred to, however far."""
    wanted, waiting = set[str](), [whole]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            name = str(part.get("$ref", "")).removeprefix("#/$defs/")
            if name and name not in wanted:
                wanted.add(name)
                waiting.append(definitions[name])
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
    return {name: definitions[name] for name in sorted(wanted)}


def _one_line(part: Any) -> Any:
    """Alternatives of different types become one schema: a value that fits none is then told in one line."""
    if isinstance(part, list):
        return [_one_line(each) for each in part]
    if not isinstance(part, dict):
        return part
    plain = {key: _one_line(value) for key, value in part.items() if key not in _UNSAID}
    if "properties" in part:  # names of values, not words of the schema
        plain["properties"] = {name: _one_line(value) for name, value in part["properties"].items()}
    choices = plain.get("anyOf")
    if choices and len(choices) == 2 and "$ref" in choices[0] and choices[1] == {"type": "null"}:
        # Helm takes a value that is null for one that is not there.
        return {**{key: value for key, value in plain.items() if key != "anyOf"}, **choices[0]}
    if not choices or any("$ref" in each for each in choices):
        return plain
    merged: Schema = {"type": []}
    for choice in choices:
        kind = choice.get("type", "integer" if isinstance(choice.get("const"), int) else None)
        rest = {key: value for key, value in choice.items() if key not in ("type", "const")}
        if not isinstance(kind, str) or kind in merged["type"] or merged.keys() & rest.keys():
            return plain
        merged["type"].append(kind)
        merged.update(rest)
        if "const" in choice:
            only = choice["const"]
            merged |= {"pattern": f"^{re.escape(only)}$"} if kind == "string" else {"minimum": only, "maximum": only}
    return {**{key: value for key, value in plain.items() if key != "anyOf"}, **merged}


def text() -> str:
    """The file's content."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
