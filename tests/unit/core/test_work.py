"""Items and tasks."""

from dispatcher.core.work import ItemId, Placement
from tests.builders import a_task, an_item


def test_an_item_is_its_queue_and_sequence_number_and_nothing_else() -> None:
    assert an_item(7, queue="work").id == ItemId("work", 7)
    assert an_item(7, message_id="other", digest="other").id == an_item(7).id
    assert an_item(7, queue="elsewhere").id != an_item(7).id


def test_an_item_is_shown_as_queue_and_number() -> None:
    assert str(an_item(7).id) == "work/7"


def test_a_task_may_run_anywhere_unless_told_otherwise() -> None:
    assert a_task().placements == (Placement.NODE_POOL, Placement.VIRTUAL_NODE)
