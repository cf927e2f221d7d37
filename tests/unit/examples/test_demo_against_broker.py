"""The burst, the workers and the judge, together with the real SDK and the embedded broker.

A few lines stand in for the dispatcher: they run every item in a pod of its own, try again what failed, and settle.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver
from conftest import EXAMPLES, Workplace

from dispatcher.embedded.broker import Broker, BrokerConfig, QueueConfig

ITEMS = 14
ATTEMPTS_MAX = 2


async def run_script(name: str, *arguments: str) -> tuple[int | None, str, str]:
    """Run one of the example scripts to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / name),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def settle_everything(connection_string: str, workplace: Workplace) -> None:
    """What the dispatcher does, one message at a time."""
    client = ServiceBusClient.from_connection_string(connection_string)
    async with client, client.get_queue_receiver("work") as receiver:
        for _ in range(ITEMS):
            (message,) = await receiver.receive_messages(max_message_count=1, max_wait_time=5)
            await settle(receiver, message, workplace)


async def settle(receiver: ServiceBusReceiver, message: ServiceBusReceivedMessage, workplace: Workplace) -> None:
    """Run a message's item until it works or is out of attempts; poison is never run."""
    try:
        item = json.loads(str(message))
        poison = item["task"] not in ("report", "thumbnail") or item["params"].get("width") == "huge"
    except ValueError:
        item, poison = {}, True
    if poison:
        await receiver.dead_letter_message(message, reason="poison", error_description="a test said so")
        return
    item |= {"id": message.message_id, "sequence_number": message.sequence_number}
    errors = ""
    for attempt in range(1, ATTEMPTS_MAX + 1):
        run = await asyncio.to_thread(workplace.run, item, attempt)
        if run.returncode == 0:
            await receiver.complete_message(message)
            return
        errors = run.stderr
    await receiver.dead_letter_message(message, reason="application", error_description=errors)


def events_of_the_service() -> str:
    """The event log of a service that put everything into one batch on the nodes."""
    launches: list[dict[str, Any]] = [
        {
            "event": "batch.launched",
            "batch": "b-1",
            "attempt": attempt,
            "job": f"j{attempt}",
            "placement": "node_pool",
            "items": 1,
        }
        for attempt in range(1, ATTEMPTS_MAX + 1)
    ]
    ledger = {"limit_usd": "1", "spent_usd": "0", "reserved_usd": "0", "addresses_in_use": 0, "addresses_usable": 5}
    return "".join(json.dumps(event) + "\n" for event in [*launches, {"event": "ledger.written", "at": "now"} | ledger])


@pytest.fixture
def judge(tmp_path: Path, workplace: Workplace) -> Callable[[str], Any]:
    """Runs the judge on this test's files."""

    def run(connection_string: str) -> Any:
        (tmp_path / "events.jsonl").write_text(events_of_the_service())
        return run_script(
            "demo_summary.py",
            *("--connection-string", connection_string),
            *("--burst", str(tmp_path / "burst.json")),
            *("--artifacts", str(workplace.output)),
            *("--run-log", str(workplace.run_log)),
            *("--events", str(tmp_path / "events.jsonl")),
            *("--out", str(tmp_path / "summary.json")),
            *("--patience", "0"),
        )

    return run


async def test_a_burst_that_was_worked_off_passes_the_judge(
    tmp_path: Path, workplace: Workplace, judge: Callable[[str], Any]
) -> None:
    async with Broker(BrokerConfig(queues=(QueueConfig("work"),))) as broker:
        burst = ("--items", str(ITEMS), "--seed", "3", "--out", str(tmp_path / "burst.json"))
        code, output, errors = await run_script(
            "demo_burst.py", "--connection-string", broker.connection_string, *burst
        )
        assert (code, errors) == (0, "")
        assert json.loads(output)["expect"] == {"succeed": ITEMS - 5, "dead_lettered": 5}
        await settle_everything(broker.connection_string, workplace)

        code, output, errors = await judge(broker.connection_string)

    assert (code, errors) == (0, "")
    assert f"{ITEMS} enqueued = {ITEMS - 5} done + 5 dead-lettered" in output
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["items"] == {"enqueued": ITEMS, "succeeded": ITEMS - 5, "dead_lettered": 5}
    assert summary["overlapping_attempts"] == 0
    letters = json.loads((tmp_path / "dead-letters.json").read_text())
    assert sorted(letter["reason"] for letter in letters) == ["application"] * 2 + ["poison"] * 3
    assert any("no country named 'Atlantis'" in letter["description"] for letter in letters)


async def test_messages_that_were_only_deferred_do_not_pass_the_judge(
    tmp_path: Path, workplace: Workplace, judge: Callable[[str], Any]
) -> None:
    async with Broker(BrokerConfig(queues=(QueueConfig("work"),))) as broker:
        burst = ("--items", "12", "--out", str(tmp_path / "burst.json"))
        await run_script("demo_burst.py", "--connection-string", broker.connection_string, *burst)
        client = ServiceBusClient.from_connection_string(broker.connection_string)
        async with client, client.get_queue_receiver("work") as receiver:
            messages = await receiver.receive_messages(max_message_count=12, max_wait_time=5)
            for message in messages:
                await receiver.defer_message(message)
        workplace.run_log.touch()

        code, _, errors = await judge(broker.connection_string)

    assert code == 1
    assert (
        "error: still in the queue: demo-1-0001, demo-1-0002, demo-1-0003, demo-1-0004, demo-1-0005 and 7 more"
        in errors
    )


async def test_the_producer_sends_what_it_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Broker(BrokerConfig(queues=(QueueConfig("work"),))) as broker:
        monkeypatch.setenv("SERVICEBUS_CONNECTION_STRING", broker.connection_string)
        code, output, errors = await run_script("producer.py")
        client = ServiceBusClient.from_connection_string(broker.connection_string)
        async with client, client.get_queue_receiver("work") as receiver:
            messages = await receiver.peek_messages(max_message_count=50)
    assert (code, errors) == (0, "")
    sent = [json.loads(str(message)) for message in messages]
    assert output.splitlines() == [f"sent {body['task']} {body['params']}" for body in sent]
    assert {body["task"] for body in sent} == {"report", "thumbnail"}
    assert len({message.message_id for message in messages}) == len(messages)


async def test_a_queue_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    async with Broker(BrokerConfig(queues=(QueueConfig("work"),))) as broker:
        burst = ("--queue", "absent", "--items", "12", "--out", str(tmp_path / "burst.json"))
        code, _, errors = await run_script("demo_burst.py", "--connection-string", broker.connection_string, *burst)
    assert code == 1
    assert errors.startswith("error: ")
    assert not (tmp_path / "burst.json").exists()
