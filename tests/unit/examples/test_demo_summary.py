"""The judge's eyes: artifacts are opened, and the queue is looked at to its end."""

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import demo_summary
import pytest
from conftest import EXAMPLES, Workplace
from demo_summary import image_problem, look_at_artifacts, page_problem
from judging import DeadLetter

AnItem = Callable[..., dict[str, Any]]


@pytest.fixture
def made(workplace: Workplace, an_item: AnItem) -> Path:
    """The artifacts of three real runs."""
    for item in (
        an_item("report", id="r1"),
        an_item(id="t1"),
        an_item(id="t2", format="webp", flaky=True),
        an_item(id="t2", format="webp", flaky=True),
    ):
        workplace.run(item)
    return workplace.output


def test_what_the_workers_leave_opens(made: Path) -> None:
    found = look_at_artifacts(made)
    assert sorted(found) == ["r1", "t1", "t2"]
    assert [file.problem for files in found.values() for file in files] == [None, None, None]
    assert len({file.digest for files in found.values() for file in files}) == 3


def test_an_image_that_was_cut_short_is_named(made: Path) -> None:
    for image in (made / "thumbnail").iterdir():
        image.write_bytes(image.read_bytes()[:-2000])
        assert str(image_problem(image)).startswith("does not open")


def test_an_image_of_another_item_is_named(made: Path) -> None:
    other = made / "thumbnail" / "t1.jpg"
    assert image_problem(other.rename(other.with_name("t9.jpg"))) == "does not name its item"


def test_an_image_in_another_format_is_named(made: Path) -> None:
    other = made / "thumbnail" / "t1.jpg"
    assert image_problem(other.rename(other.with_suffix(".webp"))) == "is a JPEG file"


def test_a_page_that_was_cut_short_is_named(made: Path) -> None:
    page = (made / "report" / "r1.html").read_bytes()
    assert str(page_problem(page[: len(page) // 2], "r1")).startswith("ends inside")


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("<html data-item='r1'><svg><path/></svg><tr></tr><tr></tr></html>", None),
        ("<html data-item='r2'><svg><path/></svg><tr></tr><tr></tr></html>", "does not name its item"),
        ("<html data-item='r1'><svg></svg><tr></tr><tr></tr></html>", "has no chart"),
        ("<html data-item='r1'><svg><path/></svg></html>", "has no table"),
        ("<html data-item='r1'><script>1</script></html>", "needs more than itself: <script>"),
        ("<html data-item='r1'><img src='//elsewhere/x.png'></html>", "needs more than itself: <img>"),
        ("<html data-item='r1'><p></html>", "closes <html> where it is not open"),
        ("", "has no chart"),
    ],
)
def test_a_page_must_have_its_parts(page: str, problem: str | None) -> None:
    assert page_problem(page.encode(), "r1") == problem


def test_a_page_that_is_no_text_is_named() -> None:
    assert str(page_problem(b"\xff\xfe", "r1")).startswith("is not text")


class Peeked:
    """What stands in for a receiver: pages of messages, one list for every look at the whole queue."""

    def __init__(self, *looks: list[int]) -> None:
        self.looks = list(looks)
        self.asked: list[int] = []

    async def peek_messages(self, max_message_count: int, sequence_number: int) -> list[Any]:
        self.asked.append(sequence_number)
        numbers = [number for number in self.looks[0] if number >= sequence_number][: min(2, max_message_count)]
        if not numbers and len(self.looks) > 1:
            self.looks.pop(0)
        return [argparse.Namespace(message_id=f"m{n}", sequence_number=n) for n in numbers]


async def test_the_whole_queue_is_peeked_page_by_page() -> None:
    receiver: Any = Peeked([3, 4, 9, 10, 11])
    assert [m.message_id async for m in demo_summary.peek_all(receiver)] == ["m3", "m4", "m9", "m10", "m11"]
    assert receiver.asked == [0, 5, 11, 12]


async def test_the_queue_is_given_time_to_become_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_summary, "POLL_SECONDS", 0)
    receiver: Any = Peeked([1, 2, 3], [3], [])
    assert await demo_summary.peek_until_empty(receiver, deadline=float("inf")) == []


async def test_a_queue_that_stays_full_is_told_at_the_deadline() -> None:
    receiver: Any = Peeked([1, 2])
    assert await demo_summary.peek_until_empty(receiver, deadline=0.0) == ["m1", "m2"]


def judged(
    tmp_path: Path, made: Path, workplace: Workplace, monkeypatch: pytest.MonkeyPatch, dead: list[DeadLetter]
) -> int:
    """Run the whole script on three real runs and a queue that is told."""

    async def look_at_queue(*_: object) -> tuple[list[str], list[DeadLetter]]:
        return [], dead

    ledger = {"limit_usd": "1", "spent_usd": "0", "reserved_usd": "0", "addresses_in_use": 0, "addresses_usable": 5}
    launched = {"batch": "b-1", "attempt": 1, "job": "burst-b-1-1", "placement": "node_pool", "items": 3}
    events = [{"event": "batch.launched"} | launched, {"event": "ledger.written", "at": "now"} | ledger]
    kinds = {"r1": "plain", "t1": "plain", "t2": "flaky", "x": "poison"}
    burst = {"enqueued_at": 0.0, "messages": {item: {"kind": kind} for item, kind in kinds.items()}}
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (tmp_path / "burst.json").write_text(json.dumps(burst))
    monkeypatch.setattr(demo_summary, "look_at_queue", look_at_queue)
    arguments = {
        "--connection-string": "unused",
        "--burst": str(tmp_path / "burst.json"),
        "--artifacts": str(made),
        "--run-log": str(workplace.run_log),
        "--events": str(tmp_path / "events.jsonl"),
        "--out": str(tmp_path / "summary.json"),
        "--seconds": "4.5",
    }
    monkeypatch.setattr("sys.argv", ["demo_summary.py", *(part for pair in arguments.items() for part in pair)])
    return demo_summary.main()


def test_a_good_run_exits_with_0_and_writes_its_summary(
    tmp_path: Path,
    made: Path,
    workplace: Workplace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert judged(tmp_path, made, workplace, monkeypatch, [DeadLetter("x", "bad_json", "no JSON")]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["items"] == {"enqueued": 4, "succeeded": 3, "dead_lettered": 1}
    assert summary["retries"] == {"item": 1, "platform": 0}
    assert summary["seconds"] == 4.5
    assert json.loads((tmp_path / "dead-letters.json").read_text()) == [
        {"id": "x", "reason": "bad_json", "description": "no JSON"}
    ]
    assert "4 enqueued = 3 done + 1 dead-lettered" in capsys.readouterr().out


def test_a_broken_run_exits_with_1_and_one_line_for_each_problem(
    tmp_path: Path,
    made: Path,
    workplace: Workplace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (made / "report" / "r1.html").unlink()
    assert judged(tmp_path, made, workplace, monkeypatch, []) == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: neither done nor dead-lettered: r1 (left no artifact), x (left no artifact)",
        "error: cannot work and was not dead-lettered: x",
    ]


def test_a_run_without_a_log_exits_with_2(
    tmp_path: Path,
    made: Path,
    workplace: Workplace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    workplace.run_log.unlink()
    assert judged(tmp_path, made, workplace, monkeypatch, []) == 2
    assert capsys.readouterr().err.startswith("error: cannot judge this run: FileNotFoundError")


def test_no_example_imports_the_product() -> None:
    sources = {path.name: path.read_text(encoding="utf-8") for path in EXAMPLES.rglob("*.py")}
    assert len(sources) >= 9
    assert [
        name for name, text in sources.items() if re.search(r"^\s*(from|import) dispatcher\b", text, re.MULTILINE)
    ] == []
