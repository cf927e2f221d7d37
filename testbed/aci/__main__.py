"""The stand-in as a command: listens on loopback until it is told to end, or until its starter is gone.

    python -m testbed.aci [--port 0] [--options '{"groups_max": 20}'] [--folder FOLDER] [--cwd FOLDER] [--ready FILE]

Decides nothing of what ACI does. With the option ``executes``, containers' files and logs are in ``--folder`` and their
processes start in ``--cwd``. The port is written to ``--ready``, or printed, once it listens.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from aiohttp import web

from testbed.aci.execution import Execution
from testbed.aci.options import Options, changed
from testbed.aci.region import Region
from testbed.aci.server import Server

PARENT_PIPE = "CONTROLPLANE_PARENT_PIPE"


def main(
    port: Annotated[int, typer.Option(help="0: any that is free.")] = 0,
    options: Annotated[str, typer.Option(help="Fields of testbed/aci/options.py that differ, as JSON.")] = "{}",
    folder: Annotated[Path | None, typer.Option(help="Where files of containers that run are.")] = None,
    cwd: Annotated[Path | None, typer.Option(help="Where containers that run start; else here.")] = None,
    ready: Annotated[Path | None, typer.Option(help="A file that the port is written to.")] = None,
) -> None:
    """A stand-in for Azure Container Instances on loopback: refuses as Azure does, and meters every group."""
    try:
        given = changed(Options(), json.loads(options))
    except ValueError as error:
        print(f"--options: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    with tempfile.TemporaryDirectory(prefix="aci-", dir=folder) as files:
        asyncio.run(_serve(given, port, Path(files), cwd or Path.cwd(), ready))


async def _serve(options: Options, port: int, files: Path, cwd: Path, ready: Path | None) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    _end_with_parent(lambda: loop.call_soon_threadsafe(ended.set))
    server = Server(Region(options), lambda it: Execution(files, cwd, it.exited))
    runner = web.AppRunner(server.application(), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        taken = runner.addresses[0][1]
        if ready is None:
            print(taken, flush=True)
        else:
            written = ready.with_suffix(".part")
            written.write_text(f"{taken}\n", encoding="utf-8")
            written.replace(ready)
        await ended.wait()
    finally:
        await runner.cleanup()


def _end_with_parent(end: Callable[[], object]) -> None:
    """The starter holds the other end of this pipe; it closes however the starter ends."""
    number = os.environ.pop(PARENT_PIPE, None)
    if number is None:
        return

    def wait() -> None:
        with os.fdopen(int(number), "rb") as pipe:
            pipe.read()
        end()

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    typer.run(main)
