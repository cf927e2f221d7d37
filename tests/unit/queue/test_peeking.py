"""Finding out where many messages are, with few requests and whatever pages the broker gives."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from azure.servicebus import ServiceBusMessageState
from azure.servicebus.amqp import AmqpMessageBodyType
from azure.servicebus.exceptions import ServiceBusConnectionError, ServiceBusServerBusyError
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.errors import LookFailed
from dispatcher.ports import MessageState
from dispatcher.queue.config import ServiceBusConfig
from dispatcher.queue.links import Pace
from dispatcher.queue.peeking import Peeking, next_page

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Shelf:
    """A link whose receiver peeks at these messages, at most so many at a time, after so many failures."""

    def __init__(self, numbers: set[int], page_max: int, failures: list[Exception] | None = None) -> None:
        self.numbers = sorted(numbers)
        self.page_max = page_max
        self.failures = failures or []
        self.requests: list[tuple[int, int]] = []

    async def run(self, call, seconds: float):
        return await call(self)

    async def peek_messages(self, count: int, sequence_number: int):
        self.requests.append((sequence_number, count))
        if self.failures:
            raise self.failures.pop(0)
        page = [n for n in self.numbers if n >= sequence_number][: min(count, self.page_max)]
        return [
            SimpleNamespace(
                sequence_number=n, message_id=str(n), body=[b""], body_type=AmqpMessageBodyType.DATA,
                enqueued_time_utc=NOON, expires_at_utc=None, content_type=None, application_properties=None,
                delivery_count=0, state=ServiceBusMessageState.DEFERRED,
            )
            for n in page
        ]  # fmt: skip


def peeking(shelf: Shelf, page_max: int = 10) -> Peeking:
    config = ServiceBusConfig(queue="work", connection_string=str, peek_page_max=page_max)
    return Peeking(config, shelf, Pace(None))  # type: ignore[arg-type]


@given(
    st.sets(st.integers(1, 60), max_size=30),
    st.lists(st.integers(1, 60), max_size=20),
    st.integers(1, 12),
    st.integers(1, 12),
)
def test_every_number_is_found_or_proved_absent(
    there: set[int], wanted: list[int], broker_page: int, page: int
) -> None:
    shelf = Shelf(there, broker_page)
    states = asyncio.run(peeking(shelf, page).look_up(wanted))
    assert states == {n: MessageState.DEFERRED if n in there else None for n in wanted}
    assert all(count <= page for _, count in shelf.requests)
    assert len(shelf.requests) <= len(set(wanted)) + len(there)


def test_neighbours_are_looked_up_in_one_request_and_strangers_are_skipped() -> None:
    shelf = Shelf(set(range(1, 2001)), page_max=250)
    states = asyncio.run(peeking(shelf, 250).look_up([*range(10, 110), 1500, 9999]))
    assert shelf.requests == [(10, 100), (1500, 1), (9999, 1)]
    assert states[9999] is None


def test_a_page_reaches_as_far_as_the_last_number_wanted_on_it_and_no_further() -> None:
    assert next_page([5, 7, 30], 0, 10) == (5, 3)
    assert next_page([5, 7, 14, 30], 0, 10) == (5, 10)
    assert next_page([5, 7, 30], 2, 10) == (30, 1)


async def test_a_look_is_repeated_when_the_connection_had_died_and_fails_when_it_stays_dead() -> None:
    shelf = Shelf({1}, 10, [ServiceBusConnectionError(), ServiceBusServerBusyError()])
    assert len(await peeking(shelf).peek(0, 5)) == 1
    assert shelf.requests[0] == (1, 5)
    shelf = Shelf({1}, 10, [ServiceBusConnectionError() for _ in range(9)])
    with pytest.raises(LookFailed, match="peeking from 3 failed"):
        await peeking(shelf).peek(3, 5)
    assert len(shelf.requests) == 3
