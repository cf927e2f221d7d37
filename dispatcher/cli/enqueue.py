"""``dispatcher enqueue``: work from options or from JSON lines."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from dispatcher.cli.app import app
from dispatcher.cli.shared import (
    ConfigDir,
    DataDirOption,
    Exit,
    JsonOption,
    connection_string,
    counted,
    fail,
    known_queue,
    local_overrides,
    say,
    told,
)
from dispatcher.errors import OutcomeUnknown
from dispatcher.running import NotReachable
from dispatcher.settings import load


@app.command()
@told
def enqueue(
    task: Annotated[str | None, typer.Option(help="The task of a single item.")] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="KEY=VALUE", help="A parameter; JSON where it is JSON. May be repeated."),
    ] = None,
    params: Annotated[str | None, typer.Option(metavar="JSON", help="All parameters as one JSON object.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose work it is.")] = None,
    priority: Annotated[int | None, typer.Option(min=0, help="Higher goes first.")] = None,
    message_id: Annotated[str | None, typer.Option(help="Finds copies; default: a new one.")] = None,
    queue: Annotated[str | None, typer.Option(help="The queue; default: the first one of the configuration.")] = None,
    config: ConfigDir = Path("config"),
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send work: one item from options, or many as JSON lines from stdin.

    A line is {"task": "report", "params": {...}, "tenant": ..., "priority": ..., "message_id": ...}, all but the task
    optional. Everything is checked first: if one item has a mistake, nothing is sent.
    """
    from dispatcher import enqueue as sending
    from dispatcher.queue.config import ServiceBusConfig
    from dispatcher.queue.producer import Producer
    from dispatcher.service.wiring import SystemClock, message_reader

    lines = sys.stdin if task is None else [single_item(task, param, params, tenant, priority, message_id)]
    if task is None and sys.stdin.isatty():
        fail("name a --task, or give JSON lines on stdin", Exit.USAGE)
    settings = load(config, local=True, overrides=local_overrides(data_dir=data_dir))
    name = known_queue(queue or settings.queues[0].name, settings, config)
    judge = sending.judge_by(message_reader(settings, SystemClock().now), name)
    items, refused = sending.read_lines(lines, judge)
    if refused:
        for each in refused:
            say(f"error: {each.reason if task is not None else each}")
        say(f"{counted(len(refused), 'item')} cannot be sent, so nothing was")
        raise typer.Exit(Exit.FAILED)
    secret = connection_string(settings)
    producer = Producer(ServiceBusConfig(queue=name, connection_string=lambda: secret))
    try:
        with sending_progress(len(items)) as sent:
            asyncio.run(sending.send(items, producer, sent))
    except OutcomeUnknown as error:
        raise NotReachable(f"the broker did not take everything: {error}") from error
    for item in items if as_json or len(items) == 1 else ():
        print(json.dumps({"queue": name, "message_id": item.message_id}) if as_json else item.message_id)
    say(f"sent {counted(len(items), 'item')} to {name}")


def single_item(
    task: str,
    param: list[str] | None,
    params: str | None,
    tenant: str | None,
    priority: int | None,
    message_id: str | None,
) -> str:
    """The options of a single item as the line that would say the same."""
    content: dict[str, Any] = {}
    if params is not None:
        try:
            content = json.loads(params)
        except ValueError as error:
            fail(f"--params is not JSON ({error}); write for example --params '{{\"width\": 200}}'", Exit.USAGE)
        if not isinstance(content, dict):
            fail("--params is not an object; write for example --params '{\"width\": 200}'", Exit.USAGE)
    for entry in param or []:
        key, sign, value = entry.partition("=")
        if not (key and sign):
            fail(f"--param {entry}: write key=value", Exit.USAGE)
        content[key] = json_or_text(value)
    said = {"tenant": tenant, "priority": priority, "message_id": message_id}
    return json.dumps(
        {"task": task, "params": content, **{key: each for key, each in said.items() if each is not None}}
    )


def json_or_text(value: str) -> Any:
    """``200`` is a number, ``coffee`` is a text."""
    try:
        return json.loads(value)
    except ValueError:
        return value


@contextmanager
def sending_progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal where there is much to send, otherwise nothing."""
    if total <= 1 or not sys.stderr.isatty():
        yield lambda _: None
        return
    with Progress(
        TextColumn("sending"), BarColumn(), MofNCompleteColumn(), console=Console(stderr=True), transient=True
    ) as progress:
        bar = progress.add_task("sending", total=total)
        yield lambda count: progress.advance(bar, count)
