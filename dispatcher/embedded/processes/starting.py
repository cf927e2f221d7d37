"""The starter: one pod after the other, off the event loop, each with its items as the record holds them now.

Decides what a start that fails means. Knows nothing of who is to start: it is given orders and answers each one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import structlog

from dispatcher.core.failures import FailureCause
from dispatcher.embedded.identity import ProcessIdentity
from dispatcher.embedded.processes.config import ProcessClusterConfig
from dispatcher.embedded.processes.folders import PodFolders
from dispatcher.embedded.processes.launching import CannotStart, Launch, environment_of, launch
from dispatcher.embedded.processes.manifests import JobSpec
from dispatcher.embedded.processes.pods import Pod
from dispatcher.embedded.processes.turns import NotStarted, missing_record
from dispatcher.errors import LookFailed

if TYPE_CHECKING:
    from dispatcher.ports import Clock

log = structlog.get_logger(__name__)

_LOOK_AGAIN_S = 0.5


class Items(Protocol):
    """Where the items of a record come from."""

    async def items(self, record: str) -> Mapping[str, str] | None:
        """A record's data; None if it is gone. Raises LookFailed."""
        ...


Answer = ProcessIdentity | NotStarted | None
"""A process, why there is none, or that it has ended already."""


class Starter:
    """Starts pods in the order in which they were asked for."""

    def __init__(
        self,
        config: ProcessClusterConfig,
        folders: PodFolders,
        items: Items,
        clock: Clock,
        hands: Executor,
        on_answer: Callable[[str, Answer], None],
    ) -> None:
        self._config = config
        self._folders = folders
        self._items = items
        self._clock = clock
        self._hands = hands
        self._on_answer = on_answer
        self._orders: asyncio.Queue[str | None] = asyncio.Queue()
        self._waiting: dict[str, tuple[Pod, JobSpec | None]] = {}
        self._stopping = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="embedded-cluster-starter")

    def has(self, uid: str) -> bool:
        """Whether a pod is waiting to be started, or is being started."""
        return uid in self._waiting

    def order(self, pod: Pod, spec: JobSpec | None) -> None:
        """Asks for a start; no spec: there is nothing to start any more. Whether it went well is told later."""
        self._waiting[pod.uid] = (pod, spec)
        self._orders.put_nowait(pod.uid)

    def call_off(self, uid: str) -> None:
        """The pod is not wanted any more; if its start is under way, it is told as started."""
        if uid in self._waiting:
            self._waiting[uid] = (self._waiting[uid][0], None)

    async def stop(self) -> None:
        """Finishes the start that is under way, and no other. May be repeated."""
        was_broken = self.broken
        self._stopping.set()
        self._orders.put_nowait(None)
        await asyncio.wait({self._task})
        if was_broken:
            log.error("starter.broken", error=repr(self._task.exception()))

    @property
    def broken(self) -> bool:
        """Whether it has ended without being stopped."""
        return self._task.done() and not self._stopping.is_set()

    async def _run(self) -> None:
        while (uid := await self._orders.get()) is not None and not self._stopping.is_set():
            pod, spec = self._waiting[uid]
            try:
                answer = await self._start(pod, spec)
            except LookFailed as error:
                log.warning("pod.start_put_off", pod=pod.name, error=str(error))
                self._orders.put_nowait(uid)
                await _pause(self._stopping, _LOOK_AGAIN_S)
                continue
            del self._waiting[uid]
            self._on_answer(uid, answer)

    async def _start(self, pod: Pod, spec: JobSpec | None) -> Answer:
        now = self._clock.now()
        if spec is None:
            return self._failed(pod, "the pod was deleted before it started", FailureCause.CANCELLED, None)
        items = await self._items.items(spec.pod.record)
        if items is None:
            failed = missing_record(pod, spec, now)
            return NotStarted(pod.uid, now, failed.reason, failed.message, FailureCause.CANCELLED)
        stop_in = None if spec.pod.stop_at is None else spec.pod.stop_at - now
        if stop_in is not None and stop_in.total_seconds() <= 0:
            text = "the pod's time to stop had passed before it started"
            return self._failed(pod, text, FailureCause.ITEM_TIMEOUT, None)
        folder = self._folders.of(pod.uid)
        order = Launch(
            folder=folder,
            generation=pod.generation,
            command=spec.pod.command,
            environment=environment_of(pod, spec, folder, self._config.host_environment),
            items=items,
            work_dir=(self._config.work_dir or Path()).absolute(),
            stop_in=stop_in,
            kill_grace=self._config.kill_grace,
        )
        try:
            return await asyncio.get_running_loop().run_in_executor(self._hands, launch, order)
        except CannotStart as error:
            return self._failed(pod, str(error), FailureCause.TEMPLATE, error.exit_code)
        except (OSError, ValueError) as error:  # a full disk, too many processes, a word with a null character
            log.warning("pod.start_failed", pod=pod.name, error=str(error))
            return self._failed(pod, f"the machine would not start it: {error}", FailureCause.UNKNOWN, None)

    def _failed(self, pod: Pod, message: str, cause: FailureCause, exit_code: int | None) -> NotStarted:
        return NotStarted(pod.uid, self._clock.now(), "StartError", message, cause, exit_code)


async def _pause(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
