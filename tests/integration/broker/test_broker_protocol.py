"""The protocol, frame by frame: what the SDK relies on and what it would never send."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from azure.servicebus.aio import ServiceBusClient
from broker_sdk import receive, receiver_of, send, until
from broker_wire import Wire, data, ready

from dispatcher.embedded.broker import Broker, BrokerConfig, QueueConfig, messages
from dispatcher.embedded.broker import performatives as p
from dispatcher.embedded.broker.types import Described, UInt


async def test_the_whole_handshake_may_arrive_in_one_piece(broker: Broker) -> None:
    async with Wire(broker) as wire:
        wire.open()
        codes = [(await wire.next())[0] for _ in range(4)]
        assert codes == [p.SASL_MECHANISMS, p.SASL_OUTCOME, p.OPEN, p.BEGIN]


async def test_other_protocols_are_shown_the_right_one_and_the_door(broker: Broker) -> None:
    async with Wire(broker) as wire:
        wire.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        assert await wire.at_end()


async def test_a_frame_larger_than_agreed_ends_the_connection_with_a_reason(broker: Broker) -> None:
    async with Wire(broker) as wire:
        wire.open()
        wire.write(b"\x7f\xff\xff\xff\x02\x00\x00\x00")
        _, (error,), _ = await wire.read(p.CLOSE)
        assert error.value[0] == "amqp:connection:framing-error"
        assert await wire.at_end()


async def test_garbage_in_a_frame_ends_only_that_connection(broker: Broker, client: ServiceBusClient) -> None:
    async with Wire(broker) as wire:
        wire.open()
        wire.write(b"\x00\x00\x00\x0c\x02\x00\x00\x00\xff\xff\xff\xff")
        _, (error,), _ = await wire.read(p.CLOSE)
        assert (error.value[0], len(error.value)) == ("amqp:decode-error", 3)
    await send(client, "jobs", "one")
    assert broker.counts("jobs").active == 1


async def test_a_field_of_a_wrong_type_ends_only_that_connection(broker: Broker) -> None:
    async with Wire(broker) as wire:
        await ready(wire)
        wire.perform(p.FLOW, "what", "is", "this", [], {})
        _, (error,), _ = await wire.read(p.CLOSE)
        assert error.value[0] == "amqp:decode-error"


async def test_a_link_without_a_token_is_refused(broker: Broker) -> None:
    async with Wire(broker) as wire:
        wire.open()
        wire.attach("sender", 2, False, wire.uri)
        _, fields, _ = await wire.read(p.ATTACH)
        assert fields[5] is None
        assert fields[6] is None
        _, (_handle, closed, error), _ = await wire.read(p.DETACH)
        assert closed
        assert error.value[0] == "amqp:unauthorized-access"


async def test_a_token_opens_no_other_queue(broker: Broker) -> None:
    async with Wire(broker) as wire:
        await ready(wire)
        wire.attach("other", 4, False, wire.uri.replace("/jobs", "/brief"))
        _, (_handle, _closed, error), _ = await wire.read(p.DETACH)
        assert error.value[0] == "amqp:unauthorized-access"


async def test_links_are_closed_when_their_token_expires(broker: Broker) -> None:
    async with Wire(broker) as wire:
        wire.open()
        wire.authorize(expires_in=2)
        await wire.read(p.TRANSFER)
        wire.attach("receiver", 3, True, wire.uri)
        _, (handle, _closed, error), _ = await wire.read(p.DETACH)
        assert handle == 3
        assert error.value[0] == "amqp:unauthorized-access"


async def test_a_message_in_many_frames_is_one_message(broker: Broker) -> None:
    async with Wire(broker) as wire:
        await ready(wire)
        whole = data(b"x" * 1000)
        for begin in range(0, len(whole), 100):
            wire.transfer(2, 0, whole[begin : begin + 100], more=begin + 100 < len(whole))
        _, fields, _ = await wire.read(p.DISPOSITION)
        assert fields[4] == Described(p.ACCEPTED, [])
    assert broker.counts("jobs").active == 1


async def test_an_aborted_message_never_was(broker: Broker) -> None:
    async with Wire(broker) as wire:
        await ready(wire)
        wire.transfer(2, 0, data(b"half")[:3], more=True)
        wire.transfer(2, 0, b"", aborted=True)
        wire.transfer(2, 1, data(b"whole"))
        _, fields, _ = await wire.read(p.DISPOSITION)
        assert fields[1] == 1
    assert broker.counts("jobs").active == 1


async def test_an_oversized_message_in_many_frames_is_refused_without_being_kept(broker: Broker) -> None:
    async with Wire(broker) as wire:
        await ready(wire)
        for number in range(20):
            wire.transfer(2, 0, bytes(60_000), more=number < 19)
        _, fields, _ = await wire.read(p.DISPOSITION)
        assert fields[4].value[0].value[0] == "amqp:link:message-size-exceeded"
    assert broker.counts("jobs").active == 0


async def test_a_malformed_message_is_refused_and_the_link_goes_on(broker: Broker) -> None:
    async with Wire(broker) as wire:
        await ready(wire)
        wire.transfer(2, 0, b"\x00\x53\x75\xb0\xff\xff\xff\xff")
        _, fields, _ = await wire.read(p.DISPOSITION)
        assert fields[4].value[0].value[0] == "amqp:decode-error"
        wire.transfer(2, 1, data(b"fine"))
        _, fields, _ = await wire.read(p.DISPOSITION)
        assert fields[4] == Described(p.ACCEPTED, [])


async def test_a_drain_uses_up_the_credit_and_says_so(broker: Broker) -> None:
    async with Wire(broker) as wire:
        await ready(wire)
        wire.transfer(2, 0, data(b"one"))
        await wire.read(p.DISPOSITION)
        wire.flow(3, 10, drain=True)
        await wire.read(p.TRANSFER)
        _, fields, _ = await wire.read(p.FLOW)
        assert (fields[4], fields[5], fields[6], fields[8]) == (3, 10, 0, True)
        wire.transfer(2, 1, data(b"two"))
        await wire.read(p.DISPOSITION)
    assert broker.counts("jobs").active == 1


async def test_each_delivery_of_a_range_is_confirmed_by_itself(broker: Broker) -> None:
    async with Wire(broker) as wire:
        await ready(wire)
        for number in range(3):
            wire.transfer(2, number, data(b"x"))
            await wire.read(p.DISPOSITION)
        wire.flow(3, 3)
        ids = [(await wire.read(p.TRANSFER))[1][1] for _ in range(3)]
        wire.settle(ids[0], ids[-1])
        for expected in ids:
            _, fields, _ = await wire.read(p.DISPOSITION)
            assert fields[:4] == [False, expected, None, True]
    counts = broker.counts("jobs")
    assert (counts.active, counts.locked) == (0, 0)


async def test_a_settlement_on_a_detached_link_is_ignored_and_the_lock_kept(broker: Broker) -> None:
    async with Wire(broker) as wire:
        await ready(wire)
        wire.transfer(2, 0, data(b"x"))
        wire.flow(3, 1)
        _, fields, _ = await wire.read(p.TRANSFER)
        wire.perform(p.DETACH, 3, True)
        await wire.read(p.DETACH)
        wire.settle(fields[1])
        wire.transfer(2, 1, data(b"y"))
        await wire.read(p.DISPOSITION)
    assert broker.counts("jobs").locked == 1


async def test_frames_after_the_end_of_their_session_are_ignored(broker: Broker) -> None:
    async with Wire(broker) as wire:
        await ready(wire)
        wire.perform(p.END)
        await wire.read(p.END)
        wire.perform(p.DETACH, 3, True)
        wire.perform(p.CLOSE)
        _, fields, _ = await wire.read(p.CLOSE)
        assert fields == [None]


async def test_nothing_is_sent_beyond_the_window_of_the_peer(broker: Broker) -> None:
    async with Wire(broker) as wire:
        await ready(wire, window=4)
        for number in range(6):
            wire.transfer(2, number, data(b"x"))
        await until(lambda: broker.counts("jobs").active == 6)
        wire.flow(3, 6, seen=1, window=3)  # one frame was seen: the reply to the token
        for _ in range(3):
            await wire.read(p.TRANSFER)
        wire.perform(p.ATTACH, "probe", 9, False, None, None, None, None)
        while (found := await wire.next())[0] != p.DETACH:
            assert found[0] != p.TRANSFER
        wire.flow(None, 0, seen=4, window=10)
        for _ in range(3):
            await wire.read(p.TRANSFER)


async def test_a_large_message_goes_out_in_frames_the_peer_can_take(broker: Broker) -> None:
    async with Wire(broker) as wire:
        await ready(wire, max_frame_size=512)
        wire.transfer(2, 0, data(b"x" * 5000))
        wire.flow(3, 1)
        pieces, more = [], True
        while more:
            _, fields, payload = await wire.read(p.TRANSFER)
            assert len(payload) < 512
            pieces.append(payload)
            more = fields[5]
    assert b"".join(pieces).endswith(data(b"x" * 5000))


async def test_a_peer_that_asks_for_signs_of_life_gets_them(broker: Broker) -> None:
    async with Wire(broker) as wire:
        wire.open(idle_ms=200)
        await wire.read(0)
        await wire.read(0)


async def test_a_silent_connection_is_closed() -> None:
    config = BrokerConfig(queues=(QueueConfig("jobs"),), idle_timeout=timedelta(seconds=0.2))
    async with Broker(config) as broker, Wire(broker) as wire:
        wire.open()
        _, (error,), _ = await wire.read(p.CLOSE)
        assert error.value[0] == "amqp:connection:forced"
        assert await wire.at_end()


async def test_a_lock_survives_the_loss_of_its_connection(broker: Broker) -> None:
    async with Wire(broker) as wire:
        await ready(wire)
        wire.transfer(2, 0, data(b"x"))
        wire.flow(3, 1)
        await wire.read(p.TRANSFER)
    await until(lambda: not broker._connections)
    assert broker.counts("jobs").locked == 1


async def test_locks_can_be_configured_to_end_with_their_connection() -> None:
    config = BrokerConfig(queues=(QueueConfig("jobs"),), locks_survive_connection_loss=False)
    async with Broker(config) as broker:
        async with Wire(broker) as wire:
            await ready(wire)
            wire.transfer(2, 0, data(b"x"))
            wire.flow(3, 1)
            await wire.read(p.TRANSFER)
        await until(lambda: broker.counts("jobs").active == 1)


async def test_stopping_takes_leave_of_clients_and_frees_the_port() -> None:
    config = BrokerConfig(queues=(QueueConfig("jobs"),))
    broker = Broker(config)
    await broker.start()
    async with Wire(broker) as wire:
        wire.open()
        await wire.read(p.BEGIN)
        await broker.stop()
        _, (error,), _ = await wire.read(p.CLOSE)
        assert error.value[0] == "amqp:connection:forced"
    assert not broker.health.serving
    async with Broker(BrokerConfig(queues=(QueueConfig("jobs"),), port=broker.port)) as again:
        assert again.health.serving


async def test_a_client_that_stops_reading_stops_nobody_else(broker: Broker, client: ServiceBusClient) -> None:
    await send(client, "jobs", *(f"m{number}".ljust(2000) for number in range(100)))
    async with Wire(broker) as wire:
        await ready(wire)
        wire.flow(3, 50)
        async with receiver_of(client, "jobs") as receiver:
            assert len(await receive(receiver, 50)) == 50


async def test_what_a_client_sends_on_a_link_before_it_hears_of_its_end_is_passed_over() -> None:
    config = BrokerConfig(queues=(QueueConfig("jobs"),), link_idle_timeout=timedelta(seconds=0.3))
    async with Broker(config) as broker, Wire(broker) as wire:
        await ready(wire)
        detached = [(await wire.read(p.DETACH))[1] for _ in range(2)]
        assert {handle for handle, _closed, _error in detached} == {2, 3}
        assert {error.value[0] for _handle, _closed, error in detached} == {"amqp:link:detach-forced"}
        assert "IdleTimerExpired" in detached[0][2].value[1]
        wire.transfer(2, 0, data(b"late"))
        wire.flow(3, 1)
        wire.perform(p.DETACH, 2, True)
        wire.attach("sender again", 2, False, wire.uri)
        _, fields, _ = await wire.read(p.ATTACH)
        assert fields[1] == 2
        wire.transfer(2, 0, data(b"now"))
        await wire.read(p.DISPOSITION)
        assert broker.counts("jobs").active == 1


async def test_a_request_is_answered_before_it_is_accepted(broker: Broker) -> None:
    async with Wire(broker) as wire:
        await ready(wire)
        node = "jobs/$management"
        wire.attach("requests", 4, False, node)
        wire.attach("replies", 5, True, node)
        for _ in range(2):
            await wire.read(p.ATTACH)
        peek = {"from-sequence-number": 1, "message-count": 1}
        properties = {"operation": "com.microsoft:peek-message"}
        wire.transfer(4, 1, messages.reply(None, properties, peek))
        codes = []
        while p.DISPOSITION not in codes:
            codes.append((await wire.next())[0])
        assert codes.index(p.TRANSFER) < codes.index(p.DISPOSITION)


async def test_a_connection_without_links_but_the_one_for_tokens_is_closed_after_a_while() -> None:
    config = BrokerConfig(queues=(QueueConfig("jobs"),), unused_timeout=timedelta(seconds=0.5))
    async with Broker(config) as broker, Wire(broker) as wire, Wire(broker) as busy:
        await ready(busy)
        await ready(wire)
        await asyncio.sleep(1)  # links keep a connection that nothing is done on
        for handle in (2, 3):
            wire.perform(p.DETACH, UInt(handle), True)
            await wire.read(p.DETACH)
        detached_at = time.monotonic()
        _, (error,), _ = await wire.read(p.CLOSE)
        assert time.monotonic() - detached_at >= 0.4
        assert error.value[0] == "amqp:connection:forced"
        assert "inactive for more than the allowed 500 milliseconds" in error.value[1]
        assert await wire.at_end()
        busy.transfer(2, 0, data(b"still here"))
        await busy.read(p.DISPOSITION)
