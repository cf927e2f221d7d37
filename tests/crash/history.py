"""Every version of every Job, pod and ConfigMap, in the order of the API server's own revisions.

Watches as a third party, straight at the API server. One revision counter covers all kinds, so sorting by it gives
the one order in which things happened. Decides nothing.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from testbed.control_plane import ControlPlane

_KINDS = {"jobs": "/apis/batch/v1/jobs", "pods": "/api/v1/pods", "configmaps": "/api/v1/configmaps"}
_AGAIN_AFTER_SECONDS = 0.2


@dataclass(frozen=True)
class Version:
    """One object as it stood from one revision on."""

    revision: int
    kind: str
    """jobs, pods or configmaps."""
    gone: bool
    """It was deleted at this revision; ``object`` is how it stood last."""
    object: Mapping[str, Any]
    seen_at: float = 0.0
    """When we heard of it, on this machine's monotonic clock."""


class History:
    """What has happened so far, by namespace."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._versions: dict[str, list[Version]] = defaultdict(list)
        self._standing: dict[str, dict[tuple[str, str], Mapping[str, Any]]] = defaultdict(dict)

    def of(self, *namespaces: str) -> list[Version]:
        """Everything that happened in these namespaces, in order."""
        found = [version for namespace in namespaces for version in self._versions[namespace]]
        return sorted(found, key=lambda version: version.revision)

    def standing(self, *namespaces: str) -> list[tuple[str, str, Mapping[str, Any]]]:
        """What is there now: kind, name, object."""
        return [
            (kind, value["metadata"]["name"], value)
            for namespace in namespaces
            for (kind, _), value in self._standing[namespace].items()
        ]

    def forget(self, *namespaces: str) -> None:
        """What has happened there is not asked for any more."""
        for namespace in namespaces:
            self._versions.pop(namespace, None)

    async def watch(self, kind: str, begun: asyncio.Event) -> None:
        """Takes everything down, until cancelled."""
        tls = ssl.create_default_context(cafile=str(self._plane.ca_file))
        headers = {"Authorization": f"Bearer {self._plane.admin_token}"}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        version = (await self._plane.api.get(_KINDS[kind], limit="1"))["metadata"]["resourceVersion"]
        async with aiohttp.ClientSession(
            headers=headers, timeout=timeout, connector=aiohttp.TCPConnector(ssl=tls), read_bufsize=2**22
        ) as session:
            while True:
                query = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true"}
                try:
                    async with session.get(self._plane.url + _KINDS[kind], params=query) as response:
                        response.raise_for_status()
                        begun.set()
                        async for line in response.content:
                            version = self._take(kind, json.loads(line)) or version
                except (aiohttp.ClientError, OSError):
                    await asyncio.sleep(_AGAIN_AFTER_SECONDS)

    def _take(self, kind: str, event: Mapping[str, Any]) -> str:
        value = event["object"]
        if event["type"] == "ERROR":
            raise RuntimeError(f"the history of {kind} has a hole: {value}")
        version = str(value["metadata"]["resourceVersion"])
        if event["type"] == "BOOKMARK":
            return version
        metadata, gone = value["metadata"], event["type"] == "DELETED"
        metadata.pop("managedFields", None)
        namespace, key = metadata["namespace"], (kind, metadata["uid"])
        self._versions[namespace].append(Version(int(version), kind, gone, value, time.monotonic()))
        if gone:
            self._standing[namespace].pop(key, None)
        else:
            self._standing[namespace][key] = value
        return version


@asynccontextmanager
async def a_history(plane: ControlPlane) -> AsyncIterator[History]:
    """A history that is written while the block lasts."""
    history = History(plane)
    begun = {kind: asyncio.Event() for kind in _KINDS}
    tasks = [asyncio.create_task(history.watch(kind, begun[kind]), name=f"history of {kind}") for kind in _KINDS]
    try:
        async with asyncio.timeout(30):
            for event in begun.values():
                await event.wait()
        yield history
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
