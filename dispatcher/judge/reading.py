"""YAML text, as the documents in it.

Decides what counts as readable: YAML, each document a mapping with a kind; lists of objects are taken apart. Knows
nothing of where the text comes from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

BYTES_MAX = 16 * 1024 * 1024
"""A longer text is no manifest."""


class Unreadable(ValueError):
    """The text holds no manifests; the message says why, and what to do."""


def documents_of(text: str) -> list[Mapping[str, Any]]:
    """All objects of a text, in order. Raises Unreadable."""
    if len(text) > BYTES_MAX:
        raise Unreadable(f"is longer than {BYTES_MAX} characters; check that this is the right file")
    try:
        loaded = list(yaml.load_all(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise Unreadable(
            f"is not valid YAML{place}: {error.problem or error.context}; check indentation, quotes and colons there"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Unreadable(f"is not valid YAML: {str(error).splitlines()[0]}; check it with a YAML editor") from error
    found = [each for document in loaded if document is not None for each in _objects(document)]
    if not found:
        raise Unreadable("holds no object; write a Pod, Job, CronJob, Deployment, DaemonSet or StatefulSet")
    return found


def _objects(document: Any, *, inside: bool = False) -> Iterator[Mapping[str, Any]]:
    if not isinstance(document, Mapping) or not isinstance(document.get("kind"), str):
        raise Unreadable("holds something that has no kind; write apiVersion and kind, as kubectl takes it")
    if document["kind"] == "List" or (document["kind"].endswith("List") and isinstance(document.get("items"), list)):
        if inside:
            raise Unreadable("holds a list within a list; write the objects one after another, with --- between")
        for each in document.get("items") or ():
            yield from _objects(each, inside=True)
        return
    yield document


class _Loader(yaml.SafeLoader):
    """Reads `2026-01-01` as text, as Kubernetes does."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
