"""Messages in every form, sent with nothing but the SDK, through the broker and the adapter: what arrives is the work
that was asked for, and it reads the same when it is peeked at after it was deferred."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.amqp import AmqpAnnotatedMessage, AmqpMessageProperties
from cloudevents.core.bindings import amqp
from cloudevents.core.v1.event import CloudEvent
from queue_kit import a_broker, a_queue, deliveries

from dispatcher.core.trace import TraceContext
from dispatcher.core.units import Resources
from dispatcher.core.work import Task, WorkItem
from dispatcher.errors import BadMessage
from dispatcher.ports import Answer, Message, MessageState
from dispatcher.queue import QueueRules, TaskTable, to_item

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE = TraceContext(PARENT, "vendor=1")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PARAMS = {"country": "Côte d'Ivoire"}
REQUESTED = "com.example.report.requested"
TASK = Task(name="report", image="i", command=("c",), requests=Resources(100, 1), event_types=(REQUESTED,))
TABLE = TaskTable.of([TASK])
RULES = QueueRules(tenants=("acme", "globex"), priority_max=9)
ATTRIBUTES = {
    "specversion": "1.0", "type": REQUESTED, "source": "/shop", "id": "event-1", "time": NOON,
    "tenant": "acme", "priority": 3, "datacontenttype": "application/json",
}  # fmt: skip


def an_event(**changed: Any) -> CloudEvent:
    return CloudEvent({**ATTRIBUTES, **changed}, PARAMS)


def as_message(written: amqp.AMQPMessage, message_id: str | None = None, **properties: Any) -> ServiceBusMessage:
    attributes = dict(written.application_properties)
    for name in attributes.keys() & {"cloudEvents_time", "cloudEvents:time"}:
        attributes[name] = NOON  # the library writes a number that the SDK takes for one of 32 bits, and refuses
    return ServiceBusMessage(
        written.application_data,
        content_type=written.properties["content-type"],
        application_properties={**attributes, **properties},
        message_id=message_id,
    )


def with_colons(written: amqp.AMQPMessage) -> amqp.AMQPMessage:
    colons = {name.replace("cloudEvents_", "cloudEvents:"): v for name, v in written.application_properties.items()}
    return amqp.AMQPMessage(written.properties, colons, written.application_data)


BODY = json.dumps({"task": "report", "tenant": "acme", "params": PARAMS, "priority": 3})
TRACED = {"traceparent": PARENT, "tracestate": "vendor=1"}
MESSAGES = {
    "JSON": ServiceBusMessage(BODY, message_id="m-1", application_properties=TRACED),
    "JSON and properties": ServiceBusMessage(
        json.dumps({"params": PARAMS}),
        message_id="m-1",
        content_type="application/json",
        application_properties={"task": "report", "tenant": "acme", "priority": 3, **TRACED},
    ),
    "JSON as an AMQP value": AmqpAnnotatedMessage(
        value_body=BODY, properties=AmqpMessageProperties(message_id="m-1"), application_properties=TRACED
    ),
    "JSON in two data sections": AmqpAnnotatedMessage(
        data_body=[BODY[:20].encode(), BODY[20:].encode()],
        properties=AmqpMessageProperties(message_id="m-1"),
        application_properties=TRACED,
    ),
    "structured event": as_message(amqp.to_structured_event(an_event(**TRACED)), "m-1"),
    "structured event, traced by its sender": as_message(amqp.to_structured_event(an_event()), "m-1", **TRACED),
    "binary event": as_message(amqp.to_binary_event(an_event(**TRACED)), "m-1"),
    "binary event with colons": as_message(with_colons(amqp.to_binary_event(an_event(**TRACED))), "m-1"),
    "event in a message without an id": AmqpAnnotatedMessage(
        data_body=[json.dumps(PARAMS).encode()],
        application_properties={
            f"cloudEvents:{name}": value for name, value in {**ATTRIBUTES, **TRACED, "id": "m-1"}.items()
        },
    ),
}


def read(message: Message) -> WorkItem:
    return to_item(message, "work", TABLE, RULES, received_at=NOON)


async def send(connection_string: str, *messages: Any) -> None:
    async with (
        ServiceBusClient.from_connection_string(connection_string) as client,
        client.get_queue_sender("work") as sender,
    ):
        for message in messages:
            await sender.send_messages(message)


@pytest.mark.timeout(60)
async def test_every_form_arrives_as_the_same_work_and_reads_the_same_after_it_was_deferred() -> None:
    async with a_broker() as broker, a_queue(broker.connection_string) as (queue, bell):
        await send(broker.connection_string, *MESSAGES.values())
        got = await deliveries(queue, bell, len(MESSAGES))
        items = [read(each.message) for each in sorted(got, key=lambda each: each.message.sequence_number)]
        for form, item in zip(MESSAGES, items, strict=True):
            said = (item.task, item.tenant, item.priority, json.loads(item.params_json), item.message_id, item.trace)
            assert said == ("report", "acme", 3, PARAMS, "m-1", TRACE), form
        answers = await queue.defer([each.lock_token for each in got])
        assert set(answers.values()) == {Answer.DONE}
        peeked = await queue.peek(1, 100)
        assert {each.state for each in peeked} == {MessageState.DEFERRED}
        assert [read(each.message) for each in peeked] == items


@pytest.mark.timeout(60)
async def test_what_no_form_allows_is_refused_with_its_reason() -> None:
    wrong = {
        "bad_message": [
            ServiceBusMessage(BODY, application_properties={"tenant": "globex"}),
            ServiceBusMessage("[]", content_type="application/cloudevents-batch+json"),
            as_message(amqp.to_binary_event(an_event()), cloudEvents_specversion="0.3"),
            ServiceBusMessage(BODY, application_properties={"priority": uuid.UUID(int=3)}),
        ],
        "tenant_not_allowed": [
            ServiceBusMessage(json.dumps({"task": "report", "params": {}}), application_properties={"tenant": "evil"}),
            as_message(amqp.to_structured_event(an_event(tenant="evil"))),
        ],
        "unknown_task": [as_message(amqp.to_binary_event(an_event(type="com.example.refund.requested")))],
    }
    async with a_broker() as broker, a_queue(broker.connection_string) as (queue, bell):
        for reason, messages in wrong.items():
            await send(broker.connection_string, *messages)
            for delivery in await deliveries(queue, bell, len(messages)):
                with pytest.raises(BadMessage) as caught:
                    read(delivery.message)
                assert caught.value.reason == reason, caught.value.description
