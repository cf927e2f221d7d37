"""The testbed's programs as processes: started in groups of their own, and gone when their starter is.

Decides how a program is started, watched and ended. Knows nothing of what it does. Each holds the reading end of a pipe
that only the starter can write to, and ends itself when that closes (``controlplane/parent.go``).
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

END_SECONDS_MAX = 20.0
"""How long a killed process may take to be gone."""
PORTS = range(12000, 32000)
"""Below the ports that the system hands out to outgoing connections, so that none of those takes one between the look
and the start."""


class DidNotStart(RuntimeError):
    """A program ended or is not ready in time; the text has the end of what it wrote."""


@dataclass(frozen=True, slots=True)
class ParentPipe:
    """What tells the programs that their starter is gone."""

    reading: int
    writing: int

    @classmethod
    def opened(cls) -> ParentPipe:
        """A new one; neither end reaches a process that is not given it."""
        return cls(*os.pipe())

    def close(self) -> None:
        """Ends every program that is still there."""
        os.close(self.writing)
        os.close(self.reading)


class Program:
    """One program, running. The binary is told which one by its first argument, the name, or by ``chosen_by``."""

    def __init__(
        self,
        binary: Path,
        name: str,
        arguments: Sequence[str],
        *,
        log: Path,
        pipe: ParentPipe,
        env: Mapping[str, str],
        chosen_by: Sequence[str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = [str(binary), *([name] if chosen_by is None else chosen_by), *arguments]
        self._pipe = pipe
        self._env = {**os.environ, **env, "CONTROLPLANE_PARENT_PIPE": str(pipe.reading)}
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.log.parent,
                env=self._env,
                pass_fds=[self._pipe.reading],
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id, which is its group's too."""
        return self._process.pid

    def check(self) -> None:
        """Raises DidNotStart if the process has ended."""
        if self._process.poll() is not None:
            raise DidNotStart(f"{self.name} ended with {self._process.returncode}:\n{self.tail()}")

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(f"  {line[:400]}" for line in text.splitlines()[-lines:])

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, such as SIGSTOP, to the whole group."""
        os.killpg(self.pid, number)

    def restart(self) -> None:
        """Starts it again, as it was started."""
        self.kill()
        self._process = self._start()

    def kill(self) -> None:
        """Ends it at once; nothing of a testbed is to be kept."""
        if self._process.poll() is None:
            self.signal(signal.SIGKILL)
        self._process.wait(timeout=END_SECONDS_MAX)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    held: list[socket.socket] = []
    try:
        for port in random.sample(PORTS, len(PORTS)):  # spreads those who start at the same time
            candidate = socket.socket()
            held.append(candidate)
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                held.pop().close()
            if len(held) == count:
                return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()
    raise DidNotStart(f"There are no {count} free ports between {PORTS.start} and {PORTS.stop} on loopback.")
