"""Replaying, purging and releasing with the real SDK and the embedded broker, which detects duplicates: what a copy
keeps, what an interruption at each step leaves behind, and that what was not meant stays as it was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import aclosing, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.servicebus import ServiceBusMessage, ServiceBusMessageState, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.amqp import AmqpAnnotatedMessage, AmqpMessageHeader, AmqpMessageProperties
from dead_letter_kit import a_broker, bury, deferred, on_queue, properties_of, some
from queue_wire import a_wire, through

from dispatcher.core.work import ItemId
from dispatcher.dead_letters import Letter, Selection, find
from dispatcher.dead_letters.acting import Result, purge, replay
from dispatcher.errors import Deposed, LookFailed, OutcomeUnknown
from dispatcher.ports import Answer
from dispatcher.queue.backlog import DeferredBacklog
from dispatcher.queue.config import ServiceBusConfig
from dispatcher.queue.dead_letters import DeadLetterQueue, OutOfReach, TakenLetter
from dispatcher.queue.moving import Became
from dispatcher.queue.resending import CopySender
from dispatcher.releasing import Deferred, Released, look, release

pytestmark = pytest.mark.timeout(120)

Watched = Callable[[str], None]


class Broken(Exception):
    """The process ends here."""


def config(connection: str, **changes: Any) -> ServiceBusConfig:
    return ServiceBusConfig(queue="work", connection_string=lambda: connection, **changes)


def utc_now() -> datetime:
    return datetime.now(UTC)


async def letters_of(queue: DeadLetterQueue, selection: Selection | None = None) -> list[Letter]:
    return (await find([(queue, None)], selection or Selection(), utc_now(), limit=100_000)).letters


async def replayed(
    connection: str,
    selection: Selection | None = None,
    *,
    sender: Any = None,
    queue: Any = None,
    per_second: int = 1000,
    stopped: Callable[[], bool] = lambda: False,
    **changes: Any,
) -> list[Result]:
    results: list[Result] = []
    async with (
        DeadLetterQueue(config(connection, **changes)) as plain_queue,
        CopySender(config(connection, **changes)) as plain_sender,
    ):
        letters = await letters_of(plain_queue, selection)
        await replay(
            queue(plain_queue) if queue else plain_queue,
            sender(plain_sender) if sender else plain_sender,
            letters,
            per_second=per_second,
            turn=nullcontext,
            now=utc_now,
            tell=results.append,
            stopped=stopped,
        )
    return results


def became(results: Sequence[Any]) -> dict[str, str]:
    return {result.letter.original_id: result.became.value for result in results}


class BreakingSender:
    """Ends the process before or after the send of one message."""

    def __init__(self, inner: CopySender, *, before: bool, count: int) -> None:
        self._inner, self._before, self._left = inner, before, count

    async def send(self, copy: AmqpAnnotatedMessage) -> Answer:
        self._left -= 1
        if self._before and self._left == 0:
            raise Broken
        answer = await self._inner.send(copy)
        if self._left == 0:
            raise Broken
        return answer


# --- what a copy keeps ----------------------------------------------------------------------------------------------


def a_rich_message() -> AmqpAnnotatedMessage:
    return AmqpAnnotatedMessage(
        data_body=[b'{"task":"report","tenant":"acme",', b'"params":{}}'],
        header=AmqpMessageHeader(time_to_live=3_600_000, priority=7, durable=True),
        properties=AmqpMessageProperties(
            message_id="order-17", subject="a subject", correlation_id="c-1", content_type="application/json",
            reply_to="answers", to="somewhere",
        ),
        application_properties={
            "text": "caf\u00e9", "number": 7, "large": {"TYPE": "LONG", "VALUE": 2**40}, "yes": True, "half": 0.5,
            "raw": bytearray(b"\xff\x00"), "nothing": None,
        },
        annotations={"x-mine": "kept"},
    )  # fmt: skip


async def test_a_copy_is_the_message_that_was_sent_under_a_new_id_with_its_past_beside_it() -> None:
    async with a_broker() as broker:
        connection = broker.connection_string
        await bury(connection, [a_rich_message()], "bad_params")
        (before,) = await on_queue(connection, dead=True)
        (result,) = await replayed(connection)
        assert (result.became, result.letter.message_id) == (Became.REPLAYED, "order-17")
        assert await on_queue(connection, dead=True) == []
        (copy,) = await on_queue(connection)
    assert copy.message_id == result.new_message_id != "order-17"
    assert list(copy.body) == [b'{"task":"report","tenant":"acme",', b'"params":{}}']
    assert (copy.content_type, copy.subject, copy.correlation_id) == ("application/json", "a subject", "c-1")
    assert (copy.reply_to, copy.to, copy.time_to_live) == ("answers", "somewhere", timedelta(hours=1))
    assert copy.raw_amqp_message.header is not None
    assert copy.raw_amqp_message.header.priority == 7
    assert (copy.raw_amqp_message.annotations or {})[b"x-mine"] == b"kept"
    properties = properties_of(copy)
    history = json.loads(properties.pop("replay_history"))
    assert properties == {
        "text": "caf\u00e9", "number": 7, "large": 2**40, "yes": True, "half": 0.5, "raw": b"\xff\x00",
        "nothing": None, "original_message_id": "order-17", "replay_count": 1, "replay_reason": "bad_params",
        "original_enqueued_at": before.enqueued_time_utc.isoformat(timespec="microseconds").replace("+00:00", "Z"),
    }  # fmt: skip
    assert [(each["reason"], each["dead_letter"], each["message_id"]) for each in history] == [
        ("bad_params", before.sequence_number, "order-17")
    ]


@pytest.mark.parametrize(
    "body",
    [
        {"value_body": "text"},
        {"value_body": {"a": [1, {"TYPE": "LONG", "VALUE": 2**40}]}},
        {"sequence_body": [["x", 1], ["y"]]},
        {"data_body": b""},
    ],
)
async def test_a_body_of_any_kind_comes_back_as_it_was(body: dict[str, Any]) -> None:
    async with a_broker() as broker:
        connection = broker.connection_string
        client = ServiceBusClient.from_connection_string(connection)
        await bury(connection, [ServiceBusMessage("{}", message_id="plain"), AmqpAnnotatedMessage(**body)], "bad_json")
        first = [each.raw_amqp_message for each in await on_queue(connection, dead=True)]
        assert {result.became for result in await replayed(connection)} == {Became.REPLAYED}
        async with client:
            second = [each.raw_amqp_message for each in await on_queue(connection)]
    for before, after in zip(first, second, strict=True):
        assert after.body_type == before.body_type
        shown = [list(each.body) if each.body_type.value != "value" else each.body for each in (before, after)]
        assert shown[0] == shown[1]


async def test_a_message_that_comes_back_again_keeps_its_first_id_and_grows_its_history() -> None:
    async with a_broker() as broker:
        connection = broker.connection_string
        await bury(connection, some(1), "first")
        for reason in ("second", "third"):
            assert [result.became for result in await replayed(connection)] == [Became.REPLAYED]
            await _bury_what_is_there(connection, reason)
        (letter,) = await on_queue(connection, dead=True)
        async with DeadLetterQueue(config(connection)) as queue:
            (known,) = await letters_of(queue, Selection(ids=frozenset({"report-acme-0"})))
    properties = properties_of(letter)
    assert letter.message_id != "report-acme-0"
    assert properties["original_message_id"] == "report-acme-0"
    assert (properties["replay_count"], properties["replay_reason"]) == (2, "second")
    assert [each["reason"] for each in json.loads(properties["replay_history"])] == ["first", "second"]
    assert (known.original_id, known.replays, known.reason) == ("report-acme-0", 2, "third")


async def _bury_what_is_there(connection: str, reason: str) -> None:
    client = ServiceBusClient.from_connection_string(connection)
    async with client, client.get_queue_receiver("work") as receiver:
        for each in await receiver.receive_messages(max_message_count=10, max_wait_time=5):
            await receiver.dead_letter_message(each, reason=reason)


async def test_a_message_that_is_too_large_with_its_past_stays_where_it_is() -> None:
    async with a_broker(max_message_size=2048) as broker:
        connection = broker.connection_string
        body = json.dumps({"task": "report", "params": {"text": "x" * 1880}})
        await bury(connection, [ServiceBusMessage(body, message_id="large"), *some(1)], "x")
        assert became(await replayed(connection)) == {"large": "too_large", "report-acme-0": "replayed"}
        assert [each.message_id for each in await on_queue(connection, dead=True)] == ["large"]


# --- what is meant, and what is not ---------------------------------------------------------------------------------


async def test_only_what_is_meant_moves_and_what_stands_before_it_is_untouched_and_free_at_once() -> None:
    async with a_broker() as broker:
        connection = broker.connection_string
        await bury(connection, some(60) + some(5, "thumbnail") + some(20, start=60), "x")
        results = await replayed(connection, Selection(tasks=frozenset({"thumbnail"})))
        assert set(became(results).values()) == {"replayed"}
        left = await on_queue(connection, dead=True)
        assert [each.message_id for each in left] == [f"report-acme-{n}" for n in range(80)]
        assert {each.delivery_count for each in left} == {0}
        client = ServiceBusClient.from_connection_string(connection)
        async with client, client.get_queue_receiver("work", sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
            got: list[Any] = []
            while len(got) < 80:  # no lock is left on any of them
                page = await receiver.receive_messages(max_message_count=80, max_wait_time=5)
                assert page, f"only {len(got)} of 80 could be had"
                got += page


async def test_a_letter_that_was_deferred_among_the_dead_is_found_by_its_number() -> None:
    async with a_broker() as broker:
        connection = broker.connection_string
        await bury(connection, some(3), "x")
        await deferred(connection, [], dead=True)
        await bury(connection, some(2, "thumbnail"), "x")
        assert sorted(became(await replayed(connection)).values()) == ["replayed"] * 5
        assert await on_queue(connection, dead=True) == []
        assert len(await on_queue(connection)) == 5


async def test_what_another_receiver_holds_is_told_and_left() -> None:
    async with a_broker() as broker:
        connection = broker.connection_string
        await bury(connection, some(3), "x")
        client = ServiceBusClient.from_connection_string(connection)
        async with client, client.get_queue_receiver("work", sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
            assert len(await receiver.receive_messages(max_message_count=1, max_wait_time=5)) == 1
            results = await replayed(connection)
        assert sorted(became(results).values()) == ["locked", "replayed", "replayed"]
        assert len(await on_queue(connection, dead=True)) == 1


async def test_what_somebody_has_removed_meanwhile_is_gone_and_that_is_well() -> None:
    async with a_broker() as broker:
        connection = broker.connection_string
        await bury(connection, some(2), "x")
        async with DeadLetterQueue(config(connection)) as queue, CopySender(config(connection)) as sender:
            letters = await letters_of(queue)
            await replayed(connection)
            results: list[Result] = []
            await replay(
                queue, sender, letters, per_second=9, turn=nullcontext, now=utc_now, tell=results.append,
                stopped=lambda: False,
            )  # fmt: skip
        assert [(result.became, result.became.is_well) for result in results] == [(Became.GONE, True)] * 2
        assert len(await on_queue(connection)) == 2


async def test_what_takes_longer_than_half_a_lock_goes_on_in_another_round() -> None:
    async with a_broker(lock_seconds=6) as broker:
        connection = broker.connection_string
        await bury(connection, some(12) + some(12, "thumbnail"), "x")
        rounds = 0

        async with DeadLetterQueue(config(connection, lock_margin=timedelta(seconds=1))) as queue:
            numbers = [
                each.sequence_number for each in await letters_of(queue, Selection(tasks=frozenset({"thumbnail"})))
            ]
            taken: list[int] = []
            async with aclosing(queue.take(numbers, at_once=6)) as taking:
                async for group in taking:
                    rounds += 1
                    await asyncio.sleep(3.2)  # longer than half of a lock: this round is over
                    for each in group:
                        assert queue.has_time(each)
                        assert await queue.remove(each) is Answer.DONE
                        taken.append(each.dead.message.sequence_number)
        assert sorted(taken) == sorted(numbers)
        assert rounds >= 2
        left = await on_queue(connection, dead=True)
        assert len(left) == 12
        assert {each.delivery_count for each in left} == {0}


async def test_what_cannot_be_reached_within_half_a_lock_is_said_and_nothing_is_harmed() -> None:
    async with a_broker(lock_seconds=60) as broker:
        connection = broker.connection_string
        await bury(connection, some(40), "x")
        async with DeadLetterQueue(config(connection)) as queue:
            numbers = [letter.sequence_number for letter in await letters_of(queue)]

            def hurried() -> datetime:  # for which a lock is over as soon as it is there
                return utc_now() + timedelta(seconds=61)

            async with DeadLetterQueue(config(connection), now=hurried) as slow:
                with pytest.raises(OutOfReach, match="replay or purge those first"):
                    await anext(slow.take(numbers[-1:], at_once=10))
        left = await on_queue(connection, dead=True)
        assert (len(left), {each.delivery_count for each in left}) == (40, {0})


# --- interruptions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [True, False], ids=["before the send", "between send and removal"])
async def test_a_replay_that_breaks_off_and_is_done_again_leaves_one_copy_of_each(before: bool) -> None:
    async with a_broker() as broker:
        connection = broker.connection_string
        await bury(connection, some(5), "x")
        with pytest.raises(Broken):
            await replayed(connection, sender=lambda inner: BreakingSender(inner, before=before, count=3))
        dead, alive = await on_queue(connection, dead=True), await on_queue(connection)
        assert (
            len({properties_of(each)["original_message_id"] for each in alive} | {each.message_id for each in dead})
            == 5
        )
        assert (len(dead), len(alive)) == (3, 2 if before else 3)
        assert {each.delivery_count for each in dead} == {0}
        results = await replayed(connection)
        assert [result.became for result in results] == [Became.REPLAYED] * 3
        assert await on_queue(connection, dead=True) == []
        alive = await on_queue(connection)
        assert sorted(properties_of(each)["original_message_id"] for each in alive) == [
            f"report-acme-{n}" for n in range(5)
        ]
        assert {each.state for each in alive} == {ServiceBusMessageState.ACTIVE}


async def test_a_replay_that_is_cancelled_lets_go_of_everything_at_once() -> None:
    async with a_broker() as broker:
        connection = broker.connection_string
        await bury(connection, some(30), "x")
        reached = asyncio.Event()

        class Waiting(BreakingSender):
            async def send(self, copy: AmqpAnnotatedMessage) -> Answer:
                reached.set()
                await asyncio.Event().wait()
                return Answer.DONE

        work = asyncio.ensure_future(replayed(connection, sender=lambda inner: Waiting(inner, before=True, count=1)))
        async with asyncio.timeout(30):
            await reached.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert [result.became for result in await replayed(connection)] == [Became.REPLAYED] * 30
        assert len(await on_queue(connection)) == 30


async def test_asked_to_stop_it_ends_after_the_message_at_hand() -> None:
    async with a_broker() as broker:
        connection = broker.connection_string
        await bury(connection, some(10), "x")
        asked = iter([False, False, False, True])
        results = await replayed(connection, stopped=lambda: next(asked))
        assert [result.became for result in results] == [Became.REPLAYED] * 3
        dead = await on_queue(connection, dead=True)
        assert (len(dead), {each.delivery_count for each in dead}) == (7, {0})


@pytest.mark.parametrize("moment", ["sending", "removing"])
async def test_a_connection_that_is_cut_loses_nothing_and_doubles_nothing(moment: str) -> None:
    async with a_broker() as broker, a_wire(broker.port) as wire:
        connection = broker.connection_string
        await bury(connection, some(6), "x")
        calls = 0

        class CutSender(BreakingSender):
            async def send(self, copy: AmqpAnnotatedMessage) -> Answer:
                nonlocal calls
                calls += 1
                if moment == "sending" and calls == 3:
                    wire.cut()
                answer = await self._inner.send(copy)
                if moment == "removing" and calls == 3:
                    wire.cut()
                return answer

        results = await replayed(
            through(wire, connection), sender=lambda inner: CutSender(inner, before=False, count=-1),
            operation_timeout_seconds=20.0, close_timeout_seconds=0.5,
        )  # fmt: skip
        assert [result.became for result in results] == [Became.REPLAYED] * 6
        assert await on_queue(connection, dead=True) == []
        alive = await on_queue(connection)
        assert sorted(properties_of(each)["original_message_id"] for each in alive) == [
            f"report-acme-{n}" for n in range(6)
        ]


async def test_a_broker_that_falls_silent_ends_the_replay_in_bounded_time_and_nothing_is_lost() -> None:
    async with a_broker() as broker, a_wire(broker.port) as wire:
        connection = broker.connection_string
        await bury(connection, some(6), "x")

        class Silencing(BreakingSender):
            async def send(self, copy: AmqpAnnotatedMessage) -> Answer:
                self._left -= 1
                if self._left == 0:
                    wire.silence()
                return await self._inner.send(copy)

        async with asyncio.timeout(60):
            with pytest.raises((OutcomeUnknown, LookFailed)):
                await replayed(
                    through(wire, connection), sender=lambda inner: Silencing(inner, before=False, count=3),
                    operation_timeout_seconds=3.0, close_timeout_seconds=0.5,
                )  # fmt: skip
        wire.speak()
        dead = {each.message_id for each in await on_queue(connection, dead=True)}
        alive = [properties_of(each)["original_message_id"] for each in await on_queue(connection)]
        assert dead | set(alive) == {f"report-acme-{n}" for n in range(6)}
        assert len(alive) == len(set(alive))


# --- purging --------------------------------------------------------------------------------------------------------


async def test_a_purge_that_cannot_save_removes_nothing_more() -> None:
    async with a_broker() as broker:
        connection = broker.connection_string
        await bury(connection, some(4), "x")
        saved: list[str] = []

        def save(taken: TakenLetter, letter: Letter) -> None:
            if len(saved) == 2:
                raise OSError("no space left")
            saved.append(letter.message_id)

        results: list[Result] = []
        async with DeadLetterQueue(config(connection)) as queue:
            letters = await letters_of(queue)
            with pytest.raises(OSError, match="no space"):
                await purge(
                    queue, letters, save=save, tell=results.append, stopped=lambda: False, turn=nullcontext
                )  # fmt: skip
        assert [result.became for result in results] == [Became.PURGED] * 2
        left = {each.message_id for each in await on_queue(connection, dead=True)}
        assert left == {f"report-acme-{n}" for n in range(4)} - set(saved)


# --- releasing ------------------------------------------------------------------------------------------------------


class Leads:
    """A lease that is lost after so many asks."""

    def __init__(self, asks: int = 1000) -> None:
        self._left = asks

    async def acquire(self) -> bool:
        self._left -= 1
        return self._left >= 0

    async def release(self) -> None:
        pass


async def released(
    connection: str,
    claimed: dict[ItemId, str] | None = None,
    *,
    sender: Any = None,
    lease: Any = None,
    stopped: Callable[[], bool] = lambda: False,
    lock_margin_seconds: float = 10,
) -> list[Released]:
    results: list[Released] = []
    where = config(connection, lock_margin=timedelta(seconds=lock_margin_seconds))
    async with DeferredBacklog(where) as backlog, CopySender(where) as plain:
        found = await look(backlog, claimed or {})
        await release(
            backlog, sender(plain) if sender else plain, found.free,
            lease=lease, tell=results.append, stopped=stopped,
        )  # fmt: skip
    return results


async def test_deferred_backlog_becomes_ordinary_messages_and_what_is_in_flight_stays() -> None:
    async with a_broker() as broker:
        connection = broker.connection_string
        numbers = await deferred(connection, some(120))
        claimed = {ItemId("work", number): "burst-a-1" for number in numbers[:7]}
        results = await released(connection, claimed, lease=Leads())
        assert [result.became for result in results] == [Became.RELEASED] * 113
        there = await on_queue(connection)
        assert len(there) == 120
        still = {each.sequence_number for each in there if each.state == ServiceBusMessageState.DEFERRED}
        assert still == set(numbers[:7])
        active = [each for each in there if each.state == ServiceBusMessageState.ACTIVE]
        assert {properties_of(each)["original_message_id"] for each in active} == {
            f"report-acme-{n}" for n in range(7, 120)
        }
        assert {"replay_count", "replay_history"}.isdisjoint(properties_of(active[0]))


@pytest.mark.parametrize("before", [True, False], ids=["before the send", "between send and removal"])
async def test_a_release_that_breaks_off_and_is_done_again_leaves_one_of_each(before: bool) -> None:
    async with a_broker(lock_seconds=8) as broker:
        connection = broker.connection_string
        await deferred(connection, some(6))
        breaking = {"sender": lambda inner: BreakingSender(inner, before=before, count=3), "lock_margin_seconds": 1}
        with pytest.raises(Broken):
            await released(connection, **breaking)
        there = await on_queue(connection)
        assert {properties_of(each).get("original_message_id") or each.message_id for each in there} == {
            f"report-acme-{n}" for n in range(6)
        }
        async with asyncio.timeout(60):
            # What was under lock becomes free by itself: until then it is told as locked.
            while not all(
                result.became is Became.RELEASED for result in await released(connection, lock_margin_seconds=1)
            ):
                continue
        there = await on_queue(connection)
        assert {each.state for each in there} == {ServiceBusMessageState.ACTIVE}
        assert sorted(properties_of(each)["original_message_id"] for each in there) == [
            f"report-acme-{n}" for n in range(6)
        ]


async def test_a_release_ends_when_a_dispatcher_takes_the_lease() -> None:
    async with a_broker() as broker:
        connection = broker.connection_string
        await deferred(connection, some(120))
        with pytest.raises(Deposed, match="taken the lease"):
            await released(connection, lease=Leads(asks=1))
        there = await on_queue(connection)
        assert len(there) == 120
        assert sum(each.state == ServiceBusMessageState.ACTIVE for each in there) == 50


async def test_one_that_cannot_be_had_holds_up_no_other() -> None:
    async with a_broker() as broker:
        connection = broker.connection_string
        (locked, *_) = await deferred(connection, some(5))
        client = ServiceBusClient.from_connection_string(connection)
        async with client, client.get_queue_receiver("work") as receiver:
            await receiver.receive_deferred_messages([locked])
            results = await released(connection)
        assert {result.deferred.sequence_number: result.became for result in results}[locked] is Became.LOCKED
        assert sum(result.became is Became.RELEASED for result in results) == 4
        missing = Deferred("work", 4711, "x", "x")
        async with DeferredBacklog(config(connection)) as backlog, CopySender(config(connection)) as sender:
            told: list[Released] = []
            await release(backlog, sender, [missing], lease=None, tell=told.append, stopped=lambda: False)
        assert [each.became for each in told] == [Became.GONE]
