"""What all commands share: exit codes, options that mean the same everywhere, and how a person is told.

Decides which errors become one line and an exit code; all others stay what they are.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from enum import IntEnum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer

from dispatcher.errors import BadConfiguration, DispatcherError
from dispatcher.running import NotReachable, find_service
from dispatcher.settings import Examination, Settings

if TYPE_CHECKING:  # behind this is the SDK, which takes a while to import
    from dispatcher.service.access import BrokerAccess


class Exit(IntEnum):
    """What the exit codes mean."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_REACHABLE = 3
    INTERRUPTED = 130


P = ParamSpec("P")
R = TypeVar("R")

ConfigDir = Annotated[
    Path, typer.Option("--config", metavar="DIR", help="The folder with dispatcher.yaml and tasks.yaml.")
]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="Where the local service keeps its files; default: local-data."),
]
ExecuteOption = Annotated[bool, typer.Option("--yes", "--execute", help="Do it; without, only tell what would be.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
UrlOption = Annotated[str | None, typer.Option("--url", envvar="BURST_URL", help="The service's address.")]
DATA_DIR_DEFAULT = Path("local-data")
PIPE_WIDTH = 500


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


def known_queue(name: str, settings: Settings, config: Path) -> str:
    """The name, if the configuration has a queue of it."""
    names = [entry.name for entry in settings.queues]
    if name not in names:
        fail(f"there is no queue {name!r} in {config}; known are {', '.join(names)}", Exit.USAGE)
    return name


def broker_access(settings: Settings, config: Path, *, local: bool = False) -> BrokerAccess:
    """The way to the broker that is configured; with ``local``, or where none is, that of the local service."""
    from dispatcher.service.access import BrokerAccess

    bus = settings.service_bus
    if not local and (bus.connection_string is not None or bus.namespace is not None):
        return BrokerAccess(settings, config)
    service = find_service(settings.local.data_dir)
    try:
        text = service.connection_string_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise NotReachable(f"{service.connection_string_file} cannot be read: {error.strerror}") from error
    return BrokerAccess(settings, config, connection_string=lambda: text)
