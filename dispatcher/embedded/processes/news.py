"""What has changed since somebody last asked.

Decides what counts as a change that can be seen. Knows nothing of how it came about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from dispatcher.core.observations import ClusterChanges, JobSeen
from dispatcher.embedded.processes.pods import Job
from dispatcher.embedded.processes.turns import World

V = TypeVar("V")


class News:
    """The changes between worlds, gathered until they are taken."""

    def __init__(self) -> None:
        self._jobs: set[str] = set()
        self._pods: set[str] = set()
        self._jobs_gone: set[str] = set()
        self._pods_gone: set[str] = set()
        self._forgotten_pods: set[str] = set()
        self._everything = True

    def everything_is_new(self) -> None:
        """The next answer holds all there is."""
        self._everything = True

    def note(self, old: World, new: World) -> bool:
        """Takes in the step from one world to the next; whether there was anything to see."""
        jobs, pods = _changed(old.jobs, new.jobs), _changed(old.pods, new.pods)
        jobs_gone, pods_gone = old.jobs.keys() - new.jobs.keys(), old.pods.keys() - new.pods.keys()
        # a Job's numbers are made from its pods too
        jobs |= {new.pods[uid].job for uid in pods} | {old.pods[uid].job for uid in pods_gone}
        self._jobs = (self._jobs | jobs) & new.jobs.keys()
        self._pods = (self._pods | pods) - pods_gone
        self._jobs_gone = (self._jobs_gone | jobs_gone) - new.jobs.keys()
        self._pods_gone |= pods_gone
        self._forgotten_pods |= pods_gone
        return bool(jobs or pods or jobs_gone or pods_gone)

    def take(self, world: World, seen: Callable[[Job], JobSeen]) -> ClusterChanges:
        """What has come together, as the world has it now."""
        jobs = world.jobs.keys() if self._everything else self._jobs
        pods = world.pods.keys() if self._everything else self._pods
        changes = ClusterChanges(
            tuple(seen(world.jobs[name]) for name in sorted(jobs)),
            tuple(world.pods[uid].seen() for uid in sorted(pods)),
            tuple(sorted(self._jobs_gone)),
            tuple(sorted(self._pods_gone)),
            relisted=self._everything,
        )
        for taken in (self._jobs, self._pods, self._jobs_gone, self._pods_gone):
            taken.clear()
        self._everything = False
        return changes

    def take_forgotten_pods(self) -> set[str]:
        """The pods that went since this was last asked: what is left of them can be removed."""
        forgotten, self._forgotten_pods = self._forgotten_pods, set()
        return forgotten


def _changed(old: Mapping[str, V], new: Mapping[str, V]) -> set[str]:
    return {name for name, value in new.items() if old.get(name) is not value and old.get(name) != value}
