"""Money is exact, and no Job that the assumptions allow costs more than was set aside for it."""

import itertools
from datetime import timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.budgets import CLOCK_ERROR, LAUNCH_GRACE, WorstCase
from dispatcher.core.jobs import JobShape
from dispatcher.core.pricing import Rates, billed, cost_of, group_rate
from dispatcher.core.units import Money, Resources, cpu_millis, from_text, memory_bytes, to_text, whole_seconds
from dispatcher.core.windows import Window, WindowKind, window_at
from tests.builders import NOW, a_budget, a_draft, an_entry
from tests.property import strategies as some

RATE = Money.from_usd("0.0000146")

amounts = st.decimals(0, 10**9, places=15, allow_nan=False, allow_infinity=False)


@given(amounts)
def test_an_amount_is_rounded_up_by_less_than_one_unit(usd: Decimal) -> None:
    assert 0 <= Money.from_usd(usd).usd - usd < Decimal("1e-12")


@given(some.money)
def test_money_is_read_back_from_its_text(amount: Money) -> None:
    assert Money.from_usd(str(amount)) == amount


@given(st.lists(some.money, max_size=20))
def test_the_order_of_adding_does_not_matter(parts: list[Money]) -> None:
    forwards, backwards = Money(0), Money(0)
    for part in parts:
        forwards = forwards + part
    for part in reversed(parts):
        backwards = part + backwards
    assert forwards == backwards
    assert isinstance(forwards.picos, int)


@given(st.timedeltas(timedelta(0), timedelta(days=40)))
def test_no_begun_second_is_free_and_no_other_is_paid(span: timedelta) -> None:
    assert timedelta(0) <= timedelta(seconds=whole_seconds(span)) - span < timedelta(seconds=1)
    assert cost_of(RATE, span) == RATE * whole_seconds(span)


requests = st.builds(Resources, st.integers(0, 64_000), st.integers(0, 512 * 10**9))


@given(requests)
def test_what_is_billed_is_less_than_one_step_from_what_is_asked(asked: Resources) -> None:
    paid = billed(asked)
    assert (paid.cpu_millis % 10, paid.memory_bytes % 10**8) == (0, 0)
    assert paid.cpu_millis >= max(10, asked.cpu_millis)
    assert paid.memory_bytes > asked.memory_bytes - 10**8


@given(requests, requests)
def test_a_larger_pod_is_never_cheaper(one: Resources, more: Resources) -> None:
    assert group_rate(one + more, Rates()) >= group_rate(one, Rates())


@given(st.integers(0, 10**6), st.integers(0, 10**15))
def test_quantities_are_read_back_exactly(millis: int, size: int) -> None:
    assert cpu_millis(f"{millis}m") == millis
    assert memory_bytes(str(size)) == size


@given(some.instants)
def test_instants_are_read_back_from_their_text(instant: object) -> None:
    assert from_text(to_text(instant)) == instant  # type: ignore[arg-type]


# --- the worst case ---------------------------------------------------------------------------------------------------

EARLIEST = -int(CLOCK_ERROR.total_seconds())
LATEST = int((LAUNCH_GRACE + CLOCK_ERROR).total_seconds())
launch_delays = st.sampled_from([EARLIEST, LATEST]) | st.integers(EARLIEST, LATEST)
"""From the writing of the entry to the Job's start, on the bill's clock."""


@st.composite
def priced_jobs(draw: st.DrawFn) -> tuple[WorstCase, list[some.Group]]:
    worst = WorstCase(draw(some.shapes()), RATE, draw(some.seconds(0, 20)))
    started = NOW + timedelta(seconds=draw(launch_delays))
    return worst, draw(some.job_runs(worst.shape, worst.tail, started))


def bill(groups: list[some.Group], window: Window) -> Money:
    return RATE * sum(group.seconds_within(window.start, window.end) for group in groups)


@given(priced_jobs(), st.lists(st.integers(-60, 300), min_size=1, max_size=4, unique=True))
def test_no_job_costs_more_in_any_window_than_its_worst_case_there(
    priced: tuple[WorstCase, list[some.Group]], edges: list[int]
) -> None:
    worst, groups = priced
    cuts = [NOW + timedelta(seconds=edge) for edge in sorted(edges)]
    bounds = [NOW - timedelta(days=1), *cuts, NOW + timedelta(days=1)]
    for start, end in itertools.pairwise(bounds):
        assert bill(groups, Window(start, end)) <= worst.within(Window(start, end), NOW)
    assert bill(groups, Window(bounds[0], bounds[-1])) <= worst.total()
    assert all(group.end <= worst.last_second(NOW) for group in groups)


@given(st.data(), some.shapes(), some.seconds(0, 20), st.integers(-200, 200))
def test_whenever_a_job_is_launched_every_window_it_bills_in_has_set_enough_aside(
    data: st.DataObject, shape: JobShape, tail: timedelta, before_the_hour: int
) -> None:
    budget = a_budget(window=WindowKind.HOUR)
    written = window_at(budget.window, budget.zone, NOW).end - timedelta(seconds=before_the_hour)
    entry = an_entry(shape=shape, tail=tail, rate=RATE, written=written)
    ledger = a_draft(entry, budgets=(budget,)).peek()
    started = written + timedelta(seconds=data.draw(launch_delays))
    groups = data.draw(some.job_runs(shape, tail, started))
    reserved = {ledger.accounts[account].window: money for account, money in ledger.reserved().items()}
    covered = sum((bill(groups, window) for window in reserved), Money(0))
    assert covered == RATE * sum(int((group.end - group.start).total_seconds()) for group in groups)
    assert all(bill(groups, window) <= money for window, money in reserved.items())


@given(some.shapes(), some.seconds(0, 20), st.integers(0, 3600))
def test_what_two_windows_set_aside_is_at_least_what_one_would(shape: JobShape, tail: timedelta, cut: int) -> None:
    worst, edge = WorstCase(shape, RATE, tail), NOW + timedelta(seconds=cut)
    day = timedelta(days=1)
    both = worst.within(Window(NOW - day, edge), NOW) + worst.within(Window(edge, NOW + day), NOW)
    assert worst.total() <= both
    assert worst.total() == worst.within(Window(NOW - day, NOW + day), NOW)


@pytest.mark.parametrize(("retries", "pod_seconds", "usd"), [(0, 36_000, "0.5256"), (3, 54_000, "0.7884")])
def test_the_worst_case_is_reached_exactly(retries: int, pod_seconds: int, usd: str) -> None:
    shape = JobShape(50, 50, retries, timedelta(seconds=600))
    lifetimes: list[int | None] = [*[100] * (50 * retries), *[None] * 50]
    groups = some.run_job(shape, NOW, lifetimes, tails=[120], fails=[True])
    day = window_at(WindowKind.DAY, ZoneInfo("UTC"), NOW)
    worst = WorstCase(shape, RATE, timedelta(seconds=120))
    assert len(groups) == shape.pods_max
    assert bill(groups, day) == worst.within(day, NOW) == RATE * pod_seconds == Money.from_usd(usd)
