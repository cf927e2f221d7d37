"""Where every known item is: the legal moves, the backlog in lanes, and copies that wait behind their first.

Decides which move of an item is legal and keeps the lanes that batches are taken from. An item is known from the moment
it was received or found until the broker has it no more. Knows nothing of Jobs or of how a move is carried out.

A second message with the id and body of an item that is known waits, deferred, behind it. It is removed only together
with, and because of, a ``done`` of the first; when the first is dead it runs as an item of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from dispatcher.core.batching import Lane, LaneKey
from dispatcher.core.work import ItemId, WorkItem


class ItemState(StrEnum):
    """Where an item is. The broker's side of each state: see MOVES."""

    UNDER_LOCK = "under_lock"
    """Received, not deferred yet; in a lane."""
    BACKLOG = "backlog"
    """Deferred, or about to be delivered again; in a lane."""
    COPY = "copy"
    """Waits behind the first message with its id and body."""
    IN_ATTEMPT = "in_attempt"
    """Claimed by an attempt's record: drafted, opened or running."""
    HELD_RETRY = "held_retry"
    """Claimed by a record that waits for its turn."""
    RULED = "ruled"
    """Done or dead is written; the broker has it still."""
    SETTLED = "settled"
    """The broker has it no more; forgotten at once."""


S = ItemState
MOVES: dict[ItemState | None, frozenset[ItemState]] = {
    None: frozenset({S.UNDER_LOCK, S.BACKLOG, S.COPY, S.IN_ATTEMPT, S.HELD_RETRY, S.RULED}),
    S.UNDER_LOCK: frozenset({S.BACKLOG, S.IN_ATTEMPT, S.RULED, S.COPY, S.SETTLED}),
    S.BACKLOG: frozenset({S.UNDER_LOCK, S.IN_ATTEMPT, S.RULED, S.COPY, S.SETTLED}),
    S.COPY: frozenset({S.BACKLOG, S.SETTLED}),
    S.IN_ATTEMPT: frozenset({S.RULED, S.HELD_RETRY}),
    S.HELD_RETRY: frozenset({S.IN_ATTEMPT, S.RULED}),
    S.RULED: frozenset({S.SETTLED}),
    S.SETTLED: frozenset(),
}
"""The legal moves. None: not known. What each needs written first: IN_ATTEMPT the ledger entry, HELD_RETRY the next
record, RULED the ruling, SETTLED the broker's word (or a look that shows the message absent)."""


class IllegalMove(Exception):
    """A move that the table does not have: a programming error, never a fault of the world."""


@dataclass(slots=True)
class _Place:
    item: WorkItem
    state: ItemState


class InFlight:
    """All known items."""

    def __init__(self) -> None:
        self._places: dict[ItemId, _Place] = {}
        self._lanes: dict[LaneKey, OrderedDict[ItemId, WorkItem]] = {}
        self._firsts: dict[tuple[str, str], ItemId] = {}
        self._copies: dict[ItemId, list[ItemId]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, item_id: ItemId) -> bool:
        return item_id in self._places

    def state(self, item_id: ItemId) -> ItemState | None:
        """Where an item is; None: not known."""
        place = self._places.get(item_id)
        return place.state if place else None

    def lanes(self) -> list[Lane]:
        """The lanes that hold anything."""
        return [Lane(key, items) for key, items in self._lanes.items() if items]

    def find(self, name: str) -> Iterator[tuple[WorkItem, ItemState]]:
        """The items that a person may mean by that name: by message id, or as ``queue/number``. Costs their number."""
        for item_id, place in self._places.items():
            if name in (place.item.message_id, str(item_id)):
                yield place.item, place.state

    def count(self, state: ItemState) -> int:
        """How many items are there; costs their number."""
        return sum(1 for place in self._places.values() if place.state is state)

    def in_lanes(self) -> int:
        """How many items wait in lanes."""
        return sum(len(items) for items in self._lanes.values())

    def backlog_items(self) -> Iterator[WorkItem]:
        """The items that wait in lanes."""
        for items in self._lanes.values():
            yield from items.values()

    def arrive(self, item: WorkItem, state: ItemState) -> ItemState:
        """An unknown item becomes known, in a lane (under lock or in the backlog); or as a copy of one that is known.

        Returns the state that it got.
        """
        item_id = item.id
        self._check(item_id, state)
        first = self._firsts.setdefault((item.message_id, item.digest), item_id)
        if first != item_id:
            self._places[item_id] = _Place(item, S.COPY)
            self._copies.setdefault(first, []).append(item_id)
            return S.COPY
        self._places[item_id] = _Place(item, state)
        self._lane(item)[item_id] = item
        return state

    def claim(self, item: WorkItem, state: ItemState) -> None:
        """A record claims an item: from a lane, or found so at takeover (then it is the first of its id)."""
        item_id = item.id
        self._check(item_id, state)
        self._leave_lane(item)
        self._places[item_id] = _Place(item, state)
        self._firsts.setdefault((item.message_id, item.digest), item_id)

    def move(self, item_id: ItemId, state: ItemState) -> None:
        """A move between the states that are not in lanes, or from under lock to the backlog."""
        self._check(item_id, state)
        self._places[item_id].state = state

    def settled(self, item_id: ItemId) -> list[ItemId]:
        """The broker has the item no more. Returns the ids of copies that now are items of their own."""
        self._check(item_id, S.SETTLED)
        place = self._places.pop(item_id)
        item = place.item
        self._leave_lane(item)
        key = (item.message_id, item.digest)
        if self._firsts.get(key) != item_id:
            for behind in self._copies.values():
                if item_id in behind:
                    behind.remove(item_id)
            return []
        del self._firsts[key]
        behind = self._copies.pop(item_id, [])
        if not behind:
            return []
        # After dead the next copy is the first; after done too, if one came so late that it was not removed with it.
        return self._promote(behind)

    def _promote(self, behind: list[ItemId]) -> list[ItemId]:
        first, *others = behind
        item = self._places[first].item
        self._firsts[(item.message_id, item.digest)] = first
        if others:
            self._copies[first] = others
        self.move(first, S.BACKLOG)
        self._lane(item)[first] = item
        return [first]

    def copies_of(self, item_id: ItemId) -> tuple[ItemId, ...]:
        """Messages that wait behind this one."""
        return tuple(self._copies.get(item_id, ()))

    def _lane(self, item: WorkItem) -> OrderedDict[ItemId, WorkItem]:
        return self._lanes.setdefault(LaneKey(item.task, item.tenant, item.priority), OrderedDict())

    def _leave_lane(self, item: WorkItem) -> None:
        key = LaneKey(item.task, item.tenant, item.priority)
        lane = self._lanes.get(key)
        if lane is not None:
            lane.pop(item.id, None)
            if not lane:
                del self._lanes[key]

    def _check(self, item_id: ItemId, to: ItemState) -> None:
        now = self.state(item_id)
        if to not in MOVES[now]:
            raise IllegalMove(f"{item_id}: {now or 'unknown'} -> {to}")
