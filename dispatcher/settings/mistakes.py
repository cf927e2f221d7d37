"""What is wrong with a configuration, told so that a person can mend it: where, what, and the remedy.

Decides the words. Turns what pydantic found into one line each. Never shows the value of a secret.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from dispatcher.settings.values import duration_text

Location = tuple[int | str, ...]
_SHOWN_MAX = 60


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One thing to mend, or, among warnings, to know."""

    path: str
    """The field, as in ``budgets[1].limit_usd``; the file's name where it is the whole file."""
    fault: str
    remedy: str = ""
    place: str = ""
    """File and line, or the name of the variable that it came from."""

    def __str__(self) -> str:
        remedy = f"; {self.remedy}" if self.remedy else ""
        place = f" ({self.place})" if self.place else ""
        return f"{self.path}: {self.fault}{remedy}{place}"

    def to_json(self) -> dict[str, str]:
        """Plain data."""
        return asdict(self)


def path_text(location: Iterable[int | str]) -> str:
    """A location as people write it: ``tasks[0].resources.cpu``."""
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".") or "the file"


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """The closest known word as a question, or all of them where none is close."""
    words = sorted(known)
    close = get_close_matches(word, words, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    return otherwise or f"known are {', '.join(words)}"


def worth_telling(error: ValidationError) -> list[ErrorDetails]:
    """What pydantic found, without what follows from the rest.

    A list of which no entry can be read is called too short as well: the entries' own lines say it better.
    """
    found = error.errors(include_url=False)
    return [each for each in found if each["type"] != "too_short" or not _anything_below(each["loc"], found)]


def _anything_below(location: Location, found: list[ErrorDetails]) -> bool:
    return any(len(each["loc"]) > len(location) and each["loc"][: len(location)] == location for each in found)


def translate(error: ErrorDetails, root: type[BaseModel], place_of: Callable[[Location], str]) -> Mistake:
    """What pydantic found, as one line."""
    location = tuple(step for step in error["loc"] if step != "[key]")
    owner, info = _field_at(root, location)
    fault, remedy = _words(error, owner, info)
    return Mistake(path_text(location), fault, remedy, place_of(location))


def _words(error: ErrorDetails, owner: type[BaseModel] | None, info: FieldInfo | None) -> tuple[str, str]:
    kind, context = error["type"], error.get("ctx", {})
    shown = _shown(error["input"], info)
    example = _example(info)
    if kind == "extra_forbidden":
        name = str(error["loc"][-1])
        return "is not a setting", did_you_mean(name, _known_keys(owner)) if owner else "take it out"
    if kind == "missing":
        return "is missing", example or "add it"
    if kind == "value_error":
        text = str(context.get("error", error["msg"]))
        fault, _, remedy = text.partition("; ")
        return fault, remedy or example
    if kind in ("enum", "literal_error"):
        expected = str(context.get("expected", "")).replace("'", "").replace(" or ", ", ").split(", ")
        return f"{shown} is not one of {', '.join(expected)}", did_you_mean(str(error["input"]), expected, example)
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"{shown} must be {words} {_bound(context[key])}", example
    if kind in _TYPES:
        return f"expected {_TYPES[kind]}, found {shown}", example or _TYPE_REMEDIES.get(kind, "")
    if kind in ("too_short", "string_too_short"):
        return "must not be empty", example
    if kind == "string_pattern_mismatch":
        return f"{shown} is not a name that can be used here", example
    return str(error["msg"]), example


_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_TYPES = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "decimal_parsing": "an amount of dollars",
    "decimal_type": "an amount of dollars",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "keys with values",
    "model_type": "keys with values",
    "model_attributes_type": "keys with values",
}
_TYPE_REMEDIES = {
    "string_type": "put it in quotes",
    "list_type": "write [a, b], or one entry a line, each after a dash",
    "tuple_type": "write [a, b], or one entry a line, each after a dash",
    "dict_type": "write one key: value a line, indented",
    "model_type": "write one key: value a line, indented",
    "bool_parsing": "write true or false",
}


def _bound(value: Any) -> str:
    return duration_text(value) if isinstance(value, timedelta) else str(value)


def _shown(value: Any, info: FieldInfo | None) -> str:
    if info is None or _holds_secrets(info):
        return "something else"
    if value is None:
        return "nothing"
    if isinstance(value, timedelta):
        return duration_text(value)
    if isinstance(value, (dict, list, tuple)):
        return "keys with values" if isinstance(value, dict) else "a list"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "..."


def _holds_secrets(info: FieldInfo) -> bool:
    # The values of a task's variables may be secrets, whatever we advise.
    return not info.repr or SecretStr in _parts(info.annotation)


def _example(info: FieldInfo | None) -> str:
    if info is None:
        return ""
    examples = info.examples or [
        example for entry in info.metadata if isinstance(entry, FieldInfo) for example in entry.examples or []
    ]
    return f"write for example {examples[0]}" if examples else ""


def _known_keys(model: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


def _field_at(root: type[BaseModel], location: Location) -> tuple[type[BaseModel] | None, FieldInfo | None]:
    """The model that holds the last step of a location, and the field itself, as far as they exist."""
    owner: type[BaseModel] | None = root
    info: FieldInfo | None = None
    current: Any = root
    for step in location:
        model = next((part for part in _parts(current) if isinstance(part, type) and issubclass(part, BaseModel)), None)
        if typing.get_origin(current) is dict:  # the step is a name of the operator's own
            current = typing.get_args(current)[1]
            continue
        if isinstance(step, int) or model is None:
            continue
        owner = model
        info = next((field for name, field in model.model_fields.items() if step in (name, field.alias)), None)
        current = info.annotation if info else None
    return owner, info


def _parts(annotation: Any) -> list[Any]:
    """The types that an annotation is made of: ``tuple[Budget, ...] | None`` gives tuple, Budget, None."""
    origin = typing.get_origin(annotation)
    if origin is None:
        return [annotation]
    if origin is typing.Annotated:
        return _parts(typing.get_args(annotation)[0])
    inner = [part for entry in typing.get_args(annotation) for part in _parts(entry)]
    return inner if origin in (typing.Union, types.UnionType) else [origin, *inner]


def mapping_or_empty(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, otherwise an empty one."""
    return value if isinstance(value, Mapping) else {}
