"""Judges a demo run from outside: looks at the queue, the artifacts, the run log and the event log, and sums up.

For everyone who wants to believe the demo. The judge imports nothing of the product: messages are peeked with the
Azure Service Bus SDK, images are opened with Pillow, pages are parsed. It writes summary.json, puts what lies in
the dead-letter queue into dead-letters.json beside it, prints a table, and exits with 1 if anything that must be
true is not; each such thing is one line on stderr. What it decides on these looks stands in judging.py.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from azure.servicebus import ServiceBusReceivedMessage, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver
from azure.servicebus.exceptions import ServiceBusError
from judging import Artifact, DeadLetter, Evidence, Run, judge, pair_runs, read_json_lines, table
from PIL import Image

PEEK_AT_ONCE = 250
POLL_SECONDS = 0.5
IMAGE_FORMATS = {".jpg": "JPEG", ".webp": "WEBP"}
IMAGE_SIDE_MIN = 400
EXIF_DESCRIPTION = 0x010E
VOID_ELEMENTS = frozenset(("br", "hr", "img", "input", "link", "meta"))


# --- the queue -------------------------------------------------------------------------------------------------


async def look_at_queue(connection_string: str, queue: str, patience: float) -> tuple[list[str], list[DeadLetter]]:
    """What is left in the queue, in whatever state, and what lies in its dead-letter queue.

    The last completions may still be on their way when the service says that it is done, so the queue is given
    `patience` seconds to become empty.
    """
    async with ServiceBusClient.from_connection_string(connection_string) as client:
        async with client.get_queue_receiver(queue) as receiver:
            left = await peek_until_empty(receiver, deadline=time.monotonic() + patience)
        async with client.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
            dead = [a_dead_letter(message) async for message in peek_all(receiver)]
    return left, dead


async def peek_until_empty(receiver: ServiceBusReceiver, deadline: float) -> list[str]:
    """The ids of the messages that are left once the queue is empty or the deadline has passed."""
    while True:
        left = [str(message.message_id) async for message in peek_all(receiver)]
        if not left or time.monotonic() >= deadline:
            return left
        await asyncio.sleep(POLL_SECONDS)


async def peek_all(receiver: ServiceBusReceiver) -> AsyncIterator[ServiceBusReceivedMessage]:
    """Every message: active, locked, deferred or scheduled."""
    following = 0
    while page := await receiver.peek_messages(max_message_count=PEEK_AT_ONCE, sequence_number=following):
        for message in page:
            yield message
            following = max(following, (message.sequence_number or 0) + 1)


def a_dead_letter(message: ServiceBusReceivedMessage) -> DeadLetter:
    """A dead-lettered message and why it is there."""
    return DeadLetter(
        str(message.message_id), message.dead_letter_reason or "", message.dead_letter_error_description or ""
    )


async def look_at_outcomes(connection_string: str, queue: str) -> dict[str, list[str]]:
    """What stands on the reply queue, by the message that it is about: CloudEvents, of which only the data counts."""
    heard: defaultdict[str, list[str]] = defaultdict(list)
    client = ServiceBusClient.from_connection_string(connection_string)
    async with client, client.get_queue_receiver(queue) as receiver:
        async for message in peek_all(receiver):
            data = json.loads(str(message))["data"]
            heard[data["id"]].append(data["outcome"])
    return dict(heard)


# --- the artifacts ---------------------------------------------------------------------------------------------


def look_at_artifacts(folder: Path) -> dict[str, list[Artifact]]:
    """Every artifact by the item that its name tells, opened."""
    found: defaultdict[str, list[Artifact]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith(".") and path.suffix in (".html", *IMAGE_FORMATS):
            content = path.read_bytes()
            problem = page_problem(content, path.stem) if path.suffix == ".html" else image_problem(path)
            found[path.stem].append(Artifact(str(path), hashlib.sha256(content).hexdigest(), problem))
    return dict(found)


def image_problem(path: Path) -> str | None:
    """What is wrong with an image: it must be whole, of its format, and name its item."""
    try:
        with Image.open(path) as image:
            image.verify()
        with Image.open(path) as image:
            image.load()
            if image.format != IMAGE_FORMATS[path.suffix]:
                return f"is a {image.format} file"
            if min(image.size) < IMAGE_SIDE_MIN:
                return f"is only {image.width} x {image.height} pixels"
            if image.getexif().get(EXIF_DESCRIPTION) != path.stem:
                return "does not name its item"
    except (OSError, SyntaxError, ValueError) as error:
        return f"does not open: {error}"
    return None


@dataclass
class PageReader(HTMLParser):
    """Collects what a report must have while it is parsed."""

    open_elements: list[str] = field(default_factory=list)
    charts: int = 0
    lines: int = 0
    rows: int = 0
    items: list[str | None] = field(default_factory=list)
    problem: str | None = None

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count the chart's parts, and refuse what would have to be fetched."""
        attributes = dict(attrs)
        if tag not in VOID_ELEMENTS:
            self.open_elements.append(tag)
        self.count(tag)
        if "data-item" in attributes:
            self.items.append(attributes["data-item"])
        if tag == "script" or "src" in attributes or tag == "link":
            self.problem = f"needs more than itself: <{tag}>"

    def handle_startendtag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        """An element that closes itself, as SVG has many."""
        self.count(tag)

    def handle_endtag(self, tag: str) -> None:
        """Every element is closed in turn."""
        if not self.open_elements or self.open_elements.pop() != tag:
            self.problem = f"closes <{tag}> where it is not open"

    def count(self, tag: str) -> None:
        """What a report is made of."""
        self.charts += tag == "svg"
        self.lines += tag == "path" and "svg" in self.open_elements
        self.rows += tag == "tr"


def page_problem(content: bytes, item: str) -> str | None:
    """What is wrong with a report: it must parse, have a chart and a table, name its item, and open offline."""
    reader = PageReader()
    try:
        reader.feed(content.decode())
        reader.close()
    except ValueError as error:
        return f"is not text: {error}"
    if reader.problem:
        return reader.problem
    if reader.open_elements:
        return f"ends inside <{reader.open_elements[-1]}>"
    if not (reader.charts and reader.lines):
        return "has no chart"
    if reader.rows < 2:
        return "has no table"
    return None if reader.items == [item] else "does not name its item"


# --- everything together ---------------------------------------------------------------------------------------


def look_at_everything(options: argparse.Namespace) -> Evidence:
    """Gather the evidence; the queue last, so that it has had all the time there is."""
    burst = json.loads(options.burst.read_text(encoding="utf-8"))
    runs = pair_runs(read_json_lines(options.run_log.read_text(encoding="utf-8"), str(options.run_log)))
    events = read_json_lines(options.events.read_text(encoding="utf-8"), str(options.events))
    left, dead = asyncio.run(look_at_queue(options.connection_string, options.queue, options.patience))
    heard = asyncio.run(look_at_outcomes(options.connection_string, options.outcomes)) if options.outcomes else {}
    return Evidence(
        kinds={message: facts["kind"] for message, facts in burst["messages"].items()},
        runs=runs,
        events=events,
        artifacts=look_at_artifacts(options.artifacts),
        left_in_queue=left,
        dead_letters=dead,
        seconds=options.seconds if options.seconds is not None else seconds_taken(burst, runs),
        asked={message for message, facts in burst["messages"].items() if facts.get("replies")},
        outcomes=heard,
    )


def seconds_taken(burst: dict[str, Any], runs: list[Run]) -> float:
    """From the first message sent to the last run that ended."""
    return max((run.ended for run in runs if run.ended), default=burst["enqueued_at"]) - float(burst["enqueued_at"])


def main() -> int:
    """Judge a run: 0 when everything holds, 1 when something does not, 2 when there is nothing to judge."""
    options = parse_arguments()
    try:
        evidence = look_at_everything(options)
        verdict = judge(evidence)
    except (OSError, ValueError, KeyError, ServiceBusError) as error:
        print(f"error: cannot judge this run: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    write_json(options.out, verdict.summary)
    write_json(options.out.with_name("dead-letters.json"), [asdict(letter) for letter in evidence.dead_letters])
    print(table(verdict.summary))
    for problem in verdict.problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if verdict.problems else 0


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--connection-string", required=True)
    parser.add_argument("--queue", default="work")
    parser.add_argument("--outcomes", help="the queue on which the burst asked to hear how its items ended")
    parser.add_argument("--burst", type=Path, required=True, help="burst.json of demo_burst.py")
    parser.add_argument("--artifacts", type=Path, required=True, help="the folder that the workers wrote to")
    parser.add_argument("--run-log", type=Path, required=True, help="the JSONL log that the workers appended to")
    parser.add_argument("--events", type=Path, required=True, help="the JSONL event log of the service")
    parser.add_argument("--out", type=Path, default=Path("summary.json"))
    parser.add_argument("--seconds", type=float, help="how long the run took; default: first message to last run")
    parser.add_argument("--patience", type=float, default=10.0, help="seconds to wait for the queue to be empty")
    return parser.parse_args()


def write_json(path: Path, content: object) -> None:
    """A file for people and programs."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
