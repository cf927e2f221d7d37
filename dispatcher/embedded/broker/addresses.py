"""The names clients give to nodes.

Links name their node by a full URI (`amqps://host:port/jobs/$DeadLetterQueue`) or by its path alone
(`jobs/$management`); both ignore case. What stands behind a name is not known here.
"""

from __future__ import annotations

from typing import NamedTuple

CBS = "$cbs"
_MANAGEMENT = "/$management"
_DEAD_LETTERS = "/$deadletterqueue"


class Address(NamedTuple):
    """A node: a queue or its dead-letter queue, and whether its management node is meant."""

    queue: str  # lower case
    dead_letters: bool = False
    management: bool = False

    @property
    def path(self) -> str:
        """The path of the entity, lower case, without the management suffix: what a token is checked for."""
        return self.queue + (_DEAD_LETTERS if self.dead_letters else "")


def path_of(text: str) -> str:
    """The path of a URI or of a plain path, lower case, without slashes around it."""
    _scheme, separator, rest = text.partition("://")
    path = rest.partition("/")[2] if separator else text
    return path.strip("/").lower()


def authority_of(text: str) -> str:
    """Host and port of a URI, lower case; empty for a plain path."""
    _scheme, separator, rest = text.partition("://")
    return rest.partition("/")[0].lower() if separator else ""


def parse(text: str) -> Address:
    """The address behind a text a client sent."""
    path = path_of(text)
    management = path.endswith(_MANAGEMENT)
    path = path.removesuffix(_MANAGEMENT)
    dead_letters = path.endswith(_DEAD_LETTERS)
    return Address(path.removesuffix(_DEAD_LETTERS), dead_letters, management)
