"""A small burst through the real connector, judged as the large one is; and laws that notice when they are broken."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from testbed.virtual import VirtualNode
from tests.virtual import laws
from tests.virtual.laws import Sample, Seen
from tests.virtual.quota import REFUSED, only_probes
from tests.virtual.run import a_burst, run
from tests.virtual.scenario import burst, sample, wide


@pytest.mark.timeout(330)
async def test_a_burst_stays_within_what_azure_counts_and_is_charged_at_least_its_bill(
    virtual_node: VirtualNode, virtual_namespace: str, tmp_path: Path
) -> None:
    """Twice as much work as addresses, groups and creates have room for; the dispatcher is killed in the middle."""
    chosen = sample(24, seed=1)
    said: list[str] = []
    async with a_burst(virtual_node, tmp_path, chosen) as small:
        seen = await run(small, said.append)
    broken = [f"{each.law}: {each.told}" for each in laws.judge(chosen, seen) if not each.holds]
    assert not broken, said
    assert len(small.service.replicas) == 2


# --- what the laws notice ---------------------------------------------------------------------------------------------

SCENARIO = replace(burst(10, 1, reader=False, killed_after=None), on_virtual_node_min=1, items=10)


def a_sample(**changes: Any) -> Sample:
    money = {"bill_usd": Decimal("0.1"), "spent_usd": Decimal("0.05"), "reserved_usd": Decimal("0.05")}
    fields: dict[str, Any] = {"second": 1.0, "done": 0, "addresses": 1, "groups": 1, "creates": (1, 1)}
    return Sample(**{**fields, "deletes": (0, 0), **money, **changes})


def a_line(job: str, usd: str) -> dict[str, Any]:
    return {"namespace": "tasks", "pod": f"{job}-0-abcde", "usd": usd}


def what_was_seen(**changes: Any) -> Seen:
    peak = {"addresses": 27, "groups": 27, "cores": "13.5", "creates": [27, 290], "deletes": [20, 200]}
    limit = {"addresses": 27, "groups": 100, "cores": "100", "creates": [100, 300], "deletes": [100, 300]}
    fields: dict[str, Any] = {
        "samples": [a_sample()],
        "bill": {"groups": [a_line("burst-a-1", "0.04"), a_line("burst-a-1", "0.01"), a_line("burst-b-1", "0.03")]},
        "statistics": {"peak": peak, "limit": limit, "refused": {}},
        "charges": {"burst-a-1": Decimal("0.05"), "burst-b-1": Decimal("0.03")},
        "spent_usd": Decimal("0.08"),
        "on_virtual_node": 7,
        "namespace": "tasks",
        "seconds": 60.0,
    }
    return Seen(**{**fields, **changes})


def broken_laws(seen: Seen, *, reader: bool = False) -> list[str]:
    return [each.law for each in laws.judge(replace(SCENARIO, reader=reader), seen) if not each.holds]


def test_what_went_well_breaks_no_law() -> None:
    assert broken_laws(what_was_seen()) == []
    assert broken_laws(what_was_seen(), reader=True) == []


@pytest.mark.parametrize(
    ("changes", "law"),
    [
        ({"samples": [a_sample(bill_usd=Decimal("0.1000001"))]}, "bill <= spent"),
        ({"samples": [a_sample(), a_sample(reserved_usd=Decimal("0.96"))]}, "bill <= spent"),
        ({"charges": {"burst-a-1": Decimal("0.0499"), "burst-b-1": Decimal("0.0301")}}, "at least its bill"),
        ({"charges": {"burst-a-1": Decimal("0.08")}}, "at least its bill"),
        ({"spent_usd": Decimal("0.07")}, "at least its bill"),
        ({"on_virtual_node": 0}, "ran on the virtual node"),
        ({"seconds": 1200.0}, "over within"),
        ({"broken": ["lost: 1"]}, "rightly dead-lettered"),
    ],
)
def test_each_law_notices_its_breach(changes: dict[str, Any], law: str) -> None:
    [broken] = broken_laws(what_was_seen(**changes))
    assert law in broken


@pytest.mark.parametrize(
    ("where", "what", "law"),
    [
        ("peak", {"addresses": 28}, "never exceeded"),
        ("refused", {"SubnetIsFull": 1}, "never exceeded"),
        ("refused", {"ResourceRequestsThrottled": 1}, "never exceeded"),
        ("peak", {"addresses": 24}, "addresses used"),
        ("peak", {"creates": [80, 260]}, "bucket that binds"),
    ],
)
def test_what_azure_counted_is_held_against_what_was_allowed(where: str, what: dict[str, Any], law: str) -> None:
    statistics = dict(what_was_seen().statistics)
    statistics[where] = {**statistics[where], **what}
    [broken] = broken_laws(what_was_seen(statistics=statistics))
    assert law in broken


def test_with_the_groups_own_times_a_charge_above_the_bill_is_wrong_too() -> None:
    charges = {"burst-a-1": Decimal("0.0502"), "burst-b-1": Decimal("0.03")}
    seen = what_was_seen(charges=charges, spent_usd=Decimal("0.0802"))
    assert broken_laws(seen) == []
    assert broken_laws(seen, reader=True) == ["each Job's charge is its bill"]


def test_a_create_that_is_refused_long_after_the_circuit_opened_must_be_a_probe_that_failed() -> None:
    def verdict(probes: int, *seconds: int) -> bool:
        asked = [
            {"verb": "PUT", "code": REFUSED, "at": f"2026-03-04T09:{each // 60:02}:{each % 60:02}+00:00"}
            for each in seconds
        ]
        opened = [{"at": f"2026-03-04T09:0{each}:00Z"} for each in range(probes + 1)]
        return only_probes(asked, opened).holds

    assert verdict(0, 0, 1, 9)
    assert verdict(1, 0, 1, 60)
    assert not verdict(0, 0, 1, 60)
    assert not verdict(1, 0, 60, 61)
    assert not only_probes([], []).holds


def test_bursts_are_of_the_sizes_that_are_promised_and_the_same_for_a_seed() -> None:
    large = burst(600, 1, reader=False, killed_after=200)
    assert (large.addresses_allowed, large.on_virtual_node_min) == (27, 400)
    assert wide(300, 1).addresses_allowed == 231
    assert large.messages() == large.messages() != replace(large, seed=2).messages()
