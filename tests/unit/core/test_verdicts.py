"""The vocabulary of routing."""

from enum import StrEnum

import pytest

from dispatcher.core.verdicts import Held, HoldReason, Why


@pytest.mark.parametrize("words", [HoldReason, Why])
def test_reasons_are_metric_labels(words: type[StrEnum]) -> None:
    assert all(word.value == word.name.lower() for word in words)


def test_a_hold_that_nothing_ends_by_itself_names_no_time() -> None:
    assert Held(HoldReason.NODE_HEADROOM).until is None
