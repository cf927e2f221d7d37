"""What the SDK's errors prove."""

from __future__ import annotations

import asyncio

import pytest
from azure.servicebus import exceptions as sdk
from azure.servicebus._pyamqp.aio._client_async import ReceiveClientAsync
from azure.servicebus._pyamqp.aio._receiver_async import ReceiverLink
from azure.servicebus._pyamqp.aio._session_async import Session
from azure.servicebus.aio import ServiceBusReceiver
from azure.servicebus.aio._transport._pyamqp_transport_async import PyamqpTransportAsync

from dispatcher.errors import BadConfiguration
from dispatcher.ports import Answer
from dispatcher.queue.config import ServiceBusConfig
from dispatcher.queue.links import bounded, patiently
from dispatcher.queue.sdk import NoOutcome
from dispatcher.queue.translate import answer_to, breaks_link, is_busy, refusal, told


@pytest.mark.parametrize(
    ("error", "answer", "breaks"),
    [
        (sdk.MessageLockLostError(), Answer.CONFLICT, False),
        (sdk.MessageNotFoundError(), Answer.NOT_FOUND, False),
        (sdk.MessageSizeExceededError(), Answer.REFUSED, False),
        (sdk.ServiceBusServerBusyError(), Answer.UNKNOWN, False),
        (sdk.MessagingEntityNotFoundError(), Answer.REFUSED, True),
        (sdk.ServiceBusAuthenticationError(), Answer.REFUSED, True),
        (sdk.ServiceBusConnectionError(), Answer.UNKNOWN, True),
        (sdk.OperationTimeoutError(), Answer.UNKNOWN, True),
        (NoOutcome(), Answer.UNKNOWN, True),
        (sdk.ServiceBusError("no", condition=b"amqp:not-allowed"), Answer.REFUSED, True),
        (sdk.ServiceBusError("what", condition=b"amqp:internal-error"), Answer.UNKNOWN, True),
        (TimeoutError(), Answer.UNKNOWN, True),
        (KeyError("anything else"), Answer.UNKNOWN, True),
    ],
)
def test_only_what_is_known_to_prove_something_is_more_than_unknown(
    error: Exception, answer: Answer, breaks: bool
) -> None:
    assert answer_to(error) == answer
    assert breaks_link(error) is breaks


def test_a_refusal_says_what_to_mend() -> None:
    assert "no such queue" in str(refusal(sdk.MessagingEntityNotFoundError()))
    assert "key or token" in str(refusal(sdk.ServiceBusAuthenticationError()))
    assert refusal(sdk.ServiceBusConnectionError()) is None
    assert refusal(TimeoutError()) is None


def test_errors_are_told_on_one_line_without_secrets() -> None:
    text = told(
        ValueError(
            "bad\nEndpoint=sb://x;SharedAccessKeyName=n;SharedAccessKey=c2VjcmV0=;q sig=abc%3D&se=1 " + "x" * 999
        )
    )
    assert "c2VjcmV0" not in text
    assert "abc" not in text
    assert "\n" not in text
    assert len(text) <= 300
    assert told(ValueError("access_token: geheim, ExpiredToken: The token is expired")).endswith(
        "access_token: ... ExpiredToken: The token is expired"
    )


@pytest.mark.parametrize(
    "error",
    [
        sdk.ServiceBusAuthenticationError(message="Handler failed: CBS Authentication Expired."),
        sdk.ServiceBusConnectionError(message="Handler failed: CBS Authentication Expired."),
        sdk.ServiceBusAuthorizationError(message="ExpiredToken: The token is expired. Expiration time: ..."),
    ],
)
def test_a_token_that_ended_on_an_open_link_proves_nothing_and_is_no_refusal(error: Exception) -> None:
    assert answer_to(error) is Answer.UNKNOWN
    assert refusal(error) is None
    assert breaks_link(error)


def test_the_sdk_still_has_what_is_used_of_it_by_private_name() -> None:
    assert asyncio.iscoroutinefunction(ServiceBusReceiver._settle_message_via_mgmt_link)
    assert asyncio.iscoroutinefunction(PyamqpTransportAsync.drain_and_release_messages_async)
    assert asyncio.iscoroutinefunction(Session._outgoing_disposition)
    assert asyncio.iscoroutinefunction(ReceiveClientAsync.settle_messages_async)
    assert {"_pending_dispositions", "_received_delivery_tags"} <= set(ReceiverLink.__init__.__code__.co_names)


async def test_work_that_ignores_being_cancelled_is_left_behind() -> None:
    async def stubborn() -> None:
        for _ in range(3):
            try:
                await asyncio.sleep(1.2)
            except asyncio.CancelledError:
                continue

    with pytest.raises(TimeoutError, match=r"within 0\.05 s"):
        async with asyncio.timeout(2):
            await bounded(stubborn(), 0.05)


async def test_a_result_that_comes_in_time_or_in_the_grace_is_taken() -> None:
    async def late() -> str:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
        return "done"

    assert await bounded(late(), 0.05) == "done"


async def test_a_busy_broker_is_asked_again_until_the_time_is_over_and_nothing_else_is() -> None:
    calls: list[Exception] = [sdk.ServiceBusServerBusyError(), sdk.ServiceBusServerBusyError()]

    async def call() -> str:
        if calls:
            raise calls.pop(0)
        return "done"

    assert await patiently(call, 5) == "done"
    calls[:] = [sdk.ServiceBusServerBusyError() for _ in range(1000)]
    with pytest.raises(sdk.ServiceBusServerBusyError) as caught:
        await patiently(call, 0.3)
    assert is_busy(caught.value)
    calls[:] = [sdk.ServiceBusConnectionError()]
    with pytest.raises(sdk.ServiceBusConnectionError):
        await patiently(call, 5)


def test_a_configuration_that_cannot_work_tells_every_mistake_and_no_secret() -> None:
    with pytest.raises(BadConfiguration) as caught:
        ServiceBusConfig(queue="", namespace="n", receive_batch_max=0, operations_per_second=0)
    assert len(caught.value.mistakes) == 4
    config = ServiceBusConfig(queue="work", connection_string=lambda: "SharedAccessKey=s3cret")
    assert "s3cret" not in repr(config)
