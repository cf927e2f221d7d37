"""Time as the API server has it, from the second that each reply names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from math import floor

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.cluster.clock import ServerClock

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class World:
    """A server whose clock is ahead of ours by a fixed span, and a wire that takes its time."""

    def __init__(self, ahead_s: float = 0.0) -> None:
        self.mono = 1000.0
        self.ahead_s = ahead_s
        self.clock = ServerClock(lambda: self.mono, self.host)

    def host(self) -> datetime:
        return START + timedelta(seconds=self.mono - 1000)

    def server(self) -> datetime:
        return self.host() + timedelta(seconds=self.ahead_s)

    def reply(self, there_s: float, back_s: float) -> None:
        sent = self.mono
        self.mono += there_s
        date = format_datetime(datetime.fromtimestamp(floor(self.server().timestamp()), UTC), usegmt=True)
        self.mono += back_s
        self.clock.heard(date, sent, self.mono)

    @property
    def error_s(self) -> float:
        return abs((self.clock.now() - self.server()).total_seconds())


def test_before_any_reply_the_hosts_clock_must_do() -> None:
    world = World(ahead_s=100)
    assert world.clock.now() == world.host()
    assert world.clock.fault() is None


@given(
    ahead_s=st.floats(-10_000, 10_000),
    wire=st.lists(st.tuples(st.floats(0.001, 2), st.floats(0.001, 2), st.floats(0, 3)), min_size=1, max_size=30),
)
def test_it_is_never_further_off_than_half_a_second_and_the_quickest_reply(
    ahead_s: float, wire: list[tuple[float, float, float]]
) -> None:
    world = World(ahead_s)
    quickest = 1e9
    for there, back, pause in wire:
        world.mono += pause
        world.reply(there, back)
        quickest = min(quickest, there + back)
        assert world.error_s <= (1 + quickest) / 2 + 0.1


def test_many_replies_narrow_it_to_less_than_the_second_that_one_names() -> None:
    world = World(ahead_s=1234.567)
    for _ in range(50):
        world.mono += 0.137
        world.reply(0.002, 0.002)
    assert world.error_s < 0.1


def test_time_never_goes_back_by_what_a_later_reply_corrects() -> None:
    world = World(ahead_s=0.9)
    last = world.clock.now()
    world.reply(0.01, 0.01)
    last = world.clock.now()
    for _ in range(50):
        world.mono += 0.05
        world.reply(0.01, 0.01)
        assert world.clock.now() >= last
        last = world.clock.now()


def test_a_server_whose_clock_was_set_is_followed() -> None:
    world = World()
    world.reply(0.01, 0.01)
    world.clock.now()
    for step in (3600.0, -7200.0):
        world.ahead_s += step
        world.reply(0.01, 0.01)
        assert world.error_s <= 0.6


def test_clocks_that_are_far_apart_are_told() -> None:
    world = World(ahead_s=3)
    world.reply(0.01, 0.01)
    assert world.clock.fault() is None
    world = World(ahead_s=-60)
    world.reply(0.01, 0.01)
    assert "60 s ahead of the API server's" in str(world.clock.fault())


def test_a_reply_without_a_date_tells_nothing() -> None:
    world = World(ahead_s=100)
    world.clock.heard(None, 0, 0)
    world.clock.heard("yesterday", 0, 0)
    assert world.clock.now() == world.host()
