"""One kind of object in one place, kept in step with the API server: list, watch, and list again when that breaks.

Decides when what is known may be trusted: a list is consistent and whole or it is thrown away; a watch goes on from the
list's version; one that says nothing for too long is made anew; an expired version means a new list. Before a list the
watch is ended, so that nothing of it can be older than what the list shows. Knows nothing of what the objects mean:
``read`` makes of each what is kept, and the shelf takes it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog

from dispatcher.cluster.api import Api, NoAnswer, WatchEnded, pages
from dispatcher.cluster.clock import boottime
from dispatcher.cluster.config import KubernetesConfig

log = structlog.get_logger(__name__)

V = TypeVar("V")
Raw = Mapping[str, Any]
Change = Callable[[str, "V | None", "V | None"], None]
"""Uid, what was kept before, what is kept now; one of the two may be None."""

_TOMBSTONES_MAX = 20_000
_SHORT_S = 1.0
"""A watch that ends sooner counts as a failure: the next one waits."""


@dataclass(frozen=True, slots=True)
class Kept(Generic[V]):
    """What is kept of an object, and the version that it was read from."""

    version: str
    value: V


class Shelf(Generic[V]):
    """What is known of the objects of one kind in one place, by uid. Tells each change."""

    def __init__(self, read: Callable[[Raw], V | None], changed: Change[V]) -> None:
        self._read = read
        self._changed = changed
        self._kept: dict[str, Kept[V]] = {}
        self._gone: dict[str, None] = {}
        """Uids that were deleted, in order: an event that comes late must not bring them back."""

    def __len__(self) -> int:
        return len(self._kept)

    def values(self) -> list[V]:
        """All that is kept."""
        return [kept.value for kept in self._kept.values()]

    def read(self, raw: Raw) -> tuple[str, Kept[V] | None]:
        """An object's uid and what is to be kept of it, if anything; puts nothing on the shelf."""
        metadata, value = raw["metadata"], self._read(raw)
        return metadata["uid"], None if value is None else Kept(metadata["resourceVersion"], value)

    def replace_all(self, items: Sequence[tuple[str, Kept[V] | None]]) -> None:
        """Takes a whole list: what is not in it is gone."""
        listed = {uid for uid, _ in items}
        for uid, kept in items:
            self._put(uid, kept)
        for uid in [uid for uid in self._kept if uid not in listed]:
            self._drop(uid)

    def take(self, kind: str, raw: Raw) -> None:
        """Takes an event of a watch. One that is older than what is kept is passed over: it came out of order."""
        uid = raw["metadata"]["uid"]
        if uid in self._gone:
            return
        if kind == "DELETED":
            if uid in self._kept:
                self._put(*self.read(raw))  # its last state, before it goes
            self._drop(uid)
        elif not self._is_older(uid, raw["metadata"]["resourceVersion"]):
            self._put(*self.read(raw))

    def _is_older(self, uid: str, version: str) -> bool:
        kept = self._kept.get(uid)
        # Versions of one kind can be compared as numbers (so they say since 1.35, and have always been).
        return (
            kept is not None
            and kept.version.isdigit()
            and version.isdigit()
            and int(version) < int(kept.version)
        )  # fmt: skip

    def _put(self, uid: str, kept: Kept[V] | None) -> None:
        before = self._kept.get(uid)
        if kept is None:
            if before is not None:
                self._drop(uid)
            return
        self._gone.pop(uid, None)
        self._kept[uid] = kept
        if before is None or before.value != kept.value:
            self._changed(uid, None if before is None else before.value, kept.value)

    def _drop(self, uid: str) -> None:
        kept = self._kept.pop(uid, None)
        if kept is not None:
            self._changed(uid, kept.value, None)
        self._gone[uid] = None
        while len(self._gone) > _TOMBSTONES_MAX:
            del self._gone[next(iter(self._gone))]


class Reflector(Generic[V]):
    """Keeps a shelf in step. ``start``, then ``relist`` at will, then ``stop``."""

    def __init__(
        self,
        api: Api,
        config: KubernetesConfig,
        path: str,
        query: Mapping[str, str],
        shelf: Shelf[V],
        on_news: Callable[[], None],
    ) -> None:
        self._api = api
        self._config = config
        self._path = path
        self._query = query
        self._shelf = shelf
        self._on_news = on_news
        self._turn = asyncio.Lock()
        """Held while a list or the events of a watch are taken in: one or the other."""
        self._version: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._synced = asyncio.Event()
        self._relist_at = 0.0
        self.heard_at: float | None = None
        """On the monotonic clock: the last list, event or bookmark."""
        self.last_error: str | None = None
        self.lists = 0
        """How many whole lists were taken."""
        self.watches = 0
        """How many watches were begun."""

    @property
    def path(self) -> str:
        """What it keeps in step."""
        return self._path

    @property
    def synced(self) -> bool:
        """Whether there has been a whole list."""
        return self._synced.is_set()

    def start(self) -> None:
        """Begins to list and watch."""
        self._task = asyncio.create_task(self._run(), name=f"watch {self._path}")

    async def stop(self) -> None:
        """Ends both; what is on the shelf stays."""
        for task in (self._task, self._watching):
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in (self._task, self._watching) if task), return_exceptions=True)
        self._task = self._watching = None

    async def wait_synced(self) -> None:
        """Returns when there has been a whole list."""
        await self._synced.wait()

    async def relist(self) -> None:
        """Lists now, and goes on watching from there. Raises NoAnswer; then all is as it was."""
        async with self._turn:
            await self._end_watch()
            await self._list()

    def fault(self) -> str | None:
        """What is wrong, in a line: nothing was heard for too long."""
        if self._task is not None and self._task.done():
            return f"{self._path}: is not watched any more"
        quiet = None if self.heard_at is None else boottime() - self.heard_at
        if quiet is not None and quiet <= self._config.stale_after.total_seconds():
            return None
        since = "was never listed" if quiet is None else f"was last heard of {quiet:.0f} s ago"
        return f"{self._path}: {since} ({self.last_error or 'no reason is known'})"

    async def _run(self) -> None:
        failures = 0
        while True:
            began = boottime()
            try:
                async with self._turn:
                    if self._version is None or boottime() >= self._relist_at:
                        await self._list()
                    watching = asyncio.create_task(self._watch(), name=f"events {self._path}")
                    self._watching = watching
                await asyncio.wait({watching})
                if watching.cancelled():
                    failures = 0  # for the sake of a list
                    continue
                watching.result()
                failures = failures + 1 if boottime() - began < _SHORT_S else 0
            except WatchEnded as ended:
                if ended.expired:
                    self._version = None
                self.last_error = str(ended)
                log.info("watch.ended", path=self._path, why=str(ended), expired=ended.expired)
                failures = failures + 1 if boottime() - began < _SHORT_S else 0
            except NoAnswer as error:
                self.last_error = str(error)
                log.warning("watch.failed", path=self._path, why=str(error))
                failures += 1
            except (KeyError, TypeError, ValueError) as error:
                # An object that cannot be read: a list may do better, and the health tells until it does.
                self.last_error = f"{type(error).__name__}: {error}"
                log.exception("watch.unreadable", path=self._path)
                self._version = None
                failures += 1
            if failures:
                await asyncio.sleep(self._backoff_s(failures))

    def _backoff_s(self, failures: int) -> float:
        least, most = self._config.watch_backoff_min.total_seconds(), self._config.watch_backoff_max.total_seconds()
        return min(least * 2.0 ** min(failures - 1, 10), most) * random.uniform(0.5, 1.0)  # noqa: S311 - only spreads

    async def _end_watch(self) -> None:
        watching = self._watching
        if watching is not None and not watching.done():
            watching.cancel()
            await asyncio.wait({watching})

    async def _list(self) -> None:
        items, version = await pages(self._api, self._path, self._query, self._config.page_size, self._shelf.read)
        self._shelf.replace_all(items)
        self._version = version
        self.lists += 1
        spread = random.uniform(0.9, 1.1)  # noqa: S311
        self._relist_at = boottime() + self._config.relist_every.total_seconds() * spread
        self._heard()
        self._synced.set()
        self._on_news()

    async def _watch(self) -> None:
        """Takes in events until the watch ends. Cancelled, it has taken in whole events only."""
        self.watches += 1
        query = {
            **self._query,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": str(self._version),
            "timeoutSeconds": str(self._timeout_s()),
        }
        async with aclosing(self._api.watch(self._path, query, self._config.watch_stalled_after)) as events:
            async for event in events:
                kind, raw = event["type"], event["object"]
                version = raw["metadata"]["resourceVersion"]
                if kind != "BOOKMARK":
                    self._shelf.take(kind, raw)
                    self._on_news()
                self._version = version
                self._heard()

    def _timeout_s(self) -> int:
        until_relist = max(1.0, self._relist_at - boottime())
        return int(min(self._config.watch_timeout.total_seconds() * random.uniform(0.8, 1.2), until_relist)) or 1  # noqa: S311

    def _heard(self) -> None:
        self.heard_at = boottime()
        self.last_error = None
