"""``dispatcher broker``: the broker alone, for local development, and what can be asked of it while it runs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from dispatcher.cli.app import app
from dispatcher.cli.shared import Exit, JsonOption, fail, say, told
from dispatcher.core.words import counted
from dispatcher.errors import BadConfiguration
from dispatcher.running import ask_broker
from dispatcher.settings.broker import examine_broker

broker = typer.Typer(
    help="The Service Bus-compatible broker alone, for local development.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(broker, name="broker")

CONFIG_DEFAULT = Path("config/broker.yaml")
DATA_DIR_DEFAULT = Path("local-broker")
CONTROL_URL_DEFAULT = "http://127.0.0.1:5673"

BrokerFile = Annotated[Path, typer.Option("--config", metavar="FILE", help="The file with queues, keys and limits.")]
ControlUrl = Annotated[
    str, typer.Option("--url", envvar="BURST_BROKER_URL", help="Where `broker serve --faults-port` listens.")
]


@broker.command()
@told
def serve(
    config: BrokerFile = CONFIG_DEFAULT,
    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where messages are kept; default: local-broker.")
    ] = None,
    memory: Annotated[bool, typer.Option("--memory", help="Keep no files: messages go with the process.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port for AMQP; 0: any free one.")] = 5672,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="A certificate, PEM: serve TLS too.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its key, PEM.")] = None,
    tls_port: Annotated[int, typer.Option(min=0, max=65535, help="The port for TLS; 0: any free one.")] = 5671,
    faults_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Serve the HTTP API for faults there; 0: any free port. Default: not."),
    ] = None,
    connection_string_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the first connection string there while it runs.")
    ] = None,
) -> None:
    """Serve queues until told to stop (Ctrl-C or SIGTERM).

    Prints a connection string for each key, the one with all rights first. Listens on this machine alone.
    """
    from dispatcher.embedded.broker import TlsFiles
    from dispatcher.service.broker import Doors, Serving, serve_broker

    if memory and data_dir is not None:
        fail("--memory and --data-dir exclude each other: take one out", Exit.USAGE)
    if (tls_cert is None) is not (tls_key is None):
        fail("--tls-cert and --tls-key belong together: give both", Exit.USAGE)
    examined = examine_broker(config)
    if examined.settings is None:
        raise BadConfiguration([str(mistake) for mistake in examined.mistakes])
    tls = TlsFiles(tls_cert, tls_key) if tls_cert is not None and tls_key is not None else None
    folder = None if memory else data_dir or DATA_DIR_DEFAULT
    names = [queue.name for queue in examined.settings.queues]

    def started(serving: Serving) -> None:
        for text in serving.connection_strings:
            print(text, flush=True)
        where = f"127.0.0.1:{serving.port}" + (f", with TLS on {serving.tls_port}" if serving.tls_port else "")
        kept = "Messages are in memory only." if folder is None else f"Messages are kept in {folder}."
        say(f"The broker serves {counted(len(names), 'queue')} ({', '.join(names)}) on {where}. {kept}")
        if serving.faults_url is not None:
            say(f"Faults can be set at {serving.faults_url}/faults.")
        say("Stop it with Ctrl-C.")

    doors = Doors(port, tls, tls_port, faults_port)
    asyncio.run(
        serve_broker(examined.settings, examined.secrets, doors, folder, started, connection_string_file)
    )  # fmt: skip
    say("The broker has stopped.")


@broker.command()
@told
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to look at.")] = CONFIG_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Tell every mistake in the broker's file at once: where it is, what is wrong, and the remedy."""
    examined = examine_broker(file)
    if as_json:
        mistakes = [mistake.to_json() for mistake in examined.mistakes]
        print(json.dumps({"ok": examined.settings is not None, "mistakes": mistakes}, indent=2))
    else:
        for mistake in examined.mistakes:
            print(mistake)
    if examined.settings is None:
        say(f"{counted(len(examined.mistakes), 'mistake')} in {file}")
        raise typer.Exit(Exit.USAGE)
    if not as_json:
        queues, keys = len(examined.settings.queues), len(examined.settings.keys) or 1
        say(f"{file} is fine: {counted(queues, 'queue')}, {counted(keys, 'key')}")


@broker.command()
@told
def queues(url: ControlUrl = CONTROL_URL_DEFAULT, as_json: JsonOption = False) -> None:
    """Show how many messages are where in each queue of a running broker."""
    answer = ask_broker(url, "GET", "/queues")
    if as_json:
        print(json.dumps(answer, indent=2))
        return
    columns = ("active", "locked", "deferred", "scheduled", "dead_lettered")
    table = Table("queue", *(name.replace("_", "-") for name in columns), box=None)
    for name, counts in answer.items():
        table.add_row(name, *(str(counts[column]) for column in columns))
    Console().print(table)


@broker.command()
@told
def faults(url: ControlUrl = CONTROL_URL_DEFAULT, as_json: JsonOption = False) -> None:
    """Show every fault of a running broker: whether it is set, and how often it has struck."""
    answer = ask_broker(url, "GET", "/faults")
    if as_json:
        print(json.dumps(answer, indent=2))
        return
    table = Table("fault", "kind", "set", "has struck", box=None)
    for name, state in answer.items():
        kind = "at once" if state["at_once"] else "until cleared"
        table.add_row(name, kind, _armed(state["armed"]), str(state["fired"]))
    Console().print(table)


def _armed(armed: dict[str, Any] | None) -> str:
    if armed is None:
        return ""
    return ", ".join(f"{key} {value}" for key, value in armed.items() if value is not None)


@broker.command()
@told
def fault(
    name: Annotated[str, typer.Argument(help="The fault, as `broker faults` calls it.")],
    queue: Annotated[str | None, typer.Option(help="Only there; default: everywhere.")] = None,
    value: Annotated[float | None, typer.Option(help="How strongly: seconds, or operations a second.")] = None,
    times: Annotated[int | None, typer.Option(min=1, help="So many times; default: until it is cleared.")] = None,
    condition: Annotated[str | None, typer.Option(help="With detach-links: the error that is given.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="With revoke-locks: how many.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="End the fault instead of setting it.")] = False,
    url: ControlUrl = CONTROL_URL_DEFAULT,
) -> None:
    """Make something go wrong in a running broker, at once or until it is cleared."""
    given = {"queue": queue, "value": value, "times": times, "condition": condition, "count": count}
    said = {key: each for key, each in given.items() if each is not None}
    if clear:
        if said:
            fail(f"--clear ends the fault everywhere: take --{min(said)} out", Exit.USAGE)
        ask_broker(url, "DELETE", f"/faults/{name}")
        say(f"{name} is cleared")
        return
    known = ask_broker(url, "GET", "/faults")
    at_once = known.get(name, {}).get("at_once", False)
    answer = ask_broker(url, "POST" if at_once else "PUT", f"/faults/{name}", said)
    say(f"{name} hit {answer['hit']}" if at_once else f"{name} is set: {_armed(answer['armed']) or 'everywhere'}")
