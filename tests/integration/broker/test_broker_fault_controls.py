"""Each fault, armed or struck, and what the SDK makes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import aiohttp
import pytest
from azure.servicebus import ServiceBusMessage, ServiceBusReceiveMode, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.exceptions import (
    MessageLockLostError,
    MessagingEntityDisabledError,
    ServiceBusAuthenticationError,
    ServiceBusConnectionError,
    ServiceBusError,
    ServiceBusQuotaExceededError,
    ServiceBusServerBusyError,
)
from broker_sdk import close, receive, receiver_of, send, until
from broker_wire import Wire, data, ready

from dispatcher.embedded.broker import Broker, Fault
from dispatcher.embedded.broker import performatives as p
from dispatcher.embedded.broker.control import FaultControl


@pytest.fixture
async def patient(broker: Broker) -> AsyncIterator[ServiceBusClient]:
    """A client that tries again, as clients do unless told otherwise."""
    connected = ServiceBusClient.from_connection_string(broker.connection_string)
    yield connected
    await close(connected)


async def still_waiting(waiting: Awaitable[Any], seconds: float) -> bool:
    """Whether it has not ended by then; it is given up afterwards."""
    try:
        await asyncio.wait_for(waiting, seconds)
    except TimeoutError:
        return True
    return False


# --- connections and links ---------------------------------------------------------------------------------


async def test_a_reset_connection_is_noticed_and_a_patient_client_gets_over_it(
    broker: Broker, patient: ServiceBusClient
) -> None:
    async with patient.get_queue_sender("jobs", socket_timeout=0.02) as sender:
        await sender.send_messages(ServiceBusMessage("before"))
        assert broker.faults.strike(Fault.RESET_CONNECTIONS) == 1
        await until(lambda: not broker._connections)
        await sender.send_messages(ServiceBusMessage("after"))
    assert broker.counts("jobs").active == 2
    assert broker.faults.fired[Fault.RESET_CONNECTIONS] == 1


async def test_a_client_that_does_not_try_again_is_told_of_the_reset(broker: Broker, client: ServiceBusClient) -> None:
    async with client.get_queue_sender("jobs", socket_timeout=0.02) as sender:
        await sender.send_messages(ServiceBusMessage("before"))
        broker.faults.strike(Fault.RESET_CONNECTIONS)
        with pytest.raises(ServiceBusError):
            await sender.send_messages(ServiceBusMessage("after"))


async def test_a_lock_survives_a_reset_and_its_message_is_settled_on_a_new_connection(
    broker: Broker, patient: ServiceBusClient
) -> None:
    await send(patient, "jobs", "one")
    async with receiver_of(patient, "jobs") as receiver:
        (message,) = await receive(receiver, 1)
        broker.faults.strike(Fault.RESET_CONNECTIONS)
        await receiver.complete_message(message)
    assert broker.counts("jobs").locked == 0
    assert broker.counts("jobs").active == 0


async def test_locks_can_be_made_to_end_with_their_connection(broker: Broker, patient: ServiceBusClient) -> None:
    await send(patient, "jobs", "one")
    async with receiver_of(patient, "jobs") as receiver:
        (message,) = await receive(receiver, 1)
        broker.faults.arm(Fault.DROP_LOCKS_WITH_CONNECTION)
        broker.faults.strike(Fault.RESET_CONNECTIONS)
        await until(lambda: broker.counts("jobs").active == 1)
        broker.faults.disarm()
        with pytest.raises(MessageLockLostError):
            await receiver.complete_message(message)
    assert broker.faults.fired[Fault.DROP_LOCKS_WITH_CONNECTION] >= 1


async def test_a_frozen_connection_stays_open_and_says_nothing_more(broker: Broker, client: ServiceBusClient) -> None:
    sender = client.get_queue_sender("jobs", socket_timeout=0.02)
    async with sender:
        await sender.send_messages(ServiceBusMessage("before"))
        assert broker.faults.strike(Fault.FREEZE_CONNECTIONS) == 1
        assert await still_waiting(sender.send_messages(ServiceBusMessage("into the void")), 1)
        assert len(broker._connections) == 1
        assert broker.counts("jobs").active == 1
        broker.faults.strike(Fault.RESET_CONNECTIONS)  # or closing would wait for an answer


async def test_a_connection_that_is_frozen_already_is_not_hit_again(broker: Broker, client: ServiceBusClient) -> None:
    async with client.get_queue_sender("jobs", socket_timeout=0.02):
        assert [broker.faults.strike(Fault.FREEZE_CONNECTIONS) for _ in range(3)] == [1, 0, 0]
        assert broker.faults.fired[Fault.FREEZE_CONNECTIONS] == 1
        broker.faults.strike(Fault.RESET_CONNECTIONS)


async def test_what_is_delivered_into_a_frozen_connection_comes_back_when_its_lock_ends(
    broker: Broker, client: ServiceBusClient
) -> None:
    async with receiver_of(client, "brief") as receiver:
        waiting = asyncio.create_task(receiver.receive_messages(1, max_wait_time=30))
        await until(lambda: broker._entities["brief"].queue.consumers.first() is not None)
        broker.faults.strike(Fault.FREEZE_CONNECTIONS)
        async with ServiceBusClient.from_connection_string(broker.connection_string) as other:
            await send(other, "brief", "one")
            await until(lambda: broker.counts("brief").locked == 1)
            async with receiver_of(other, "brief") as second:
                (message,) = await receive(second, 1)
                assert message.delivery_count == 1
                await second.complete_message(message)
        waiting.cancel()
        broker.faults.strike(Fault.RESET_CONNECTIONS)


async def test_links_of_one_queue_are_detached_with_the_condition_asked_for(
    broker: Broker, client: ServiceBusClient
) -> None:
    async with Wire(broker) as wire, client.get_queue_sender("brief", socket_timeout=0.02) as elsewhere:
        await ready(wire)
        condition = "com.microsoft:server-busy"
        assert broker.faults.strike(Fault.DETACH_LINKS, queue="jobs", condition=condition) == 2
        for _ in range(2):
            _, (_handle, closed, error), _ = await wire.read(p.DETACH)
            assert (closed, error.value[0]) == (True, condition)
        await elsewhere.send_messages(ServiceBusMessage("x"))
    assert broker.counts("brief").active == 1


async def test_a_sender_whose_link_is_detached_is_told(broker: Broker, client: ServiceBusClient) -> None:
    async with client.get_queue_sender("jobs", socket_timeout=0.02) as sender:
        broker.faults.strike(Fault.DETACH_LINKS)
        with pytest.raises(ServiceBusError):
            await sender.send_messages(ServiceBusMessage("x"))
    assert broker.counts("jobs").active == 0


async def test_a_detached_receiver_of_a_patient_client_goes_on(broker: Broker, patient: ServiceBusClient) -> None:
    await send(patient, "jobs", "one", "two")
    async with receiver_of(patient, "jobs") as receiver:
        (first,) = await receive(receiver, 1)
        broker.faults.strike(Fault.DETACH_LINKS, queue="jobs")
        (second,) = await receive(receiver, 1, within=15)
        await receiver.complete_message(second)
        await receiver.complete_message(first)
    assert broker.counts("jobs").locked == 0


async def test_a_round_trip_takes_longer_by_what_is_added(broker: Broker, client: ServiceBusClient) -> None:
    async with client.get_queue_sender("jobs", socket_timeout=0.02) as sender:
        await sender.send_messages(ServiceBusMessage("x"))
        broker.faults.arm(Fault.ADD_ROUND_TRIP, value=0.5)
        started = time.monotonic()
        await sender.send_messages(ServiceBusMessage("x"))
        assert time.monotonic() - started >= 0.5
        broker.faults.disarm()
        started = time.monotonic()
        await sender.send_messages(ServiceBusMessage("x"))
        assert time.monotonic() - started < 0.5
    assert broker.faults.fired[Fault.ADD_ROUND_TRIP] >= 1


async def test_what_is_held_up_stays_in_order_when_the_way_gets_shorter(broker: Broker) -> None:
    async with Wire(broker) as wire:
        await ready(wire)
        broker.faults.arm(Fault.ADD_ROUND_TRIP, value=0.3)
        wire.transfer(2, 0, data(b"x"))
        await until(lambda: broker.counts("jobs").active == 1)
        await asyncio.sleep(0)  # the answer is on its way
        broker.faults.disarm()
        wire.transfer(2, 1, data(b"x"))
        assert [(await wire.read(p.DISPOSITION))[1][1] for _ in range(2)] == [0, 1]


# --- settlements and locks ---------------------------------------------------------------------------------


async def test_a_late_confirmation_makes_the_settlement_wait_for_it(broker: Broker, client: ServiceBusClient) -> None:
    await send(client, "jobs", "one")
    async with receiver_of(client, "jobs") as receiver:
        (message,) = await receive(receiver, 1)
        broker.faults.arm(Fault.DELAY_SETTLEMENT_REPLY, value=0.5)
        started = time.monotonic()
        await receiver.complete_message(message)
        assert time.monotonic() - started >= 0.5
    assert broker.counts("jobs").locked == 0


async def test_a_settlement_whose_confirmation_is_lost_was_carried_out_all_the_same(
    broker: Broker, client: ServiceBusClient
) -> None:
    await send(client, "jobs", "one")
    async with receiver_of(client, "jobs") as receiver:
        (message,) = await receive(receiver, 1)
        broker.faults.arm(Fault.LOSE_SETTLEMENT_REPLY, times=1)
        assert await still_waiting(receiver.complete_message(message), 1)
        counts = broker.counts("jobs")
        assert (counts.active, counts.locked) == (0, 0)
    assert broker.faults.fired[Fault.LOSE_SETTLEMENT_REPLY] == 1


async def test_a_settlement_that_is_lost_was_not_carried_out_and_the_message_comes_again(
    broker: Broker, client: ServiceBusClient
) -> None:
    await send(client, "brief", "one")
    async with receiver_of(client, "brief") as receiver:
        (message,) = await receive(receiver, 1)
        broker.faults.arm(Fault.LOSE_SETTLEMENT, times=1)
        assert await still_waiting(receiver.complete_message(message), 0.5)
        assert broker.counts("brief").locked == 1
        (again,) = await receive(receiver, 1)
        assert (again.sequence_number, again.delivery_count) == (message.sequence_number, 1)
        await receiver.complete_message(again)
    assert broker.counts("brief").locked == 0


async def deferred(client: ServiceBusClient, queue: str, *bodies: str) -> list[int]:
    """The numbers of messages that wait to be asked for."""
    await send(client, queue, *bodies)
    async with receiver_of(client, queue) as receiver:
        messages = await receive(receiver, len(bodies))
        for message in messages:
            await receiver.defer_message(message)
    return [message.sequence_number or 0 for message in messages]


@pytest.mark.parametrize(("fault", "left"), [(Fault.LOSE_SETTLEMENT, 2), (Fault.LOSE_SETTLEMENT_REPLY, 0)])
async def test_removing_deferred_messages_is_a_settlement_that_can_be_lost_or_its_answer(
    broker: Broker, client: ServiceBusClient, fault: Fault, left: int
) -> None:
    numbers = await deferred(client, "jobs", "one", "two")
    mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
    async with receiver_of(client, "jobs", receive_mode=mode) as receiver:
        broker.faults.arm(fault, times=1)
        assert await still_waiting(receiver.receive_deferred_messages(numbers), 1)
    assert broker.counts("jobs").deferred == left
    assert broker.faults.fired[fault] == 1


@pytest.mark.parametrize(("fault", "left"), [(Fault.LOSE_SETTLEMENT, 1), (Fault.LOSE_SETTLEMENT_REPLY, 0)])
async def test_a_settlement_by_lock_token_can_be_lost_or_its_answer(
    broker: Broker, client: ServiceBusClient, fault: Fault, left: int
) -> None:
    numbers = await deferred(client, "jobs", "one")
    async with receiver_of(client, "jobs") as receiver:
        (message,) = await receiver.receive_deferred_messages(numbers)  # it has no link: it is settled by request
        broker.faults.arm(fault, times=1)
        assert await still_waiting(receiver.complete_message(message), 1)
    assert broker.counts("jobs").locked == left
    assert broker.faults.fired[fault] == 1


async def test_the_answer_to_a_removal_can_be_late(broker: Broker, client: ServiceBusClient) -> None:
    numbers = await deferred(client, "jobs", "one")
    mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
    async with receiver_of(client, "jobs", receive_mode=mode) as receiver:
        broker.faults.arm(Fault.DELAY_SETTLEMENT_REPLY, value=0.5)
        started = time.monotonic()
        await receiver.receive_deferred_messages(numbers)
        assert time.monotonic() - started >= 0.5
    assert broker.counts("jobs").deferred == 0


async def test_looking_at_deferred_messages_settles_nothing_and_is_not_hindered(
    broker: Broker, client: ServiceBusClient
) -> None:
    numbers = await deferred(client, "jobs", "one")
    async with receiver_of(client, "jobs") as receiver:
        broker.faults.arm(Fault.LOSE_SETTLEMENT_REPLY)
        assert len(await receiver.peek_messages(1)) == 1
        assert len(await receiver.receive_deferred_messages(numbers)) == 1
    assert broker.faults.fired[Fault.LOSE_SETTLEMENT_REPLY] == 0


async def test_a_revoked_lock_is_lost_and_the_message_comes_again_counted(
    broker: Broker, client: ServiceBusClient
) -> None:
    await send(client, "jobs", "one", "two")
    async with receiver_of(client, "jobs") as receiver:
        first, second = await receive(receiver, 2)
        assert broker.faults.strike(Fault.REVOKE_LOCKS, queue="jobs") == 1
        with pytest.raises(MessageLockLostError):
            await receiver.complete_message(first)
        await receiver.complete_message(second)
        (again,) = await receive(receiver, 1)
        assert (again.sequence_number, again.delivery_count) == (first.sequence_number, 1)


async def test_coalesced_confirmations_still_reach_every_settlement(broker: Broker, client: ServiceBusClient) -> None:
    await send(client, "jobs", *(f"m{number}" for number in range(20)))
    async with receiver_of(client, "jobs") as receiver:
        messages = await receive(receiver, 20)
        broker.faults.arm(Fault.COALESCE_DISPOSITIONS)
        await asyncio.gather(*(receiver.complete_message(message) for message in messages))
    assert broker.faults.fired[Fault.COALESCE_DISPOSITIONS] == 20
    assert broker.counts("jobs").locked == 0


async def test_neighbours_with_the_same_outcome_share_one_confirmation(broker: Broker) -> None:
    async with Wire(broker) as wire:
        await ready(wire)
        broker.faults.arm(Fault.COALESCE_DISPOSITIONS, value=0.2)
        for number in range(5):
            wire.transfer(2, number, data(b"x"))
            await wire.read(p.DISPOSITION)
        wire.flow(3, 5)
        ids = [(await wire.read(p.TRANSFER))[1][1] for _ in range(5)]
        wire.settle(ids[0], ids[1])
        wire.settle(ids[2], state=p.RELEASED)
        wire.settle(ids[3], ids[4])
        spans = [tuple((await wire.read(p.DISPOSITION))[1][1:3]) for _ in range(3)]
        assert spans == [(ids[0], ids[1]), (ids[2], ids[2]), (ids[3], ids[4])]


async def test_a_message_is_delivered_twice_under_one_lock_and_settled_once(
    broker: Broker, client: ServiceBusClient
) -> None:
    await send(client, "jobs", "one")
    broker.faults.arm(Fault.DUPLICATE_DELIVERY, times=1)
    async with receiver_of(client, "jobs") as receiver:
        first = await receiver.receive_messages(2, max_wait_time=2)
        messages = first if len(first) == 2 else [*first, *await receive(receiver, 1)]
        assert [str(message) for message in messages] == ["one", "one"]
        assert messages[0].lock_token == messages[1].lock_token
        await receiver.complete_message(messages[0])
        with pytest.raises(MessageLockLostError):
            await receiver.complete_message(messages[1])
    counts = broker.counts("jobs")
    assert (counts.active, counts.locked) == (0, 0)
    assert broker.faults.fired[Fault.DUPLICATE_DELIVERY] == 1


async def test_messages_are_delivered_twice_also_while_more_wait_than_are_asked_for(
    broker: Broker, client: ServiceBusClient
) -> None:
    await send(client, "jobs", *(f"m{number}" for number in range(20)))
    broker.faults.arm(Fault.DUPLICATE_DELIVERY, times=4)
    async with receiver_of(client, "jobs") as receiver:
        messages = await receive(receiver, 8)
        assert sorted(str(message) for message in messages) == sorted(f"m{number}" for number in (0, 1, 2, 3) * 2)
    assert broker.faults.fired[Fault.DUPLICATE_DELIVERY] == 4


# --- refusals ----------------------------------------------------------------------------------------------


async def test_a_throttled_send_is_answered_with_server_busy(broker: Broker, client: ServiceBusClient) -> None:
    async with client.get_queue_sender("jobs", socket_timeout=0.02) as sender:
        broker.faults.arm(Fault.THROTTLE, value=2)
        await sender.send_messages([ServiceBusMessage("x"), ServiceBusMessage("x")])
        with pytest.raises(ServiceBusServerBusyError):
            await sender.send_messages([ServiceBusMessage("x"), ServiceBusMessage("x")])
        assert broker.counts("jobs").active == 2
    assert broker.faults.fired[Fault.THROTTLE] == 1


async def test_a_patient_sender_gets_through_a_throttle(broker: Broker, patient: ServiceBusClient) -> None:
    async with patient.get_queue_sender("jobs", socket_timeout=0.02) as sender:
        broker.faults.arm(Fault.THROTTLE, value=2)
        for _ in range(4):
            await sender.send_messages(ServiceBusMessage("x"))
    assert broker.counts("jobs").active == 4


async def test_throttled_deliveries_come_at_the_rate_and_none_is_lost(broker: Broker, client: ServiceBusClient) -> None:
    await send(client, "jobs", *(f"m{number}" for number in range(20)))
    async with receiver_of(client, "jobs") as receiver:
        await receiver.peek_messages(1)
        broker.faults.arm(Fault.THROTTLE, value=10)
        started = time.monotonic()
        assert len(await receive(receiver, 20)) == 20
        assert time.monotonic() - started >= 0.9


async def test_a_throttled_management_request_is_answered_with_server_busy(
    broker: Broker, client: ServiceBusClient
) -> None:
    async with receiver_of(client, "jobs") as receiver:
        await receiver.peek_messages(1)
        broker.faults.arm(Fault.THROTTLE, value=0.001)
        await receiver.peek_messages(1)
        with pytest.raises(ServiceBusServerBusyError):
            await receiver.peek_messages(1)


async def test_a_throttle_takes_a_request_for_as_many_operations_as_it_names_messages(
    broker: Broker, client: ServiceBusClient
) -> None:
    numbers = await deferred(client, "jobs", *(f"m{number}" for number in range(10)))
    mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
    async with receiver_of(client, "jobs", receive_mode=mode) as receiver:
        await receiver.peek_messages(1)
        broker.faults.arm(Fault.THROTTLE, value=10)
        await receiver.receive_deferred_messages(numbers[:8])
        with pytest.raises(ServiceBusServerBusyError):
            await receiver.receive_deferred_messages(numbers[8:] + numbers[:2] + numbers[2:6])
    assert broker.counts("jobs").deferred == 2


async def test_a_denied_token_opens_nothing_and_the_next_one_does(broker: Broker, client: ServiceBusClient) -> None:
    broker.faults.arm(Fault.DENY_TOKENS, times=1)
    with pytest.raises(ServiceBusAuthenticationError):
        await client.get_queue_sender("jobs").__aenter__()
    await send(client, "jobs", "one")
    assert broker.counts("jobs").active == 1


async def test_a_disabled_queue_turns_everybody_away_until_it_is_enabled(
    broker: Broker, client: ServiceBusClient
) -> None:
    await send(client, "jobs", "one")
    broker.faults.arm(Fault.DISABLE_QUEUE, queue="jobs")
    with pytest.raises(MessagingEntityDisabledError):
        await client.get_queue_sender("jobs").__aenter__()
    with pytest.raises(MessagingEntityDisabledError):
        await client.get_queue_receiver("jobs").__aenter__()
    await send(client, "brief", "elsewhere")
    broker.faults.disarm(Fault.DISABLE_QUEUE)
    async with receiver_of(client, "jobs") as receiver:
        assert [str(message) for message in await receive(receiver, 1)] == ["one"]


async def test_a_receiver_that_was_there_when_its_queue_was_disabled_is_told(
    broker: Broker, client: ServiceBusClient
) -> None:
    async with receiver_of(client, "jobs") as receiver:
        await receiver.peek_messages(1)
        broker.faults.arm(Fault.DISABLE_QUEUE, queue="jobs")
        with pytest.raises(MessagingEntityDisabledError):
            await receiver.peek_messages(1)
        with pytest.raises((MessagingEntityDisabledError, ServiceBusConnectionError)):
            await receiver.receive_messages(1, max_wait_time=1)


async def test_a_full_quota_refuses_sends_and_lets_receivers_go_on(broker: Broker, client: ServiceBusClient) -> None:
    await send(client, "jobs", "one")
    broker.faults.arm(Fault.FILL_QUOTA, queue="jobs")
    with pytest.raises(ServiceBusQuotaExceededError):
        await send(client, "jobs", "two")
    async with receiver_of(client, "jobs") as receiver:
        (message,) = await receive(receiver, 1)
        await receiver.dead_letter_message(message)
    broker.faults.disarm()
    await send(client, "jobs", "three")
    assert (broker.counts("jobs").active, broker.counts("jobs").dead_lettered) == (1, 1)
    async with receiver_of(client, "jobs", sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
        assert len(await receive(receiver, 1)) == 1


# --- the same over HTTP ------------------------------------------------------------------------------------


async def test_a_fault_is_armed_seen_and_disarmed_over_http(broker: Broker, client: ServiceBusClient) -> None:
    async with FaultControl(broker) as control, aiohttp.ClientSession(control.url) as http:
        async with http.put("/faults/fill-quota", json={"queue": "jobs", "times": 2}) as answer:
            armed = {"queue": "jobs", "value": 0.0, "times": 2}
            assert await answer.json() == {"at_once": False, "armed": armed, "fired": 0}
        with pytest.raises(ServiceBusQuotaExceededError):
            await send(client, "jobs", "one")
        async with http.get("/faults") as answer:
            seen = await answer.json()
            assert set(seen) == {fault.value for fault in Fault}
            assert seen["fill-quota"]["fired"] == 1
            assert seen["fill-quota"]["armed"]["times"] == 1
            assert seen["deny-tokens"] == {"at_once": False, "armed": None, "fired": 0}
        async with http.delete("/faults/fill-quota") as answer:
            assert answer.status == 200
        await send(client, "jobs", "two")
        async with http.get("/queues/jobs") as answer:
            counts = await answer.json()
            assert counts["active"] == 1
        async with http.get("/queues") as answer:
            assert (await answer.json())["jobs"] == counts
        async with http.put("/faults/throttle", json={"value": 5}), http.delete("/faults"):
            assert not broker.faults.armed


async def test_a_strike_over_http_says_what_it_hit(broker: Broker, client: ServiceBusClient) -> None:
    await send(client, "jobs", "one")
    async with receiver_of(client, "jobs") as receiver:
        (message,) = await receive(receiver, 1)
        async with (
            FaultControl(broker) as control,
            aiohttp.ClientSession(control.url) as http,
            http.post("/faults/revoke-locks", json={"queue": "jobs"}) as answer,
        ):
            assert await answer.json() == {"hit": 1}
        with pytest.raises(MessageLockLostError):
            await receiver.complete_message(message)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("PUT", "/faults/nonsense", "{}", 404, "there are"),
        ("PUT", "/faults/throttle", "[]", 400, "object"),
        ("PUT", "/faults/throttle", "{", 400, "JSON"),
        ("PUT", "/faults/throttle", '{"speed": 1}', 400, "speed: unknown"),
        ("PUT", "/faults/throttle", '{"value": "fast"}', 400, "value: must be"),
        ("PUT", "/faults/throttle", '{"times": true}', 400, "times: must be"),
        ("PUT", "/faults/throttle", '{"queue": "nowhere"}', 400, "queue: there is no 'nowhere'; there are jobs"),
        ("PUT", "/faults/revoke-locks", "{}", 400, "strike it"),
        ("POST", "/faults/throttle", "{}", 400, "arm it"),
        ("POST", "/faults/revoke-locks", '{"queue": "nowhere"}', 400, "there is no"),
        ("GET", "/queues/nowhere", "", 404, "unknown queue"),
    ],
)
async def test_what_cannot_be_done_is_answered_with_a_sentence(
    broker: Broker, method: str, path: str, body: str, status: int, says: str
) -> None:
    async with (
        FaultControl(broker) as control,
        aiohttp.ClientSession(control.url) as http,
        http.request(method, path, data=body) as answer,
    ):
        assert answer.status == status
        assert says in (await answer.json())["error"]


async def test_a_page_in_a_browser_cannot_use_the_controls(broker: Broker) -> None:
    async with (
        FaultControl(broker) as control,
        aiohttp.ClientSession(control.url) as http,
        http.post("/faults/reset-connections", headers={"Host": "evil.example"}) as answer,
    ):
        assert answer.status == 403
