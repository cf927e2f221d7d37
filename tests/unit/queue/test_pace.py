"""How calls to the broker are paced."""

from __future__ import annotations

import asyncio
import time

from dispatcher.queue.links import Pace


async def spent(pace: Pace, *portions: int) -> float:
    began = time.monotonic()
    async with asyncio.timeout(20):
        for messages in portions:
            await pace.spend(messages)
            async with pace.turn():
                pass
    return time.monotonic() - began


async def test_a_request_for_many_messages_takes_the_turns_of_as_many() -> None:
    assert await spent(Pace(50), 49, 49) >= 0.9  # the second fifty have to wait for the next second


async def test_no_request_waits_for_more_than_a_second_s_worth() -> None:
    assert await spent(Pace(2), 100) < 10


async def test_where_no_pace_is_set_nothing_waits() -> None:
    assert await spent(Pace(None), *[10_000] * 100) < 1
    assert await spent(Pace(1), 0, -1) < 10
