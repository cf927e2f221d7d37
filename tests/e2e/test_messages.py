"""Messages to the running service: several queues with rules of their own, scheduled ones, and traces that last."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.servicebus import ServiceBusMessage, ServiceBusMessageState, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.exceptions import ServiceBusError
from cloudevents.core.bindings import amqp
from cloudevents.core.v1.event import CloudEvent

from tests.e2e.local_service import QUEUE, LocalService, eventually

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
WORK = {"task": "sleep", "params": {"seconds": 0.05}}


def a_message(message_id: str, body: Any = WORK, **properties: Any) -> ServiceBusMessage:
    return ServiceBusMessage(json.dumps(body), message_id=message_id, application_properties=properties)


def an_event(message_id: str, **attributes: Any) -> ServiceBusMessage:
    written = amqp.to_structured_event(
        CloudEvent({"type": "sleep", "source": "/tests", **attributes}, {"seconds": 0.05})
    )
    return ServiceBusMessage(
        written.application_data, content_type=written.properties["content-type"], message_id=message_id
    )


async def send(connection: str, queue: str, *messages: ServiceBusMessage) -> None:
    async with ServiceBusClient.from_connection_string(connection) as client, client.get_queue_sender(queue) as sender:
        await sender.send_messages(list(messages))


async def peeked(connection: str, queue: str, *, dead: bool = False) -> list[Any]:
    kind = {"sub_queue": ServiceBusSubQueue.DEAD_LETTER} if dead else {}
    client = ServiceBusClient.from_connection_string(connection)
    async with client, client.get_queue_receiver(queue, **kind) as receiver:
        return await receiver.peek_messages(250, sequence_number=1)


def told(service: LocalService, event: str, key: str = "item") -> dict[str, dict[str, Any]]:
    return {each[key]: each for each in service.events(event)}


@pytest.mark.timeout(120)
async def test_each_queue_takes_its_own_tasks_tenants_and_priorities_and_a_spoofed_tenant_is_dead_lettered(
    tmp_path: Path,
) -> None:
    queues = [
        {"name": "acme-work", "tasks": ["sleep"], "tenants": ["acme"], "priority_max": 5},
        {"name": "shared/work", "tasks": ["sleep"], "tenants": ["globex", "initech"]},
    ]
    service = LocalService(tmp_path, {"queues": queues})
    try:
        service.start()
        connection = await service.ready()
        await send(
            connection,
            "acme-work",
            a_message("implied"),
            a_message("urgent", {**WORK, "tenant": "acme", "priority": 5}),
            a_message("too-urgent", {**WORK, "priority": 6}),
            a_message("spoofed", {**WORK, "tenant": "globex"}),
            a_message("spoofed-beside", tenant="globex"),
            an_event("spoofed-event", tenant="globex"),
            a_message("two-faced", {**WORK, "tenant": "acme"}, tenant="globex"),
        )
        await send(
            connection,
            "shared/work",
            a_message("named", {**WORK, "tenant": "globex"}),
            a_message("named-beside", tenant="initech"),
            an_event("event", tenant="initech"),
            a_message("nameless"),
            a_message("spoofed-acme", {**WORK, "tenant": "acme"}),
            a_message("unasked-priority", {**WORK, "tenant": "globex", "priority": 1}),
        )
        await eventually(
            lambda: len(told(service, "item.done")) + len(told(service, "item.rejected")) == 13, 60, "all have ended"
        )
        tenants = {item: event["tenant"] for item, event in told(service, "item.done").items()}
        assert tenants == {
            "implied": "acme",
            "urgent": "acme",
            "named": "globex",
            "named-beside": "initech",
            "event": "initech",
        }
        reasons = {
            queue: {each.message_id: each.dead_letter_reason for each in await peeked(connection, queue, dead=True)}
            for queue in ("acme-work", "shared/work")
        }
        assert reasons == {
            "acme-work": {
                "too-urgent": "priority_not_allowed",
                "spoofed": "tenant_not_allowed",
                "spoofed-beside": "tenant_not_allowed",
                "spoofed-event": "tenant_not_allowed",
                "two-faced": "bad_message",
            },
            "shared/work": {
                "nameless": "tenant_not_allowed",
                "spoofed-acme": "tenant_not_allowed",
                "unasked-priority": "priority_not_allowed",
            },
        }
        (spoofed,) = [each for each in await peeked(connection, "acme-work", dead=True) if each.message_id == "spoofed"]
        assert "'globex' may not use this queue. It serves: acme." in spoofed.dead_letter_error_description
        assert await peeked(connection, "acme-work") == await peeked(connection, "shared/work") == []
        assert {run.item for run in service.runs()} == set(tenants)
        with pytest.raises(ServiceBusError):
            await send(connection, "nobodys-work", a_message("lost"))
    finally:
        service.end_all()


@pytest.mark.timeout(180)
async def test_a_scheduled_message_waits_for_its_time_through_sweeps_and_a_restart(tmp_path: Path) -> None:
    service = LocalService(tmp_path, {"timing": {"lock_hold_max": "1s", "sweep_every": "1s"}})
    try:
        service.start()
        connection = await service.ready()
        due = datetime.now(UTC) + timedelta(seconds=25)
        later = a_message("later")
        later.scheduled_enqueue_time_utc = due
        await send(connection, QUEUE, later, a_message("now"))
        await eventually(lambda: "now" in told(service, "item.done"), 30, "the other one is done")
        service.kill()
        service.start()  # a takeover looks through the whole queue, and sweeps follow every second
        connection = await service.ready()
        await eventually(lambda: len(service.events("takeover.finished")) == 2, 30, "the next leader has taken over")
        (waiting,) = await peeked(connection, QUEUE)
        assert waiting.state is ServiceBusMessageState.SCHEDULED
        assert "later" not in told(service, "item.received")
        assert datetime.now(UTC) < due, "too slow a machine to say anything"
        await eventually(lambda: "later" in told(service, "item.done"), 60, "its time has come")
        assert datetime.fromisoformat(told(service, "item.received")["later"]["at"]) >= due - timedelta(milliseconds=1)
        assert service.events("orphan.found") == []
        assert await peeked(connection, QUEUE) == []
        assert sorted(run.item for run in service.runs()) == ["later", "now"]
    finally:
        service.end_all()


SHOW = """
file="$BURST_ITEMS_DIR/$JOB_COMPLETION_INDEX.json"
printf '{"attempt":%s,"env":"%s","state":"%s","item":%s}\\n' \
    "$BURST_ATTEMPT" "$TRACEPARENT" "$TRACESTATE" "$(cat "$file")" >> "$SHOWN"
[ "$BURST_ATTEMPT" -gt 1 ]
"""


@pytest.mark.timeout(180)
async def test_the_trace_of_a_message_reaches_its_pods_and_events_through_a_retry_and_a_restart(tmp_path: Path) -> None:
    shown = tmp_path / "shown.jsonl"
    task = {
        "command": ["/bin/sh", "-c", SHOW],
        "env": {"SHOWN": str(shown)},
        "placements": ["virtual_node"],
        "event_types": ["com.example.nap.requested"],
    }
    service = LocalService(tmp_path, {"retry": {"delay_min": "6s", "delay_max": "6s"}}, task)

    def pods() -> list[dict[str, Any]]:
        return [json.loads(line) for line in shown.read_text().splitlines()] if shown.exists() else []

    try:
        service.start()
        connection = await service.ready()
        message = an_event("traced", type="com.example.nap.requested", traceparent=PARENT, tracestate="vendor=1")
        await send(connection, QUEUE, message)
        await eventually(lambda: bool(service.events("item.retried")), 60, "the first attempt has failed")
        service.kill()
        assert len(pods()) == 1
        service.start()
        connection = await service.ready()
        await send(connection, QUEUE, a_message("untraced", traceparent="broken"))
        await eventually(lambda: len(told(service, "item.done")) == 2, 90, "both are done")
        traced = [pod for pod in pods() if pod["item"]["id"] == "traced"]
        assert [pod["attempt"] for pod in traced] == [1, 2]
        for pod in traced:
            assert (pod["env"], pod["state"]) == (PARENT, "vendor=1")
            assert (pod["item"]["traceparent"], pod["item"]["tracestate"]) == (PARENT, "vendor=1")
        for pod in pods():
            if pod["item"]["id"] == "untraced":
                assert (pod["env"], pod["item"].get("traceparent")) == ("", None)
        for event in ("item.received", "item.retried", "item.done"):
            assert told(service, event)["traced"]["traceparent"] == PARENT
            assert told(service, event)["untraced"]["traceparent"] is None
    finally:
        service.end_all()
