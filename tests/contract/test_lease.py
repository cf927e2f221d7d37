"""What every Lease does. One suite, held against every world in `lease_worlds.WORLDS` and a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import kubernetes_worlds
import pytest
from kubernetes_worlds import KUBERNETES, world_of
from lease_worlds import WORLDS, World


@pytest.fixture(params=[*WORLDS, KUBERNETES])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with world_of(request, WORLDS, kubernetes_worlds.lease) as made:
        yield made


async def test_one_contender_holds_the_lease_and_keeps_it_while_it_asks(world: World) -> None:
    assert await world.first.acquire()
    for _ in range(3):
        assert not await world.second.acquire()
        assert await world.first.acquire()


async def test_of_contenders_that_ask_at_once_one_is_told_yes(world: World) -> None:
    told = await asyncio.gather(*(each.acquire() for each in (world.first, world.second) * 3))
    assert told in ([True, False] * 3, [False, True] * 3)


async def test_a_lease_that_is_released_is_free_at_once(world: World) -> None:
    assert await world.first.acquire()
    await world.first.release()
    assert await world.second.acquire()
    assert not await world.first.acquire()


async def test_only_the_holder_can_give_the_lease_up(world: World) -> None:
    assert await world.first.acquire()
    await world.second.release()
    assert not await world.second.acquire()
    assert await world.first.acquire()


async def test_a_lease_that_was_released_can_be_taken_again(world: World) -> None:
    assert await world.first.acquire()
    await world.first.release()
    await world.first.release()
    assert await world.first.acquire()


async def test_a_lease_that_ran_out_is_taken_and_its_old_holder_learns_of_it(world: World) -> None:
    assert await world.first.acquire()
    await world.run_out()
    assert await world.second.acquire()
    assert not await world.first.acquire()


async def test_a_lease_that_ran_out_goes_back_to_its_holder_if_nobody_took_it(world: World) -> None:
    assert await world.first.acquire()
    await world.run_out()
    assert await world.first.acquire()
    assert not await world.second.acquire()
