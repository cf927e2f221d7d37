"""Looking through dead letters with the real SDK and the embedded broker: all pages, and nothing is touched.

The command is a process of its own here, as people run it.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from azure.servicebus import ServiceBusReceiveMode, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient
from dead_letter_kit import FOREIGN, a_broker, a_config, announced, bury, dispatcher, some
from queue_wire import a_wire, through

from dispatcher.errors import LookFailed
from dispatcher.queue.config import ServiceBusConfig
from dispatcher.queue.dead_letters import DeadLetterQueue, DeadMessage

pytestmark = pytest.mark.timeout(90)


def reader(connection_string: str, **changes: Any) -> DeadLetterQueue:
    return DeadLetterQueue(ServiceBusConfig(queue="work", connection_string=lambda: connection_string, **changes))


async def all_of(queue: DeadLetterQueue) -> list[list[DeadMessage]]:
    return [list(page) async for page in queue.pages()]


# --- the queue ------------------------------------------------------------------------------------------------------


async def test_more_than_one_page_is_read_to_its_end_in_order_and_nothing_is_locked_counted_or_removed() -> None:
    async with a_broker() as broker:
        await bury(broker.connection_string, some(260), "application_error")
        for _ in range(2):
            async with reader(broker.connection_string) as queue:
                pages = await all_of(queue)
            dead = [each for page in pages for each in page]
            assert len(pages) > 1
            assert [each.message.message_id for each in dead] == [f"report-acme-{n}" for n in range(260)]
            assert {each.letter.reason for each in dead} == {"application_error"}
            assert {each.message.delivery_count for each in dead} == {0}
        client = ServiceBusClient.from_connection_string(broker.connection_string)
        modes = {"sub_queue": ServiceBusSubQueue.DEAD_LETTER, "receive_mode": ServiceBusReceiveMode.RECEIVE_AND_DELETE}
        async with client, client.get_queue_receiver("work", **modes) as receiver:
            left = 260
            while left:  # each of them can be had: no lock is on it
                left -= len(await receiver.receive_messages(max_message_count=left, max_wait_time=5))


async def test_an_empty_dead_letter_queue_has_no_page() -> None:
    async with a_broker() as broker, reader(broker.connection_string) as queue:
        assert await all_of(queue) == []


async def test_what_another_program_wrote_is_shown_as_far_as_it_goes() -> None:
    async with a_broker() as broker:
        await bury(broker.connection_string, [FOREIGN], "")
        async with reader(broker.connection_string) as queue:
            ((dead,),) = await all_of(queue)
    assert dead.message.message_id == "foreign"
    assert isinstance(dead.letter.reason, str)


async def test_a_broker_that_falls_silent_ends_the_look_in_bounded_time() -> None:
    async with a_broker() as broker, a_wire(broker.port) as wire:
        await bury(broker.connection_string, some(3), "x")
        quick = {"operation_timeout_seconds": 4.0, "peek_page_max": 2, "close_timeout_seconds": 0.5}
        async with asyncio.timeout(60), reader(through(wire, broker.connection_string), **quick) as queue:
            pages = queue.pages()
            assert len(await anext(pages)) == 2
            wire.silence()
            with pytest.raises(LookFailed, match="peeking from 3 failed"):
                await anext(pages)


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return a_config(tmp_path)


async def listed(config: Path, data: Path, *arguments: str) -> tuple[int, str, list[str]]:
    return await dispatcher(config, data, "dead-letters", "list", *arguments)


async def test_the_command_lists_selects_and_limits(config: Path, tmp_path: Path) -> None:
    async with a_broker("work", "other") as broker:
        data = announced(tmp_path, broker.connection_string)
        await bury(broker.connection_string, some(255), "application_error")
        await bury(broker.connection_string, some(5, "thumbnail", "globex"), "bad_params")
        await bury(broker.connection_string, [FOREIGN], "", queue="other")
        code, out, err = await listed(config, data, "--json")
        letters = [json.loads(line) for line in out.splitlines()]
        assert (code, len(letters)) == (0, 261)
        assert err == ["261 dead letters of 261 messages looked at"]
        assert letters[0]["description"] == "application_error\nin work"
        assert (letters[-1]["queue"], letters[-1]["task"], letters[-1]["message_id"]) == ("other", None, "foreign")
        assert all(letter["age_seconds"] < 600 for letter in letters)

        code, out, _ = await listed(config, data, "--json", "--task", "thumbnail", "--tenant", "globex")
        assert {json.loads(line)["message_id"] for line in out.splitlines()} == {
            f"thumbnail-globex-{n}" for n in range(5)
        }
        code, out, err = await listed(config, data, "--older-than", "1h")
        assert (code, out, err) == (0, "", ["0 dead letters of 261 messages looked at"])
        code, out, err = await listed(config, data, "--reason", "bad_params", "--limit", "2", "--newer-than", "1h")
        head, *lines = out.splitlines()
        assert head.split() == ["age", "id", "sequence", "number", "task", "tenant", "reason", "description"]
        assert [line.split()[1:] for line in lines] == [
            [f"thumbnail-globex-{n}", str(256 + n), "thumbnail", "globex", "bad_params", "bad_params"] for n in (0, 1)
        ]
        assert err[0] == "warning: there are more than 2; --limit shows more of them"

        code, out, err = await listed(config, data, "--queue", "other")
        assert (code, len(out.splitlines()), err) == (0, 2, ["1 dead letter of 1 message looked at"])


async def test_a_key_that_the_broker_refuses_is_one_line_and_exit_code_3(config: Path, tmp_path: Path) -> None:
    async with a_broker("work", "other") as broker:
        wrong = broker.connection_string.replace("SharedAccessKey=", "SharedAccessKey=x")
        code, out, err = await listed(config, announced(tmp_path, wrong))
    assert (code, out, len(err)) == (3, "", 1), err
    assert err[0].startswith("error: the dead letters cannot be read: ")
    assert "check the connection string" in err[0]


async def test_a_queue_that_the_broker_does_not_have_is_one_line_and_exit_code_3(config: Path, tmp_path: Path) -> None:
    async with a_broker("work") as broker:
        code, out, err = await listed(config, announced(tmp_path, broker.connection_string), "--queue", "other")
    assert (code, out, len(err)) == (3, "", 1), err
    assert "there is no such queue" in err[0]


async def test_a_broker_that_is_gone_is_one_line_and_exit_code_3(config: Path, tmp_path: Path) -> None:
    async with a_broker("work") as broker:
        data = announced(tmp_path, broker.connection_string)
    code, out, err = await listed(config, data)
    assert (code, out, len(err)) == (3, "", 1), err
