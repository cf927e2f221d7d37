"""JSON as messages may write it: UTF-8, no key twice, nothing that another reader would take for something else.

Decides what JSON is taken and how much of it. Knows nothing of what it means.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from dispatcher.queue.words import bad, clipped, quoted

__all__ = ["DEPTH_MAX", "EXAMPLE", "compact", "parsed"]

DEPTH_MAX = 64
DIGITS_MAX = 64
EXAMPLE = '{"task": "thumbnail", "params": {"width": 200}}'


class _Refused(ValueError):
    """JSON that is well-formed for Python but not for us."""


def parsed(body: bytes) -> object:
    """What the bytes say. Raises BadMessage (``bad_json``) with the place and the remedy."""
    if not body:
        bad("bad_json", f"The body is empty. Send a JSON object as the message's data, such as {EXAMPLE}.")
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
        )
    except UnicodeDecodeError as error:
        bad("bad_json", f"The body is not UTF-8 (byte {error.start}). Send a JSON object encoded as UTF-8.")
    except RecursionError:
        _too_deep()
    except json.JSONDecodeError as error:
        bad(
            "bad_json",
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}. "
            f"Send an object such as {EXAMPLE}.",
        )
    except _Refused as error:
        bad("bad_json", f"The body is not JSON that can be passed on: {error}")
    if _depth(value) > DEPTH_MAX:
        _too_deep()
    return value


def _too_deep() -> NoReturn:
    bad("bad_json", f"The body is nested more than {DEPTH_MAX} levels deep. Flatten it, or pass a reference in params.")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _Refused(f"the key {quoted(name)} stands twice in one object. Name each key once.")
            seen.add(name)
    for text in (*fields, *fields.values()):
        if isinstance(text, str):
            _text(text)
        elif isinstance(text, list):
            _texts(text)
    return fields


def _texts(values: list[Any]) -> None:
    # Objects inside have been looked at when they were made; lists inside lists have not, and may be deep.
    waiting = [values]
    while waiting:
        for value in waiting.pop():
            if isinstance(value, str):
                _text(value)
            elif isinstance(value, list):
                waiting.append(value)


def _text(text: str) -> None:
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise _Refused("a string holds half of a surrogate pair. Escape characters beyond U+FFFF as a whole pair.")


def _constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not a JSON number. Leave it out or write it as a string.")


def _float(text: str) -> float:
    number = float(text) if len(text) <= DIGITS_MAX else math.inf
    if math.isinf(number):
        raise _Refused(f"the number {clipped(text)} is too large or too long. Write it as a string.")
    return number


def _int(text: str) -> int:
    if len(text) > DIGITS_MAX:
        raise _Refused(f"the number {clipped(text)} has more than {DIGITS_MAX} digits. Write it as a string.")
    return int(text)


def _depth(value: object) -> int:
    depth = 0
    level = [value]
    while level and depth <= DEPTH_MAX:
        depth += 1
        below: list[object] = []
        for each in level:
            if isinstance(each, dict):
                below.extend(each.values())
            elif isinstance(each, list):
                below.extend(each)
        level = [each for each in below if isinstance(each, dict | list)]
    return depth


def compact(value: object) -> str:
    """The value without spaces, letters as they are. Raises ValueError or TypeError for what JSON cannot hold."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
