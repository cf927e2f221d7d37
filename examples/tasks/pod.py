"""What every worker of the demo needs to be a good pod: read its item, tell the run log, leave one artifact.

For people who write workers. The dispatcher starts one pod for one item, and may start it again: outputs are
therefore keyed by the item's id and appear whole or not at all, so running twice leaves the same file. Nothing
here knows what the work is, and nothing here is imported by the dispatcher: environment variables and an item
file are the whole contract.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

ITEMS_DIR_DEFAULT = "/var/run/burst/items"
RUN_LOG_LINE_BYTES_MAX = 4096  # one write of less than a page is one line, however many pods append
SAFE_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
EXIT_FAILED = 1
EXIT_STOPPED = 128 + signal.SIGTERM


class WorkError(Exception):
    """The work cannot be done; the message is the one line that a person reads about it."""


@dataclass(frozen=True)
class Item:
    """One unit of work, as the item file describes it."""

    id: str
    sequence_number: int
    task: str
    params: dict[str, Any]


@dataclass(frozen=True)
class Artifact:
    """What one item leaves behind: a file's content, its ending, and a sentence for the pod's log."""

    suffix: str
    content: bytes
    summary: str


@dataclass(frozen=True)
class Pod:
    """Where this pod stands: its item, its place in the batch, and the folders that the task names."""

    item: Item
    batch: str
    attempt: int
    index: int
    output: Path
    run_log: Path

    @classmethod
    def from_environment(cls, environ: dict[str, str]) -> Pod:
        """Read the contract from the environment; whatever is missing is named."""
        index = int(_variable(environ, "JOB_COMPLETION_INDEX"))
        items_dir = Path(environ.get("BURST_ITEMS_DIR", ITEMS_DIR_DEFAULT))
        return cls(
            item=read_item(items_dir / f"{index}.json"),
            batch=_variable(environ, "BURST_BATCH"),
            attempt=int(_variable(environ, "BURST_ATTEMPT")),
            index=index,
            output=Path(_variable(environ, "BURST_DEMO_OUTPUT")),
            run_log=Path(_variable(environ, "BURST_RUN_LOG")),
        )

    def tell(self, event: str, **facts: bool) -> None:
        """Append one line to the run log in one write, so that lines of many pods never mix."""
        entry = {
            "item": self.item.id,
            "sequence_number": self.item.sequence_number,
            "task": self.item.task,
            "attempt": self.attempt,
            "batch": self.batch,
            "index": self.index,
            "event": event,
            "at": time.time(),
            "pid": os.getpid(),
            **facts,
        }
        line = json.dumps(entry).encode() + b"\n"
        if len(line) >= RUN_LOG_LINE_BYTES_MAX:
            raise WorkError(f"the run log takes lines below {RUN_LOG_LINE_BYTES_MAX} bytes, not {len(line)}")
        log = os.open(self.run_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(log, line)
        finally:
            os.close(log)


def run_pod(work: Callable[[Item], Artifact]) -> NoReturn:
    """Run this pod's item with `work` and exit: 0 when its artifact is in place, anything else when it is not."""
    try:
        pod = Pod.from_environment(dict(os.environ))
        print(run_item(pod, work))
    except (WorkError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    sys.exit(0)


def run_item(pod: Pod, work: Callable[[Item], Artifact]) -> str:
    """Do the work between a start line and an end line; the end line says ok only once the artifact is in place."""
    signal.signal(signal.SIGTERM, _stop)
    pod.tell("start")
    try:
        if pod.item.params.get("flaky"):
            fail_the_first_run(pod)
        artifact = work(pod.item)
        path = pod.output / pod.item.task / (file_stem(pod.item.id) + artifact.suffix)
        write_atomically(path, artifact.content)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # from here on the outcome is decided
    except BaseException:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pod.tell("end", ok=False)
        raise
    pod.tell("end", ok=True)
    return f"{artifact.summary} -> {path}"


def fail_the_first_run(pod: Pod) -> None:
    """Fail once per item, whoever starts the second run: the dispatcher as a new attempt, or the Job by itself.

    The marker in the output folder decides, because the attempt number stays the same when a Job restarts a pod.
    """
    marker = pod.output / "flaky" / file_stem(pod.item.id)
    marker.parent.mkdir(parents=True, exist_ok=True)
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return
    raise WorkError(f"item {pod.item.id} is marked flaky: its first run fails on purpose, the next one will work")


def read_item(path: Path) -> Item:
    """The item that the dispatcher laid out for this pod."""
    try:
        body = json.loads(path.read_bytes())
        return Item(body["id"], body["sequence_number"], body["task"], body["params"])
    except OSError as error:
        raise WorkError(f"cannot read the item file {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise WorkError(f"the item file {path} is not a work item: {error!r}") from error


def file_stem(item_id: str) -> str:
    """A file name for any item id: the id itself where it is plain, a digest of it where it is not."""
    if SAFE_FILE_NAME.fullmatch(item_id):
        return item_id
    return "id-" + hashlib.sha256(item_id.encode()).hexdigest()[:40]


def write_atomically(path: Path, content: bytes) -> None:
    """The file appears complete or not at all, and a second run replaces it with the same content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _stop(signal_number: int, _frame: object) -> NoReturn:
    print(f"error: stopped by {signal.Signals(signal_number).name} before the work was done", file=sys.stderr)
    sys.exit(EXIT_STOPPED)


def _variable(environ: dict[str, str], name: str) -> str:
    value = environ.get(name)
    if not value:
        raise WorkError(f"{name} is not set: it is part of what every pod of this task is given")
    return value
