"""One YAML file, with the line on which every key stands.

Decides what counts as readable YAML: one mapping, no key twice. Knows nothing of what the keys mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dispatcher.settings.mistakes import Location, Mistake, path_text

_FILE_BYTES_MAX = 4 * 1024 * 1024


@dataclass(frozen=True)
class YamlFile:
    """What a file says, and where."""

    name: str
    data: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[Location, int] = field(default_factory=dict)
    mistakes: tuple[Mistake, ...] = ()
    readable: bool = True

    def place(self, location: Location) -> str:
        """The line of what stands there, or of the nearest thing around it."""
        for length in range(len(location), 0, -1):
            if location[:length] in self.lines:
                return f"{self.name}, line {self.lines[location[:length]]}"
        return self.name


def read_yaml(path: Path) -> YamlFile:
    """Reads a file; whatever keeps it from being read is in the answer, not raised."""
    name = path.name
    try:
        if path.stat().st_size > _FILE_BYTES_MAX:
            return _unreadable(name, f"is larger than {_FILE_BYTES_MAX} bytes", "check that this is the right file")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return _unreadable(name, f"is not in {path.parent}", "name the folder that holds it with --config")
    except OSError as error:
        return _unreadable(name, f"cannot be read ({error.strerror})", "check the file's permissions")
    except UnicodeDecodeError:
        return _unreadable(name, "is not UTF-8 text", "save it as UTF-8")
    return parse_yaml(name, text)


def parse_yaml(name: str, text: str) -> YamlFile:
    """Reads a text as YAML."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return YamlFile(name)
        walk = _Walk(name)
        walk.visit(node, ())
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        fault = f"is not valid YAML{place}: {error.problem or error.context}"
        return _unreadable(name, fault, "check indentation, quotes and colons around that line")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return _unreadable(
            name, f"is not valid YAML: {str(error).splitlines()[0]}", "check the file with a YAML editor"
        )
    finally:
        loader.dispose()
    if not isinstance(data, dict):
        return _unreadable(name, f"holds a {type(data).__name__}", "write keys with values, as in the delivered file")
    return YamlFile(name, data, walk.lines, tuple(walk.mistakes))


def _unreadable(name: str, fault: str, remedy: str) -> YamlFile:
    return YamlFile(name, mistakes=(Mistake(name, fault, remedy),), readable=False)


class _Walk:
    """Goes over the nodes before anything is built of them: a key that stands twice is lost afterwards."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._seen: set[int] = set()
        self.lines: dict[Location, int] = {}
        self.mistakes: list[Mistake] = []

    def visit(self, node: yaml.Node, location: Location) -> None:
        """Notes the line of the node and of all below it; an alias that was seen is not entered again."""
        self.lines[location] = node.start_mark.line + 1
        if id(node) in self._seen:
            return
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            self._mapping(node, location)
        elif isinstance(node, yaml.SequenceNode):
            for position, entry in enumerate(node.value):
                self.visit(entry, (*location, position))

    def _mapping(self, node: yaml.MappingNode, location: Location) -> None:
        first: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            here = (*location, key.value)
            if key.value in first and key.tag != "tag:yaml.org,2002:merge":
                fault = f"stands twice, first on line {first[key.value]}"
                where = f"{self._name}, line {line}"
                self.mistakes.append(Mistake(path_text(here), fault, "take one of them out", where))
            first.setdefault(key.value, line)
            self.visit(value, here)
            self.lines[here] = line
