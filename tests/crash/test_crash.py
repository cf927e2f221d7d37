"""A seeded sample of `make test-crash` and `make test-faults-api`: all of it takes half an hour, this a minute."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from random import Random

import pytest

from . import burst
from .gate import Moment
from .spoiling import drawn
from .trial import Verdict, run
from .world import World

pytestmark = [pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="module")]

_WRITES = 110
"""A run makes a few more; after the last of them there is nothing to be killed at."""
_SAMPLE = sorted(Random("crash sample").sample(range(3, _WRITES), 4))
_SEEDS = (0, 7, 11)


def _all_held(*verdicts: Verdict) -> None:
    assert {verdict.name: verdict.findings.broken for verdict in verdicts if not verdict.passed} == {}


async def _at_once(*runs: Awaitable[Verdict]) -> list[Verdict]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_awaited(each)) for each in runs]
    return [task.result() for task in tasks]


async def _awaited(one: Awaitable[Verdict]) -> Verdict:
    return await one


async def test_the_burst_has_everything_that_is_worth_a_crash(world: World) -> None:
    verdict = await run(world, "without faults")
    _all_held(verdict)
    assert burst.ITEMS >= 40
    assert len(burst.messages()) == burst.ITEMS
    assert len(verdict.writes) >= 30
    assert set(verdict.findings.jobs) == {"node_pool", "virtual_node"}
    assert verdict.findings.next_attempts >= 1
    assert verdict.findings.bill_usd <= verdict.findings.spent_usd <= burst.LIMIT_USD
    for event in ("item.retried", "item.dead_lettered", "item.rejected", "batch.held"):
        assert verdict.events[event] >= 1, event


async def test_killed_at_any_write_nothing_is_lost_doubled_or_left_behind(world: World) -> None:
    runs = [
        run(world, f"killed {moment} write {at}", kill_at=at, moment=moment, to_the_end=False)
        for at, moment in zip(_SAMPLE, (Moment.AFTER, Moment.BEFORE) * 2, strict=True)
    ]
    verdicts = await _at_once(*runs)
    _all_held(*verdicts)
    assert sum(1 for verdict in verdicts if verdict.struck) >= 3


async def test_whatever_the_api_server_answers_all_laws_hold(world: World) -> None:
    runs = [run(world, f"seed {seed}", spoiling=drawn(seed, silent=False), to_the_end=False) for seed in _SEEDS]
    verdicts = await _at_once(*runs)
    _all_held(*verdicts)
    assert all(verdict.fired for verdict in verdicts)
