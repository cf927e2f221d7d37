"""``dispatcher enqueue``: work from options or from JSON lines, and if wanted how it ended."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.cli.app import app
from dispatcher.cli.long_act import progress_of
from dispatcher.cli.shared import (
    ConfigDir,
    DataDirOption,
    Exit,
    JsonOption,
    broker_access,
    fail,
    known_queue,
    local_overrides,
    say,
    told,
)
from dispatcher.core.words import counted
from dispatcher.running import NotReachable
from dispatcher.settings import Settings, load
from dispatcher.settings.values import parse_duration

if TYPE_CHECKING:
    from dispatcher.client import Outcome
    from dispatcher.client.work import Outgoing
    from dispatcher.service.access import BrokerAccess


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
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="When it comes onto the queue: 2026-03-01T06:00:00Z, or in 10m. Default: now."
        ),
    ] = None,
    reply_to: Annotated[
        str | None,
        typer.Option(metavar="QUEUE", help="Have outcomes sent there; one that the queue's reply_to allows."),
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(help="Print outcomes as they come, until all have; 1 if any item was dead-lettered."),
    ] = False,
    timeout: Annotated[str, typer.Option(metavar="DURATION", help="How long to wait at most.")] = "1h",
    queue: Annotated[str | None, typer.Option(help="The queue; default: the first one of the configuration.")] = None,
    config: ConfigDir = Path("config"),
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send work: one item from options, or many as JSON lines from stdin.

    A line is {"task": "report", "params": {...}, "tenant": ..., "priority": ..., "message_id": ..., "at": ...}, all but
    the task optional. Everything is checked first: if one item has a mistake, nothing is sent. With --wait the outcomes
    are taken off the reply queue, which therefore must be read by nobody else.
    """
    from dispatcher import enqueue as sending
    from dispatcher.client.checks import by_reader
    from dispatcher.service.wiring import SystemClock, message_reader

    lines = sys.stdin if task is None else [single_item(task, param, params, tenant, priority, message_id)]
    if task is None and sys.stdin.isatty():
        fail("name a --task, or give JSON lines on stdin", Exit.USAGE)
    due, patience = time_of(at), duration_of("--timeout", timeout)
    settings = load(config, local=False, overrides=local_overrides(data_dir=data_dir))
    name = known_queue(queue or settings.queues[0].name, settings, config)
    replies = reply_queue(name, reply_to, settings, wanted=wait)
    read = message_reader(settings, SystemClock().now)
    items, refused = sending.read_lines(lines, replies, by_reader(lambda message: read(name, message)), due)
    if refused:
        for each in refused:
            say(f"error: {each.reason if task is not None else each}")
        say(f"{counted(len(refused), 'item')} cannot be sent, so nothing was")
        raise typer.Exit(Exit.FAILED)
    dead = asyncio.run(
        send(broker_access(settings, config), name, replies, items, patience if wait else None, as_json=as_json)
    )
    if dead:
        say(f"{counted(dead, 'item')} of {len(items)} dead-lettered")
        raise typer.Exit(Exit.FAILED)


async def send(
    access: BrokerAccess,
    queue: str,
    replies: str | None,
    items: Sequence[Outgoing],
    patience: timedelta | None,
    *,
    as_json: bool,
) -> int:
    """Sends, prints, and with ``patience`` waits; how many were dead-lettered, as far as was waited for."""
    from dispatcher import enqueue as sending
    from dispatcher.client import BurstClient, OutcomeKind, SendFailed

    dead = 0

    def came(outcome: Outcome) -> None:
        nonlocal dead
        dead += outcome.kind is OutcomeKind.DEAD_LETTERED
        print(json.dumps(sending.as_facts(outcome)) if as_json else sending.told(outcome), flush=True)
        progressed(1)

    try:
        async with BurstClient(access.queue(queue), reply_to=replies) as client:
            with progress_of("sending", len(items)) as sent:
                await sending.send(client, items, sent)
            say(f"sent {counted(len(items), 'item')} to {queue}")
            if patience is not None:
                with progress_of("waiting", len(items)) as progressed:
                    await sending.wait(client, items, patience, came)
                return dead
    except SendFailed as error:
        raise NotReachable(f"the broker did not take everything: {error}") from error
    finally:
        await access.close()
    for item in items if as_json or len(items) == 1 else ():
        print(json.dumps({"queue": queue, "message_id": item.message_id}) if as_json else item.message_id)
    return dead


def reply_queue(queue: str, named: str | None, settings: Settings, *, wanted: bool) -> str | None:
    """Where outcomes are to be sent: as named, or else the first queue that is allowed; None: they are not wanted."""
    allowed = next(entry.reply_to for entry in settings.queues if entry.name == queue)
    if named is None and not wanted:
        return None
    if not allowed:
        fail(f"queue {queue} sends no outcomes; add reply_to: [outcomes] to it in dispatcher.yaml", Exit.USAGE)
    if named is not None and named not in allowed:
        fail(f"--reply-to {named}: queue {queue} allows {', '.join(allowed)}", Exit.USAGE)
    return named or allowed[0]


def time_of(text: str | None) -> datetime | None:
    """``2026-03-01T06:00:00Z``, or a time from now such as ``10m``."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return datetime.now(UTC) + duration_of("--at", text)
    if at.tzinfo is None:
        fail(f"--at {text} has no time zone; write for example {text}Z", Exit.USAGE)
    return at


def duration_of(option: str, text: str) -> timedelta:
    """``90s``, ``10m``, ``1h30m``."""
    try:
        return parse_duration(text)
    except ValueError as error:
        fail(f"{option} {text}: {error}", Exit.USAGE)


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
