"""A small part of the fault matrix: some faults, some hundred items; what is looked at is what became of the items.

The whole of it, with rates, is `make faults`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from dispatcher.embedded.broker import Fault
from tests.faults import report
from tests.faults.firing import FIRINGS
from tests.faults.liveness import stick
from tests.faults.trial import Size, Trial

SMALL = Size(
    waiting=200, fired=4, warm_up_seconds=0.0, before_seconds=1.0, after_seconds=0.0, recovers_within_seconds=0.0,
    lock_seconds=6.0, operation_timeout_seconds=3.0,
)  # fmt: skip


def test_every_fault_of_the_broker_has_its_way_of_being_fired() -> None:
    assert set(FIRINGS) == set(Fault)


@pytest.mark.parametrize(
    "fault",
    [Fault.RESET_CONNECTIONS, Fault.LOSE_SETTLEMENT, Fault.LOSE_SETTLEMENT_REPLY, Fault.DUPLICATE_DELIVERY],
)
async def test_under_fire_every_item_ends_once(fault: Fault) -> None:
    result = await Trial(fault, SMALL).run()
    assert result.verdict.lines == ()
    assert (result.verdict.lost, result.verdict.duplicated) == (0, 0)
    assert result.fired >= SMALL.fired
    assert result.items >= SMALL.waiting


async def test_a_consumer_that_is_stuck_is_told_by_healthz_and_comes_back() -> None:
    seen = await stick(items=20, watchdog_seconds=4.0, operation_timeout_seconds=2.0)
    assert "nothing is received any more" in seen.said
    assert seen.clients_rebuilt >= 1


def test_the_table_goes_between_its_marks_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write(page, "| new |")
    assert page.read_text() == f"before\n{report.BEGIN}\n\n| new |\n\n{report.END}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="the marks"):
        report.write(page, "| new |")
