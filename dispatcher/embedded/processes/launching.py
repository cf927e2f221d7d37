"""From a pod to its process: what is run, with which environment, and the wrapper around it.

Decides how a pod becomes a process of this machine that outlives the dispatcher. Knows nothing of when or why. The
worker gets the variables of its manifest and a short list of the machine's own, never the dispatcher's secrets; it
holds none of the dispatcher's pipes, and leads a session of its own with its wrapper.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from dispatcher.embedded.identity import ProcessIdentity
from dispatcher.embedded.processes.folders import PodFolder
from dispatcher.embedded.processes.manifests import FieldRef, JobSpec, expand
from dispatcher.embedded.processes.pods import Pod

POD_UID_VARIABLE = "BURST_POD_UID"
_WRAPPER = Path(__file__).with_name("wrapper.sh").read_text()  # handed over whole: an upgrade cannot change it midway


class CannotStart(Exception):
    """The pod's command can never be started as written."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Launch:
    """All that it takes to start one pod's process."""

    folder: PodFolder
    generation: int
    command: tuple[str, ...]
    environment: Mapping[str, str]
    items: Mapping[str, str]
    work_dir: Path
    stop_in: timedelta | None
    kill_grace: timedelta


def environment_of(pod: Pod, spec: JobSpec, folder: PodFolder, host: tuple[str, ...]) -> dict[str, str]:
    """The variables that the worker sees."""
    fields = {"metadata.name": pod.name, "metadata.namespace": spec.namespace, "metadata.uid": pod.uid}
    environment = {name: os.environ[name] for name in host if name in os.environ}
    for name, value in spec.pod.environment:
        environment[name] = fields[value.path] if isinstance(value, FieldRef) else expand(value, environment)
    environment["JOB_COMPLETION_INDEX"] = str(pod.index)
    environment["BURST_ITEMS_DIR"] = str(folder.items)
    environment[POD_UID_VARIABLE] = pod.uid
    return environment


def launch(order: Launch) -> ProcessIdentity | None:
    """Starts the wrapper and tells which process it is; None if it has ended already. Blocks for some milliseconds.

    Raises CannotStart, and OSError where the machine would not.
    """
    program, *args = (expand(word, order.environment) for word in order.command)
    command = [_find(program, order), *args]
    order.folder.lay_out(order.items)
    with order.folder.log.open("ab") as log:
        process = subprocess.Popen(
            [*_wrapper_words(order), *command],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            cwd=order.work_dir, env=dict(order.environment), start_new_session=True,
        )  # fmt: skip
    process.returncode = 0  # it is meant to outlive this object; the exit is watched and reaped elsewhere
    return ProcessIdentity.of(process.pid)


def _wrapper_words(order: Launch) -> list[str]:
    stop_in = "-" if order.stop_in is None else f"{max(order.stop_in.total_seconds(), 0):.3f}"
    grace = f"{order.kill_grace.total_seconds():.3f}"
    claim = order.folder.claim_name(order.generation)
    notes = [str(order.folder.path), claim, stop_in, grace]
    return ["/bin/sh", "-c", _WRAPPER, "burst-pod", *notes, _tool("ln"), _tool("sleep")]


def _tool(name: str) -> str:
    """The wrapper's own tools are found by us: the task may give its worker another PATH."""
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not on the PATH of this machine; pods need it")
    return found


def _find(program: str, order: Launch) -> str:
    """The program, found as the shell would; says clearly what a shell would only say by a number."""
    if "/" in program:
        path = order.work_dir / program
        if not path.exists():
            raise CannotStart(f'exec: "{program}": no such file (looked in {order.work_dir})', 127)
        if path.is_dir() or not os.access(path, os.X_OK):
            raise CannotStart(f'exec: "{program}": permission denied, it cannot be executed', 126)
        return str(path)
    found = shutil.which(program, path=order.environment.get("PATH", os.defpath))
    if found is None:
        raise CannotStart(f'exec: "{program}": executable file not found in $PATH', 127)
    return found  # with its path, or the wrapper's shell might run a function or builtin of that name
