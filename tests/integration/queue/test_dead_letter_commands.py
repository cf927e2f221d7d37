"""``dead-letters show``, ``replay``, ``purge`` and ``release`` as people run them: processes of their own, the real SDK
and the embedded broker."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from azure.servicebus import ServiceBusMessage
from dead_letter_kit import (
    FOREIGN,
    a_broker,
    a_config,
    announced,
    bury,
    deferred,
    dispatcher,
    ended,
    on_queue,
    properties_of,
    some,
    started,
)

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return a_config(tmp_path)


def lines_of(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


async def test_show_tells_all_there_is_of_one_letter(config: Path, tmp_path: Path) -> None:
    async with a_broker("work", "other") as broker:
        data = announced(tmp_path, broker.connection_string)
        message = ServiceBusMessage(
            '{"task":"report","tenant":"acme","params":{"country":"Kenya"}}',
            message_id="order-17",
            application_properties={"shop": "north"},
        )
        await bury(broker.connection_string, [*some(2), message, FOREIGN], "application\x1b[31m")
        code, out, err = await dispatcher(config, data, "dead-letters", "show", "order-17")
        assert (code, err) == (0, [])
        for part in ("order-17", "application", "in work", "shop: north", '    "country": "Kenya"'):
            assert part in out, out
        assert "\x1b[31m" not in out
        code, out, err = await dispatcher(config, data, "dead-letters", "show", "--sequence", "4", "--json")
        (foreign,) = lines_of(out)
        assert (code, foreign["message_id"], foreign["body_base64"]) == (0, "foreign", "AP9ubyBKU09O")
        assert foreign["refused_today"] == "bad_json"
        code, out, err = await dispatcher(config, data, "dead-letters", "show", "order-18")
        assert (code, out, len(err)) == (1, "", 1)
        assert "order-18" in err[0]
        code, out, err = await dispatcher(config, data, "dead-letters", "show")
        assert (code, out, len(err)) == (2, "", 1)


async def test_replay_tells_first_and_acts_when_it_is_told_to(config: Path, tmp_path: Path) -> None:
    async with a_broker("work", "other") as broker:
        connection = broker.connection_string
        data = announced(tmp_path, connection)
        tired = [
            ServiceBusMessage(
                '{"task":"report","tenant":"acme","params":{}}',
                message_id="tired",
                application_properties={"replay_count": 3, "original_message_id": "tired-0"},
            )
        ]
        await bury(connection, some(6), "application")
        await bury(connection, [*some(2, "thumbnail", "globex"), *tired, FOREIGN], "evicted")
        code, out, err = await dispatcher(config, data, "dead-letters", "replay")
        assert code == 0
        assert [line.split()[:5] for line in out.splitlines()[1:]] == [
            ["6", "work", "application", "report", "acme"],
            ["2", "work", "evicted", "thumbnail", "globex"],
        ]
        assert err[0].startswith("1 dead letter replayed 3 times or more")
        assert err[1].startswith("1 dead letter would be dead-lettered again by the configuration")
        assert "1 bad_json" in err[1]
        assert err[2:] == ["would replay 8 dead letters; --yes does it"]
        assert await on_queue(connection) == []

        code, out, err = await dispatcher(config, data, "dead-letters", "replay", "--yes")
        assert (code, out, len(err)) == (2, "", 1)
        assert "--all" in err[0]

        code, out, err = await dispatcher(
            config, data, "dead-letters", "replay", "--task", "thumbnail", "--yes", "--json", "--rate", "500"
        )
        assert (code, err) == (0, ["replayed 2 of 2 dead letters"])
        results = lines_of(out)
        assert [(each["message_id"], each["became"]) for each in results] == [
            ("thumbnail-globex-0", "replayed"),
            ("thumbnail-globex-1", "replayed"),
        ]
        assert {each.message_id for each in await on_queue(connection)} == {e["new_message_id"] for e in results}

        code, _, err = await dispatcher(
            config, data, "dead-letters", "replay", "--all", "--yes", "--anyway", "--max-replays", "9"
        )
        assert (code, err) == (0, ["replayed 8 of 8 dead letters"])
        assert await on_queue(connection, dead=True) == []
        assert len(await on_queue(connection)) == 10


async def test_a_replay_that_is_interrupted_says_how_far_it_came_and_goes_on_later(
    config: Path, tmp_path: Path
) -> None:
    async with a_broker("work", "other") as broker:
        connection = broker.connection_string
        data = announced(tmp_path, connection)
        await bury(connection, some(40), "application")
        process = await started(
            config, data, "dead-letters", "replay", "--all", "--yes", "--json", "--rate", "2", "--queue", "work"
        )
        assert process.stdout is not None
        async with asyncio.timeout(60):
            await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        code, out, err = await ended(process)
        done = 1 + len(out.splitlines())
        assert code == 130, err
        assert err == [
            "stopping after the message at hand; Ctrl-C once more stops at once",
            f"replayed {done} of 40 dead letters; {40 - done} not tried",
        ]
        assert len(await on_queue(connection, dead=True)) == 40 - done
        code, _, err = await dispatcher(config, data, "dead-letters", "replay", "--all", "--yes", "--rate", "500")
        assert (code, err) == (0, [f"replayed {40 - done} of {40 - done} dead letters"])
        assert sorted(properties_of(each)["original_message_id"] for each in await on_queue(connection)) == sorted(
            f"report-acme-{n}" for n in range(40)
        )


async def test_a_replay_that_is_killed_loses_nothing_and_doubles_nothing(config: Path, tmp_path: Path) -> None:
    async with a_broker("work", "other", lock_seconds=5) as broker:
        connection = broker.connection_string
        data = announced(tmp_path, connection)
        await bury(connection, some(40), "application")
        process = await started(
            config, data, "dead-letters", "replay", "--all", "--yes", "--json", "--rate", "40", "--queue", "work"
        )
        assert process.stdout is not None
        async with asyncio.timeout(60):
            for _ in range(5):
                await process.stdout.readline()
        process.kill()
        await ended(process)
        async with asyncio.timeout(120):
            # What it had under lock becomes free by itself.
            while (await dispatcher(config, data, "dead-letters", "replay", "--all", "--yes", "--rate", "500"))[0] != 0:
                continue
        assert await on_queue(connection, dead=True) == []
        assert sorted(properties_of(each)["original_message_id"] for each in await on_queue(connection)) == sorted(
            f"report-acme-{n}" for n in range(40)
        )


async def test_purge_saves_what_it_removes(config: Path, tmp_path: Path) -> None:
    async with a_broker("work", "other") as broker:
        connection = broker.connection_string
        data = announced(tmp_path, connection)
        await bury(connection, [*some(5), FOREIGN], "application")
        await bury(connection, some(2, "thumbnail"), "evicted")
        save = tmp_path / "saved.jsonl"
        purge = ("dead-letters", "purge", "--reason", "application")
        code, out, err = await dispatcher(config, data, *purge)
        assert (code, err) == (0, ["would purge 6 dead letters; --yes does it"])
        code, out, err = await dispatcher(config, data, *purge, "--yes")
        assert (code, out, len(err)) == (2, "", 1)
        assert "--save FILE" in err[0]
        code, out, err = await dispatcher(config, data, *purge, "--yes", "--save", str(tmp_path / "no" / "file"))
        assert (code, len(err)) == (1, 1)
        assert len(await on_queue(connection, dead=True)) == 8

        code, out, err = await dispatcher(config, data, *purge, "--yes", "--save", str(save))
        assert (code, out, err) == (0, "", ["purged 6 of 6 dead letters"])
        assert [each.message_id for each in await on_queue(connection, dead=True)] == [
            "thumbnail-acme-0",
            "thumbnail-acme-1",
        ]
        saved = lines_of(save.read_text())
        assert [each["message_id"] for each in saved] == [*(f"report-acme-{n}" for n in range(5)), "foreign"]
        assert (saved[0]["body"], saved[5]["body_base64"]) == (
            json.dumps({"task": "report", "tenant": "acme", "params": {}}),
            "AP9ubyBKU09O",
        )
        assert save.stat().st_mode & 0o077 == 0

        code, out, err = await dispatcher(config, data, "dead-letters", "purge", "--all", "--yes", "--save", str(save))
        assert (code, err) == (0, ["purged 2 of 2 dead letters"])
        assert len(save.read_text().splitlines()) == 8


async def test_release_for_a_namespace_wants_to_be_told_that_nobody_leads(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_broker("work", "other") as broker:
        connection = broker.connection_string
        await deferred(connection, some(5))
        monkeypatch.setenv("BURST_SERVICE_BUS__CONNECTION_STRING", connection)
        code, out, err = await dispatcher(config, tmp_path, "release")
        assert (code, out, len(err)) == (1, "", 1)
        assert "--force" in err[0]
        code, out, err = await dispatcher(config, tmp_path, "release", "--force", "--json")
        assert (code, err) == (0, ["would release 5 messages; --yes does it"])
        assert {each["became"] for each in lines_of(out)} == {"would_release"}
        code, out, err = await dispatcher(config, tmp_path, "release", "--force", "--yes")
        assert (code, err) == (0, ["released 5 of 5 messages"])
        assert {each.state.name for each in await on_queue(connection)} == {"ACTIVE"}


async def test_release_of_a_folder_that_holds_no_queues_makes_none(config: Path, tmp_path: Path) -> None:
    code, out, err = await dispatcher(config, tmp_path / "none", "release", "--yes")
    assert (code, out, len(err)) == (1, "", 1)
    assert "holds no queues" in err[0]
    assert not (tmp_path / "none").exists()
