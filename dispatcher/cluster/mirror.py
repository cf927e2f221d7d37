"""What is known of the cluster: our Jobs and pods, the nodes, and the room that other pods leave on them.

Decides what counts as a change, and gathers changes until somebody asks. Fed by reflectors alone, one for each kind and
namespace. Knows nothing of what follows from anything.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dispatcher.cluster import paths
from dispatcher.cluster.api import Api
from dispatcher.cluster.config import KubernetesConfig
from dispatcher.cluster.nodes import NodeRow, Occupied, Rooms, node_row, occupied
from dispatcher.cluster.reading import job_seen, pod_seen
from dispatcher.cluster.reflector import Reflector, Shelf
from dispatcher.core.observations import ClusterChanges, ClusterSeen, JobSeen, NodeHeadroom, PodSeen

Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _JobRow:
    namespace: str
    seen: JobSeen


@dataclass(frozen=True, slots=True)
class _PodRow:
    namespace: str
    seen: PodSeen
    takes: Occupied | None


class Mirror:
    """The cluster, as far as seen."""

    def __init__(self, api: Api, config: KubernetesConfig, on_news: Callable[[], None]) -> None:
        self._rooms = Rooms()
        self._jobs: dict[str, _JobRow] = {}
        self._pods: dict[str, _PodRow] = {}
        self._jobs_new: set[str] = set()
        self._pods_new: set[str] = set()
        self._jobs_gone: set[str] = set()
        self._pods_gone: set[str] = set()
        self._pods_of_job: Counter[str] = Counter()
        self._parting: dict[str, PodSeen] = {}
        """The last state of pods that went before anybody had asked for it: one may have succeeded."""
        self._first = True

        def reflector(path: str, query: Mapping[str, str], shelf: Shelf[Any]) -> Reflector[Any]:
            return Reflector(api, config, path, query, shelf, on_news)

        ours, others = paths.ours(config.instance), paths.pods_of_others(config.instance)
        self._job_watches = [
            reflector(paths.jobs(namespace), ours, Shelf(_read_job, self._job_changed))
            for namespace in config.namespaces
        ]
        self._pod_watches = [
            reflector(paths.pods(namespace), ours, Shelf(_read_pod, self._pod_changed))
            for namespace in config.namespaces
        ]
        self._room_watches = [
            reflector(paths.NODES, {}, Shelf(lambda raw: node_row(raw, config.node_profile), self._node_changed)),
            reflector(paths.ALL_PODS, others, Shelf(occupied, self._other_pod_changed)),
        ]

    @property
    def reflectors(self) -> list[Reflector[Any]]:
        """All of them."""
        return [*self._job_watches, *self._pod_watches, *self._room_watches]

    def start(self) -> None:
        """Begins to watch."""
        for each in self.reflectors:
            each.start()

    async def stop(self) -> None:
        """Watches no more."""
        await asyncio.gather(*(each.stop() for each in self.reflectors))

    async def wait_synced(self) -> None:
        """Returns when everything was listed once."""
        await asyncio.gather(*(each.wait_synced() for each in self.reflectors))

    def faults(self) -> Iterator[str]:
        """What was not heard of for too long, a line each."""
        for each in self.reflectors:
            fault = each.fault()
            if fault:
                yield fault

    async def relist(self) -> ClusterSeen:
        """All our Jobs, then all our pods, from consistent reads; the watches go on from there. Raises NoAnswer.

        In this order: of a Job that is seen marked for deletion no pod is made later than its mark.
        """
        for watches in (self._job_watches, self._pod_watches):
            await asyncio.gather(*(each.relist() for each in watches))
        return ClusterSeen(
            tuple(row.seen for row in self._jobs.values()), tuple(row.seen for row in self._pods.values())
        )

    @property
    def has_jobs_and_pods(self) -> bool:
        """Whether our Jobs and pods were listed once."""
        return all(each.synced for each in (*self._job_watches, *self._pod_watches))

    @property
    def knows_room(self) -> bool:
        """Whether nodes and all pods on them were listed once."""
        return all(each.synced for each in (*self._pod_watches, *self._room_watches))

    def take_changes(self) -> ClusterChanges:
        """What has changed since the last call; everything on the first."""
        jobs = sorted(self._jobs if self._first else self._jobs_new)
        pods = sorted(self._pods if self._first else self._pods_new)
        changes = ClusterChanges(
            tuple(self._jobs[name].seen for name in jobs),
            (*(self._pods[uid].seen for uid in pods), *self._parting.values()),
            tuple(sorted(self._jobs_gone)),
            tuple(sorted(self._pods_gone)),
            relisted=self._first,
        )
        for taken in (self._jobs_new, self._pods_new, self._jobs_gone, self._pods_gone):
            taken.clear()
        self._parting.clear()
        self._first = False
        return changes

    def headroom(self) -> NodeHeadroom:
        """What is free on the real nodes."""
        return self._rooms.headroom()

    def namespace_of_job(self, name: str) -> str | None:
        """Where a Job of that name was seen."""
        row = self._jobs.get(name)
        return None if row is None else row.namespace

    def namespace_of_pod(self, uid: str) -> str | None:
        """Where that pod was seen."""
        row = self._pods.get(uid)
        return None if row is None else row.namespace

    def has_pods_of(self, job: str) -> bool:
        """Whether pods of that Job are there, as far as seen."""
        return job in self._pods_of_job

    # --- what the shelves tell --------------------------------------------------------------------------------------

    def _job_changed(self, uid: str, before: _JobRow | None, after: _JobRow | None) -> None:
        if after is not None:
            name = after.seen.name
            self._jobs[name] = after
            self._jobs_new.add(name)
            self._jobs_gone.discard(name)
        elif before is not None:
            name = before.seen.name
            there = self._jobs.get(name)
            if there is not None and there.seen.uid == uid:  # else another has taken the name
                del self._jobs[name]
                self._jobs_new.discard(name)
                self._jobs_gone.add(name)

    def _pod_changed(self, uid: str, before: _PodRow | None, after: _PodRow | None) -> None:
        self._rooms.pod(before.takes if before else None, after.takes if after else None)
        if before is None and after is not None:
            self._pods_of_job[after.seen.job] += 1
        elif before is not None and after is None:
            self._pods_of_job[before.seen.job] -= 1
            if not self._pods_of_job[before.seen.job]:
                del self._pods_of_job[before.seen.job]
        if after is not None:
            self._pods[uid] = after
            self._pods_new.add(uid)
        elif before is not None:
            if uid in self._pods_new:
                self._parting[uid] = before.seen
            self._pods.pop(uid, None)
            self._pods_new.discard(uid)
            self._pods_gone.add(uid)

    def _node_changed(self, uid: str, before: NodeRow | None, after: NodeRow | None) -> None:
        self._rooms.node(uid, after)

    def _other_pod_changed(self, uid: str, before: Occupied | None, after: Occupied | None) -> None:
        self._rooms.pod(before, after)


def _read_job(raw: Raw) -> _JobRow:
    return _JobRow(raw["metadata"]["namespace"], job_seen(raw))


def _read_pod(raw: Raw) -> _PodRow | None:
    seen = pod_seen(raw)
    return None if seen is None else _PodRow(raw["metadata"]["namespace"], seen, occupied(raw))
