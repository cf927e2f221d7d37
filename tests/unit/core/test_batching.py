"""Which items travel together."""

import pytest

from dispatcher.core.batching import has_lingered, items_in_a_pod, manifest_bytes, next_batch, pods_for
from tests.builders import MINUTE, NOW, SECOND, a_task, an_item, items, lane_of

MANY = 10**9


def test_a_batch_is_bounded_by_count() -> None:
    waiting = items(5)
    assert next_batch(lane_of(waiting), 0, a_task(batch_size_max=3), MANY) == waiting[:3]


def test_a_batch_is_bounded_by_the_bytes_of_its_manifest() -> None:
    waiting = items(5, params_json="x" * 1000)
    room_for_two = 2 * manifest_bytes(waiting[0])
    assert next_batch(lane_of(waiting), 0, a_task(), room_for_two) == waiting[:2]
    assert next_batch(lane_of(waiting), 0, a_task(), room_for_two - 1) == waiting[:1]


def test_an_item_that_is_over_the_bound_alone_travels_alone() -> None:
    large, small = an_item(1, params_json="x" * 5000), an_item(2)
    assert next_batch(lane_of([large, small]), 0, a_task(), 1000) == [large]


def test_the_next_batch_begins_where_the_last_one_ended() -> None:
    waiting = items(5)
    assert next_batch(lane_of(waiting), 2, a_task(batch_size_max=2), MANY) == waiting[2:4]
    assert next_batch(lane_of(waiting), 5, a_task(), MANY) == []


def test_parameters_count_in_bytes_as_they_are_written() -> None:
    assert manifest_bytes(an_item(params_json='"' + "é" * 100 + '"')) > manifest_bytes(
        an_item(params_json='"' + "e" * 100 + '"')
    )


def test_a_batch_waits_for_company_as_long_as_its_oldest_item_has_patience() -> None:
    task = a_task(linger=SECOND)
    item = an_item(received_at=NOW)
    assert not has_lingered(item, task, NOW + SECOND / 2)
    assert has_lingered(item, task, NOW + SECOND)


# --- several items in a pod -------------------------------------------------------------------------------------------


def test_as_many_as_operators_say_wherever_it_runs() -> None:
    assert items_in_a_pod(a_task(items_per_pod=5), 1000, 3) == 5
    assert items_in_a_pod(a_task(), 1000, 3) == 1


@pytest.mark.parametrize(
    ("waiting", "creates_left", "per_pod"),
    [
        (300, 300, 1),  # a create for each
        (301, 300, 2),
        (1200, 300, 4),
        (1200, 0, 30),  # none is left: as many as a pod can do in the hour
        (100_000, 300, 30),
        (5, 300, 1),
        (1200, None, 1),  # on nodes no creates are counted
    ],
)
def test_left_to_itself_a_burst_is_shared_among_the_creates_of_the_hour(
    waiting: int, creates_left: int | None, per_pod: int
) -> None:
    assert items_in_a_pod(a_task(items_per_pod=None, item_timeout=2 * MINUTE), waiting, creates_left) == per_pod


def test_an_item_that_takes_longer_than_the_hour_has_a_pod_of_its_own() -> None:
    assert items_in_a_pod(a_task(items_per_pod=None, item_timeout=90 * MINUTE), 1000, 1) == 1


def test_pods_are_counted_so_that_all_items_have_one() -> None:
    assert [pods_for(count, 3) for count in (1, 3, 4, 7)] == [1, 1, 2, 3]
