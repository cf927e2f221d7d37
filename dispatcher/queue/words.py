"""Words for whoever finds a message in the dead-letter queue.

Decides how a fault is told: one bounded, printable text that says what is wrong and what would be right, and never
repeats more of the message than fits on a line. Knows nothing of what a fault is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import NoReturn

from dispatcher.errors import BadMessage

__all__ = ["DESCRIPTION_MAX", "SNIPPET_MAX", "bad", "clipped", "joined", "kind", "listed", "quoted", "refused", "shown"]

DESCRIPTION_MAX = 4096
NAMES_MAX = 20
SNIPPET_MAX = 80


def bad(reason: str, description: str) -> NoReturn:
    """Refuses the message. Raises BadMessage."""
    raise refused(reason, description)


def refused(reason: str, description: str) -> BadMessage:
    """The refusal, to be raised."""
    return BadMessage(reason, clipped(description, DESCRIPTION_MAX))


def joined(opening: str, faults: Sequence[str]) -> str:
    """Faults as one sentence, at most twenty of them."""
    told = list(faults[:NAMES_MAX])
    if len(faults) > len(told):
        told.append(f"and {len(faults) - len(told)} more")
    return f"{opening}: {'; '.join(told)}."


def listed(names: Iterable[str]) -> str:
    """Names with commas, at most twenty of them."""
    every = list(names)
    shown = [clipped(name) for name in every[:NAMES_MAX]]
    return ", ".join(shown) + (f" and {len(every) - len(shown)} more" if len(every) > len(shown) else "")


def quoted(text: str) -> str:
    """A piece of the message, marked as such."""
    return f"'{clipped(text)}'"


def shown(value: object) -> str:
    """A value as JSON, or its kind where that is too much."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    try:
        return clipped(json.dumps(value, ensure_ascii=False, default=str))
    except (ValueError, RecursionError):
        return kind(value)


def clipped(text: str, length: int = SNIPPET_MAX) -> str:
    """The text on one line of bounded length."""
    # Unprintable characters (controls, line ends, text direction, lone surrogates) would fool whoever reads it.
    cut = text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return cut if cut.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in cut)


def kind(value: object) -> str:
    """What a JSON value is, in words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case "":
            return "an empty string"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"
