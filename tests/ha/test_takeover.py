"""A change of leader is read off a history: made-up ones, since real ones take a quarter of a minute each."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.crash.history import Version

from .takeover import summary, takeover, writes_in


def ledger(epoch: int, at: float) -> Version:
    body = {"metadata": {"name": "the-ledger"}, "data": {"ledger.json": json.dumps({"epoch": epoch})}}
    return Version(int(at * 10), "configmaps", False, body, at)


def a(kind: str, at: float, epoch: int = 1) -> Version:
    metadata: dict[str, Any] = {"name": "burst-b-1", "annotations": {"burst-dispatcher.io/epoch": str(epoch)}}
    return Version(int(at * 10), kind, False, {"metadata": metadata}, at)


BEFORE = [ledger(1, 1.0), a("jobs", 2.0), a("configmaps", 3.0), a("pods", 4.0)]


def test_nobody_acts_between_the_last_write_of_the_old_and_the_first_of_the_new() -> None:
    after = [
        ledger(2, 18.0),
        a("configmaps", 18.5),
        a("jobs", 18.6),
        a("jobs", 19.0, epoch=2),
        a("jobs", 20.0, epoch=2),
    ]
    seen = takeover(writes_in([*BEFORE, *after], "the-ledger", 1), killed_at=3.5)
    assert (seen.from_last_write, seen.from_kill, seen.to_first_job) == (15.0, 14.5, 15.5)


@pytest.mark.parametrize("history", [[], BEFORE, [*BEFORE, ledger(2, 18.0)]])
def test_a_takeover_that_is_not_over_has_no_seconds(history: list[Version]) -> None:
    with pytest.raises(ValueError, match="nobody has taken over yet"):
        takeover(writes_in(history, "the-ledger", 1), killed_at=3.5)


def test_the_median_and_the_greatest_are_told() -> None:
    assert summary([3.0, 1.0, 2.0]) == "2.0 s / 3.0 s"
    assert summary([]) == "none"
