"""The vocabulary of causes."""

from dispatcher.core.failures import FailureCause
from dispatcher.core.retries import RETRY_RULES


def test_every_cause_is_a_label_and_has_a_rule() -> None:
    assert all(cause.value == cause.value.lower() and " " not in cause.value for cause in FailureCause)
    assert set(RETRY_RULES) == set(FailureCause)
