"""The command line.

Decides what the commands are called, what they print where, and their exit codes. Data goes to stdout, messages to
stderr; with --json the data is JSON. Nothing is decided here about work.

Exit codes: 0 all well; 1 it failed; 2 wrong usage or configuration; 3 the service or its broker cannot be reached;
130 interrupted.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from enum import IntEnum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from dispatcher import __version__
from dispatcher.client import NotReachable, find_service, get_json_now
from dispatcher.errors import BadConfiguration, DispatcherError, LookFailed, OutcomeUnknown
from dispatcher.render import dead_letters_view, status_line, status_view
from dispatcher.settings import Examination, Settings, examine, load
from dispatcher.settings.values import parse_duration
from dispatcher.telemetry.logs import configure_logs

if TYPE_CHECKING:  # behind these is the SDK, which takes a while to import
    from dispatcher.dead_letters import Found
    from dispatcher.queue.dead_letters import DeadLetterQueue


class Exit(IntEnum):
    """What the exit codes mean."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_REACHABLE = 3
    INTERRUPTED = 130


app = typer.Typer(
    name="dispatcher",
    help="Turns bursts of work on an Azure Service Bus queue into parallel Kubernetes Jobs, within budgets.",
    epilog="Exit codes: 0 all well, 1 failed, 2 wrong usage or configuration, 3 service not reachable, 130 interrupted",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

dead_letters = typer.Typer(
    help="Look at the messages that were given up, and why.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(dead_letters, name="dead-letters")

P = ParamSpec("P")
R = TypeVar("R")

ConfigDir = Annotated[
    Path, typer.Option("--config", metavar="DIR", help="The folder with dispatcher.yaml and tasks.yaml.")
]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="Where the local service keeps its files; default: local-data."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
DATA_DIR_DEFAULT = Path("local-data")
PIPE_WIDTH = 500


def main() -> None:
    """Runs the command that the process was started with."""
    app()


def say(text: str) -> None:
    """A message for people: to stderr, so that stdout stays data."""
    print(text, file=sys.stderr)


def fail(text: str, code: Exit) -> NoReturn:
    """Ends the command with one message."""
    for line in text.splitlines():
        say(f"error: {line}")
    raise typer.Exit(code)


def told(command: Callable[P, R]) -> Callable[P, R]:
    """Errors that a person can mend become lines on stderr and an exit code; all others stay what they are."""

    @wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except BadConfiguration as error:
            fail("\n".join(error.mistakes), Exit.USAGE)
        except NotReachable as error:
            fail(str(error), Exit.NOT_REACHABLE)
        except DispatcherError as error:
            fail(str(error), Exit.FAILED)
        except KeyboardInterrupt:
            raise typer.Exit(Exit.INTERRUPTED) from None
        except BrokenPipeError:  # whoever read the output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(Exit.OK) from None

    return wrapper


def show_version(wanted: bool) -> None:
    """Prints the version and ends."""
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Options of all commands."""
    configure_logs("warning")  # `run` decides anew; for all others only what goes wrong in a library is of interest


# --- run ------------------------------------------------------------------------------------------------------------


@app.command()
@told
def run(
    local: Annotated[
        bool, typer.Option("--local", help="Broker, cluster and virtual node on this machine; nothing else is needed.")
    ] = False,
    config: ConfigDir = Path("config"),
    data_dir: DataDirOption = None,
    web_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The port of the HTTP service; 0: any free one.")
    ] = None,
    broker_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The port of the local broker; 0: any free one.")
    ] = None,
) -> None:
    """Run the dispatcher until it is told to stop (Ctrl-C or SIGTERM).

    Stopping ends receiving and leaves running pods alone; the next start finds them.
    """
    if not local:
        fail("running in a cluster is not available in this version; use `dispatcher run --local`", Exit.USAGE)
    overrides = local_overrides(data_dir=data_dir, web_port=web_port, broker_port=broker_port)
    examined = examine(config, local=True, overrides=overrides)
    settings = usable(examined)
    # Only here, since the SDK behind it takes a while to import and most commands do without.
    from dispatcher.service import run_local

    configure_logs(settings.service.log_level, settings.service.log_format)

    def started(url: str) -> None:
        say(f"The dispatcher runs at {url}, its files are in {settings.local.data_dir}. Stop it with Ctrl-C.")

    asyncio.run(run_local(settings, config, started))
    say("The dispatcher has stopped.")


def local_overrides(**given: Any) -> dict[str, Any]:
    """What the command line says about local mode, in the shape of the settings."""
    said = {key: str(value) if isinstance(value, Path) else value for key, value in given.items() if value is not None}
    return {"local": said} if said else {}


def usable(examined: Examination) -> Settings:
    """The settings; warnings are told, mistakes end the command."""
    if examined.settings is None:
        raise BadConfiguration([str(mistake) for mistake in examined.mistakes])
    for warning in examined.warnings:
        say(f"warning: {warning}")
    return examined.settings


# --- check-config ---------------------------------------------------------------------------------------------------


@app.command("check-config")
@told
def check_config(
    config: ConfigDir = Path("config"),
    local: Annotated[bool, typer.Option("--local", help="Check what local mode needs too, such as programs.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Tell every mistake in the configuration at once: where it is, what is wrong, and the remedy."""
    examined = examine(config, local=local)
    if as_json:
        content = {
            "ok": examined.settings is not None,
            "mistakes": [mistake.to_json() for mistake in examined.mistakes],
            "warnings": [warning.to_json() for warning in examined.warnings],
        }
        print(json.dumps(content, indent=2))
    else:
        for mistake in examined.mistakes:
            print(mistake)
        for warning in examined.warnings:
            print(f"warning: {warning}")
    if examined.settings is None:
        say(f"{counted(len(examined.mistakes), 'mistake')} in {config}")
        raise typer.Exit(Exit.USAGE)
    if not as_json:
        tasks, queues = len(examined.settings.tasks), len(examined.settings.queues)
        say(f"{config} is fine: {counted(queues, 'queue')}, {counted(tasks, 'task')}")


def counted(number: int, what: str) -> str:
    """A number with its noun."""
    return f"{number} {what}{'' if number == 1 else 's'}"


# --- status ---------------------------------------------------------------------------------------------------------


@app.command()
@told
def status(
    url: Annotated[str | None, typer.Option(envvar="BURST_URL", help="The service's address.")] = None,
    data_dir: DataDirOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second, until Ctrl-C.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show items, attempts, what is held and why, budgets and addresses of a running service."""
    address = url or find_service(data_dir or DATA_DIR_DEFAULT).url
    answers = polled(address) if watch else iter([get_json_now(address, "/api/status")])
    if as_json:
        for answer in answers:
            print(json.dumps(answer, indent=None if watch else 2), flush=True)
    elif not watch:
        Console().print(status_view(next(answers), address))
    elif sys.stdout.isatty():
        with Live(console=Console(), screen=False, auto_refresh=False) as live:
            for answer in answers:
                live.update(status_view(answer, address), refresh=True)
    else:
        for answer in answers:
            print(status_line(answer), flush=True)


def polled(url: str, every_seconds: float = 1.0) -> Iterator[dict[str, Any]]:
    """The status, again and again."""
    while True:
        yield get_json_now(url, "/api/status")
        time.sleep(every_seconds)


# --- enqueue --------------------------------------------------------------------------------------------------------


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


def known_queue(name: str, settings: Settings, config: Path) -> str:
    """The name, if the configuration has a queue of it."""
    names = [entry.name for entry in settings.queues]
    if name not in names:
        fail(f"there is no queue {name!r} in {config}; known are {', '.join(names)}", Exit.USAGE)
    return name


def connection_string(settings: Settings) -> str:
    """What to connect with: the secret that was configured, or that of the local service."""
    if settings.service_bus.connection_string is not None:
        return settings.service_bus.connection_string.get_secret_value()
    service = find_service(settings.local.data_dir)
    try:
        return service.connection_string_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise NotReachable(f"{service.connection_string_file} cannot be read: {error.strerror}") from error


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


# --- dead letters ---------------------------------------------------------------------------------------------------

AnyOf = list[str] | None


@dead_letters.command("list")
@told
def list_dead_letters(
    queue: Annotated[str | None, typer.Option(help="Only this queue; default: all of the configuration.")] = None,
    task: Annotated[AnyOf, typer.Option(help="Only items of this task. May be repeated.")] = None,
    tenant: Annotated[AnyOf, typer.Option(help="Only items of this tenant. May be repeated.")] = None,
    reason: Annotated[AnyOf, typer.Option(help="Only with this reason. May be repeated.")] = None,
    older_than: Annotated[str | None, typer.Option(metavar="AGE", help="Only sent longer ago, such as 1h30m.")] = None,
    newer_than: Annotated[str | None, typer.Option(metavar="AGE", help="Only sent since then, such as 2d.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the oldest of each queue first.")] = 1000,
    config: ConfigDir = Path("config"),
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """List dead letters: age, id, sequence number, task, tenant, reason, and the first line of the description.

    Only looks: nothing is locked or removed. The age counts from when a message was sent. With --json each dead letter
    is one line, with its whole description.
    """
    from dispatcher.dead_letters import Selection, find
    from dispatcher.service.wiring import SystemClock

    selection = Selection(
        tasks=frozenset(task or ()),
        tenants=frozenset(tenant or ()),
        reasons=frozenset(reason or ()),
        older_than=None if older_than is None else age("--older-than", older_than),
        newer_than=None if newer_than is None else age("--newer-than", newer_than),
    )
    settings = load(config, local=True, overrides=local_overrides(data_dir=data_dir))
    names = [entry.name for entry in settings.queues] if queue is None else [known_queue(queue, settings, config)]
    now = SystemClock().now()

    async def look() -> Found:
        async with dead_letter_queues(settings, names) as queues:
            return await find(queues, selection, now, limit=limit)

    try:
        found = asyncio.run(look())
    except LookFailed as error:
        raise NotReachable(f"the dead letters cannot be read: {error}") from error
    letters = [letter.to_json(now) for letter in found.letters]
    if as_json:
        for letter in letters:
            print(json.dumps(letter))
    elif letters:
        # Where nobody watches there is no edge to end a line at.
        Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(dead_letters_view(letters))
    if found.cut is not None:
        say(f"warning: {found.cut}")
    say(f"{counted(len(letters), 'dead letter')} of {counted(found.looked_at, 'message')} looked at")


def age(option: str, text: str) -> timedelta:
    """An age as it was written on the command line."""
    try:
        return parse_duration(text)
    except ValueError as error:
        fail(f"{option}: {error}", Exit.USAGE)


@asynccontextmanager
async def dead_letter_queues(
    settings: Settings, names: Sequence[str]
) -> AsyncIterator[list[tuple[DeadLetterQueue, str | None]]]:
    """The dead-letter queues of these queues, each with the tenant of messages that name none."""
    from dispatcher.queue.config import ServiceBusConfig
    from dispatcher.queue.dead_letters import DeadLetterQueue
    from dispatcher.service.wiring import queue_rules

    secret, rules = connection_string(settings), queue_rules(settings)
    async with AsyncExitStack() as stack:
        queues = []
        for name in names:
            reader = DeadLetterQueue(ServiceBusConfig(queue=name, connection_string=lambda: secret))
            tenants = rules[name].tenants or ()
            queues.append((await stack.enter_async_context(reader), tenants[0] if len(tenants) == 1 else None))
        yield queues


# --- demo -----------------------------------------------------------------------------------------------------------


@app.command()
@told
def demo(
    items: Annotated[int, typer.Option(min=12, max=10_000, help="How many work items.")] = 240,
    seed: Annotated[int, typer.Option(help="The same seed makes the same burst.")] = 1,
    budget_usd: Annotated[
        str | None, typer.Option(metavar="USD", help="The budget of the demo; default: small enough to be felt.")
    ] = None,
    subnet: Annotated[
        str | None, typer.Option(metavar="CIDR", help="The virtual node's subnet; its prefix length is enough.")
    ] = None,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where everything is written.")] = Path("demo-output"),
    keep: Annotated[bool, typer.Option("--keep", help="Leave the service running afterwards.")] = False,
) -> None:
    """Show the whole thing on this machine: a burst of real work, held, spilled over, retried, and judged.

    Takes a few minutes. Ends with 0 if an independent judge finds that everything holds.
    """
    from dispatcher.demo import Demo, Scale

    scale = Scale.scaled(items=items, seed=seed, budget_usd=budget_usd, subnet=subnet)
    raise typer.Exit(Demo(scale, output, keep=keep).run())
