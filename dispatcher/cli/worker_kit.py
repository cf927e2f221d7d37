"""``dispatcher worker-kit``: the worker kit as one file, for images of tasks."""

from __future__ import annotations

import io
import os
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from dispatcher.cli.app import app
from dispatcher.cli.shared import Exit, fail, told

_START = b"#!/usr/bin/env python3\n"
_MAIN = "import sys\n\nfrom burst_worker.__main__ import main\n\nsys.exit(main())\n"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


@app.command(name="worker-kit")
@told
def worker_kit(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write it.")] = Path(
        "burst-worker.pyz"
    ),
) -> None:
    """Write the worker kit as one file that any Python from 3.9 on can run: for pods that carry several items.

    In the image of a task: burst-worker.pyz -- COMMAND [ARGS...]; docs/worker.md has the rest.
    """
    try:
        output.write_bytes(as_one_file())
        output.chmod(0o755)
    except OSError as error:
        fail(f"{output}: {os.strerror(error.errno) if error.errno else error}", Exit.FAILED)
    print(output)


def as_one_file() -> bytes:
    """The kit as a Python zip application; the same bytes for the same kit."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr(_entry("__main__.py"), _MAIN)
        for file in sorted(files("dispatcher.worker").iterdir(), key=lambda each: each.name):
            if file.name.endswith(".py"):
                zipped.writestr(_entry(f"burst_worker/{file.name}"), file.read_bytes())
    return _START + archive.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _LONG_AGO)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry
