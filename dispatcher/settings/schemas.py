"""The two files of the configuration as JSON Schemas, for editors and for checks outside of this program.

Decides how the models of this room are shown as schemas. What only shows when several settings are looked at together
cannot be said in one: `dispatcher check-config` tells that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from dispatcher.settings.models import Settings

__all__ = ["config_schema", "tasks_schema"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_MORE = "`dispatcher check-config` also tells what single settings cannot."
_OTHER_FILE = "tasks"


def config_schema() -> dict[str, Any]:
    """dispatcher.yaml."""
    whole = _whole()
    required = [name for name in whole["required"] if name != _OTHER_FILE]
    properties = {
        name: each if name in required else _or_nothing(each)
        for name, each in whole["properties"].items()
        if name != _OTHER_FILE
    }
    return _file("dispatcher.yaml", "The settings of the burst dispatcher.", properties, required, whole["$defs"])


def tasks_schema() -> dict[str, Any]:
    """tasks.yaml."""
    whole = _whole()
    properties = {_OTHER_FILE: whole["properties"][_OTHER_FILE]}
    return _file("tasks.yaml", "The kinds of work that messages may name.", properties, [_OTHER_FILE], whole["$defs"])


def _whole() -> dict[str, Any]:
    tidied: dict[str, Any] = _tidied(TypeAdapter(Settings).json_schema(schema_generator=_AsWritten))
    return tidied


class _AsWritten(GenerateJsonSchema):
    """Shows defaults as a person writes them: `500m`, not 500."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        shown = super().default_schema(schema)
        if "default" in shown and "default" in schema and schema["default"] is not None:
            inner: Any = schema
            while inner is not None and "serialization" not in inner:
                inner = inner.get("schema")
            how = inner["serialization"] if inner is not None else {}
            if how.get("type") == "function-plain" and not how.get("info_arg"):  # those of `values` need no more
                shown["default"] = how["function"](schema["default"])
        return shown


def _file(
    name: str, what: str, properties: Mapping[str, Any], required: list[str], definitions: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "$schema": DIALECT,
        "$id": f"urn:burst-dispatcher:{name}",
        "title": name,
        "description": f"{what} {_MORE}",
        "type": "object",
        "required": required,
        "properties": dict(properties),
        "additionalProperties": False,
        "$defs": {key: definitions[key] for key in sorted(_reached(properties, definitions, set()))},
    }


def _or_nothing(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A section of which nothing is written behind its name counts as not written at all."""
    told = {key: value for key, value in schema.items() if key in _TELLING}
    rest = {key: value for key, value in schema.items() if key not in _TELLING}
    choices = rest.get("anyOf", [rest])
    return {**told, "anyOf": choices if {"type": "null"} in choices else [*choices, {"type": "null"}]}


_TELLING = ("description", "default", "examples")
_LEAKED = ("ge", "gt", "le", "lt", "title")
"""Bounds that pydantic checks on what was read, not on what was written; and titles that repeat the name."""


def _tidied(schema: Any, *, names: bool = False) -> Any:
    """``names``: the keys are those of settings, and none of them is the schema's own."""
    if isinstance(schema, list):
        return [_tidied(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if names:
        return {key: _tidied(each) for key, each in schema.items()}
    tidied = {
        key: _tidied(each, names=key in ("properties", "$defs"))
        for key, each in schema.items()
        if key not in _LEAKED and key not in ("default", "examples")
    }
    if "default" in schema:
        tidied["default"] = schema["default"]
    if "examples" in schema:
        tidied["examples"] = [_as_written(each) for each in schema["examples"]]
    return tidied


def _as_written(example: Any) -> Any:
    """Examples stand in the models as a person writes them into the file."""
    return yaml.safe_load(example) if isinstance(example, str) else example


def _reached(schema: Any, definitions: Mapping[str, Any], known: set[str]) -> set[str]:
    if isinstance(schema, Mapping):
        name = str(schema.get("$ref", "")).rpartition("/")[2]
        if name in definitions and name not in known:
            known.add(name)
            _reached(definitions[name], definitions, known)
        for each in schema.values():
            _reached(each, definitions, known)
    elif isinstance(schema, list):
        for each in schema:
            _reached(each, definitions, known)
    return known
