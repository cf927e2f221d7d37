"""The event log: one line an event, whole, whatever the disk does; and telling never fails the one who tells."""

from __future__ import annotations

import errno
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dispatcher.telemetry import EVENT_FORMAT, EventFile, EventHub
from dispatcher.telemetry.events import LoggedEvents

AT = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


class Frozen:
    def now(self) -> datetime:
        return AT


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_first_line_says_the_format_and_each_event_is_a_line_at_once(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "events.jsonl"
    hub = EventHub(Frozen(), EventFile(path))
    hub.emit("batch.launched", batch="b", items=3)
    head, event = lines_of(path)
    assert head == {"format": EVENT_FORMAT, "version": 1, "at": "2026-05-04T03:02:01.000000Z"}
    assert event == {"event": "batch.launched", "at": "2026-05-04T03:02:01.000000Z", "batch": "b", "items": 3}


def test_a_restart_goes_on_in_the_same_file_and_writes_no_second_head(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for name in ("first", "second"):
        file = EventFile(path)
        EventHub(Frozen(), file).emit(name)
        file.close()
    assert [line.get("event") for line in lines_of(path)] == [None, "first", "second"]


def test_a_line_that_a_crash_cut_short_is_taken_out(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    EventHub(Frozen(), EventFile(path)).emit("first")
    with path.open("a") as file:
        file.write('{"event": "torn", "it')
    EventHub(Frozen(), EventFile(path)).emit("second")
    assert [line.get("event") for line in lines_of(path)] == [None, "first", "second"]


def test_a_full_disk_is_counted_and_told_and_forgotten_when_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.jsonl"
    file = EventFile(path)
    hub = EventHub(Frozen(), file)
    hub.emit("first")
    real_write = os.write

    def refuse(_descriptor: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", refuse)
    hub.emit("lost")
    hub.emit("lost too")
    assert file.failures == 2
    assert file.fault == f"{path} cannot be written: No space left on device"
    assert hub.failures == 0

    monkeypatch.setattr(os, "write", lambda descriptor, data: real_write(descriptor, data[:5]))
    hub.emit("only a part of it fits")
    monkeypatch.setattr(os, "write", real_write)
    hub.emit("second")
    assert file.fault is None
    assert [line.get("event") for line in lines_of(path)] == [None, "first", "second"]


def test_a_file_that_grows_too_long_is_set_aside_and_three_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    hub = EventHub(Frozen(), EventFile(path, bytes_max=250))
    for number in range(20):
        hub.emit("event", number=number)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "events.jsonl",
        *(f"events.jsonl.{n}" for n in (1, 2, 3)),
    ]
    assert lines_of(path)[0]["format"] == EVENT_FORMAT
    assert lines_of(path)[-1]["number"] == 19
    assert lines_of(tmp_path / "events.jsonl.1")[-1]["number"] + 1 == lines_of(path)[1]["number"]


def test_a_listener_that_breaks_is_counted_and_the_others_hear_all_the_same() -> None:
    heard = []

    def broken(event: str, at: datetime, facts: Any) -> None:
        raise ZeroDivisionError

    hub = EventHub(Frozen(), broken, lambda event, at, facts: heard.append((event, at, dict(facts))))
    hub.emit("item.done", item="i")
    assert heard == [("item.done", AT, {"item": "i"})]
    assert hub.failures == 1


def test_facts_that_are_no_json_are_written_as_text(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    EventHub(Frozen(), EventFile(path)).emit("odd", path=Path("a"), at_once={1})
    assert lines_of(path)[1]["path"] == "a"


def test_facts_that_are_named_like_parts_of_a_log_line_do_not_break_it() -> None:
    LoggedEvents()("alarm.raised", AT, {"level": 1, "timestamp": 2, "what": "x"})
