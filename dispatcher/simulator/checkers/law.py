"""What a law is: it watches a world, and says when it is broken."""

from __future__ import annotations

from typing import ClassVar

from dispatcher.simulator.world import World


class LawBroken(AssertionError):
    """A law does not hold. Names the law."""

    def __init__(self, law: str, text: str) -> None:
        super().__init__(f"{law}: {text}")
        self.law = law
        self.text = text


class Law:
    """A checker. It may also ask the world's places to tell it of every act, in its ``__init__``."""

    name: ClassVar[str]

    def __init__(self, world: World) -> None:
        self.world = world

    def look(self) -> None:
        """Looks at the world after a step."""

    def finish(self) -> None:
        """Looks at the world when everything is over."""

    def broken(self, text: str) -> LawBroken:
        """What to raise where the law does not hold."""
        return LawBroken(self.name, text)
