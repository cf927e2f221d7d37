"""The JobCluster and AciAccount ports of one process: its wire to the simulated cluster, and its own watch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from dispatcher.core.observations import AccountSeen, ClusterChanges, ClusterSeen, GroupSeen, JobSeen, NodeHeadroom
from dispatcher.ports import Answer, Created, ObjectRef
from dispatcher.simulator.clock import HostClock
from dispatcher.simulator.cluster import Cluster
from dispatcher.simulator.faults import NO_FAULTS, Fault, FaultPlan
from dispatcher.simulator.watch import Watch
from dispatcher.simulator.wire import Surroundings, Wire


@dataclass(slots=True)
class ClusterPort:
    """The JobCluster port of one process."""

    cluster: Cluster
    wire: Wire
    watch: Watch
    world: Surroundings
    random: Random
    faults: FaultPlan = NO_FAULTS

    async def create_jobs(self, manifests: Sequence[Mapping[str, Any]]) -> Sequence[Created]:
        """Each by itself."""
        created = []
        for manifest in manifests:
            name = manifest["metadata"]["name"]
            rate = self.faults.rate(Fault.JOB_REFUSED)
            if rate and self.random.random() < rate:
                self.world.struck(Fault.JOB_REFUSED)
                self.cluster.refused(manifest)
                created.append(Created(Answer.REFUSED, text="simulated: the template is invalid"))
                continue
            perform = partial(self.cluster.create, manifest)
            created.append(await self.wire.act(f"create Job {name}", perform, lambda: Created(Answer.UNKNOWN)))
        return created

    async def get_job(self, name: str) -> JobSeen | None:
        """By name, consistent."""
        await self.wire.read(f"get Job {name}")
        job = self.cluster.jobs.get(name)
        return self.cluster.job_seen(job) if job else None

    async def list_all(self) -> ClusterSeen:
        """Everything, consistent."""
        await self.wire.read("list Jobs")
        return self.cluster.everything()

    async def changes(self) -> ClusterChanges:
        """What this process's watch has brought."""
        await self.wire.read("watch")
        now = self.cluster.clock.now()
        if self.watch.wants_list(now):
            return self.watch.listed(self.cluster.everything())
        return self.watch.take(now)

    async def delete_jobs(self, refs: Sequence[ObjectRef]) -> Sequence[Answer]:
        """Marks."""
        return [
            await self.wire.act(f"delete Job {ref.name}", partial(self.cluster.mark, ref), _unknown) for ref in refs
        ]

    async def release_jobs(self, refs: Sequence[ObjectRef]) -> Sequence[Answer]:
        """Takes them away."""
        return [
            await self.wire.act(f"release Job {ref.name}", partial(self.cluster.release, ref), _unknown) for ref in refs
        ]

    async def delete_pods(self, refs: Sequence[ObjectRef]) -> Sequence[Answer]:
        """Whatever they are doing."""
        return [
            await self.wire.act(f"delete pod {ref.name}", partial(self.cluster.delete_pod, ref), _unknown)
            for ref in refs
        ]

    async def headroom(self) -> NodeHeadroom:
        """What is free."""
        await self.wire.read("headroom")
        return self.cluster.headroom()

    async def has_pod(self, namespace: str, pod: ObjectRef) -> bool:
        """By uid: the simulator's pods are named so."""
        await self.wire.read(f"has pod {pod.uid}")
        return self.cluster.has_pod(pod.uid)

    async def log_tail(self, pod: ObjectRef, bytes_max: int) -> str:
        """The end of what it has printed."""
        return self.cluster.log_of(pod).encode()[-bytes_max:].decode(errors="replace") if bytes_max > 0 else ""


LOOKS_TO_READ = 3
"""From this look on the times of a group are shown, counted from the first that wanted them: Azure is slow to answer,
and no look waits for it."""


@dataclass(frozen=True, slots=True)
class AccountPort:
    """The AciAccount port of one process."""

    cluster: Cluster
    wire: Wire
    clock: HostClock
    asked: dict[str, int] = field(default_factory=dict)
    """Whose times are wanted, and in how many looks on end they were."""

    async def look(self, wanted: Collection[str]) -> AccountSeen:
        """All groups that ACI still knows: a deleted one is forgotten once it has stopped. Times are shown late."""
        await self.wire.read("groups")
        asked = {uid: self.asked.get(uid, 0) + 1 for uid in sorted(wanted)}
        self.asked.clear()
        self.asked.update(asked)
        now, as_of = self.cluster.clock.now(), self.clock.now()
        seen = {}
        for uid, group in self.cluster.meter.holding.items():
            stopped = group.stopped_at if group.stopped_at is not None and group.stopped_at <= now else None
            if group.pod_gone_at is not None and stopped is not None:
                continue
            pod = f"{group.job}-0-{uid.removeprefix('pod-')}"
            if asked.get(uid, 0) < LOOKS_TO_READ:
                seen[uid] = GroupSeen(uid, uid, None, None, pod=pod, requests=group.requests)
                continue
            started = group.starts_at if group.starts_at is not None and group.starts_at <= now else None
            if stopped is None and group.covered_until is not None and now > group.covered_until:
                group.shown_leaking_at = now
            seen[uid] = GroupSeen(uid, uid, started, stopped, read_at=as_of, pod=pod, requests=group.requests)
        return AccountSeen(as_of, seen)


def _unknown() -> Answer:
    return Answer.UNKNOWN
