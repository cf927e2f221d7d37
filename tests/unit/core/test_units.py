"""Quantities: exact money, Kubernetes quantities, whole seconds, instants as text."""

from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest

from dispatcher.core.units import UTC, Money, Resources, cpu_millis, from_text, memory_bytes, to_text, whole_seconds


def test_a_price_finer_than_the_smallest_unit_is_rounded_up() -> None:
    assert Money.from_usd("0.0000000000001") == Money(1)
    assert Money.from_usd("0.0000146") == Money(14_600_000)


def test_ten_dimes_are_exactly_one_dollar() -> None:
    assert sum((Money.from_usd("0.1") for _ in range(10)), Money(0)) == Money.from_usd(1)


@pytest.mark.parametrize(
    ("usd", "text"),
    [("0.5256", "0.5256"), ("12.50", "12.5"), ("100", "100"), ("0", "0"), ("0.000000000001", "0.000000000001")],
)
def test_money_is_shown_without_exponent_and_trailing_zeros(usd: str, text: str) -> None:
    assert str(Money.from_usd(usd)) == text


def test_no_money_is_false_and_any_money_is_true() -> None:
    assert not Money(0)
    assert Money(1)
    assert Money.from_usd("2") - Money.from_usd("0.5") == Money.from_usd("1.5")
    assert (Money.from_usd("0.25") * 3).usd == Decimal("0.75")


@pytest.mark.parametrize(("text", "millis"), [("500m", 500), ("2", 2000), ("0.1", 100), ("0.0001", 1), (" 1.5 ", 1500)])
def test_cpu_is_read_in_thousandths_of_a_core_rounded_up(text: str, millis: int) -> None:
    assert cpu_millis(text) == millis


@pytest.mark.parametrize(
    ("text", "count"),
    [("512Mi", 512 * 2**20), ("2Gi", 2 * 2**30), ("1.5G", 1_500_000_000), ("3k", 3000), ("1Ti", 2**40), ("100m", 1)],
)
def test_memory_is_read_in_bytes_rounded_up(text: str, count: int) -> None:
    assert memory_bytes(text) == count


@pytest.mark.parametrize("text", ["", "two", "-1", "1e3", "5 M", "10Kib", "0x10", "1,5G", "NaN", "1."])
def test_what_is_no_quantity_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a Kubernetes quantity; write for example 500m"):
        memory_bytes(text)


def test_a_request_fits_only_where_cores_and_memory_both_suffice() -> None:
    room = Resources(2000, 4)
    assert Resources(2000, 4).fits_in(room)
    assert not Resources(2001, 4).fits_in(room)
    assert not Resources(2000, 5).fits_in(room)


def test_requests_add_up() -> None:
    one = Resources(500, 10)
    assert one + one == one.times(2) == Resources(1000, 20)
    assert one.times(3) - one == one.times(2)


@pytest.mark.parametrize(
    ("span", "whole"),
    [(timedelta(0), 0), (timedelta(seconds=-5), 0), (timedelta(microseconds=1), 1), (timedelta(seconds=60), 60)],
)
def test_every_begun_second_counts_and_nothing_before_the_first(span: timedelta, whole: int) -> None:
    assert whole_seconds(span) == whole


def test_instants_are_written_in_utc_and_sort_as_text_like_as_time() -> None:
    earlier = datetime(2026, 3, 4, 23, 59, 59, tzinfo=timezone(timedelta(hours=2)))
    later = datetime(2026, 3, 4, 22, 0, 0, 1, tzinfo=UTC)
    assert to_text(earlier) == "2026-03-04T21:59:59.000000Z"
    assert to_text(earlier) < to_text(later)
    assert from_text(to_text(earlier)) == earlier
