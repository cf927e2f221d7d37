"""Who we are to the broker, over TLS: tokens renewed in mid-burst, refusals that are told, recovery by itself."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.servicebus import TransportType
from structlog.testing import capture_logs

from dispatcher.embedded.broker import AccessPolicy, Broker, BrokerConfig, QueueConfig, Right, TlsFiles
from dispatcher.errors import OutcomeUnknown
from dispatcher.ports import Answer, DeadLetter, Delivery
from dispatcher.queue import Producer, ServiceBusConfig, ServiceBusQueue
from dispatcher.queue.access import ConnectionStringFile, Identity
from tests.identities import Issuer, ShortTokens, a_certificate

KEY = "geheim-of-the-owner"
ENTRA = Issuer()
ME = "object-id-of-the-dispatcher"
LETTER = DeadLetter("r", "d")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return a_certificate(tmp_path_factory.mktemp("tls"))


@asynccontextmanager
async def a_broker(
    certificate: TlsFiles, rights: frozenset[Right] = frozenset({Right.LISTEN})
) -> AsyncIterator[Broker]:
    config = BrokerConfig(
        queues=(QueueConfig("work", max_delivery_count=100),),
        shared_access_keys={"owner": KEY},
        access_policies=(
            AccessPolicy("listens", "geheim-l", frozenset({Right.LISTEN})),
            AccessPolicy("sends", "geheim-s", frozenset({Right.SEND})),
        ),
        token_issuer=ENTRA.trusted(ME, rights),
        tls=certificate,
    )
    async with Broker(config) as broker:
        yield broker


def over_tls(broker: Broker, certificate: TlsFiles) -> Mapping[str, Any]:
    endpoint = broker.endpoint.replace("127.0.0.1", "localhost")
    return {
        "custom_endpoint_address": endpoint,
        "transport_type": TransportType.Amqp,
        "connection_verify": str(certificate.certificate),
    }


def string(name: str = "owner", key: str = KEY) -> str:
    return f"Endpoint=sb://localhost/;SharedAccessKeyName={name};SharedAccessKey={key}"


def by_key(options: Mapping[str, Any], text: Callable[[], str] = string, **more: Any) -> ServiceBusConfig:
    return ServiceBusConfig(queue="work", connection_string=text, client_options=options, **more)


def by_identity(options: Mapping[str, Any], credential: Any, **more: Any) -> ServiceBusConfig:
    return ServiceBusConfig(
        queue="work", namespace="localhost", credential=lambda: credential, client_options=options, **more
    )


@asynccontextmanager
async def a_queue(config: ServiceBusConfig) -> AsyncIterator[tuple[ServiceBusQueue, asyncio.Event]]:
    bell = asyncio.Event()
    queue = ServiceBusQueue(config, on_news=bell.set)
    await queue.start()
    try:
        yield queue, bell
    finally:
        await queue.stop()


async def deliveries(queue: ServiceBusQueue, bell: asyncio.Event, count: int) -> list[Delivery]:
    got: list[Delivery] = []
    async with asyncio.timeout(40):
        while len(got) < count:
            bell.clear()
            got += await queue.receive(count - len(got))
            if len(got) < count:
                await bell.wait()
    return got


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.02)


# --- tokens that end ------------------------------------------------------------------------------------------------


class Life:
    """Sends items and lives their whole life with them; afterwards each has ended once."""

    def __init__(self, queue: ServiceBusQueue, bell: asyncio.Event, producer: Producer) -> None:
        self._queue, self._bell, self._producer = queue, bell, producer
        self.sent = 0
        self.ended: Counter[str] = Counter()

    async def portion(self, count: int) -> None:
        ids = [f"m-{self.sent + number}" for number in range(count)]
        await self._producer.send([(each, b"{}") for each in ids])
        self.sent += count
        numbers: dict[int, str] = {}
        while len(numbers) < count:
            for each in await deliveries(self._queue, self._bell, 1) + list(await self._queue.receive(count)):
                # Without an answer it may be deferred: then it is found again, and a second delivery is deferred again.
                answers = await self._queue.defer([each.lock_token])
                if set(answers.values()) == {Answer.DONE}:
                    numbers[each.message.sequence_number] = each.message.message_id
        first, *others = numbers
        await self._until_gone([first], lambda: self._queue.dead_letter_deferred(first, LETTER))
        await self._until_gone(others, lambda: self._queue.remove_deferred(others))
        self.ended.update(numbers.values())

    async def _until_gone(self, numbers: list[int], act: Callable[[], Any]) -> None:
        while await act() is not Answer.DONE:
            if set((await self._queue.look_up(numbers)).values()) == {None}:
                return


@pytest.mark.parametrize(
    ("seconds", "refreshes", "rebuilds"),
    [
        pytest.param(12, 3, False, id="renewed on the open link"),
        pytest.param(5, 6, True, id="so short that links end with them"),
    ],
)
@pytest.mark.timeout(180)
async def test_a_burst_goes_on_beyond_the_tokens_it_began_with_and_nothing_is_lost_or_done_twice(
    certificate: TlsFiles, seconds: int, refreshes: int, rebuilds: bool
) -> None:
    credential = ShortTokens(ENTRA, ME, seconds)
    async with (
        a_broker(certificate) as broker,
        a_queue(by_identity(over_tls(broker, certificate), Identity("workload", make=lambda: credential))) as (
            queue,
            bell,
        ),
        Producer(by_key(over_tls(broker, certificate))) as producer,
    ):
        life = Life(queue, bell, producer)
        await life.portion(20)
        shown = broker.tokens_shown["accepted"]
        until_s = time.monotonic() + 90
        while life.sent < 500 or broker.tokens_shown["accepted"] < shown + refreshes:
            assert time.monotonic() < until_s, broker.tokens_shown
            await life.portion(20)
            await asyncio.sleep(seconds / 30)  # the burst is to outlast the tokens
        counts = broker.counts("work")
        assert (counts.active, counts.locked, counts.deferred) == (0, 0, 0)
        assert broker.counts("work/$deadletterqueue").active == life.sent / 20
        assert life.ended == {f"m-{number}": 1 for number in range(life.sent)}
        assert broker.tokens_shown["refused"] == 0
        assert (queue.health().receivers_rebuilt > 0) is rebuilds
        assert queue.health().refused is None
    assert credential.scopes == {"https://servicebus.azure.net//.default"}


# --- refusals -------------------------------------------------------------------------------------------------------


class Lying:
    """A credential whose tokens are over when they are shown, until it is mended."""

    def __init__(self) -> None:
        self.object_id, self.seconds = ME, -60.0

    async def get_token(self, *_scopes: str, **_kwargs: Any) -> AccessToken:
        return AccessToken(ENTRA.token(self.object_id, time.time() + self.seconds), int(time.time()) + 3600)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (string(key="geheim-but-wrong"), "the key or token was not accepted; check"),
        (string("unknown", "geheim-x"), "the key or token was not accepted; check"),
        (string("sends", "geheim-s"), "'Listen' claim(s) are required"),
    ],
)
async def test_a_key_that_is_refused_is_told_without_it_and_followed_when_it_is_mended(
    certificate: TlsFiles, tmp_path: Path, wrong: str, said: str
) -> None:
    path = tmp_path / "connection-string"
    path.write_text(wrong)
    async with a_broker(certificate) as broker, Producer(by_key(over_tls(broker, certificate))) as producer:
        await producer.send([("m-1", b"{}")])
        with capture_logs() as logs:
            config = by_key(
                over_tls(broker, certificate),
                ConnectionStringFile(path),
                backoff_min_seconds=300.0,
                refused_backoff_max_seconds=300.0,
            )
            async with a_queue(config) as (queue, bell):
                await queue.receive(1)
                await until(lambda: queue.health().refused is not None)
                refused = queue.health().refused
                assert refused is not None
                assert said in refused
                assert queue.health().alive
                # A pause of some minutes is under way; the file ends it.
                path.write_text(string("listens", "geheim-l"))
                (delivery,) = await deliveries(queue, bell, 1)
                assert set((await queue.defer([delivery.lock_token])).values()) == {Answer.DONE}
                assert queue.health().refused is None
    events = [entry["event"] for entry in logs if entry["log_level"] in ("error", "warning")]
    assert events == ["queue.refused", "connection_string.changed"]
    assert "geheim" not in str(logs) + refused


async def test_a_key_that_is_rotated_in_mid_work_keeps_what_is_held(certificate: TlsFiles, tmp_path: Path) -> None:
    path = tmp_path / "connection-string"
    path.write_text(string("listens", "geheim-l"))
    async with a_broker(certificate) as broker, Producer(by_key(over_tls(broker, certificate))) as producer:
        async with a_queue(by_key(over_tls(broker, certificate), ConnectionStringFile(path))) as (queue, bell):
            await producer.send([(f"m-{number}", b"{}") for number in range(40)])
            held = await deliveries(queue, bell, 20)
            path.write_text(string())
            await until(lambda: queue.health().clients_rebuilt == 1)
            held += await deliveries(queue, bell, 20)
            answers = await queue.defer([each.lock_token for each in held])
            assert Counter(answers.values()) == {Answer.DONE: 40}
            numbers = [each.message.sequence_number for each in held]
            assert len(set(numbers)) == 40
            assert await queue.remove_deferred(numbers) is Answer.DONE
        counts = broker.counts("work")
        assert (counts.active, counts.locked, counts.deferred) == (0, 0, 0)


@pytest.mark.parametrize(
    ("object_id", "seconds", "said"),
    [
        (ME, -60.0, "ExpiredToken: the token has expired"),
        ("somebody-else", 600.0, "the identity has no role here"),
    ],
)
async def test_a_token_that_is_refused_is_told_and_the_next_good_one_is_taken(
    certificate: TlsFiles, object_id: str, seconds: float, said: str
) -> None:
    credential = Lying()
    credential.object_id, credential.seconds = object_id, seconds
    async with (
        a_broker(certificate) as broker,
        a_queue(by_identity(over_tls(broker, certificate), credential)) as (queue, _),
    ):
        await queue.receive(1)
        await until(lambda: queue.health().refused is not None)
        refused = queue.health().refused
        assert refused is not None
        assert refused.startswith("the key or token was not accepted; check the connection string or identity")
        assert said in refused
        credential.object_id, credential.seconds = ME, 600.0
        await until(lambda: queue.health().refused is None)
        await until(lambda: queue.health().last_receive_age_seconds is not None)


async def test_an_identity_without_a_token_is_told_as_that_and_asked_again(certificate: TlsFiles) -> None:
    credential = ShortTokens(ENTRA, ME, 600)
    answers: list[Exception] = [OSError("no route to the endpoint of identities")] * 2

    def make() -> ShortTokens:
        if answers:
            raise answers.pop()
        return credential

    async with (
        a_broker(certificate) as broker,
        a_queue(by_identity(over_tls(broker, certificate), Identity("managed", make=make))) as (queue, _),
    ):
        await queue.receive(1)
        await until(lambda: queue.health().refused is not None)
        refused = queue.health().refused
        assert refused is not None
        assert refused.startswith("the managed identity gives no token; check that the machine has the identity")
        await until(lambda: queue.health().last_receive_age_seconds is not None)


async def test_a_broker_whose_certificate_is_not_trusted_gets_neither_work_nor_secrets(certificate: TlsFiles) -> None:
    async with a_broker(certificate) as broker:
        options = {key: value for key, value in over_tls(broker, certificate).items() if key != "connection_verify"}
        async with a_queue(by_key(options)) as (queue, _):
            await queue.receive(1)
            await until(lambda: queue.health().refused is not None)
            refused = queue.health().refused
        assert refused is not None
        assert refused.startswith("the broker's certificate is not trusted; name what signed it in service_bus.ca_file")
        assert broker.tokens_shown == {}
        assert KEY not in refused


@pytest.mark.parametrize("by", ["key", "identity"])
async def test_a_rule_that_only_reads_may_not_send(certificate: TlsFiles, by: str) -> None:
    async with a_broker(certificate) as broker:
        options = over_tls(broker, certificate)
        config = (
            by_key(options, lambda: string("listens", "geheim-l"))
            if by == "key"
            else by_identity(options, ShortTokens(ENTRA, ME, 600))
        )
        async with Producer(config) as producer:
            with pytest.raises(OutcomeUnknown, match=r"0 of 1.*'Send' claim\(s\) are required") as refused:
                await producer.send([("m-1", b"{}")])
        assert "geheim" not in str(refused.value)
        assert broker.counts("work").active == 0
