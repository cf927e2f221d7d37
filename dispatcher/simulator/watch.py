"""What one process hears of changes in the cluster: late, twice, out of order, or not at all until the next list.

Decides how observations reach a process. What it has missed it learns from a list, which comes within a bounded time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

from dispatcher.core.observations import ClusterChanges, ClusterSeen, JobSeen, PodSeen
from dispatcher.simulator.faults import NO_FAULTS, Fault, FaultPlan
from dispatcher.simulator.wire import Surroundings

RELIST_WITHIN_SECONDS = 60.0
LAG_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class News:
    """One observation: a Job or pod as it was then, or that one is no more."""

    at: datetime
    job: JobSeen | None = None
    pod: PodSeen | None = None
    job_gone: str | None = None
    pod_gone: str | None = None


@dataclass(slots=True)
class Watch:
    """One process's watch."""

    world: Surroundings
    random: Random
    faults: FaultPlan = NO_FAULTS
    queue: list[News] = field(default_factory=list)
    relist_at: datetime | None = datetime.min.replace(tzinfo=UTC)
    """When everything is listed anew; a watch begins with a list."""
    lag_until: datetime | None = None
    _earlier: list[News] = field(default_factory=list)

    def _strikes(self, fault: Fault) -> bool:
        rate = self.faults.rate(fault)
        if rate and self.random.random() < rate:
            self.world.struck(fault)
            return True
        return False

    def push(self, news: News) -> None:
        """The cluster tells something; it may be missed."""
        if self._strikes(Fault.MISSED_EVENT):
            self._relist_by(news.at)
        else:
            self.queue.append(news)

    def _relist_by(self, now: datetime) -> None:
        if self.relist_at is None:
            self.relist_at = now + timedelta(seconds=self.random.uniform(1.0, RELIST_WITHIN_SECONDS))

    def wants_list(self, now: datetime) -> bool:
        """Whether the watch has broken and everything is listed anew."""
        return self.relist_at is not None and now >= self.relist_at

    def listed(self, seen: ClusterSeen) -> ClusterChanges:
        """Everything, forgetting what was under way."""
        self.relist_at = self.lag_until = None
        self.queue.clear()
        return ClusterChanges(jobs=seen.jobs, pods=seen.pods, relisted=True)

    def take(self, now: datetime) -> ClusterChanges:
        """What has arrived by now."""
        if not self.queue:
            return ClusterChanges()
        if self.lag_until is None and self._strikes(Fault.STALE_WATCH):
            self.lag_until = now + timedelta(seconds=self.random.uniform(1.0, LAG_SECONDS))
        if self.lag_until is not None:
            if now < self.lag_until:
                return ClusterChanges()
            self.lag_until = None
        news = self.queue
        self.queue = []
        if len(news) > 1 and self._strikes(Fault.REORDERED_EVENTS):
            self.random.shuffle(news)
            self._relist_by(now)
        if self._earlier and self._strikes(Fault.REPEATED_EVENT):
            news = [*self._earlier, *news]
            self._relist_by(now)
        self._earlier = news[-5:]
        return ClusterChanges(
            jobs=tuple(each.job for each in news if each.job),
            pods=tuple(each.pod for each in news if each.pod),
            jobs_gone=tuple(each.job_gone for each in news if each.job_gone),
            pods_gone=tuple(each.pod_gone for each in news if each.pod_gone),
        )
