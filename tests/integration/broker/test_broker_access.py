"""Keys, tokens and TLS: who may do what, for how long, over which wire."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.servicebus import ServiceBusMessage, ServiceBusSubQueue, TransportType
from azure.servicebus._pyamqp.utils import generate_sas_token
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.exceptions import (
    MessagingEntityDisabledError,
    ServiceBusAuthenticationError,
    ServiceBusAuthorizationError,
    ServiceBusConnectionError,
    ServiceBusError,
)
from broker_sdk import receive, receiver_of, send

from dispatcher.embedded.broker import AccessPolicy, Broker, BrokerConfig, BrokerError, QueueConfig, Right, TlsFiles
from tests.identities import a_certificate

JOBS = QueueConfig("jobs")


def connect(broker: Broker, policy: AccessPolicy | None = None, **more: Any) -> ServiceBusClient:
    text = broker.connection_string
    if policy is not None:
        text = f"Endpoint={broker.endpoint};SharedAccessKeyName={policy.name};SharedAccessKey={policy.key};"
        text += "UseDevelopmentEmulator=true;"
    return ServiceBusClient.from_connection_string(text, retry_total=0, **more)


async def test_a_key_that_may_send_may_not_listen_nor_ask_for_what_listeners_ask() -> None:
    policy = AccessPolicy("producer", "k1", frozenset({Right.SEND}))
    async with Broker(BrokerConfig(queues=(JOBS,), access_policies=(policy,))) as broker:
        async with connect(broker, policy) as client:
            await send(client, "jobs", "one")
            async with client.get_queue_sender("jobs") as sender:
                due = datetime.now(UTC) + timedelta(hours=1)
                numbers = await sender.schedule_messages(ServiceBusMessage("later"), due)
                await sender.cancel_scheduled_messages(numbers)
            with pytest.raises(ServiceBusAuthorizationError):
                await client.get_queue_receiver("jobs").__aenter__()
        assert broker.counts("jobs").active == 1


async def test_a_key_that_may_listen_may_not_send_nor_schedule() -> None:
    policy = AccessPolicy("consumer", "k2", frozenset({Right.LISTEN}))
    async with Broker(BrokerConfig(queues=(JOBS,), access_policies=(policy,))) as broker:
        async with connect(broker) as client:
            await send(client, "jobs", "one")
        async with connect(broker, policy) as client:
            async with receiver_of(client, "jobs") as receiver:
                assert len(await receiver.peek_messages(1)) == 1
                (message,) = await receive(receiver, 1)
                await receiver.renew_message_lock(message)
                await receiver.complete_message(message)
            with pytest.raises(ServiceBusAuthorizationError):
                await client.get_queue_sender("jobs").__aenter__()


async def test_a_key_of_one_queue_is_refused_at_another() -> None:
    policy = AccessPolicy("own", "k3", queue="jobs")
    config = BrokerConfig(queues=(JOBS, QueueConfig("other")), access_policies=(policy,))
    async with Broker(config) as broker, connect(broker, policy) as client:
        await send(client, "jobs", "one")
        with pytest.raises(ServiceBusAuthenticationError):
            await client.get_queue_sender("other").__aenter__()


class ShortTokens:
    """A credential whose tokens live for ten seconds: the SDK renews them in the last tenth."""

    token_type = b"servicebus.windows.net:sastoken"

    def __init__(self, broker: Broker) -> None:
        self._key = next(iter(broker.config.shared_access_keys.items()))
        self.made = 0

    async def get_token(self, *scopes: str, **_kwargs: Any) -> AccessToken:
        self.made += 1
        expiry = int(time.time()) + 10
        return AccessToken(generate_sas_token(scopes[0], *self._key, expiry), expiry)


async def test_a_client_that_refreshes_its_token_goes_on_beyond_the_first_one() -> None:
    async with Broker(BrokerConfig(queues=(JOBS,))) as broker:
        credential = ShortTokens(broker)
        # The SDK speaks plain TCP only with a connection string, so its credential is put in afterwards.
        async with connect(broker) as client:
            client._credential = credential
            async with client.get_queue_sender("jobs", socket_timeout=0.02) as sender:
                until_s = time.monotonic() + 12
                sent = 0
                while time.monotonic() < until_s:
                    await sender.send_messages(ServiceBusMessage("x"))
                    sent += 1
                    await asyncio.sleep(0.1)
        assert credential.made == 2
        assert broker.counts("jobs").active == sent


async def test_a_link_that_nobody_uses_is_detached_and_one_that_is_used_is_not() -> None:
    config = BrokerConfig(queues=(JOBS,), link_idle_timeout=timedelta(seconds=1))
    async with (
        Broker(config) as broker,
        connect(broker) as client,
        client.get_queue_sender("jobs", socket_timeout=0.02) as idle,
        client.get_queue_sender("jobs", socket_timeout=0.02) as busy,
    ):
        used = busy._handler._link
        for _ in range(20):
            await busy.send_messages(ServiceBusMessage("x"))
            await asyncio.sleep(0.1)
        with pytest.raises(ServiceBusError):  # what the SDK makes of it depends on when it looks
            await idle.send_messages(ServiceBusMessage("x"))
        assert busy._handler._link is used
        assert broker.counts("jobs").active == 20


async def test_a_client_with_retries_does_not_notice_that_its_link_was_idle() -> None:
    config = BrokerConfig(queues=(JOBS,), link_idle_timeout=timedelta(seconds=1))
    async with (
        Broker(config) as broker,
        ServiceBusClient.from_connection_string(broker.connection_string) as client,
        client.get_queue_sender("jobs", socket_timeout=0.02) as sender,
    ):
        await sender.send_messages(ServiceBusMessage("x"))
        await asyncio.sleep(1.2)
        await sender.send_messages(ServiceBusMessage("x"))
        assert broker.counts("jobs").active == 2


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """A certificate for localhost, made for this run."""
    return a_certificate(tmp_path_factory.mktemp("tls"))


def connect_tls(broker: Broker, **more: Any) -> ServiceBusClient:
    return ServiceBusClient.from_connection_string(
        broker.connection_string,
        custom_endpoint_address=broker.endpoint.replace("127.0.0.1", "localhost"),
        transport_type=TransportType.Amqp,
        retry_total=0,
        **more,
    )


async def test_a_round_trip_over_tls(certificate: TlsFiles) -> None:
    async with Broker(BrokerConfig(queues=(JOBS,), tls=certificate)) as broker:
        assert "UseDevelopmentEmulator" not in broker.connection_string
        async with connect_tls(broker, connection_verify=str(certificate.certificate)) as client:
            await send(client, "jobs", "x" * 200_000)
            async with receiver_of(client, "jobs") as receiver:
                (message,) = await receive(receiver, 1)
                assert len(str(message)) == 200_000
                await receiver.complete_message(message)
        assert broker.counts("jobs").locked == 0


async def test_a_client_that_does_not_trust_the_certificate_gets_no_connection(certificate: TlsFiles) -> None:
    async with Broker(BrokerConfig(queues=(JOBS,), tls=certificate)) as broker, connect_tls(broker) as client:
        with pytest.raises(ServiceBusConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            await client.get_queue_sender("jobs").__aenter__()


async def test_plain_tcp_is_not_served_where_tls_is(certificate: TlsFiles) -> None:
    async with Broker(BrokerConfig(queues=(JOBS,), tls=certificate)) as broker:
        text = broker.connection_string + "UseDevelopmentEmulator=true;"
        async with ServiceBusClient.from_connection_string(text, retry_total=0) as client:
            with pytest.raises(ServiceBusError):
                await client.get_queue_sender("jobs").__aenter__()


async def test_tls_is_served_beside_plain_tcp_where_it_has_a_port_of_its_own(certificate: TlsFiles) -> None:
    async with Broker(BrokerConfig(queues=(JOBS,), tls=certificate, tls_port=0)) as broker:
        assert broker.tls_port not in (None, 0, broker.port)
        async with connect(broker) as client:
            await send(client, "jobs", "plain")
        endpoint = f"sb://localhost:{broker.tls_port}"
        secret = broker.connection_string.replace("UseDevelopmentEmulator=true;", "")
        trusted = str(certificate.certificate)
        over_tls = ServiceBusClient.from_connection_string(
            secret, custom_endpoint_address=endpoint, transport_type=TransportType.Amqp, connection_verify=trusted
        )
        async with over_tls, receiver_of(over_tls, "jobs") as receiver:
            assert [str(message) for message in await receive(receiver, 1)] == ["plain"]


async def test_a_queue_that_is_disabled_refuses_everybody_and_keeps_what_is_in_it(tmp_path: Path) -> None:
    journal = tmp_path / "broker.db"
    async with Broker(BrokerConfig(queues=(JOBS,), journal_path=journal)) as broker, connect(broker) as client:
        await send(client, "jobs", "kept")
    disabled = QueueConfig("jobs", enabled=False)
    config = BrokerConfig(queues=(disabled, QueueConfig("mails")), journal_path=journal)
    async with Broker(config) as broker, connect(broker) as client:
        doors = (
            client.get_queue_sender("jobs"),
            client.get_queue_receiver("jobs"),
            client.get_queue_receiver("jobs", sub_queue=ServiceBusSubQueue.DEAD_LETTER),
        )
        for door in doors:
            with pytest.raises(MessagingEntityDisabledError):
                await door.__aenter__()
        await send(client, "mails", "taken")
        assert broker.counts("jobs").active == 1


async def test_a_queue_that_requires_sessions_refuses_receivers_without() -> None:
    async with (
        Broker(BrokerConfig(queues=(QueueConfig("jobs", requires_session=True),))) as broker,
        connect(broker) as c,
    ):
        with pytest.raises(ServiceBusError, match="requires sessions"):
            await c.get_queue_receiver("jobs").__aenter__()


async def test_a_certificate_that_is_none_is_told_in_one_line(tmp_path: Path) -> None:
    files = TlsFiles(tmp_path / "no.pem", tmp_path / "no.key")
    with pytest.raises(BrokerError, match=r"tls: .*no\.pem"):
        await Broker(BrokerConfig(queues=(JOBS,), tls=files)).start()


@pytest.mark.parametrize(
    ("policies", "reason"),
    [
        ((AccessPolicy("a", "k"), AccessPolicy("a", "l")), "same name"),
        ((AccessPolicy("RootManageSharedAccessKey", "k"),), "same name"),
        ((AccessPolicy("a", "k", queue="nowhere"),), "its queue"),
    ],
)
def test_policies_that_make_no_sense_are_refused(policies: tuple[AccessPolicy, ...], reason: str) -> None:
    with pytest.raises(BrokerError, match=reason):
        BrokerConfig(queues=(JOBS,), access_policies=policies)
