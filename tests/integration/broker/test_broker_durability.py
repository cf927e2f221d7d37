"""What survives the broker: kill -9, restarts, a full disk."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from azure.servicebus import ServiceBusMessage, ServiceBusReceiveMode
from azure.servicebus.aio import ServiceBusClient, ServiceBusSender
from azure.servicebus.exceptions import ServiceBusError, ServiceBusQuotaExceededError
from broker_sdk import receive, receiver_of, send, until

from dispatcher.embedded.broker import Broker, BrokerConfig, BrokerError, QueueConfig

CHILD = Path(__file__).with_name("broker_child.py")
ROOT = Path(__file__).parents[3]


@asynccontextmanager
async def child(journal: Path, *arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(CHILD), str(journal), *arguments, cwd=ROOT, env={"PYTHONPATH": str(ROOT)},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            yield process, (await process.stdout.readline()).decode().strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def connect(text: str) -> ServiceBusClient:
    return ServiceBusClient.from_connection_string(text, retry_total=0)


def config(journal: Path, **kwargs: int) -> BrokerConfig:
    return BrokerConfig(queues=(QueueConfig("jobs"),), journal_path=journal, **kwargs)


async def send_until_refused(sender: ServiceBusSender, accepted: list[str]) -> None:
    """Sends 10 KB a message, up to 2 MB."""
    for number in range(200):
        body = f"{number}".zfill(10_000)
        await sender.send_messages(ServiceBusMessage(body))
        accepted.append(body)


async def everything(client: ServiceBusClient) -> dict[str, int | None]:
    """Bodies and delivery counts of all that can be received."""
    found: dict[str, int | None] = {}
    mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
    async with receiver_of(client, "jobs", receive_mode=mode) as receiver:
        while messages := await receiver.receive_messages(500, max_wait_time=0.5):
            found |= {str(message): message.delivery_count for message in messages}
    return found


async def test_an_accepted_message_survives_kill_9_of_the_broker(tmp_path: Path) -> None:
    journal = tmp_path / "broker.db"
    accepted: list[str] = []
    async with child(journal) as (process, text), connect(text) as client:

        async def burst(name: int) -> None:
            async with client.get_queue_sender("jobs") as sender:
                for number in range(10_000):
                    body = f"{name}-{number}"
                    await sender.send_messages(ServiceBusMessage(body))
                    accepted.append(body)

        bursts = [asyncio.create_task(burst(name)) for name in range(2)]
        await until(lambda: len(accepted) >= 300, within=15)
        process.kill()
        await process.wait()
        for ended in await asyncio.gather(*bursts, return_exceptions=True):
            assert isinstance(ended, ServiceBusError)
    async with Broker(config(journal)) as broker, connect(broker.connection_string) as client:
        assert broker.counts("jobs").active >= len(accepted)
        assert set(accepted) <= set(await everything(client))


async def test_after_kill_9_deferred_stays_deferred_and_locked_comes_back_counted(tmp_path: Path) -> None:
    journal = tmp_path / "broker.db"
    async with child(journal) as (process, text), connect(text) as client:
        await send(client, "jobs", "deferred", "completed", "locked", "untouched", "dead")
        receiver = receiver_of(client, "jobs")
        deferred, completed, _locked = await receive(receiver, 3)
        await receiver.defer_message(deferred)
        await receiver.complete_message(completed)
        process.kill()
        await process.wait()
    async with Broker(config(journal)) as broker, connect(broker.connection_string) as client:
        counts = broker.counts("jobs")
        assert (counts.deferred, counts.active, counts.locked) == (1, 3, 0)
        async with receiver_of(client, "jobs") as receiver:
            (again,) = await receiver.receive_deferred_messages([deferred.sequence_number])
            assert str(again) == "deferred"
        assert await everything(client) == {"locked": 1, "untouched": 0, "dead": 0}


async def test_a_sequence_number_is_never_given_twice(tmp_path: Path) -> None:
    journal = tmp_path / "broker.db"
    async with Broker(config(journal)) as broker, connect(broker.connection_string) as client:
        await send(client, "jobs", "one", "two")
        assert len(await everything(client)) == 2
    async with Broker(config(journal)) as broker, connect(broker.connection_string) as client:
        await send(client, "jobs", "three")
        async with receiver_of(client, "jobs") as receiver:
            (message,) = await receive(receiver, 1)
            assert message.sequence_number == 3


async def test_a_second_broker_on_the_same_journal_is_refused_in_one_line(tmp_path: Path) -> None:
    journal = tmp_path / "broker.db"
    async with Broker(config(journal)):
        with pytest.raises(BrokerError) as refusal:
            await Broker(config(journal)).start()
        assert f"journal {journal} is in use by another broker" in str(refusal.value)
        assert "\n" not in str(refusal.value)
    async with Broker(config(journal)) as broker:
        assert broker.health.serving


async def test_a_journal_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    journal = tmp_path / "broker.db"
    journal.write_text("something else entirely, and long enough to be looked at" * 20)
    with pytest.raises(BrokerError, match="file is not a database"):
        await Broker(config(journal)).start()


async def test_a_full_journal_refuses_sends_names_itself_and_still_lets_messages_be_completed(
    tmp_path: Path,
) -> None:
    journal = tmp_path / "broker.db"
    async with (
        Broker(config(journal, journal_pages_max=200)) as broker,
        connect(broker.connection_string) as client,
        client.get_queue_sender("jobs", socket_timeout=0.02) as sender,
        receiver_of(client, "jobs") as receiver,
    ):
        accepted: list[str] = []
        with pytest.raises(ServiceBusQuotaExceededError) as refusal:
            await send_until_refused(sender, accepted)
        assert str(journal) in str(refusal.value)
        assert len(accepted) > 10
        assert broker.counts("jobs").active == len(accepted)
        assert not broker.health.serving
        assert str(journal) in (broker.health.problem or "")
        for message in await receive(receiver, 10):
            await receiver.complete_message(message)
        await sender.send_messages(ServiceBusMessage("x" * 10_000))
        assert broker.health.serving
        assert broker.counts("jobs").active == len(accepted) - 9
    async with Broker(config(journal)) as broker:
        assert broker.counts("jobs").active == len(accepted) - 9


async def test_a_journal_that_may_not_grow_refuses_and_loses_nothing_it_accepted(tmp_path: Path) -> None:
    journal = tmp_path / "broker.db"
    accepted: list[str] = []
    async with child(journal, "400000") as (process, text), connect(text) as client:
        async with client.get_queue_sender("jobs", socket_timeout=0.02) as sender:
            with pytest.raises(ServiceBusQuotaExceededError):
                await send_until_refused(sender, accepted)
        async with receiver_of(client, "jobs") as receiver:
            assert [str(m) for m in await receiver.peek_messages(250, sequence_number=1)] == accepted
        process.kill()
        await process.wait()
    assert accepted
    async with Broker(config(journal)) as broker, connect(broker.connection_string) as client:
        assert set(await everything(client)) == set(accepted)


async def test_a_dead_lettered_message_survives_a_restart(tmp_path: Path) -> None:
    journal = tmp_path / "broker.db"
    async with Broker(config(journal)) as broker, connect(broker.connection_string) as client:
        await send(client, "jobs", "bad")
        async with receiver_of(client, "jobs") as receiver:
            (message,) = await receive(receiver, 1)
            await receiver.dead_letter_message(message, reason="why")
    async with Broker(config(journal)) as broker, connect(broker.connection_string) as client:
        counts = broker.counts("jobs")
        assert (counts.dead_lettered, counts.active) == (1, 0)
        async with receiver_of(client, "jobs", sub_queue="deadletter") as receiver:
            (dead,) = await receive(receiver, 1)
            assert (str(dead), dead.dead_letter_reason) == ("bad", "why")
