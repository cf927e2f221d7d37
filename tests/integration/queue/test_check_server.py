"""``check-config --server`` against a broker over TLS: what it finds, what it leaves alone, what it never says."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from azure.servicebus import ServiceBusMessage, TransportType
from azure.servicebus.aio import ServiceBusClient

from dispatcher.embedded.broker import AccessPolicy, Broker, BrokerConfig, QueueConfig, Right, TlsFiles
from tests.identities import a_certificate

pytestmark = pytest.mark.timeout(90)

KEYS = {"owner": "geheim-o", "listens": "geheim-l", "sends": "geheim-s"}
TASK = {"name": "report", "image": "report:1", "command": ["true"], "resources": {"cpu": "500m", "memory": "512Mi"}}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return a_certificate(tmp_path_factory.mktemp("tls"))


@asynccontextmanager
async def a_broker(certificate: TlsFiles, **queue: Any) -> AsyncIterator[Broker]:
    config = BrokerConfig(
        queues=(QueueConfig("work", **{"max_delivery_count": 100, **queue}), QueueConfig("outcomes")),
        shared_access_keys={"owner": KEYS["owner"]},
        access_policies=(
            AccessPolicy("listens", KEYS["listens"], frozenset({Right.LISTEN})),
            AccessPolicy("sends", KEYS["sends"], frozenset({Right.SEND})),
        ),
        tls=certificate,
    )
    async with Broker(config) as broker:
        yield broker


def endpoint(broker: Broker) -> str:
    return broker.endpoint.replace("127.0.0.1", "localhost")


def a_config(folder: Path, broker: Broker, certificate: TlsFiles, *, key: str = "owner", **bus: Any) -> Path:
    text = f"Endpoint=sb://localhost/;SharedAccessKeyName={key};SharedAccessKey={KEYS.get(key, 'geheim-?')}"
    (folder / "secret").write_text(text)
    reached = {"custom_endpoint": endpoint(broker), "ca_file": str(certificate.certificate)}
    content = {
        "queues": [{"name": bus.pop("queue", "work"), "tasks": ["report"], "reply_to": bus.pop("reply_to", [])}],
        "service_bus": {"connection_string_file": "secret", **reached, **bus},
    }
    (folder / "dispatcher.yaml").write_text(yaml.safe_dump(content))
    (folder / "tasks.yaml").write_text(yaml.safe_dump({"tasks": [TASK]}))
    return folder


async def checked(folder: Path, *more: str) -> tuple[int, str]:
    """Exit code and all that was printed; a secret in it fails the test here."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dispatcher", "check-config", "--config", str(folder), "--server", *more,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(60):
        printed = (await process.communicate())[0].decode()
    assert "geheim" not in printed
    assert "Traceback" not in printed
    assert process.returncode is not None
    return process.returncode, printed


def client_of(broker: Broker, certificate: TlsFiles) -> ServiceBusClient:
    return ServiceBusClient.from_connection_string(
        broker.connection_string,
        custom_endpoint_address=endpoint(broker),
        transport_type=TransportType.Amqp,
        connection_verify=str(certificate.certificate),
    )


async def test_a_good_queue_is_told_as_such_and_its_messages_are_as_they_were(
    certificate: TlsFiles, tmp_path: Path
) -> None:
    async with a_broker(certificate) as broker, client_of(broker, certificate) as client:
        async with client.get_queue_sender("work") as sender:
            await sender.send_messages([ServiceBusMessage(f"m-{number}") for number in range(3)])
        folder = a_config(tmp_path, broker, certificate, key="listens")
        code, printed = await checked(folder)
        assert code == 0, printed
        assert "queue work: fine: we may listen\n" in printed
        assert "queue work: fine: we may not send, which only enqueue, dead-letters replay and release need" in printed
        assert "queue work: fine: a lock lasts 60 s\n" in printed
        assert "queue work: fine: not partitioned, by the numbers of 3 messages" in printed
        assert "queue work: cannot be seen: duplicate detection" in printed
        code, printed = await checked(folder, "--json")
        answer = json.loads(printed)
        assert (code, answer["ok"]) == (0, True)
        assert {"level": "fine", "text": "we may listen"} in answer["queues"]["work"]
        counts = broker.counts("work")
        assert (counts.active, counts.locked) == (3, 0)
        async with client.get_queue_receiver("work") as receiver:
            (first,) = await receiver.receive_messages(max_message_count=1, max_wait_time=10)
            assert (first.sequence_number, first.delivery_count) == (1, 0)


@pytest.mark.parametrize(
    ("bus", "queue", "said"),
    [
        ({"key": "sends"}, {}, "the key or identity may not do this here; it needs the right to listen"),
        ({"key": "nobody"}, {}, "the key or token was not accepted; check the connection string"),
        ({"queue": "absent"}, {}, "there is no such queue in this namespace; check its name"),
        ({}, {"requires_session": True}, "the queue requires sessions"),
        ({}, {"lock_duration": timedelta(seconds=30)}, "a lock lasts 30 s and service_bus.lock_duration says 60 s"),
        ({}, {"max_delivery_count": 2}, "the broker gave a message up after 2 deliveries"),
    ],
)
async def test_what_is_wrong_at_the_broker_is_told_with_the_remedy_and_exit_code_1(
    certificate: TlsFiles, tmp_path: Path, bus: dict[str, Any], queue: dict[str, Any], said: str
) -> None:
    async with a_broker(certificate, **queue) as broker:
        if "lock_duration" in queue or "max_delivery_count" in queue:
            async with (
                client_of(broker, certificate) as client,
                client.get_queue_sender("work") as sender,
                client.get_queue_receiver("work") as receiver,
            ):
                await sender.send_messages(ServiceBusMessage("m"))
                for _ in range(queue.get("max_delivery_count", 0)):
                    (message,) = await receiver.receive_messages(max_message_count=1, max_wait_time=10)
                    await receiver.abandon_message(message)
        code, printed = await checked(a_config(tmp_path, broker, certificate, **bus))
    assert code == 1
    assert f": {said}" in printed
    assert "1 mistake at the broker" in printed


@pytest.mark.parametrize(("key", "code"), [("listens", 1), ("owner", 0)])
async def test_reply_queues_are_tried_for_the_right_to_send(
    certificate: TlsFiles, tmp_path: Path, key: str, code: int
) -> None:
    async with a_broker(certificate) as broker:
        exit_code, printed = await checked(a_config(tmp_path, broker, certificate, key=key, reply_to=["outcomes"]))
    assert exit_code == code
    if key == "owner":
        assert "queue outcomes: fine: we may send\n" in printed
    else:
        assert "queue outcomes: the key or identity may not do this here" in printed
        assert "'Send' claim(s) are required" in printed


async def test_a_partitioned_queue_is_found_by_its_numbers(certificate: TlsFiles, tmp_path: Path) -> None:
    async with a_broker(certificate) as broker, client_of(broker, certificate) as client:
        broker._entities["work"].queue.last_sequence = 5 << 48
        async with client.get_queue_sender("work") as sender:
            await sender.send_messages(ServiceBusMessage("m"))
        code, printed = await checked(a_config(tmp_path, broker, certificate))
    assert code == 1
    assert "queue work: the queue is partitioned" in printed


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_broker_that_is_not_there_or_not_trusted_is_exit_code_3_or_1(
    certificate: TlsFiles, tmp_path: Path, trusted: bool
) -> None:
    async with a_broker(certificate) as broker:
        folder = a_config(tmp_path, broker, certificate, **({} if trusted else {"ca_file": None}))
        if not trusted:
            code, printed = await checked(folder)
            assert code == 1
            assert "queue work: the broker's certificate is not trusted; name what signed it" in printed
            assert broker.tokens_shown == {}
    if trusted:
        code, printed = await checked(folder)
        assert code == 3
        assert "queue work: the broker does not answer: " in printed


async def test_mistakes_in_the_files_come_first_and_nobody_is_asked(certificate: TlsFiles, tmp_path: Path) -> None:
    async with a_broker(certificate) as broker:
        code, printed = await checked(a_config(tmp_path, broker, certificate, lock_duration="6m"))
        assert code == 2
        assert "service_bus.lock_duration: " in printed
        assert broker.tokens_shown == {}
