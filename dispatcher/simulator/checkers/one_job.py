"""Law 2. No item is in two Jobs that can both still start it, or that both run it, whatever crashed in between.

A Job can start an item while it is not over and not marked for deletion, its record stands, and the index is neither
finished nor out of tries. Pods of a stopped Job may run on; a pod that waits to start in one that is marked may not.
And no Job comes to be for an item that was settled before.
"""

from __future__ import annotations

from collections.abc import Iterator

from dispatcher.core.observations import PodPhase
from dispatcher.simulator.checkers.law import Law
from dispatcher.simulator.cluster import Job, Pod
from dispatcher.simulator.world import World


class OneLiveJob(Law):
    """Looks whenever the cluster has changed."""

    name = "law 2: one live Job"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._version = -1
        world.after_time.append(self.look)
        world.cluster.on_create.append(self._created)

    def _created(self, job: Job) -> None:
        settled = [item.number for item in job.items if item.number not in self.world.broker.messages]
        if settled:
            raise self.broken(f"{job.spec.name} was created for messages {settled}, which were settled before")

    def look(self) -> None:
        """Every Job that there is."""
        cluster = self.world.cluster
        if cluster.version == self._version:
            return
        self._version = cluster.version
        if len(cluster.jobs) < 2:
            return
        live: dict[int, str] = {}
        for job in cluster.jobs.values():
            if job.status.condition is None:
                for number in self._live(job):
                    if number in live:
                        raise self.broken(f"message {number} is live in {live[number]} and in {job.spec.name}")
                    live[number] = job.spec.name

    def _live(self, job: Job) -> Iterator[int]:
        powerful = job.spec.pod.record in self.world.store.records
        held = {pod.index for pod in job.pods.values() if not pod.marked and _runs_or_will(job, pod, powerful)}
        if job.marked or job.status.ending or not powerful:
            startable = held
        else:
            over = job.status.completed | job.status.failed_indexes
            spent = {pod.index for pod in job.pods.values() if pod.ended and not pod.counted and _last(job, pod.phase)}
            startable = set(range(job.spec.completions)) - over - spent | held
        for index in startable:
            for _, item in job.carried(index):
                yield item.number


def _runs_or_will(job: Job, pod: Pod, powerful: bool) -> bool:
    """A group has its item from its making on; a pod on a node needs the record until it starts."""
    has_its_item = pod.item is not None and (job.paid or powerful)
    return pod.phase is PodPhase.RUNNING or (pod.phase is PodPhase.PENDING and has_its_item)


def _last(job: Job, phase: PodPhase) -> bool:
    """Whether an ended pod that is not counted yet is its index's last."""
    return phase is PodPhase.SUCCEEDED or job.spec.backoff_limit_per_index == 0
