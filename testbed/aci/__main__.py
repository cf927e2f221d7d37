"""The stand-in as a command: listens on loopback until it is told to end, or until its starter is gone.

    python -m testbed.aci [--port 0] [--options '{"groups_max": 20}'] [--exec FOLDER] [--ready FILE]

Decides nothing of what ACI does. ``--exec`` runs containers' commands as processes, in that folder. The port is written
to ``--ready``, or printed, once it listens.
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
    exec_in: Annotated[Path | None, typer.Option("--exec", help="Run containers as processes in this folder.")] = None,
    exec_cwd: Annotated[Path | None, typer.Option("--cwd", help="Where those processes start; else here.")] = None,
    ready: Annotated[Path | None, typer.Option(help="A file that the port is written to.")] = None,
) -> None:
    """A stand-in for Azure Container Instances on loopback: refuses as Azure does, and meters every group."""
    try:
        given = changed(Options(), json.loads(options))
    except ValueError as error:
        print(f"--options: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    if exec_in is not None:
        exec_in.mkdir(parents=True, exist_ok=True)
    asyncio.run(_serve(given, port, exec_in, exec_cwd or Path.cwd(), ready))


async def _serve(options: Options, port: int, exec_in: Path | None, exec_cwd: Path, ready: Path | None) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    _end_with_parent(lambda: loop.call_soon_threadsafe(ended.set))
    region = Region(options, executes=exec_in is not None)
    folder = None
    if exec_in is not None:
        folder = Path(tempfile.mkdtemp(prefix="groups-", dir=exec_in))
    server = Server(region, None if folder is None else lambda it: Execution(folder, exec_cwd, it.exited))
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
