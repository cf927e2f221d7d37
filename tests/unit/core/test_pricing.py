"""What a container group costs a second."""

from datetime import timedelta

import pytest

from dispatcher.core.jobs import manifest
from dispatcher.core.pricing import Rates, billed, cost_of, group_rate
from dispatcher.core.units import Money, Resources, cpu_millis, memory_bytes
from dispatcher.core.work import Placement
from tests.builders import a_shape, a_task


def test_one_core_and_two_gigabytes_cost_146_ten_millionths_of_a_dollar_a_second() -> None:
    assert group_rate(Resources(1000, 2 * 10**9), Rates()) == Money.from_usd("0.0000146")


def test_memory_is_asked_for_and_billed_in_whole_tenths_of_a_gigabyte() -> None:
    assert billed(Resources(1000, 2_101_000_000)) == Resources(1000, 2_200_000_000)
    assert billed(Resources(1000, 2_200_000_000)) == Resources(1000, 2_200_000_000)


def test_at_least_one_step_of_each_is_billed() -> None:
    assert billed(Resources(0, 0)) == Resources(10, 10**8)


@pytest.mark.parametrize(
    "requests", [Resources(15, 10**9), Resources(1001, 299_999_999), Resources(500, 572 * 2**20), Resources(9, 1)]
)
def test_what_the_manifest_asks_for_is_what_is_billed(requests: Resources) -> None:
    job = manifest(
        a_task(requests=requests),
        a_shape(),
        placement=Placement.VIRTUAL_NODE,
        batch_id="b1",
        attempt=1,
        sequence_numbers=(1,),
    )
    asked = job["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
    asked_for = Resources(cpu_millis(asked["cpu"]), memory_bytes(asked["memory"]))
    assert billed(requests) == billed(asked_for) == asked_for


def test_a_rate_is_rounded_up_to_the_smallest_unit_of_money() -> None:
    rates = Rates(per_cpu_second=Money(1), per_gb_second=Money(1))
    assert group_rate(Resources(10, 10**8), rates) == Money(2)


def test_every_begun_second_is_billed() -> None:
    assert cost_of(Money(7), timedelta(seconds=2, microseconds=1)) == Money(21)
    assert cost_of(Money(7), timedelta(0)) == Money(0)
