"""Sequence numbers in order, for looking at a queue from any number on.

Numbers nearly always arrive in ascending order and leave in any order, so they are kept in a plain list that
remembers how many of its entries are gone and is cleaned when half of them are.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

_CLEAN_MIN = 1024


class SequenceIndex:
    """An ordered set of sequence numbers."""

    __slots__ = ("_gone", "_numbers")

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._gone: set[int] = set()

    def add(self, sequence: int) -> None:
        """The number must not be there already; it may have been there before."""
        if sequence in self._gone:
            self._gone.discard(sequence)
        elif not self._numbers or sequence > self._numbers[-1]:
            self._numbers.append(sequence)
        else:
            insort(self._numbers, sequence)

    def discard(self, sequence: int) -> None:
        """The number is gone."""
        self._gone.add(sequence)
        if len(self._gone) > _CLEAN_MIN and 2 * len(self._gone) > len(self._numbers):
            self._numbers = [number for number in self._numbers if number not in self._gone]
            self._gone.clear()

    def from_sequence(self, first: int) -> Iterator[int]:
        """The numbers that are at least `first`, ascending; the set must not change meanwhile."""
        for position in range(bisect_left(self._numbers, first), len(self._numbers)):
            number = self._numbers[position]
            if number not in self._gone:
                yield number
