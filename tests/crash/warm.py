"""Real `dispatcher run` processes, without the seconds of importing that each would begin with.

One process imports everything and then forks for every start that it is asked for; the child runs the command as if it
had been typed. Children die with it, and it dies with whoever started it.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

_STARTS_WITHIN_SECONDS = 120.0
_GONE_WITHIN_SECONDS = 20.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Running:
    """A process that was started."""

    pid: int

    def kill(self) -> None:
        """SIGKILL; a process that is gone already is left in peace."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    @property
    def alive(self) -> bool:
        """Whether it is still there."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    async def gone(self) -> None:
        """Waits until it is. Raises TimeoutError."""
        until = time.monotonic() + _GONE_WITHIN_SECONDS
        while self.alive:
            if time.monotonic() > until:
                raise TimeoutError(f"process {self.pid} does not end")
            await asyncio.sleep(0.01)


class Starter:
    """Starts processes, one at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()

    async def start(self, config: Path, log: Path, environment: Mapping[str, str]) -> Running:
        """`dispatcher run --config ...`; what it says goes to the end of ``log``."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the starter has no pipes")
        order = {"argv": ["run", "--config", str(config)], "log": str(log), "environment": dict(environment)}
        async with self._turn, asyncio.timeout(_STARTS_WITHIN_SECONDS):
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            await self._process.stdin.drain()
            return Running(int(await self._process.stdout.readline()))


@asynccontextmanager
async def a_starter() -> AsyncIterator[Starter]:
    """A starter, and everything it started, while the block lasts."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", __name__, stdin=pipe, stdout=pipe)
    try:
        yield Starter(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def main() -> None:
    """Forks for every line that comes, until none does."""
    import dispatcher.cli.run
    import dispatcher.service
    import dispatcher.settings  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children that end are collected by the system
    gc.freeze()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _be_the_dispatcher(json.loads(line))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _be_the_dispatcher(order: Mapping[str, Any]) -> NoReturn:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(order["environment"])
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    sys.argv = ["dispatcher", *order["argv"]]
    code = 1
    try:
        from dispatcher.cli import main as command

        command()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise AssertionError("unreachable")


if __name__ == "__main__":
    main()
