"""The referee of the bursts under ACI's faults: of a good burst it tells nothing, and each thing wrong has a line."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from testbed.aci.faults import Kind

from .cases import CASES
from .referee import Allowed, Evidence, judge

GOOD = Evidence(
    sent=("a", "b"),
    ran_well=("a", "b"),
    starts={"a": 1, "b": 2},
    removed=2,
    buried=0,
    left=0,
    told_done=("a", "b"),
    told_dead=(),
    dead_causes=(),
    own_retries=0,
    platform_retries=3,
    fired=8,
    billed_usd=Decimal("0.1"),
    charged_usd=Decimal("0.1"),
    alarms=(),
    left_in_cluster={},
)


def test_a_good_burst_has_nothing_told_of_it() -> None:
    verdict = judge(GOOD, Allowed())
    assert (verdict.lines, verdict.lost, verdict.ended_twice, verdict.ran_again) == ((), 0, 0, 1)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"told_done": ("a",), "removed": 1}, "1 neither done nor dead-lettered: b"),
        ({"ran_well": ("a",)}, "1 told done without a run that ended well: b"),
        ({"told_done": ("a", "a", "b")}, "1 told done more than once: a"),
        ({"told_dead": ("a",), "buried": 1}, "1 done and dead-lettered: a"),
        ({"own_retries": 2}, "2 failures of the platform were paid for by items"),
        ({"left": 1}, "1 messages left, not 0"),
        ({"removed": 1}, "1 messages removed, not 2"),
        ({"billed_usd": Decimal("0.2")}, "$0.2 billed and only $0.1 charged"),
        ({"fired": 0}, "the fault never fired"),
        ({"alarms": ("overrun",)}, "alarms: overrun"),
        ({"left_in_cluster": {"pods": 1}}, "left in the cluster: {'pods': 1}"),
    ],
)
def test_each_thing_that_must_not_be_has_a_line(changes: dict[str, Any], line: str) -> None:
    assert line in judge(replace(GOOD, **changes), Allowed()).lines


def test_where_the_template_is_to_blame_exactly_the_items_that_were_hit_are_dead_lettered() -> None:
    paid = {"told_done": ("a",), "told_dead": ("b",), "removed": 1, "buried": 1, "dead_causes": ("template",)}
    assert judge(replace(GOOD, **paid, fired=1), Allowed(items_pay=True)).lines == ()
    assert judge(replace(GOOD, **paid, fired=2), Allowed(items_pay=True)).lines
    assert judge(replace(GOOD, **paid, fired=1), Allowed()).own_spent == 1


def test_a_leak_that_nobody_can_see_may_cost_more_than_is_charged() -> None:
    assert judge(replace(GOOD, billed_usd=Decimal("0.2")), Allowed(leaks=True)).lines == ()


def test_every_fault_of_the_stand_in_has_a_case() -> None:
    assert {case.kind for case in CASES} == {None, *Kind}
    assert len({case.name for case in CASES}) == len(CASES)
