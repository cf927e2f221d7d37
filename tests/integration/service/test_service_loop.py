"""The loop of cycles: bell, pauses, a cycle that breaks, a cycle that is stuck."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from dispatcher.service.loop import CycleLoop

LONG = timedelta(hours=1)


class Scripted:
    """Cycles that do what a test says, and an event for each that has ended."""

    def __init__(self, act: Callable[[int], timedelta]) -> None:
        self._act = act
        self.count = 0
        self.changed = asyncio.Condition()

    async def cycle(self) -> timedelta:
        async with self.changed:
            self.count += 1
            self.changed.notify_all()
        return self._act(self.count)

    def status(self) -> dict[str, Any]:
        return {}

    async def reached(self, count: int) -> None:
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(lambda: self.count >= count)


def a_loop(cycles: Any, **changed: Any) -> CycleLoop:
    options: dict[str, Any] = {"pause_min": timedelta(milliseconds=1), "stuck_after": timedelta(seconds=5), **changed}
    return CycleLoop(cycles, **options)


async def test_a_bell_ends_the_sleep_and_stop_ends_the_loop() -> None:
    cycles = Scripted(lambda _: LONG)
    loop = a_loop(cycles)
    task = asyncio.create_task(loop.run())
    await cycles.reached(1)
    loop.ring()
    await cycles.reached(2)
    loop.stop()
    async with asyncio.timeout(5):
        await task
    assert loop.completed == 2
    assert loop.seconds_last is not None


async def test_a_bell_that_rings_during_a_cycle_is_not_lost() -> None:
    def ring_in_the_first(count: int) -> timedelta:
        if count == 1:
            loop.ring()
        return LONG

    cycles = Scripted(ring_in_the_first)
    loop = a_loop(cycles)
    task = asyncio.create_task(loop.run())
    await cycles.reached(2)
    loop.stop()
    await task


async def test_a_cycle_that_wants_the_next_at_once_gets_it_after_the_shortest_pause() -> None:
    cycles = Scripted(lambda _: timedelta(0))
    loop = a_loop(cycles)
    task = asyncio.create_task(loop.run())
    await cycles.reached(20)
    loop.stop()
    await task


async def test_a_cycle_that_breaks_is_a_fault_until_one_works_and_stops_nothing() -> None:
    def break_once(count: int) -> timedelta:
        if count == 1:
            raise ZeroDivisionError("of course")
        return LONG

    cycles = Scripted(break_once)
    loop = a_loop(cycles)
    task = asyncio.create_task(loop.run())
    await cycles.reached(1)
    await asyncio.sleep(0)
    assert loop.faults() == ("the last cycle broke off (ZeroDivisionError: of course); the log says where",)
    assert loop.stuck() == (), "a restart need not mend that"
    await cycles.reached(2)
    await asyncio.sleep(0)
    assert loop.faults() == ()
    loop.stop()
    await task
    assert loop.completed == 1


async def test_news_does_not_hurry_a_loop_whose_cycles_break() -> None:
    def always_break(_: int) -> timedelta:
        loop.ring()
        raise ZeroDivisionError

    cycles = Scripted(always_break)
    loop = a_loop(cycles)
    task = asyncio.create_task(loop.run())
    await cycles.reached(1)
    for _ in range(50):
        loop.ring()
        await asyncio.sleep(0)
    assert cycles.count == 1
    loop.stop()
    async with asyncio.timeout(5):
        await task


async def test_a_cycle_that_takes_too_long_is_a_fault_while_it_runs() -> None:
    now = [0.0]
    entered, leave = asyncio.Event(), asyncio.Event()

    class Waiting:
        async def cycle(self) -> timedelta:
            entered.set()
            await leave.wait()
            return LONG

        def status(self) -> dict[str, Any]:
            return {}

    loop = a_loop(Waiting(), monotonic=lambda: now[0])
    task = asyncio.create_task(loop.run())
    await entered.wait()
    assert loop.faults() == ()
    now[0] = 6.0
    assert loop.faults()[0].startswith("the present cycle has been running for 6 s")
    leave.set()
    loop.stop()
    await task
    assert loop.faults() == ()
