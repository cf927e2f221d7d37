"""Acts side by side: every one to its end, whatever becomes of the others. And rulings that go together."""

import asyncio
from datetime import timedelta

import pytest

from dispatcher.errors import Deposed, LookFailed
from dispatcher.ports import one_after_another
from dispatcher.service.wiring import all_at_once
from dispatcher.stages.settling import RULE_EVERY, may_wait
from tests.builders import NOW, a_job_seen, a_record, an_attempt


async def test_acts_run_side_by_side_and_their_results_keep_their_order() -> None:
    first_may_end = asyncio.Event()

    async def first() -> int:
        async with asyncio.timeout(30):
            await first_may_end.wait()  # only the second one sets it
        return 1

    async def second() -> int:
        first_may_end.set()
        return 2

    assert await all_at_once([first, second]) == [1, 2]
    assert await one_after_another([second, first]) == [2, 1]


async def test_what_fails_keeps_no_other_act_from_its_end_and_doubt_is_told_before_a_look_that_failed() -> None:
    ended: list[str] = []

    async def unread() -> None:
        raise LookFailed("no answer")

    async def deposed() -> None:
        raise Deposed("another leader has written")

    async def slow() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        ended.append("slow")

    with pytest.raises(Deposed):
        await all_at_once([unread, slow, deposed])
    assert ended == ["slow"]
    with pytest.raises(LookFailed):
        await all_at_once([slow, unread])


@pytest.mark.parametrize(
    ("ago", "ruled", "waits"),
    [
        (None, {0}, False),  # the first ones
        (timedelta(0), {0}, True),
        (timedelta(0), {0, 1}, False),  # the last ones
        (RULE_EVERY, {0}, False),
    ],
)
def test_rulings_wait_for_the_next_ones_only_while_more_are_to_come(
    ago: timedelta | None, ruled: set[int], waits: bool
) -> None:
    attempt = an_attempt(a_record(2), a_job_seen())
    attempt.ruled_at = None if ago is None else NOW - ago
    assert may_wait(attempt, ruled, NOW) is waits
