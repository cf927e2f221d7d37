"""Senders that ask hear how their items ended: through the command, through the client, and through a kill -9."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dispatcher.client import BurstClient, Outcome, OutcomeKind, Work
from dispatcher.queue.outcome_events import from_body
from tests.e2e.local_service import QUEUE, LocalService, eventually, left_on_queue

REPLIES = "outcomes"
ASKING = {"queues": [{"name": QUEUE, "tasks": ["sleep"], "reply_to": [REPLIES]}]}


@pytest.fixture
def service(tmp_path: Path) -> Any:
    made = LocalService(tmp_path, ASKING, {"backoff_limit": 0, "result_ref": "store/{task}/{id}.txt"})
    yield made
    made.end_all()


async def enqueue(service: LocalService, *arguments: str, stdin: str | None = None) -> tuple[int, str, str]:
    """The command, as a process of its own: exit code, stdout, stderr."""
    command = ["-m", "dispatcher", "enqueue", "--config", str(service.folder / "config"), "--data-dir"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, str(service.data), *arguments, stdin=pipe, stdout=pipe, stderr=pipe
    )
    async with asyncio.timeout(90):
        out, err = await process.communicate(None if stdin is None else stdin.encode())
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def line(message_id: str, **params: Any) -> str:
    return json.dumps({"task": "sleep", "params": {"seconds": 0.05, **params}, "message_id": message_id})


@pytest.mark.timeout(180)
async def test_enqueue_waits_and_prints_how_each_item_ended(service: LocalService) -> None:
    service.start()
    connection = await service.ready()
    lines = [*(line(f"good-{n}") for n in range(5)), line("bad", fail=True)]
    code, out, err = await enqueue(service, "--wait", "--json", "--timeout", "80s", stdin="\n".join(lines))
    assert code == 1, err
    told = {outcome["id"]: outcome for outcome in map(json.loads, out.splitlines())}
    assert {name: outcome["outcome"] for name, outcome in told.items()} == {
        **{f"good-{n}": "done" for n in range(5)},
        "bad": "dead_lettered",
    }
    good, bad = told["good-0"], told["bad"]
    assert (good["attempts"], good["task"], good["tenant"], good["reason"]) == (1, "sleep", "default", None)
    assert good["result_ref"] == "store/sleep/good-0.txt"
    assert good["queued_at"] <= good["started_at"] <= good["finished_at"]
    assert good["cost"]["currency"] == "USD"
    assert (bad["reason"], bad["result_ref"]) == ("application", None)
    assert "this item was told to fail" in bad["description"]
    assert "1 item of 6 dead-lettered" in err
    [letter] = await left_on_queue(connection, dead=True)
    assert (letter.dead_letter_reason, letter.dead_letter_error_description) == (bad["reason"], bad["description"])
    code, out, err = await enqueue(service, "--task", "sleep", "-p", "seconds=0", "--message-id", "one", "--wait")
    assert (code, out.split()[:2]) == (0, ["one", "done"]), err
    assert (await service.status())["outcomes"] == {"sent": 7, "owed": 0, "given_up": 0, "not_taken": {}}
    assert service.stop() == 0


@pytest.mark.timeout(120)
async def test_a_client_sends_at_a_time_and_hears_of_poison_too(service: LocalService) -> None:
    service.start()
    connection = await service.ready()
    async with BurstClient.from_connection_string(connection, QUEUE, reply_to=REPLIES) as client:
        due = datetime.now(UTC) + timedelta(seconds=2)
        later = await client.send("sleep", {"seconds": 0}, at=due)
        poison = await client.send("slepe", {})
        silent = await client.send("sleep", {"seconds": 0}, reply=False)
        outcomes = await client.wait([later, poison], timedelta(seconds=60))
        assert outcomes[later].kind is OutcomeKind.DONE
        assert outcomes[later].enqueued_at >= due - timedelta(seconds=1)
        assert outcomes[poison].kind is OutcomeKind.DEAD_LETTERED
        assert outcomes[poison].reason == "unknown_task"
        assert "Did you mean 'sleep'?" in (outcomes[poison].description or "")
        assert silent not in outcomes
    await eventually(lambda: len(service.events("item.done")) == 2, 30, "both items are done")
    assert {event["item"] for event in service.events("outcome.sent")} == {later, poison}


async def told_on(connection: str) -> list[Outcome]:
    return [from_body(b"".join(message.body), REPLIES) for message in await left_on_queue(connection, queue=REPLIES)]


@pytest.mark.timeout(240)
async def test_a_kill_9_between_settling_and_telling_still_tells(service: LocalService) -> None:
    untold_at_a_kill = 0
    items: list[str] = []
    service.start()
    for number in range(6):
        connection = await service.ready()
        items.append(f"item-{number}")
        async with BurstClient.from_connection_string(connection, QUEUE, reply_to=REPLIES) as client:
            await client.send_many([Work("sleep", {"seconds": 0}, message_id=items[-1])])
        while not any(event["item"] == items[-1] for event in service.events("item.done")):  # noqa: ASYNC110
            await asyncio.sleep(0.002)  # the moment between settling and telling is short
        service.kill()
        told = {event["item"] for event in service.events("outcome.sent")}
        untold_at_a_kill += items[-1] not in told
        service.start()
        if untold_at_a_kill >= 2:
            break
    connection = await service.ready()
    assert untold_at_a_kill >= 1
    told_to: set[str] = set()
    until = asyncio.get_running_loop().time() + 60
    while told_to != set(items):
        assert asyncio.get_running_loop().time() < until, set(items) - told_to
        found = await told_on(connection)
        told_to = {outcome.message_id for outcome in found}
    assert all(outcome.kind is OutcomeKind.DONE for outcome in found)
    assert len({outcome.event_id for outcome in found}) == len(items)
    assert await left_on_queue(connection) == []
    assert service.stop() == 0
