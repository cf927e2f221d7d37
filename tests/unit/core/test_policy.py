"""What operators have decided."""

from dispatcher.core.policy import Policy
from tests.builders import a_policy, a_task


def test_without_a_word_from_operators_there_is_no_virtual_node_and_no_budget() -> None:
    policy = Policy(tasks={})
    assert policy.virtual_node is None
    assert policy.budgets == ()


def test_an_item_is_deferred_long_before_its_lock_ends() -> None:
    policy = a_policy(a_task())
    assert policy.lock_hold_max * 2 <= policy.lock_duration
