"""The typed client on the real SDK and the embedded broker: just what was asked for is sent, every outcome is heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.servicebus import ServiceBusMessage, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient

from dispatcher.client import (
    BurstClient,
    ClientError,
    InvalidWork,
    NotInTime,
    Outcome,
    OutcomeKind,
    RepliesRefused,
    SendFailed,
    Work,
    by_schema,
    by_tasks,
)
from dispatcher.embedded.broker import Broker, BrokerConfig, Fault, QueueConfig
from dispatcher.queue.outcome_events import to_message

NOW = datetime(2026, 3, 4, 9, 20, tzinfo=UTC)
SOON = timedelta(seconds=20)
CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    queues = (
        QueueConfig("work", max_message_size=64 * 1024),
        QueueConfig("outcomes", lock_duration=timedelta(seconds=5)),
    )
    async with Broker(BrokerConfig(queues=queues)) as started:
        yield started


@pytest.fixture
async def client(broker: Broker) -> AsyncIterator[BurstClient]:
    async with BurstClient.from_connection_string(broker.connection_string, reply_to="outcomes") as made:
        yield made


async def on_queue(broker: Broker, queue: str = "work", *, dead: bool = False) -> list[Any]:
    kind = {"sub_queue": ServiceBusSubQueue.DEAD_LETTER} if dead else {}
    async with (
        ServiceBusClient.from_connection_string(broker.connection_string) as sdk,
        sdk.get_queue_receiver(queue, **kind) as receiver,
    ):
        found: list[Any] = []
        position = 1
        while page := await receiver.peek_messages(250, sequence_number=position):
            found += page
            position = page[-1].sequence_number + 1
        return found


def an_outcome(message_id: str, number: int = 1, **changes: Any) -> Outcome:
    outcome = Outcome("outcomes", OutcomeKind.DONE, "work", number, message_id, "report", "acme", NOW, NOW, 1)
    return replace(outcome, **changes)


async def tell(broker: Broker, outcomes: Iterable[Outcome | ServiceBusMessage]) -> None:
    """As the dispatcher does."""
    async with (
        ServiceBusClient.from_connection_string(broker.connection_string) as sdk,
        sdk.get_queue_sender("outcomes") as sender,
    ):
        for each in outcomes:
            await sender.send_messages(to_message(each) if isinstance(each, Outcome) else each)


async def until_empty(broker: Broker, queue: str) -> None:
    async with asyncio.timeout(20):
        while counts := broker.counts(queue):
            if counts.active + counts.locked == 0:
                return
            await asyncio.sleep(0.05)


# --- sending --------------------------------------------------------------------------------------------------------


async def test_fifty_tasks_that_send_at_once_send_exactly_fifty(broker: Broker, client: BurstClient) -> None:
    ids = await asyncio.gather(*(client.send("report", {"n": n}, message_id=f"m-{n}") for n in range(50)))
    assert ids == [f"m-{n}" for n in range(50)]
    assert sorted(message.message_id for message in await on_queue(broker)) == sorted(ids)


async def test_many_are_sent_in_order_over_several_batches_and_told_as_they_go(
    broker: Broker, client: BurstClient
) -> None:
    told: list[int] = []
    works = (Work("report", {"text": "x" * 400}, message_id=f"m-{n}") for n in range(1300))
    ids = await client.send_many(works, sent=told.append)
    assert [message.message_id for message in await on_queue(broker)] == ids
    assert sum(told) == 1300
    assert len(told) > 1


async def test_a_message_says_what_was_asked_for(broker: Broker, client: BurstClient) -> None:
    due = datetime.now(UTC) + timedelta(hours=1)
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    sent = await client.send("report", {"a": "é"}, tenant="acme", priority=2, at=due, traceparent=trace)
    [message] = await on_queue(broker)
    assert b"".join(message.body).decode() == (
        '{"task":"report","tenant":"acme","params":{"a":"é"},"priority":2,"reply_to":"outcomes"}'
    )
    assert (message.message_id, message.content_type) == (sent, "application/json")
    assert abs(message.scheduled_enqueue_time_utc - due) < timedelta(milliseconds=2)
    assert message.application_properties == {b"traceparent": trace.encode()}
    await client.send("report", reply=False, message_id="quiet")
    [quiet] = [each for each in await on_queue(broker) if each.message_id == "quiet"]
    assert b"reply_to" not in b"".join(quiet.body)


async def test_a_client_without_a_reply_queue_asks_for_nothing(broker: Broker) -> None:
    async with BurstClient.from_connection_string(broker.connection_string) as silent:
        await silent.send("report")
        with pytest.raises(InvalidWork, match="reply_to"):
            await silent.send("report", reply=True)
        with pytest.raises(ClientError, match="no reply queue"):
            await silent.wait(["m"], SOON)
    assert [b"".join(message.body) for message in await on_queue(broker)] == [b'{"task":"report","params":{}}']


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (Work("report", {"n": float("nan")}), "bad_json"),
        (Work("report", {"n": {1}}), "bad_json"),
        (Work("report", message_id=""), "bad_message"),
        (Work("report", message_id="m" * 129), "bad_message"),
        (Work("report", at=datetime(2026, 3, 1)), "bad_message"),  # noqa: DTZ001 - that is the mistake
    ],
)
async def test_what_no_message_can_hold_is_refused_and_nothing_is_sent(
    broker: Broker, client: BurstClient, work: Work, reason: str
) -> None:
    with pytest.raises(InvalidWork) as caught:
        await client.send_many([Work("report"), work])
    assert (caught.value.reason, caught.value.position) == (reason, 1)
    assert await on_queue(broker) == []


async def test_by_the_tasks_file_work_is_judged_as_the_dispatcher_would(broker: Broker) -> None:
    check = by_tasks(CHECKOUT / "config" / "tasks.yaml", reply_to="outcomes")
    secret = broker.connection_string
    async with BurstClient.from_connection_string(secret, reply_to="outcomes", check=check) as checked:
        await checked.send("report", {"country": "Kenya"}, tenant="acme")
        with pytest.raises(InvalidWork, match="Did you mean 'report'") as caught:
            await checked.send("reprot")
        assert caught.value.reason == "unknown_task"
        with pytest.raises(InvalidWork, match=r"params: 'country' is a required property. \(bad_params\)"):
            await checked.send("report", {})
    assert len(await on_queue(broker)) == 1


async def test_by_the_published_schema_work_is_judged_too(broker: Broker) -> None:
    schema = {"properties": {"params": {"required": ["country"]}}}
    async with BurstClient.from_connection_string(broker.connection_string, check=by_schema(schema)) as checked:
        await checked.send("report", {"country": "Kenya"})
        with pytest.raises(InvalidWork, match="params: 'country' is a required property"):
            await checked.send("report")


async def test_one_message_that_is_too_large_fails_alone(broker: Broker, client: BurstClient) -> None:
    asked = [client.send("report", {"n": n}) for n in range(5)]
    asked.insert(2, client.send("report", {"text": "x" * 100_000}, message_id="large"))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers] == [str, str, InvalidWork, str, str, str]
    assert "large" in str(answers[2])
    assert len(await on_queue(broker)) == 5


async def test_a_queue_that_is_not_there_refuses_and_says_so(broker: Broker) -> None:
    async with BurstClient.from_connection_string(broker.connection_string, queue="wrok") as lost:
        with pytest.raises(SendFailed, match="no such queue") as caught:
            await lost.send("report", message_id="m")
    assert (caught.value.sent, caught.value.unsent, caught.value.refused) == ((), ("m",), True)


async def test_a_full_queue_refuses_and_takes_work_again_when_there_is_room(
    broker: Broker, client: BurstClient
) -> None:
    broker.faults.arm(Fault.FILL_QUOTA, queue="work")
    with pytest.raises(SendFailed) as caught:
        await client.send("report", message_id="m")
    assert caught.value.refused
    broker.faults.disarm()
    await client.send("report", message_id="m")
    assert [message.message_id for message in await on_queue(broker)] == ["m"]


async def test_a_connection_that_died_while_nothing_was_sent_is_not_noticed(
    broker: Broker, client: BurstClient
) -> None:
    await client.send("report", message_id="first")
    broker.faults.strike(Fault.RESET_CONNECTIONS)
    await client.send("report", message_id="second")
    assert [message.message_id for message in await on_queue(broker)] == ["first", "second"]


async def test_who_is_cancelled_leaves_the_others_alone_and_what_was_not_begun_is_not_sent(
    broker: Broker, client: BurstClient
) -> None:
    tasks = [asyncio.create_task(client.send("report", message_id=f"m-{n}")) for n in range(20)]
    await asyncio.sleep(0)  # handed over, and nothing begun
    for task in tasks[::2]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    sent = [answer for answer in answers if isinstance(answer, str)]
    assert sent == [f"m-{n}" for n in range(1, 20, 2)]
    assert [message.message_id for message in await on_queue(broker)] == sent


async def test_closing_sends_what_was_handed_over_and_no_more(broker: Broker) -> None:
    client = BurstClient.from_connection_string(broker.connection_string)
    sending = [asyncio.create_task(client.send("report", message_id=f"m-{n}")) for n in range(3)]
    await asyncio.sleep(0)
    await client.close()
    assert await asyncio.gather(*sending) == ["m-0", "m-1", "m-2"]
    with pytest.raises(ClientError, match="closed"):
        await client.send("report")
    assert len(await on_queue(broker)) == 3


# --- outcomes -------------------------------------------------------------------------------------------------------


async def test_waiting_gives_the_outcomes_of_just_these_and_takes_them_off_the_queue(
    broker: Broker, client: BurstClient
) -> None:
    told = [an_outcome(f"m-{n}", n) for n in range(1, 301)]
    waiting = asyncio.create_task(client.wait([each.message_id for each in told], SOON))
    await tell(broker, told)
    assert await waiting == {each.message_id: each for each in told}
    await client.close()
    assert broker.counts("outcomes").active == 0


async def test_what_came_before_anybody_waited_is_there_when_somebody_does(broker: Broker, client: BurstClient) -> None:
    await tell(broker, [an_outcome("early"), an_outcome("late", 2)])
    assert set(await client.wait(["late"], SOON)) == {"late"}
    assert set(await client.wait(["early", "late"], SOON)) == {"early", "late"}


async def test_many_tasks_wait_at_once_each_for_its_own(broker: Broker, client: BurstClient) -> None:
    waiting = [asyncio.create_task(client.wait([f"m-{n}", "shared"], SOON)) for n in range(10)]
    await tell(broker, [an_outcome("shared", 99), *(an_outcome(f"m-{n}", n) for n in range(10))])
    for n, found in enumerate(await asyncio.gather(*waiting)):
        assert set(found) == {f"m-{n}", "shared"}


async def test_an_outcome_that_is_told_again_is_heard_once(broker: Broker, client: BurstClient) -> None:
    heard: list[str] = []

    async def read() -> None:
        async with aclosing(client.outcomes()) as outcomes:
            async for outcome in outcomes:
                heard.append(outcome.message_id)  # noqa: PERF401 - one by one is the point

    reading = asyncio.create_task(read())
    await tell(broker, [an_outcome("a"), an_outcome("a"), an_outcome("b", 2)])
    await until_empty(broker, "outcomes")
    await tell(broker, [an_outcome("a"), an_outcome("c", 3)])
    await until_empty(broker, "outcomes")
    reading.cancel()
    await asyncio.wait({reading})
    assert heard == ["a", "b", "c"]


async def test_not_in_time_says_what_came_and_what_did_not(broker: Broker, client: BurstClient) -> None:
    await tell(broker, [an_outcome("here")])
    with pytest.raises(NotInTime, match="1 of 2 outcomes have not come yet: nowhere") as caught:
        await client.wait(["here", "nowhere"], timedelta(seconds=2))
    assert caught.value.outcomes == {"here": an_outcome("here")}
    assert caught.value.missing == ("nowhere",)
    await tell(broker, [an_outcome("nowhere", 2)])
    assert set(await client.wait(["nowhere"], SOON)) == {"nowhere"}


async def test_a_message_id_that_is_sent_again_waits_for_its_own_outcome(broker: Broker, client: BurstClient) -> None:
    await tell(broker, [an_outcome("m", 1)])
    await client.wait(["m"], SOON)
    await client.send("report", message_id="m")
    await tell(broker, [an_outcome("m", 2)])
    assert (await client.wait(["m"], SOON))["m"].sequence_number == 2


async def test_what_a_reader_was_busy_with_when_it_left_is_told_again(broker: Broker) -> None:
    await tell(broker, [an_outcome(name, number) for number, name in enumerate("abc")])
    async with (
        BurstClient.from_connection_string(broker.connection_string, reply_to="outcomes") as first,
        aclosing(first.outcomes()) as outcomes,
    ):
        assert (await anext(outcomes)).message_id == "a"
        assert (await anext(outcomes)).message_id == "b"
    async with BurstClient.from_connection_string(broker.connection_string, reply_to="outcomes") as second:
        assert set(await second.wait(["b", "c"], SOON)) == {"b", "c"}
    assert broker.counts("outcomes").active == 0


async def test_there_is_one_reader_and_those_that_wait_come_first(broker: Broker, client: BurstClient) -> None:
    async with aclosing(client.outcomes()) as outcomes:
        reading = asyncio.ensure_future(anext(outcomes))
        waiting = asyncio.create_task(client.wait(["mine"], SOON))
        await asyncio.sleep(0)
        with pytest.raises(ClientError, match="one reader"):
            await anext(client.outcomes())
        await tell(broker, [an_outcome("mine"), an_outcome("other", 2)])
        assert (await reading).message_id == "other"
        assert set(await waiting) == {"mine"}


async def test_what_is_no_outcome_is_dead_lettered_and_stops_nobody(broker: Broker, client: BurstClient) -> None:
    await tell(broker, [ServiceBusMessage(b"hello", message_id="stray"), an_outcome("m")])
    assert set(await client.wait(["m"], SOON)) == {"m"}
    [stray] = await on_queue(broker, "outcomes", dead=True)
    assert (stray.message_id, stray.dead_letter_reason) == ("stray", "not_an_outcome")


async def test_a_reply_queue_that_is_not_there_is_told_at_once_to_whoever_waits(broker: Broker) -> None:
    async with BurstClient.from_connection_string(broker.connection_string, reply_to="answers") as lost:
        with pytest.raises(RepliesRefused, match="answers: there is no such queue"):
            await lost.wait(["m"], SOON)
        with pytest.raises(RepliesRefused):
            await anext(lost.outcomes())


async def test_outcomes_are_heard_through_connections_that_break(broker: Broker, client: BurstClient) -> None:
    waiting = asyncio.create_task(client.wait([f"m-{n}" for n in range(60)], timedelta(seconds=60)))
    for first in (0, 20, 40):
        await tell(broker, [an_outcome(f"m-{n}", n) for n in range(first, first + 20)])
        broker.faults.strike(Fault.RESET_CONNECTIONS)
    assert len(await waiting) == 60


async def test_closing_tells_whoever_waits(broker: Broker, client: BurstClient) -> None:
    waiting = asyncio.create_task(client.wait(["m"], SOON))
    await asyncio.sleep(0.2)
    await client.close()
    with pytest.raises(ClientError, match="closed"):
        await waiting
