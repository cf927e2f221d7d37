"""A configuration that changes while the service runs: read again on SIGHUP, or when its files have changed.

Decides which changes may be taken over as they are (tasks, budgets, prices, quotas, retries, weights) and which need a
restart, since connections, queues or namespaces hang on them. A configuration that is wrong, or that needs a restart,
changes nothing: the old one stays in force, and the refusal is told until a right one comes.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import structlog

from dispatcher.core.units import to_text
from dispatcher.ports import Clock, Events
from dispatcher.settings import Examination, Settings
from dispatcher.settings.loading import DISPATCHER_FILE, TASKS_FILE

log = structlog.get_logger(__name__)

LOOK_EVERY_SECONDS: Final = 5.0
"""How often the files are looked at; a mounted ConfigMap takes up to a minute to change anyway."""
_FIXED_SECTIONS = ("service", "service_bus", "reports", "kubernetes", "azure", "local")
_FIXED_TIMES = ("cycle_pause_min", "cycle_stuck_after", "stop_timeout")
_SHOWN_MAX = 20
_CHANGES_MAX = 50
_SHOWN_LENGTH = 120
_UNTOLD = ("service_bus.connection_string", "env")
"""What may hold a secret, whatever we advise."""
_RESTART = "restart the dispatcher, or take the change back"


def changes_that_need_a_restart(old: Settings, new: Settings, *, local: bool) -> list[str]:
    """One line for each change that cannot be taken over by a running service."""
    return list(_fixed(old, new, local=local))


def _fixed(old: Settings, new: Settings, *, local: bool) -> Iterator[str]:
    for name in _FIXED_SECTIONS:
        if getattr(old, name) != getattr(new, name):
            yield f"{name}: a change here needs a restart; {_RESTART}"
    for name in _FIXED_TIMES:
        if getattr(old.timing, name) != getattr(new.timing, name):
            yield f"timing.{name}: a change here needs a restart; {_RESTART}"
    for what, before, after in (
        ("queues", {each.name for each in old.queues}, {each.name for each in new.queues}),
        ("queues.reply_to", _replies(old), _replies(new)),
    ):
        if before != after:
            changed = ", ".join(sorted(before ^ after))
            yield f"{what}: {changed} was added or taken out, which needs a restart; {_RESTART}"
    if local and old.virtual_node != new.virtual_node:
        yield f"virtual_node: the local virtual node is as it was at the start, a change needs a restart; {_RESTART}"
    namespaces = {task.name: task.namespace for task in old.tasks}
    known = {*namespaces.values(), *old.kubernetes.former_namespaces}
    for task in new.tasks:
        if task.namespace not in known or namespaces.get(task.name, task.namespace) != task.namespace:
            yield f"tasks: {task.name} moves to the namespace {task.namespace}, which needs a restart; {_RESTART}"


def what_changed(old: Settings, new: Settings) -> list[str]:
    """One line for each setting that is another now: ``budgets[0].limit_usd: 25 -> 10``. Never a secret's value."""
    return list(_differences("", old.model_dump(mode="json"), new.model_dump(mode="json")))[:_CHANGES_MAX]


def _differences(path: str, old: Any, new: Any) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from _differences(f"{path}.{key}".removeprefix("."), old.get(key), new.get(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for position, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{path}[{position}]", before, after)
    elif any(path.startswith(each) or f".{each}" in path for each in _UNTOLD):
        yield f"{path}: another value"
    else:
        yield f"{path}: {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        value = [each.get("name") for each in value if isinstance(each, dict)]  # what they hold may be secret
    elif isinstance(value, dict):
        value = sorted(value)
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}..."


def _replies(settings: Settings) -> set[str]:
    return {name for queue in settings.queues for name in queue.reply_to}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A configuration that was not taken over."""

    at: datetime
    mistakes: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """For people."""
        more = f" (and {len(self.mistakes) - 1} more)" if len(self.mistakes) > 1 else ""
        refused = f"the change of {to_text(self.at)} was refused, the old one is in force"
        return f"configuration: {refused}: {self.mistakes[0]}{more}"


@dataclass(frozen=True, slots=True)
class Adopted:
    """What became of settings that were to be taken over."""

    refused: Sequence[str] = ()
    """Why they were not, one line each; none: they were."""
    changes: Sequence[str] = ()
    """What is another now, one line each."""


class Reloader:
    """Follows the files of a configuration for as long as it runs."""

    def __init__(
        self,
        folder: Path,
        reread: Callable[[], Examination],
        adopt: Callable[[Settings], Adopted],
        clock: Clock,
        events: Events,
        *,
        look_every_seconds: float = LOOK_EVERY_SECONDS,
    ) -> None:
        """``adopt`` takes settings over and says what has changed, or why it did not."""
        self._files = (folder / DISPATCHER_FILE, folder / TASKS_FILE)
        self._folder = folder
        self._reread = reread
        self._adopt = adopt
        self._clock = clock
        self._events = events
        self._look_every = look_every_seconds
        self._bell = asyncio.Event()
        self._adopted_at: datetime | None = None
        self.refusal: Refusal | None = None
        """Of the files as they stand now; None: what they say is in force."""

    def ring(self) -> None:
        """Somebody wants it read again at once."""
        self._bell.set()

    async def run(self) -> None:
        """Looks until it is cancelled."""
        seen = await asyncio.to_thread(self._fingerprint)
        while True:
            asked = await self._asked()
            now_there = await asyncio.to_thread(self._fingerprint)
            if asked or now_there != seen:
                seen = now_there
                await self._read_again()

    def status(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "adopted_at": to_text(self._adopted_at) if self._adopted_at else None,
            "refused_at": to_text(self.refusal.at) if self.refusal else None,
            "mistakes": list(self.refusal.mistakes[:_SHOWN_MAX]) if self.refusal else [],
        }

    async def _asked(self) -> bool:
        try:
            async with asyncio.timeout(self._look_every):
                await self._bell.wait()
        except TimeoutError:
            return False
        self._bell.clear()
        return True

    async def _read_again(self) -> None:
        warnings: list[str] = []
        changes: Sequence[str] = ()
        try:
            examined = await asyncio.to_thread(self._reread)
            mistakes = [str(each) for each in examined.mistakes]
            warnings = [str(each) for each in examined.warnings[:_SHOWN_MAX]]
            if examined.settings is not None:
                adopted = self._adopt(examined.settings)
                mistakes, changes = list(adopted.refused), adopted.changes
        except Exception as error:  # the service works on under the old one; the log and the status tell it
            log.exception("configuration.broke_off")
            mistakes = [f"reading it broke off ({type(error).__name__}: {error}); the log says where"]
        now = self._clock.now()
        if mistakes:
            self.refusal = Refusal(now, tuple(mistakes))
            log.warning("configuration.refused", mistakes=mistakes[:_SHOWN_MAX])
            self._events.emit("configuration.refused", mistakes=mistakes[:_SHOWN_MAX], count=len(mistakes))
            return
        self.refusal, self._adopted_at = None, now
        log.info("configuration.adopted", warnings=warnings, changes=list(changes[:_SHOWN_MAX]))
        self._events.emit("configuration.adopted", warnings=warnings, changes=list(changes))

    def _fingerprint(self) -> str:
        """Changes with the files, whatever their times say; a file that is not there is a state too."""
        digest = hashlib.sha256()
        for path in (*self._files, *sorted(self._folder.glob("*.y*ml"))):
            try:
                digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
            except OSError as error:
                digest.update(f"{path.name}: {error.strerror}".encode())
        return digest.hexdigest()
