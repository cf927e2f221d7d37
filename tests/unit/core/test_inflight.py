"""Where every known item is, and which moves are legal."""

from itertools import product

import pytest

from dispatcher.core.inflight import MOVES, IllegalMove, InFlight, ItemState
from dispatcher.core.work import ItemId, WorkItem
from tests.builders import an_item, items

S = ItemState
IN_LANES = {S.UNDER_LOCK, S.BACKLOG}


def known_in(state: ItemState) -> tuple[InFlight, WorkItem]:
    """One item, brought into that state by the moves that the product makes."""
    inflight, item = InFlight(), an_item(2, message_id="m", digest="d")
    if state is S.COPY:
        inflight.arrive(an_item(1, message_id="m", digest="d"), S.BACKLOG)
        inflight.arrive(item, S.UNDER_LOCK)
    elif state in IN_LANES:
        inflight.arrive(item, state)
    else:
        inflight.claim(item, state)
    return inflight, item


def lanes(inflight: InFlight) -> dict[tuple[str, str, int], list[int]]:
    return {tuple(lane.key): [item.sequence_number for item in lane.items.values()] for lane in inflight.lanes()}


# --- the table --------------------------------------------------------------------------------------------------------


def test_an_unknown_item_becomes_known_anywhere_but_settled() -> None:
    assert MOVES[None] == set(S) - {S.SETTLED}


@pytest.mark.parametrize(
    ("state", "following"),
    [
        (S.UNDER_LOCK, {S.BACKLOG, S.IN_ATTEMPT, S.RULED, S.COPY, S.SETTLED}),
        (S.BACKLOG, {S.UNDER_LOCK, S.IN_ATTEMPT, S.RULED, S.COPY, S.SETTLED}),
        (S.COPY, {S.BACKLOG, S.SETTLED}),
        (S.IN_ATTEMPT, {S.RULED, S.HELD_RETRY}),
        (S.HELD_RETRY, {S.IN_ATTEMPT, S.RULED}),
        (S.RULED, {S.SETTLED}),
        (S.SETTLED, set()),
    ],
)
def test_the_legal_moves_are_these_and_no_others(state: ItemState, following: set[ItemState]) -> None:
    assert MOVES[state] == following


def test_a_claimed_item_never_goes_back_to_a_lane() -> None:
    claimed = (S.IN_ATTEMPT, S.HELD_RETRY, S.RULED)
    assert not any(MOVES[state] & (IN_LANES | {S.COPY}) for state in claimed)


@pytest.mark.parametrize(
    ("state", "to"),
    [pair for pair in product((state for state in S if state is not S.SETTLED), S) if pair[1] not in MOVES[pair[0]]],
)
def test_every_other_move_is_refused_and_changes_nothing(state: ItemState, to: ItemState) -> None:
    inflight, item = known_in(state)
    with pytest.raises(IllegalMove, match=f"work/2: {state} -> {to}"):
        inflight.settled(item.id) if to is S.SETTLED else inflight.move(item.id, to)
    assert inflight.state(item.id) is state


def test_an_item_arrives_once() -> None:
    inflight, item = known_in(S.BACKLOG)
    with pytest.raises(IllegalMove):
        inflight.arrive(item, S.BACKLOG)


def test_an_unknown_item_cannot_be_settled() -> None:
    with pytest.raises(IllegalMove, match="unknown -> settled"):
        InFlight().settled(ItemId("work", 1))


# --- lanes ------------------------------------------------------------------------------------------------------------


def test_lanes_keep_the_order_of_arrival_by_task_tenant_and_priority() -> None:
    inflight = InFlight()
    for item in (
        an_item(3),
        an_item(1, tenant="globex"),
        an_item(2),
        an_item(4, priority=1),
        an_item(5, task="resize"),
    ):
        inflight.arrive(item, S.UNDER_LOCK)
    assert lanes(inflight) == {
        ("report", "acme", 0): [3, 2],
        ("report", "globex", 0): [1],
        ("report", "acme", 1): [4],
        ("resize", "acme", 0): [5],
    }
    assert inflight.in_lanes() == 5
    assert sorted(item.sequence_number for item in inflight.backlog_items()) == [1, 2, 3, 4, 5]


def test_deferring_an_item_keeps_its_place_in_its_lane() -> None:
    inflight = InFlight()
    for item in items(3):
        inflight.arrive(item, S.UNDER_LOCK)
    inflight.move(ItemId("work", 2), S.BACKLOG)
    assert lanes(inflight) == {("report", "acme", 0): [1, 2, 3]}


def test_a_claimed_item_leaves_its_lane_and_an_empty_lane_is_none() -> None:
    inflight = InFlight()
    first, second = items(2)
    for item in (first, second):
        inflight.arrive(item, S.BACKLOG)
    inflight.claim(first, S.IN_ATTEMPT)
    assert lanes(inflight) == {("report", "acme", 0): [2]}
    inflight.claim(second, S.IN_ATTEMPT)
    assert lanes(inflight) == {}
    assert (inflight.in_lanes(), len(inflight)) == (0, 2)


def test_an_item_that_left_the_broker_by_itself_leaves_its_lane() -> None:
    inflight, item = known_in(S.BACKLOG)
    assert inflight.settled(item.id) == []
    assert (lanes(inflight), len(inflight), inflight.state(item.id)) == ({}, 0, None)
    assert item.id not in inflight


def test_items_are_counted_by_state() -> None:
    inflight = InFlight()
    for item in items(3):
        inflight.arrive(item, S.UNDER_LOCK)
    inflight.claim(an_item(9), S.HELD_RETRY)
    assert (inflight.count(S.UNDER_LOCK), inflight.count(S.HELD_RETRY), inflight.count(S.RULED)) == (3, 1, 0)
    assert an_item(9).id in inflight


# --- copies -----------------------------------------------------------------------------------------------------------


def two_copies() -> tuple[InFlight, list[ItemId]]:
    inflight = InFlight()
    same = items(3, message_id="m", digest="d")
    assert [inflight.arrive(item, S.UNDER_LOCK) for item in same] == [S.UNDER_LOCK, S.COPY, S.COPY]
    return inflight, [item.id for item in same]


def test_a_copy_waits_behind_its_first() -> None:
    inflight, (first, second, third) = two_copies()
    assert inflight.copies_of(first) == (second, third)
    assert lanes(inflight) == {("report", "acme", 0): [1]}


def test_the_same_id_with_another_body_is_an_item_of_its_own() -> None:
    inflight, _ = two_copies()
    assert inflight.arrive(an_item(9, message_id="m", digest="other"), S.UNDER_LOCK) is S.UNDER_LOCK


def test_a_copy_of_an_item_that_a_record_claims_waits_too() -> None:
    inflight = InFlight()
    inflight.claim(an_item(1, message_id="m", digest="d"), S.IN_ATTEMPT)
    assert inflight.arrive(an_item(2, message_id="m", digest="d"), S.BACKLOG) is S.COPY


def test_when_the_first_is_dead_the_next_copy_runs_and_the_others_wait_behind_it() -> None:
    inflight, (first, second, third) = two_copies()
    inflight.claim(an_item(1, message_id="m", digest="d"), S.IN_ATTEMPT)
    inflight.move(first, S.RULED)
    assert inflight.settled(first) == [second]
    assert inflight.state(second) is S.BACKLOG
    assert lanes(inflight) == {("report", "acme", 0): [2]}
    assert inflight.copies_of(second) == (third,)
    assert inflight.settled(second) == [third]
    assert inflight.settled(third) == []
    assert len(inflight) == 0


def test_copies_that_are_removed_with_a_done_first_leave_nobody_waiting() -> None:
    inflight, (first, second, third) = two_copies()
    assert inflight.settled(second) == inflight.settled(third) == []
    assert inflight.settled(first) == []
    assert len(inflight) == 0


def test_after_all_is_settled_the_same_message_is_new_work() -> None:
    inflight, ids = two_copies()
    for item_id in reversed(ids):
        inflight.settled(item_id)
    assert inflight.arrive(an_item(9, message_id="m", digest="d"), S.UNDER_LOCK) is S.UNDER_LOCK
