"""Sends by HTTP as the REST reference has them, received by the real SDK."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote_plus

import aiohttp
import pytest
from azure.servicebus.aio import ServiceBusClient
from broker_sdk import close, receive, receiver_of, until

from dispatcher.embedded.broker import AccessPolicy, Broker, BrokerConfig, Fault, QueueConfig, Right
from dispatcher.embedded.broker.http_messages import BATCH_TYPE

ROOT = ("RootManageSharedAccessKey", "loopback-only")
SEND = ("reports-send", "send-only-key")
LISTEN = ("jobs-listen", "listen-only-key")


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    config = BrokerConfig(
        queues=(
            QueueConfig("reports", max_message_size=4096),
            QueueConfig("jobs", max_size=8192, duplicate_detection_window=timedelta(minutes=1)),
            QueueConfig("closed", enabled=False),
        ),
        access_policies=(
            AccessPolicy(*SEND, frozenset({Right.SEND}), "reports"),
            AccessPolicy(*LISTEN, frozenset({Right.LISTEN})),
        ),
    )
    async with Broker(config) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session


def token(audience: str, key: tuple[str, str] = ROOT, seconds: float = 600) -> str:
    name, secret = key
    resource, expiry = quote_plus(audience), int(time.time() + seconds)
    signed = hmac.new(secret.encode(), f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()
    return f"SharedAccessSignature sr={resource}&sig={quote_plus(base64.b64encode(signed))}&se={expiry}&skn={name}"


def url(broker: Broker, queue: str = "reports") -> str:
    return f"http://127.0.0.1:{broker.port}/{queue}"


async def post(
    http: aiohttp.ClientSession,
    broker: Broker,
    body: bytes = b"hello",
    queue: str = "reports",
    shown: str | None = "",
    **headers: Any,
) -> tuple[int, str]:
    """Status and text; ``shown`` is the token, by default one that opens everything."""
    if shown is not None:
        headers["Authorization"] = shown or token(url(broker, queue))
    async with http.post(f"{url(broker, queue)}/messages", data=body, headers=headers) as answer:
        return answer.status, await answer.text()


async def test_what_is_sent_by_http_arrives_as_if_it_had_been_sent_by_the_sdk(
    broker: Broker, client: ServiceBusClient, http: aiohttp.ClientSession
) -> None:
    properties = {
        "MessageId": "m-1", "Label": "burst.report", "CorrelationId": "c", "To": "t", "ReplyTo": "r",
        "TimeToLive": 90, "PartitionKey": "s", "SessionId": "s", "ReplyToSessionId": "rs", "SequenceNumber": 7,
    }  # fmt: skip
    headers = {"BrokerProperties": json.dumps(properties), "Priority": '"High"', "Count": "3", "Odd": "no json"}
    status, text = await post(http, broker, '{"ö": 1}'.encode(), **{"Content-Type": "application/json", **headers})
    assert (status, text) == (201, ""), text
    (message,) = await receive(receiver_of(client, "reports"), 1)
    assert b"".join(message.body) == '{"ö": 1}'.encode()
    assert (message.message_id, message.subject, message.correlation_id) == ("m-1", "burst.report", "c")
    assert (message.to, message.reply_to, message.session_id, message.reply_to_session_id) == ("t", "r", "s", "rs")
    assert (message.content_type, message.partition_key) == ("application/json", "s")
    assert message.time_to_live == timedelta(seconds=90)
    assert message.application_properties == {b"Priority": b"High", b"Count": 3}
    assert message.sequence_number == 1


async def test_a_message_without_an_id_gets_one(
    broker: Broker, client: ServiceBusClient, http: aiohttp.ClientSession
) -> None:
    assert (await post(http, broker))[0] == 201
    assert (await post(http, broker, BrokerProperties='{"TimeToLiveTimeSpan": "0.00:00:40.5000000"}'))[0] == 201
    first, second = await receive(receiver_of(client, "reports"), 2)
    assert first.message_id
    assert second.message_id
    assert first.message_id != second.message_id
    assert second.time_to_live == timedelta(seconds=40.5)


async def test_a_scheduled_message_waits_for_its_time(
    broker: Broker, client: ServiceBusClient, http: aiohttp.ClientSession
) -> None:
    due = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    assert (await post(http, broker, BrokerProperties=json.dumps({"ScheduledEnqueueTimeUtc": due})))[0] == 201
    await until(lambda: broker.counts("reports").scheduled == 1)
    assert broker.counts("reports").active == 0


async def test_a_batch_is_accepted_as_a_whole(
    broker: Broker, client: ServiceBusClient, http: aiohttp.ClientSession
) -> None:
    batch = [
        {"Body": "one", "BrokerProperties": {"Label": "M1", "TimeToLiveTimeSpan": "0.00:00:40"}},
        {"Body": "two", "UserProperties": {"Priority": "High", "Count": 2}},
    ]
    assert (await post(http, broker, json.dumps(batch).encode(), **{"Content-Type": BATCH_TYPE}))[0] == 201
    first, second = await receive(receiver_of(client, "reports"), 2)
    assert (str(first), first.subject) == ("one", "M1")
    assert (str(second), second.application_properties) == ("two", {b"Priority": b"High", b"Count": 2})
    batch.append({"Body": 3})
    assert (await post(http, broker, json.dumps(batch).encode(), **{"Content-Type": BATCH_TYPE}))[0] == 400
    assert broker.counts("reports").entered == 2


async def test_duplicate_detection_swallows_what_is_sent_again(broker: Broker, http: aiohttp.ClientSession) -> None:
    for _ in range(3):
        assert (await post(http, broker, queue="jobs", BrokerProperties='{"MessageId": "same"}'))[0] == 201
    assert broker.counts("jobs").entered == 1


@pytest.mark.parametrize(
    ("key", "audience", "seconds", "detail"),
    [
        (None, "", 600, "MissingToken"),
        (("reports-send", "another key"), "/reports", 600, "signature does not match"),
        (("nobody", "x"), "/reports", 600, "signature does not match"),
        (SEND, "/reports", -1, "expired"),
        (SEND, "/jobs", 600, "another entity"),
        (LISTEN, "/reports", 600, "'Send' claim"),
    ],
)
async def test_who_may_not_send_is_told_401(
    broker: Broker,
    http: aiohttp.ClientSession,
    key: tuple[str, str] | None,
    audience: str,
    seconds: float,
    detail: str,
) -> None:
    shown = None if key is None else token(f"http://127.0.0.1:{broker.port}{audience}", key, seconds)
    status, text = await post(http, broker, shown=shown)
    assert status == 401
    assert detail in text
    assert text.startswith("<Error><Code>401</Code><Detail>")
    assert broker.counts("reports").entered == 0


@pytest.mark.parametrize("audience", ["http://127.0.0.1:{port}/reports", "127.0.0.1:{port}/reports",
                                      "SB://127.0.0.1:{port}/Reports/", "http://127.0.0.1:{port}"])  # fmt: skip
async def test_a_token_may_be_made_for_the_queue_or_all_of_them_with_a_scheme_or_without(
    broker: Broker, http: aiohttp.ClientSession, audience: str
) -> None:
    shown = token(audience.format(port=broker.port), SEND)
    assert (await post(http, broker, shown=shown))[0] == 201


async def test_a_queue_that_is_not_there_is_410_and_only_for_those_who_may_send(
    broker: Broker, http: aiohttp.ClientSession
) -> None:
    assert (await post(http, broker, queue="elsewhere"))[0] == 410
    assert (await post(http, broker, queue="elsewhere", shown=token(url(broker, "elsewhere"), LISTEN)))[0] == 401
    assert (await post(http, broker, queue="reports/$deadletterqueue"))[0] == 410
    assert (await post(http, broker, queue="closed"))[0] == 403


async def test_what_is_too_large_or_has_no_room_is_403(broker: Broker, http: aiohttp.ClientSession) -> None:
    status, text = await post(http, broker, b"x" * 5000)
    assert (status, "larger than the 4096 bytes" in text) == (403, True)

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 1000

    async with http.post(
        f"{url(broker)}/messages", data=endless(), headers={"Authorization": token(url(broker))}
    ) as answer:
        assert answer.status == 403
    for _ in range(2):
        assert (await post(http, broker, b"x" * 3000, queue="jobs"))[0] == 201
    status, text = await post(http, broker, b"x" * 3000, queue="jobs")
    assert (status, "maximum entity size" in text) == (403, True)
    assert broker.counts("jobs").entered == 2


@pytest.mark.parametrize(
    "properties", ["{", "[]", '{"MessageId": 7}', '{"TimeToLive": "soon"}', '{"TimeToLiveTimeSpan": "1 day"}',
                   '{"TimeToLive": 0}', '{"ScheduledEnqueueTimeUtc": "tomorrow"}'],
)  # fmt: skip
async def test_what_is_no_message_is_400_and_says_why(
    broker: Broker, http: aiohttp.ClientSession, properties: str
) -> None:
    status, text = await post(http, broker, BrokerProperties=properties)
    assert (status, "BrokerProperties" in text) == (400, True)
    assert broker.counts("reports").entered == 0


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/reports/messages", 405), ("POST", "/reports", 404),
                                                        ("DELETE", "/reports/messages/head", 404)])  # fmt: skip
async def test_nothing_else_is_offered(
    broker: Broker, http: aiohttp.ClientSession, method: str, path: str, status: int
) -> None:
    async with http.request(method, f"http://127.0.0.1:{broker.port}{path}") as answer:
        assert answer.status == status


async def test_faults_of_sending_bite_here_too(broker: Broker, http: aiohttp.ClientSession) -> None:
    broker.faults.arm(Fault.THROTTLE, value=0.001)
    assert (await post(http, broker))[0] == 201  # one credit is saved up
    async with http.post(f"{url(broker)}/messages", headers={"Authorization": token(url(broker))}) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
    broker.faults.disarm()
    for fault, status in ((Fault.DENY_TOKENS, 401), (Fault.FILL_QUOTA, 403), (Fault.DISABLE_QUEUE, 403)):
        broker.faults.arm(fault, queue="reports", times=1)
        assert (await post(http, broker))[0] == status
        assert (await post(http, broker))[0] == 201


async def test_one_port_serves_both_and_shows_out_who_says_nothing_of_either(
    broker: Broker, client: ServiceBusClient, http: aiohttp.ClientSession
) -> None:
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
        writer.write(b"\x16\x03\x01 this is neither\r\n\r\n")
        assert (await reader.read()).startswith(b"AMQP")
        writer.close()
        silent_reader, silent_writer = await asyncio.open_connection("127.0.0.1", broker.port)
        silent_writer.write(b"AMQ")
        await silent_writer.drain()
        assert (await post(http, broker))[0] == 201
        await receive(receiver_of(client, "reports"), 1)
        await close(client)
        await broker.stop()
        with contextlib.suppress(ConnectionError):  # a client that hangs on is not waited for
            assert await silent_reader.read() == b""
        silent_writer.close()
