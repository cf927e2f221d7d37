"""``dispatcher dead-letters``: what was given up, and why. Here: how all its commands select, ``list`` and ``show``."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console

from dispatcher.cli.app import app
from dispatcher.cli.shared import (
    PIPE_WIDTH,
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
from dispatcher.errors import LookFailed
from dispatcher.render import dead_letter_view, dead_letters_view
from dispatcher.running import NotReachable
from dispatcher.settings import Settings, load
from dispatcher.settings.values import parse_duration

if TYPE_CHECKING:  # behind these is the SDK, which takes a while to import
    from dispatcher.dead_letters import Found, Selection
    from dispatcher.dead_letters.selecting import Reader
    from dispatcher.queue.dead_letters import DeadLetterQueue

T = TypeVar("T")

dead_letters = typer.Typer(
    help="Look at the messages that were given up, and why; replay them or purge them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(dead_letters, name="dead-letters")


AnyOf = list[str] | None
QueueOption = Annotated[str | None, typer.Option(help="Only this queue; default: all of the configuration.")]
TaskOption = Annotated[AnyOf, typer.Option(help="Only items of this task. May be repeated.")]
TenantOption = Annotated[AnyOf, typer.Option(help="Only items of this tenant. May be repeated.")]
ReasonOption = Annotated[AnyOf, typer.Option(help="Only with this reason. May be repeated.")]
OlderOption = Annotated[str | None, typer.Option(metavar="AGE", help="Only sent longer ago, such as 1h30m.")]
NewerOption = Annotated[str | None, typer.Option(metavar="AGE", help="Only sent since then, such as 2d.")]
IdOption = Annotated[
    AnyOf,
    typer.Option("--id", metavar="ID", help="Only this message id, or the sender's own of a replay. May be repeated."),
]
SequenceOption = Annotated[
    list[int] | None, typer.Option("--sequence", min=1, metavar="N", help="Only this sequence number. May be repeated.")
]


@dead_letters.command("list")
@told
def list_dead_letters(
    queue: QueueOption = None,
    task: TaskOption = None,
    tenant: TenantOption = None,
    reason: ReasonOption = None,
    older_than: OlderOption = None,
    newer_than: NewerOption = None,
    message_id: IdOption = None,
    sequence: SequenceOption = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the oldest of each queue first.")] = 1000,
    config: ConfigDir = Path("config"),
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """List dead letters: age, id, sequence number, task, tenant, reason, and the first line of the description.

    Only looks: nothing is locked or removed. The age counts from when a message was sent. With --json each dead letter
    is one line, with its whole description.
    """
    selection = selected(task, tenant, reason, older_than, newer_than, message_id, sequence)
    desk = Desk.of(queue, config, data_dir)
    found = looked(desk.find(selection, limit))
    letters = [letter.to_json(desk.now) for letter in found.letters]
    if as_json:
        for letter in letters:
            print(json.dumps(letter))
    elif letters:
        # Where nobody watches there is no edge to end a line at.
        Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(dead_letters_view(letters))
    if found.cut is not None:
        say(f"warning: {found.cut}")
    say(f"{counted(len(letters), 'dead letter')} of {counted(found.looked_at, 'message')} looked at")


@dead_letters.command("show")
@told
def show_dead_letters(
    message_id: Annotated[str | None, typer.Argument(help="The message id, or the sender's own of a replay.")] = None,
    sequence: Annotated[int | None, typer.Option(min=1, metavar="N", help="The sequence number.")] = None,
    queue: QueueOption = None,
    config: ConfigDir = Path("config"),
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show all there is of a dead letter: reason, description with the end of the log, properties, body, replays.

    Only looks: nothing is locked or removed. Where several have the id or number, all of them are shown.
    """
    from dispatcher.dead_letters import Selection, matching
    from dispatcher.dead_letters.saving import whole

    if (message_id is None) == (sequence is None):
        fail("name one dead letter: a message id, or --sequence with its number", Exit.USAGE)
    selection = Selection(
        ids=frozenset(() if message_id is None else (message_id,)),
        numbers=frozenset(() if sequence is None else (sequence,)),
    )
    desk = Desk.of(queue, config, data_dir)

    async def look() -> list[dict[str, Any]]:
        async with desk.queues() as queues:
            found = matching(queues, selection, desk.now, reader=desk.reader)
            return [whole(letter, dead, desk.now) async for letter, dead in found]

    letters = looked(look())
    if not letters:
        what = f"the id {message_id!r}" if message_id is not None else f"the sequence number {sequence}"
        fail(
            f"no dead letter of {', '.join(desk.names)} has {what}; `dead-letters list` shows those there are",
            Exit.FAILED,
        )
    for letter in letters:
        if as_json:
            print(json.dumps(letter))
        else:
            Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False).print(dead_letter_view(letter))


@dataclass(frozen=True)
class Desk:
    """What a command about dead letters has before it: the configuration, the queues, the time that ages count to."""

    settings: Settings
    config: Path
    names: list[str]
    now: datetime
    reader: Reader

    @classmethod
    def of(cls, queue: str | None, config: Path, data_dir: Path | None) -> Desk:
        """By the options of the command. Raises BadConfiguration."""
        from dispatcher.service.wiring import SystemClock, message_reader

        settings = load(config, local=False, overrides=local_overrides(data_dir=data_dir))
        now = SystemClock().now()
        return cls(settings, config, queue_names(queue, settings, config), now, message_reader(settings, lambda: now))

    def queues(self) -> AbstractAsyncContextManager[list[tuple[DeadLetterQueue, str | None]]]:
        """The dead-letter queues, opened."""
        return dead_letter_queues(self.settings, self.names, self.config)

    async def find(self, selection: Selection, limit: int) -> Found:
        """The dead letters that are selected, at most so many. Raises LookFailed."""
        from dispatcher.dead_letters import find

        async with self.queues() as queues:
            return await find(queues, selection, self.now, limit=limit, reader=self.reader)


def looked(look: Coroutine[Any, Any, T], run: Callable[[Coroutine[Any, Any, T]], T] = asyncio.run) -> T:
    """What a look brought. Raises NotReachable where it failed."""
    try:
        return run(look)
    except LookFailed as error:
        raise NotReachable(f"the dead letters cannot be read: {error}") from error


def selected(
    task: AnyOf,
    tenant: AnyOf,
    reason: AnyOf,
    older_than: str | None,
    newer_than: str | None,
    message_id: AnyOf,
    sequence: list[int] | None,
) -> Selection:
    """The options of a command as a selection."""
    from dispatcher.dead_letters import Selection

    return Selection(
        tasks=frozenset(task or ()),
        tenants=frozenset(tenant or ()),
        reasons=frozenset(reason or ()),
        older_than=None if older_than is None else age("--older-than", older_than),
        newer_than=None if newer_than is None else age("--newer-than", newer_than),
        ids=frozenset(message_id or ()),
        numbers=frozenset(sequence or ()),
    )


def queue_names(queue: str | None, settings: Settings, config: Path) -> list[str]:
    """The queue that was named, or all of the configuration."""
    return [entry.name for entry in settings.queues] if queue is None else [known_queue(queue, settings, config)]


def age(option: str, text: str) -> timedelta:
    """An age as it was written on the command line."""
    try:
        return parse_duration(text)
    except ValueError as error:
        fail(f"{option}: {error}", Exit.USAGE)


@asynccontextmanager
async def dead_letter_queues(
    settings: Settings, names: Sequence[str], config: Path
) -> AsyncIterator[list[tuple[DeadLetterQueue, str | None]]]:
    """The dead-letter queues of these queues, each with the tenant of messages that name none."""
    from dispatcher.queue.dead_letters import DeadLetterQueue
    from dispatcher.service.wiring import queue_rules

    access, rules = broker_access(settings, config), queue_rules(settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(access.close)
        queues = []
        for name in names:
            reader = DeadLetterQueue(access.queue(name))
            tenants = rules[name].tenants or ()
            queues.append((await stack.enter_async_context(reader), tenants[0] if len(tenants) == 1 else None))
        yield queues
