"""Containers as processes of this machine: their command, environment, volumes, logs and exit codes are real.

Decides how a container becomes a process. Knows nothing of groups' phases, money or HTTP. There is no image and no file
system of its own: the command is found on this machine's PATH, and wherever a word of the container's environment or
command begins with the path of a mount, the folder that holds the volume stands in its place.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from testbed.aci.groups import Container, Group, Start, Stop

GRACE_SECONDS = 30.0
"""How long a container that is told to stop may take, as ACI's default has it."""
LOG_BYTES_MAX = 4 * 1024 * 1024
NOT_STARTED = 127
"""The exit code of a command that is not there."""

Exited = Callable[[Group, Container, int, int], Awaitable[None]]


@dataclass(slots=True)
class Execution:
    """Runs what it is told to, in folders of its own, and tells each end once."""

    folder: Path
    cwd: Path
    exited: Exited
    _processes: dict[tuple[int, str], asyncio.subprocess.Process] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def do(self, act: Start | Stop) -> None:
        """Carries an act out; a container's end is told later."""
        task = asyncio.create_task(self._run(act) if isinstance(act, Start) else self._stop(act))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def log(self, group: Group, container: str) -> str:
        """What a container has written, its last 4 MB."""
        path = self._home(group) / f"{container}.log"
        if not path.exists():
            return ""
        return path.read_bytes()[-LOG_BYTES_MAX:].decode(errors="replace")

    async def close(self) -> None:
        """Ends everything at once and removes what was laid out."""
        for process in self._processes.values():
            _signal(process, signal.SIGKILL)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def forget(self, group: Group) -> None:
        """Removes the files of a group that is gone."""
        shutil.rmtree(self._home(group), ignore_errors=True)

    def _home(self, group: Group) -> Path:
        return self.folder / f"{group.name}-{group.serial}"

    async def _run(self, act: Start) -> None:
        group, container = act.group, act.container
        try:
            code = await self._process(group, container)
        except OSError as error:  # no room for its files, say: the group must end, and the log of this process says why
            print(f"{group.name}: {container.definition.name} was not started: {error}", file=sys.stderr, flush=True)
            code = NOT_STARTED
        await self.exited(group, container, act.run, code)

    async def _process(self, group: Group, container: Container) -> int:
        definition, key = container.definition, (group.serial, container.definition.name)
        places = self._lay_out(group, container)
        home = self._home(group)
        # What a container gets is what its image sets (here: where programs are found) and what its definition says.
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "TMPDIR": str(home / "tmp")}
        environment |= {name: placed(value, places) for name, value in definition.environment.items()}
        command = [placed(each, places) for each in definition.command]
        with (home / f"{definition.name}.log").open("ab") as log:
            if not command:
                log.write(b"the definition has no command, and there is no image to take one from\n")
                return NOT_STARTED
            try:
                process = await asyncio.create_subprocess_exec(
                    *_with_death_of_parent(command),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.cwd,
                    env=environment,
                    start_new_session=True,
                )
            except OSError as error:
                log.write(f"{command[0]}: {error.strerror}\n".encode())
                return NOT_STARTED
        self._processes[key] = process
        try:
            code = await process.wait()
        finally:
            _signal(process, signal.SIGKILL)  # what it left behind
            self._processes.pop(key, None)
        return code if code >= 0 else 128 - code

    def _lay_out(self, group: Group, container: Container) -> dict[str, str]:
        """The group's volumes on disk, and where each of the container's mounts is."""
        home = self._home(group)
        (home / "tmp").mkdir(parents=True, exist_ok=True)
        for volume in group.definition.volumes:
            place = home / "volumes" / volume.name
            place.mkdir(parents=True, exist_ok=True)
            for name, content in volume.files.items():
                (place / name).write_bytes(content)
        return {mount.path: str(home / "volumes" / mount.volume) for mount in container.definition.mounts if mount.path}

    async def _stop(self, act: Stop) -> None:
        # Only what runs now: a container that is started again meanwhile is another process.
        found = [process for (serial, _), process in self._processes.items() if serial == act.group.serial]
        for process in found:
            _signal(process, signal.SIGKILL if act.at_once else signal.SIGTERM)
        if found and not act.at_once:
            await asyncio.sleep(GRACE_SECONDS)
            for process in found:
                _signal(process, signal.SIGKILL)


def placed(text: str, places: Mapping[str, str]) -> str:
    """The text with paths of mounts replaced, the longest first."""
    for path in sorted(places, key=len, reverse=True):
        place = places[path].replace("\\", r"\\")
        text = re.sub(rf"(^|[\s=:,'\"(<>]){re.escape(path.rstrip('/'))}(?![\w.-])", rf"\g<1>{place}", text)
    return text


def _with_death_of_parent(command: list[str]) -> list[str]:
    # Should this process be killed, the kernel ends the container too, where the system has the program to ask for it.
    setpriv = shutil.which("setpriv")
    found = shutil.which(command[0])
    return [setpriv, "--pdeathsig", "KILL", "--", *command] if setpriv and found else command


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
