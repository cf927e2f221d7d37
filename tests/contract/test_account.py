"""What every AciAccount does. One suite, held against every world in `account_worlds.WORLDS`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from account_worlds import WORLDS, World


@pytest.fixture(params=[*WORLDS])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with WORLDS[request.param]() as made:
        yield made


async def test_a_group_that_runs_has_begun_to_bill_and_has_not_stopped(world: World) -> None:
    uid = await world.begin()
    seen = await world.until(uid, lambda group: group is not None and group.started_at is not None)
    group = seen.groups[uid]
    assert group.started_at == (await world.times(uid))[0]
    assert (group.pod_uid, group.stopped_at, group.gone) == (uid, None, False)


async def test_the_times_of_a_group_that_has_ended_are_those_of_its_bill(world: World) -> None:
    uid = await world.begin()
    await world.end(uid)
    seen = await world.until(uid, lambda group: group is not None and group.stopped_at is not None)
    group = seen.groups[uid]
    assert (group.started_at, group.stopped_at) == await world.times(uid)
    assert group.read_at is not None


async def test_a_look_says_how_old_it_is_and_never_grows_older(world: World) -> None:
    uid = await world.begin()
    await world.until(uid, lambda group: group is not None)
    before = await world.account.look({uid})
    assert before.as_of <= world.now()
    await world.news()
    assert (await world.account.look(())).as_of >= before.as_of


async def test_a_group_that_is_gone_is_not_shown_as_one_that_bills(world: World) -> None:
    uid = await world.begin()
    await world.until(uid, lambda group: group is not None)
    await world.remove(uid)
    await world.until(uid, lambda group: group is None or (group.gone and group.stopped_at is not None))


async def test_groups_are_told_apart_by_the_uid_of_their_pod(world: World) -> None:
    first, second = await world.begin(), await world.begin()
    seen = await world.until(second, lambda group: group is not None)
    assert {first, second} <= seen.groups.keys()
    await world.remove(first)
    seen = await world.until(first, lambda group: group is None or group.gone)
    assert seen.groups[second].stopped_at is None
